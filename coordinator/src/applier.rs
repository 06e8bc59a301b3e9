//! The replicated state as the log's machine: decode, apply, publish.
//!
//! Invariant: an entry that cannot be decoded ends the process. Passing it over would make replicas differ.

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use flowyard_model::{Changed, Entry, Record, Reply, Revision};
use flowyard_proto::SnapshotError;
use flowyard_state::{State, View, apply};

use crate::feed::Feed;
use crate::metrics::Counts;
use crate::raft::Machine;

/// Owns the state.
#[derive(Debug)]
pub struct Applier {
    state: State,
    changed: Changed,
    feed: Feed,
    counts: Arc<Counts>,
    /// When the first entry of the batch came, and how many did.
    batch: Option<(Instant, u64)>,
}

impl Applier {
    /// An applier of an empty state, and the feed it publishes to.
    pub fn new() -> (Self, Feed) {
        let state = State::new();
        let feed = Feed::starting_with(state.view());
        let changed = Changed::nothing();
        (Self { state, changed, feed: feed.clone(), counts: Arc::default(), batch: None }, feed)
    }

    /// The same, that counts there.
    #[must_use]
    pub(crate) fn counted(self, counts: Arc<Counts>) -> Self {
        Self { counts, ..self }
    }
}

impl Machine for Applier {
    type Reply = Reply;
    type Snapshot = View;

    fn apply(&mut self, index: u64, payload: &[u8]) -> Reply {
        self.batch.get_or_insert_with(|| (flowyard_clock::monotonic(), 0)).1 += 1;
        let (time, command) = match flowyard_proto::decode_entry(payload) {
            Ok(decoded) => decoded,
            Err(error) => panic!("log entry {index} cannot be read by this build: {error}"),
        };
        let effects = apply(&mut self.state, Entry { index: Revision(index), time, command });
        self.changed.merge(effects.changed);
        effects.reply
    }

    fn encode_reply(reply: &Reply) -> Vec<u8> {
        flowyard_proto::encode_reply(reply)
    }

    fn decode_reply(bytes: &[u8]) -> Result<Reply, Box<dyn Error + Send + Sync>> {
        Ok(flowyard_proto::decode_reply(bytes)?)
    }

    fn after_batch(&mut self, _index: u64) {
        let changed = std::mem::replace(&mut self.changed, Changed::nothing());
        self.feed.publish(self.state.view(), &changed);
        if let Some((start, entries)) = self.batch.take() {
            self.counts.apply.observe_since(start);
            self.counts.applied.add(entries);
        }
    }

    fn snapshot(&self) -> View {
        self.state.view()
    }

    fn encode(snapshot: &View, out: &mut dyn Write) -> io::Result<()> {
        flowyard_proto::write_records(snapshot.version(), snapshot.records(), out).map(drop).map_err(io::Error::other)
    }

    fn restore(&mut self, input: &mut dyn Read) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.state = state_of(flowyard_proto::read_records(input)?)?;
        self.feed.restart(self.state.view());
        Ok(())
    }
}

/// Records that are handed on together, and how many such hands are on their way.
const HANDED_ON: usize = 1_024;
const ON_THE_WAY: usize = 8;

/// The state of these records, which are read while those before are put in their places: a large one is there in half the time.
fn state_of(
    mut records: impl Iterator<Item = Result<Record, SnapshotError>>,
) -> Result<State, Box<dyn Error + Send + Sync>> {
    std::thread::scope(|scope| {
        let (sender, received) = sync_channel::<Vec<Record>>(ON_THE_WAY);
        let placing = scope.spawn(move || State::from_records(received.into_iter().flatten()));
        let read = loop {
            let some = match records.by_ref().take(HANDED_ON).collect::<Result<Vec<Record>, SnapshotError>>() {
                Ok(some) => some,
                Err(error) => break Err(error),
            };
            // Who does not take them has found something wrong, and says what.
            if some.is_empty() || sender.send(some).is_err() {
                break Ok(());
            }
        };
        drop(sender);
        let placed = placing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        read?;
        Ok(placed?)
    })
}
