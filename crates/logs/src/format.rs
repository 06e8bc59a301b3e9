//! The format of a log spool, version 1. It is kept as an artifact, so it is read by later releases and by clients.
//!
//! A file is [`MAGIC`] followed by frames; a frame is the wall clock in microseconds (u64), the length (u32, its highest bit
//! set when the bytes were written by us and not by the task), and the bytes; all little-endian. One read from the task's pipe
//! is one frame, so a frame may end inside a line.
//!
//! Invariant: a file that ends inside a frame is a valid file without that frame; a writer may still be at work.

use std::io::{self, Read};

/// The first bytes of every spool; the last one is the version of the format.
pub const MAGIC: [u8; 8] = *b"FYLOG\0\0\x01";
/// Bytes before the content of a frame.
pub const FRAME_HEAD: usize = 12;
/// No frame is longer; a greater length means that the file is damaged.
pub const MAX_FRAME_BYTES: u32 = 1 << 20;

const NOTE_BIT: u32 = 1 << 31;

/// One piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When it was read from the task, wall clock in microseconds.
    pub at_us: u64,
    /// Whether we wrote it rather than the task, e.g. to say that output was dropped.
    pub note: bool,
    /// The bytes as the task wrote them.
    pub bytes: Vec<u8>,
}

/// Why a spool cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The storage under it failed.
    #[error("cannot read the log")]
    Read(#[from] io::Error),
    /// It does not begin as a log does.
    #[error("not a log of this format, or written by a later release")]
    UnknownFormat,
    /// A frame claims an impossible length.
    #[error("the log is damaged at byte {position}")]
    Damaged {
        /// Offset of the frame in the file.
        position: u64,
    },
}

/// The bytes that precede the content of a frame.
pub fn frame_head(at_us: u64, length: u32, note: bool) -> [u8; FRAME_HEAD] {
    assert!(length <= MAX_FRAME_BYTES, "a frame is bounded");
    let mut head = [0; FRAME_HEAD];
    head[..8].copy_from_slice(&at_us.to_le_bytes());
    head[8..].copy_from_slice(&(length | if note { NOTE_BIT } else { 0 }).to_le_bytes());
    head
}

/// Reads the frames of a spool in order; ends without an error at a frame that is not whole.
#[derive(Debug)]
pub struct Frames<R> {
    input: R,
    position: u64,
    ended: bool,
}

impl<R: Read> Frames<R> {
    /// Reads from the first byte of a spool.
    pub fn new(input: R) -> Self {
        Self::resume(input, 0)
    }

    /// Reads on from `position`, a value that [`Frames::position`] gave; `input` must stand at that byte.
    pub fn resume(input: R, position: u64) -> Self {
        Self { input, position, ended: false }
    }

    /// Where the next frame begins. Reading can go on from here when the file has grown.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn read_magic(&mut self) -> Result<bool, LogError> {
        let mut magic = [0; MAGIC.len()];
        if !read_whole(&mut self.input, &mut magic)? {
            return Ok(false);
        }
        if magic != MAGIC {
            return Err(LogError::UnknownFormat);
        }
        self.position = MAGIC.len() as u64;
        Ok(true)
    }

    fn read_frame(&mut self) -> Result<Option<Frame>, LogError> {
        if self.position == 0 && !self.read_magic()? {
            return Ok(None);
        }
        let mut head = [0; FRAME_HEAD];
        if !read_whole(&mut self.input, &mut head)? {
            return Ok(None);
        }
        let (at, length) = head.split_at(8);
        let at_us = u64::from_le_bytes(at.try_into().expect("eight bytes"));
        let word = u32::from_le_bytes(length.try_into().expect("four bytes"));
        let length = word & !NOTE_BIT;
        if length > MAX_FRAME_BYTES {
            return Err(LogError::Damaged { position: self.position });
        }
        let mut bytes = vec![0; length as usize];
        if !read_whole(&mut self.input, &mut bytes)? {
            return Ok(None);
        }
        self.position += (FRAME_HEAD + bytes.len()) as u64;
        Ok(Some(Frame { at_us, note: word & NOTE_BIT != 0, bytes }))
    }
}

impl<R: Read> Iterator for Frames<R> {
    type Item = Result<Frame, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let frame = self.read_frame().transpose();
        self.ended = !matches!(frame, Some(Ok(_)));
        frame
    }
}

/// Fills `bytes`; false if the input ends before.
fn read_whole(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(frames: &[(u64, bool, &[u8])]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        for (at_us, note, bytes) in frames {
            file.extend(frame_head(*at_us, bytes.len() as u32, *note));
            file.extend(*bytes);
        }
        file
    }

    #[test]
    fn frames_come_back_as_they_were_written() {
        let file = spool(&[(7, false, b"one\n"), (8, true, b"note"), (9, false, b"")]);
        let frames: Vec<Frame> = Frames::new(&file[..]).map(|frame| frame.expect("whole")).collect();
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[0], Frame { at_us: 7, note: false, bytes: b"one\n".to_vec() });
        assert!(frames[1].note);
    }

    #[test]
    fn a_torn_end_is_no_error_wherever_it_tears() {
        let file = spool(&[(7, false, b"first"), (8, false, b"second")]);
        let whole = MAGIC.len() + FRAME_HEAD + 5;
        for length in 0..file.len() {
            let mut frames = Frames::new(&file[..length]);
            let count = frames.by_ref().inspect(|frame| assert!(frame.is_ok())).count();
            assert_eq!(count, usize::from(length >= whole), "torn at {length}");
            if count == 1 {
                assert_eq!(frames.position(), whole as u64);
            }
        }
    }

    #[test]
    fn reading_resumes_at_a_position() {
        let file = spool(&[(7, false, b"first"), (8, false, b"second")]);
        let mut frames = Frames::new(&file[..]);
        frames.next();
        let position = frames.position();
        let rest: Vec<_> = Frames::resume(&file[position as usize..], position).collect();
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].as_ref().expect("whole").bytes, b"second");
    }

    #[test]
    fn a_foreign_file_and_an_absurd_length_are_refused() {
        assert!(matches!(Frames::new(&b"GIF89a\0\0"[..]).next(), Some(Err(LogError::UnknownFormat))));
        let mut file = MAGIC.to_vec();
        file.extend([0; 8]);
        file.extend((MAX_FRAME_BYTES + 1).to_le_bytes());
        assert!(matches!(Frames::new(&file[..]).next(), Some(Err(LogError::Damaged { position: 8 }))));
    }
}
