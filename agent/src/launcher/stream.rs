//! One output of one attempt, from its pipe to its spool.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;

use super::reactor::Reactor;
use crate::logs::Spool;

/// Bytes taken from one pipe before the others have their turn.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// Bytes still taken after the process has ended. A pipe holds no more by itself; what fills it further escaped the attempt.
const LAST_BYTES: usize = 4 << 20;

/// The reading end of a pipe and the spool it goes to.
#[derive(Debug)]
pub(crate) struct Stream {
    pipe: Option<File>,
    spool: Spool,
}

impl Stream {
    /// A stream and the writing end for the process.
    pub(crate) fn open(path: &Path, limit_bytes: u64) -> io::Result<(Self, OwnedFd)> {
        let (reading, writing) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // Only our end: a task does not expect its output to be non-blocking.
        nix::fcntl::fcntl(&reading, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((Self { pipe: Some(File::from(reading)), spool: Spool::new(path, limit_bytes) }, writing))
    }

    /// The descriptor to watch, while the pipe is open.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(File::as_fd)
    }

    /// Takes one turn; closes the pipe when its last writer has gone. Gives the bytes taken.
    pub(crate) fn pump(&mut self, buffer: &mut [u8], reactor: &Reactor) -> usize {
        let Some(pipe) = &mut self.pipe else { return 0 };
        match pipe.read(buffer) {
            Ok(0) => self.close(reactor),
            Ok(count) => {
                self.spool.push(flowyard_clock::wall_us(), &buffer[..count]);
                return count;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.close(reactor),
        }
        0
    }

    /// Takes what is left in the pipe and writes the end of the spool.
    pub(crate) fn finish(&mut self, buffer: &mut [u8], reactor: &Reactor) -> io::Result<()> {
        let mut taken = 0;
        while taken < LAST_BYTES {
            match self.pump(buffer, reactor) {
                0 => break,
                count => taken += count,
            }
        }
        self.close(reactor);
        self.spool.finish(flowyard_clock::wall_us())
    }

    fn close(&mut self, reactor: &Reactor) {
        if let Some(pipe) = self.pipe.take() {
            reactor.remove(&pipe);
        }
    }
}
