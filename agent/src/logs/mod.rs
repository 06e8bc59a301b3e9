//! What tasks print, written down: the bounded writer of a spool. The format and its readers are in `flowyard_logs`.
//!
//! Owns the bytes between a task's pipe and whoever reads its log. One file per stream, made at the first byte, so a silent
//! task costs no file. It must not know who runs the task, nor keep more of a log in memory than [`TAIL_BYTES`] per stream.
//!
//! Invariant: a byte that was read from the pipe is in the file, or counted as dropped in a note that the file carries.

mod spool;

pub use spool::{Spool, TAIL_BYTES};

/// Name of the spool of standard output in an attempt's folder.
pub const STDOUT_LOG: &str = "stdout.log";
/// Name of the spool of standard error in an attempt's folder.
pub const STDERR_LOG: &str = "stderr.log";
