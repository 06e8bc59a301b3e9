//! Reading a log by lines: the last ones, both streams by time, and a live one from where one stopped.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use crate::format::{Frame, Frames, LogError};

/// A longer line is handed out in pieces, so that a task without line ends does not fill the reader's memory.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// [`tail_lines`] keeps no more than this, however many lines were asked for.
const MAX_TAIL_BYTES: usize = 4 * 1024 * 1024;

/// Which of a task's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line, without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When its first byte was read from the task, wall clock in microseconds.
    pub at_us: u64,
    /// Whether we wrote it rather than the task.
    pub note: bool,
    /// The bytes, not necessarily UTF-8.
    pub bytes: Vec<u8>,
}

/// Puts frames together to lines. An unfinished last line is handed out at the end.
#[derive(Debug)]
pub struct Lines<I> {
    frames: I,
    ready: VecDeque<Line>,
    open: Option<Line>,
}

impl<I: Iterator<Item = Result<Frame, LogError>>> Lines<I> {
    /// Lines of these frames, which belong to one stream.
    pub fn new(frames: I) -> Self {
        Self { frames, ready: VecDeque::new(), open: None }
    }

    fn take(&mut self, frame: Frame) {
        if frame.note {
            self.ready.extend(self.open.take());
            let bytes = frame.bytes.strip_suffix(b"\n").unwrap_or(&frame.bytes).to_vec();
            self.ready.push_back(Line { at_us: frame.at_us, note: true, bytes });
            return;
        }
        for piece in frame.bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            let line = self.open.get_or_insert_with(|| Line { at_us: frame.at_us, note: false, bytes: Vec::new() });
            line.bytes.extend_from_slice(if ends { &piece[..piece.len() - 1] } else { piece });
            if ends || line.bytes.len() >= MAX_LINE_BYTES {
                self.ready.extend(self.open.take());
            }
        }
    }
}

impl<I: Iterator<Item = Result<Frame, LogError>>> Iterator for Lines<I> {
    type Item = Result<Line, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(line));
            }
            match self.frames.next() {
                Some(Ok(frame)) => self.take(frame),
                Some(Err(error)) => return Some(Err(error)),
                None => return self.open.take().map(Ok),
            }
        }
    }
}

/// The last `count` lines of a spool.
pub fn tail_lines(spool: impl Read, count: usize) -> Result<Vec<Line>, LogError> {
    let mut tail = VecDeque::new();
    let mut bytes = 0;
    for line in Lines::new(Frames::new(BufReader::new(spool))) {
        let line = line?;
        bytes += line.bytes.len();
        tail.push_back(line);
        while tail.len() > count || bytes > MAX_TAIL_BYTES {
            bytes -= tail.pop_front().map_or(0, |line: Line| line.bytes.len());
        }
    }
    Ok(tail.into())
}

/// Both streams of a task in the order of their times; within a stream the order is kept.
pub struct Merged<A: Iterator, B: Iterator> {
    stdout: Peekable<A>,
    stderr: Peekable<B>,
}

/// Merges the lines of both streams by time.
pub fn merge<A, B>(stdout: A, stderr: B) -> Merged<A, B>
where
    A: Iterator<Item = Result<Line, LogError>>,
    B: Iterator<Item = Result<Line, LogError>>,
{
    Merged { stdout: stdout.peekable(), stderr: stderr.peekable() }
}

impl<A, B> Iterator for Merged<A, B>
where
    A: Iterator<Item = Result<Line, LogError>>,
    B: Iterator<Item = Result<Line, LogError>>,
{
    type Item = Result<(Stream, Line), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        // An error sorts first, so it is handed out at once.
        let time = |line: &Result<Line, LogError>| line.as_ref().map_or(0, |line| line.at_us);
        let stdout_first = match (self.stdout.peek(), self.stderr.peek()) {
            (Some(out), Some(err)) => time(out) <= time(err),
            (out, _) => out.is_some(),
        };
        let (stream, line) = match stdout_first {
            true => (Stream::Stdout, self.stdout.next()?),
            false => (Stream::Stderr, self.stderr.next()?),
        };
        Some(line.map(|line| (stream, line)))
    }
}

