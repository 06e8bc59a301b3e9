//! The writer of one stream's spool: keeps the beginning and the end of what a task prints, and says what it left out.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flowyard_logs::{FRAME_HEAD, MAGIC, MAX_FRAME_BYTES, frame_head};

/// Bytes at the end of a stream that are kept although its limit was reached: the reason of a failure is there.
pub const TAIL_BYTES: usize = 64 * 1024;

/// Writes one stream. Without output no file is made.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: Option<File>,
    /// Length of the file up to its last whole frame.
    length: u64,
    limit_bytes: u64,
    kept_bytes: u64,
    scratch: Vec<u8>,
    tail: Tail,
    /// Why the file could not take more, if it could not.
    failure: Option<io::Error>,
}

/// The last bytes of a stream, in the pieces in which they came.
#[derive(Debug, Default)]
struct Tail {
    pieces: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    dropped_bytes: u64,
}

impl Spool {
    /// A spool that will be written at `path` and keeps the first `limit_bytes`.
    pub fn new(path: &Path, limit_bytes: u64) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            length: 0,
            limit_bytes,
            kept_bytes: 0,
            scratch: Vec::new(),
            tail: Tail::default(),
            failure: None,
        }
    }

    /// Takes what was read from the task at `at_us`. A full disk does not stop the task: its output is dropped and counted.
    pub fn push(&mut self, at_us: u64, bytes: &[u8]) {
        let room = self.limit_bytes.saturating_sub(self.kept_bytes);
        let keep =
            if self.failure.is_some() || self.tail.is_used() { 0 } else { room.min(bytes.len() as u64) as usize };
        let (kept, rest) = bytes.split_at(keep);
        for piece in kept.chunks(MAX_FRAME_BYTES as usize) {
            self.keep(at_us, piece);
        }
        self.tail.push(at_us, rest);
    }

    fn keep(&mut self, at_us: u64, piece: &[u8]) {
        if self.failure.is_none() {
            match self.write_frame(at_us, piece, false) {
                Ok(()) => self.kept_bytes += piece.len() as u64,
                Err(error) => self.failure = Some(error),
            }
        }
        if self.failure.is_some() {
            self.tail.push(at_us, piece);
        }
    }

    /// Writes the kept end of the stream, and before it how much was dropped. Nothing may be pushed afterwards.
    pub fn finish(&mut self, at_us: u64) -> io::Result<()> {
        if self.tail.is_used() {
            self.tail.begin_at_line();
            let dropped = self.tail.dropped_bytes;
            if dropped > 0 || self.failure.is_some() {
                let note = self.note(dropped);
                let at_us = self.tail.pieces.front().map_or(at_us, |(at_us, _)| *at_us);
                self.write_frame(at_us, note.as_bytes(), true)?;
            }
            for (at_us, bytes) in std::mem::take(&mut self.tail.pieces) {
                self.write_frame(at_us, &bytes, false)?;
            }
        }
        Ok(())
    }

    fn note(&self, dropped_bytes: u64) -> String {
        let dropped = readable(dropped_bytes);
        match &self.failure {
            Some(error) => format!("flowyard: the log could not be written ({error}), {dropped} dropped here\n"),
            None => format!("flowyard: log limit of {} reached, {dropped} dropped here\n", readable(self.limit_bytes)),
        }
    }

    fn write_frame(&mut self, at_us: u64, bytes: &[u8], note: bool) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::create(&self.path)?),
        };
        self.scratch.clear();
        self.scratch.reserve(MAGIC.len() + FRAME_HEAD + bytes.len());
        if self.length == 0 {
            self.scratch.extend(MAGIC);
        }
        self.scratch.extend(frame_head(at_us, bytes.len() as u32, note));
        self.scratch.extend(bytes);
        let written = file.write_all(&self.scratch);
        match written {
            Ok(()) => self.length += self.scratch.len() as u64,
            // What was half written would hide what may be written later.
            Err(_) => {
                file.set_len(self.length)?;
                io::Seek::seek(file, io::SeekFrom::Start(self.length))?;
            }
        }
        if self.scratch.capacity() > 2 * TAIL_BYTES {
            self.scratch = Vec::new();
        }
        written
    }
}

impl Tail {
    fn is_used(&self) -> bool {
        !self.pieces.is_empty()
    }

    fn push(&mut self, at_us: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let skipped = bytes.len().saturating_sub(TAIL_BYTES);
        self.dropped_bytes += skipped as u64;
        self.bytes += bytes.len() - skipped;
        self.pieces.push_back((at_us, bytes[skipped..].to_vec()));
        while self.bytes > TAIL_BYTES {
            let excess = self.bytes - TAIL_BYTES;
            self.drop_front(excess);
        }
        self.join_small_pieces(at_us);
    }

