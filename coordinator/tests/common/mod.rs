//! A machine small enough to check by hand: it keeps a list of what was applied.
#![allow(dead_code, unreachable_pub)]

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use flowyard_coordinator::raft::Machine;

/// What the last batch published.
pub type Published = Arc<Mutex<Vec<(u64, Vec<u8>)>>>;

/// Keeps every command with its index; the command `panic!` panics.
#[derive(Default)]
pub struct Journal {
    applied: Vec<(u64, Vec<u8>)>,
    published: Published,
}

impl Journal {
    pub fn new() -> (Self, Published) {
        let published = Published::default();
        (Self { published: published.clone(), ..Self::default() }, published)
    }
}

impl Machine for Journal {
    /// The index, and how many commands were applied before.
    type Reply = (u64, usize);
    type Snapshot = Vec<(u64, Vec<u8>)>;

    fn apply(&mut self, index: u64, payload: &[u8]) -> (u64, usize) {
        assert_ne!(payload, b"panic!", "asked to panic");
        assert!(self.applied.last().is_none_or(|(last, _)| *last < index), "entry {index} came twice");
        self.applied.push((index, payload.to_vec()));
        (index, self.applied.len() - 1)
    }

    fn encode_reply(reply: &(u64, usize)) -> Vec<u8> {
        let words = [reply.0.to_le_bytes(), (reply.1 as u64).to_le_bytes()];
        words.concat()
    }

    fn decode_reply(bytes: &[u8]) -> Result<(u64, usize), Box<dyn Error + Send + Sync>> {
        let (index, before) = bytes.split_first_chunk::<8>().ok_or("a reply that is too short")?;
        Ok((u64::from_le_bytes(*index), u64::from_le_bytes(before.try_into()?) as usize))
    }

    fn after_batch(&mut self, _index: u64) {
        let mut published = self.published.lock().unwrap();
        let known = published.len();
        if known > self.applied.len() {
            published.clear();
        }
        let known = published.len();
        published.extend_from_slice(&self.applied[known..]);
    }

    fn snapshot(&self) -> Self::Snapshot {
        self.applied.clone()
    }

    fn encode(snapshot: &Self::Snapshot, out: &mut dyn Write) -> io::Result<()> {
        for (index, payload) in snapshot {
            out.write_all(&index.to_le_bytes())?;
            out.write_all(&(payload.len() as u64).to_le_bytes())?;
            out.write_all(payload)?;
        }
        Ok(())
    }

    fn restore(&mut self, input: &mut dyn Read) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes)?;
        let mut rest = &bytes[..];
        self.applied.clear();
        while let Some((head, tail)) = rest.split_first_chunk::<16>() {
            let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
            let (payload, left) = tail.split_at(word(8) as usize);
            self.applied.push((word(0), payload.to_vec()));
            rest = left;
        }
        Ok(())
    }
}
