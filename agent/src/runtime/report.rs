//! What a container's init tells its shim, one message each.

use std::io;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::sys;

/// Longest text in a report; a message must fit in one packet.
const TEXT_BYTES_MAX: usize = 2048;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The user's program has been executed.
    Started,
    /// It could not be.
    CommandFailed { code: i32, message: String },
    /// A last step of making the sandbox failed; nothing of the user has run.
    SandboxFailed(String),
    /// The program ended with this wait status.
    Ended { status: i32 },
}

impl Report {
    pub(crate) fn send(mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if let Self::CommandFailed { message: text, .. } | Self::SandboxFailed(text) = &mut self {
            let mut end = text.len().min(TEXT_BYTES_MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        sys::send(socket, &serde_json::to_vec(&self)?)
    }

    /// The next report; `None` when init has closed its side, or when there is none yet and `wait` is false.
    pub(crate) fn receive(socket: BorrowedFd<'_>, wait: bool) -> io::Result<Option<Self>> {
        match sys::receive(socket, wait)? {
            Some(message) => Ok(Some(serde_json::from_slice(&message)?)),
            None => Ok(None),
        }
    }
}