    /// A task that writes single bytes must not cost an allocation for each of them.
    fn join_small_pieces(&mut self, at_us: u64) {
        const SMALL: usize = 512;
        let count = self.pieces.len();
        if count < 2 || self.pieces[count - 1].1.len() > SMALL || self.pieces[count - 2].1.len() > SMALL {
            return;
        }
        let (_, last) = self.pieces.pop_back().expect("two pieces");
        let (first_at_us, joined) = self.pieces.back_mut().expect("one piece");
        *first_at_us = (*first_at_us).min(at_us);
        joined.extend(last);
    }

    fn drop_front(&mut self, wanted: usize) {
        let Some((_, front)) = self.pieces.front_mut() else { return };
        let count = wanted.min(front.len());
        front.drain(..count);
        if front.is_empty() {
            self.pieces.pop_front();
        }
        self.bytes -= count;
        self.dropped_bytes += count as u64;
    }

    /// Where bytes were dropped the rest of a cut line is of no use; it goes too, if the line ends soon.
    fn begin_at_line(&mut self) {
        const SOON: usize = 4096;
        if self.dropped_bytes == 0 {
            return;
        }
        let Some((_, front)) = self.pieces.front() else { return };
        if let Some(end) = front.iter().take(SOON).position(|byte| *byte == b'\n')
            && end + 1 < self.bytes
        {
            self.drop_front(end + 1);
        }
    }
}

/// A size as a person reads it, rounded down to one unit.
fn readable(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyard_logs::{Frame, Frames};

    fn written(path: &Path) -> Vec<Frame> {
        let file = File::open(path).expect("spool");
        Frames::new(file).map(|frame| frame.expect("frame")).collect()
    }

    #[test]
    fn silence_makes_no_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("out");
        Spool::new(&path, 100).finish(1).expect("finish");
        assert!(!path.exists());
    }

    #[test]
    fn the_beginning_and_the_end_are_kept_and_the_gap_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("out");
        let mut spool = Spool::new(&path, 1 << 20);
        let line = b"0123456789abcde\n";
        let block: Vec<u8> = line.iter().copied().cycle().take(64 * 1024).collect();
        for number in 0..64 {
            spool.push(number, &block);
        }
        spool.push(99, b"the reason\n");
        spool.finish(100).expect("finish");
        let frames = written(&path);
        let kept: usize = frames.iter().filter(|frame| !frame.note).map(|frame| frame.bytes.len()).sum();
        assert!(kept > (1 << 20) && kept <= (1 << 20) + TAIL_BYTES, "kept {kept}");
        let note = frames.iter().find(|frame| frame.note).expect("a note");
        let text = String::from_utf8_lossy(&note.bytes);
        assert_eq!(text, "flowyard: log limit of 1 MiB reached, 2 MiB dropped here\n");
        let last = &frames.last().expect("frames").bytes;
        assert!(last.ends_with(b"the reason\n"));
        let after_note = frames.iter().skip_while(|frame| !frame.note).nth(1).expect("tail");
        assert!(after_note.bytes.starts_with(b"0123"), "the tail begins with a whole line");
    }

    #[test]
    fn what_still_fits_the_tail_is_not_called_dropped() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("out");
        let mut spool = Spool::new(&path, 4);
        for byte in b"abcdefghij" {
            spool.push(1, &[*byte]);
        }
        spool.finish(2).expect("finish");
        let frames = written(&path);
        assert!(frames.iter().all(|frame| !frame.note));
        assert_eq!(frames.concat_bytes(), b"abcdefghij");
    }

    #[test]
    fn a_log_that_cannot_be_written_says_so_once_it_can() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("not yet").join("out");
        let mut spool = Spool::new(&path, 1 << 20);
        spool.push(1, b"early\n");
        std::fs::create_dir(path.parent().expect("parent")).expect("folder");
        spool.push(2, b"late\n");
        spool.finish(3).expect("finish");
        let frames = written(&path);
        assert!(frames[0].note && frames[0].bytes.starts_with(b"flowyard: the log could not be written"));
        assert_eq!(frames[1..].concat_bytes(), b"early\nlate\n");
    }

    trait ConcatBytes {
        fn concat_bytes(&self) -> Vec<u8>;
    }

    impl ConcatBytes for [Frame] {
        fn concat_bytes(&self) -> Vec<u8> {
            self.iter().filter(|frame| !frame.note).flat_map(|frame| frame.bytes.clone()).collect()
        }
    }
}