/// Follows one spool while it is written, also one that does not exist yet.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    position: u64,
}

impl Follow {
    /// Follows the spool at `path` from `position`: 0, or what [`Follow::position`] gave before.
    pub fn new(path: &Path, position: u64) -> Self {
        Self { path: path.to_owned(), position }
    }

    /// Where reading goes on.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The whole frames written since the last call, up to about `limit_bytes` of content; empty when there is nothing new.
    pub fn read_new(&mut self, limit_bytes: usize) -> Result<Vec<Frame>, LogError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        file.seek(SeekFrom::Start(self.position))?;
        let mut frames = Frames::resume(BufReader::new(file), self.position);
        let (mut found, mut bytes) = (Vec::new(), 0);
        while bytes < limit_bytes {
            let Some(frame) = frames.next().transpose()? else { break };
            bytes += frame.bytes.len();
            found.push(frame);
        }
        self.position = frames.position();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{MAGIC, frame_head};

    fn frame(at_us: u64, text: &str) -> Result<Frame, LogError> {
        Ok(Frame { at_us, note: false, bytes: text.as_bytes().to_vec() })
    }

    fn texts(lines: impl Iterator<Item = Result<Line, LogError>>) -> Vec<String> {
        lines.map(|line| String::from_utf8(line.expect("line").bytes).expect("text")).collect()
    }

    #[test]
    fn lines_span_frames_and_an_open_end_counts() {
        let frames = vec![frame(1, "a\nb"), frame(2, "c\n\nd")];
        let lines: Vec<Line> = Lines::new(frames.into_iter()).map(|line| line.expect("line")).collect();
        assert_eq!(lines.iter().map(|line| &line.bytes[..]).collect::<Vec<_>>(), [&b"a"[..], b"bc", b"", b"d"]);
        assert_eq!(lines[1].at_us, 1, "a line has the time of its first byte");
    }

    #[test]
    fn a_note_ends_the_open_line() {
        let note = Ok(Frame { at_us: 2, note: true, bytes: b"dropped".to_vec() });
        assert_eq!(
            texts(Lines::new(vec![frame(1, "half"), note, frame(3, "rest")].into_iter())),
            ["half", "dropped", "rest"]
        );
    }

    #[test]
    fn the_tail_is_the_last_lines_only() {
        let mut file = MAGIC.to_vec();
        for number in 0..100 {
            let text = format!("line {number}\n");
            file.extend(frame_head(number, text.len() as u32, false));
            file.extend(text.as_bytes());
        }
        let tail = tail_lines(&file[..], 2).expect("tail");
        assert_eq!(texts(tail.into_iter().map(Ok)), ["line 98", "line 99"]);
    }

    #[test]
    fn streams_merge_by_time_and_keep_their_order() {
        let out = Lines::new(vec![frame(1, "o1\n"), frame(5, "o2\n")].into_iter());
        let err = Lines::new(vec![frame(2, "e1\n"), frame(2, "e2\n"), frame(9, "e3\n")].into_iter());
        let merged: Vec<_> = merge(out, err).map(|line| line.expect("line")).collect();
        assert_eq!(texts(merged.iter().map(|(_, line)| Ok(line.clone()))), ["o1", "e1", "e2", "o2", "e3"]);
        assert_eq!(merged[0].0, Stream::Stdout);
        assert_eq!(merged[4].0, Stream::Stderr);
    }

    #[test]
    fn following_sees_every_frame_once_and_waits_for_a_torn_one() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("log");
        let mut follow = Follow::new(&path, 0);
        assert!(follow.read_new(1000).expect("no file yet").is_empty());
        let mut file = MAGIC.to_vec();
        file.extend(frame_head(1, 3, false));
        file.extend(b"abc");
        let torn = file.len() + 5;
        file.extend(frame_head(2, 3, false));
        file.extend(b"def");
        std::fs::write(&path, &file[..torn]).expect("write");
        assert_eq!(follow.read_new(1000).expect("read").len(), 1);
        assert!(follow.read_new(1000).expect("read").is_empty());
        std::fs::write(&path, &file).expect("write");
        let rest = Follow::new(&path, follow.position()).read_new(1000).expect("read");
        assert_eq!(rest[0].bytes, b"def");
    }
}
