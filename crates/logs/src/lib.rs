//! What tasks print, as it is stored: the format of a log, and reading it by frames and by lines.
//!
//! Written by agents only; read by agents (live), by coordinators (stored) and by clients. It knows bytes and times, and nothing
//! about who ran.

mod format;
mod lines;
mod tail;

pub use format::{FRAME_HEAD, Frame, Frames, LogError, MAGIC, MAX_FRAME_BYTES, frame_head};
pub use lines::{Follow, Line, Lines, Merged, Stream, merge, tail_lines};
pub use tail::tail_frames;
