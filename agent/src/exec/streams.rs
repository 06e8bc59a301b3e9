//! The standard streams of a command: three pipes, or a terminal of its own.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;

use flowyard_proto::api::exec_request::Start;
use flowyard_proto::api::{TerminalSize, exec_response};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::wrap;
use crate::relay::Outbox;

/// Bytes passed on at a time.
const PIECE_BYTES: usize = 32 * 1024;

/// The command's ends.
pub(super) struct Ends {
    pub(super) stdin: Stdio,
    pub(super) stdout: Stdio,
    pub(super) stderr: Stdio,
}

/// Where the client's bytes go.
pub(super) enum Input {
    /// A pipe, until its end was told.
    Pipe(Option<pipe::Sender>),
    /// The terminal.
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

/// Where the command's bytes come from.
pub(super) enum Outputs {
    /// Standard output and standard error.
    Pipes(pipe::Receiver, pipe::Receiver),
    /// Both together.
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

impl Ends {
    /// Makes them, as the client asks.
    pub(super) fn open(start: &Start) -> io::Result<(Self, Input, Outputs)> {
        if start.terminal { Self::terminal(start.size) } else { Self::pipes() }
    }

    fn pipes() -> io::Result<(Self, Input, Outputs)> {
        let (stdin, input) = io::pipe()?;
        let (output, stdout) = io::pipe()?;
        let (errors, stderr) = io::pipe()?;
        let ends = Self { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() };
        let input = pipe::Sender::from_owned_fd(input.into())?;
        let outputs = Outputs::Pipes(
            pipe::Receiver::from_owned_fd(output.into())?,
            pipe::Receiver::from_owned_fd(errors.into())?,
        );
        Ok((ends, Input::Pipe(Some(input)), outputs))
    }

    fn terminal(size: Option<TerminalSize>) -> io::Result<(Self, Input, Outputs)> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        if let Some(size) = size {
            rustix::termios::tcsetwinsize(&master, winsize(size))?;
        }
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        let slave = File::from(slave);
        let ends = Self { stdin: slave.try_clone()?.into(), stdout: slave.try_clone()?.into(), stderr: slave.into() };
        // SAFETY: the descriptor is owned by the value that is registered, is the same whenever asked for, and is closed only
        // with it.
        let master = Arc::new(unsafe { AsyncFd::register(master)? });
        Ok((ends, Input::Terminal(Arc::clone(&master)), Outputs::Terminal(master)))
    }
}

fn winsize(size: TerminalSize) -> Winsize {
    let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    Winsize { ws_row: cells(size.rows), ws_col: cells(size.columns), ws_xpixel: 0, ws_ypixel: 0 }
}

impl Input {
    /// Writes what the client sent; nothing means that there is no more. A command that does not read any more is its own.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Pipe(pipe) => {
                let taken = match pipe {
                    Some(pipe) if !bytes.is_empty() => pipe.write_all(bytes).await.is_ok(),
                    _ => false,
                };
                if !taken {
                    *pipe = None;
                }
            }
            Self::Terminal(master) => write_terminal(master, bytes).await,
        }
    }

    /// Gives the terminal another size.
    pub(super) fn resize(&self, size: TerminalSize) {
        if let Self::Terminal(master) = self {
            // A command that has ended has no use for it.
            let _ = rustix::termios::tcsetwinsize(master.get_ref(), winsize(size));
        }
    }
}

async fn write_terminal(master: &AsyncFd<OwnedFd>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let Ok(mut ready) = master.writable().await else { return };
        match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
            Ok(Ok(written)) => bytes = &bytes[written..],
            Ok(Err(_)) => return,
            Err(_would_block) => {}
        }
    }
}

impl Outputs {
    /// Passes everything on until the command's ends are closed, or nobody listens.
    pub(super) async fn copy(self, outbox: &Outbox) {
        match self {
            Self::Pipes(stdout, stderr) => {
                let stdout = copy(stdout, outbox, |bytes| exec_response::Message::Stdout(bytes.into()));
                let stderr = copy(stderr, outbox, |bytes| exec_response::Message::Stderr(bytes.into()));
                tokio::join!(stdout, stderr);
            }
            Self::Terminal(master) => copy_terminal(&master, outbox).await,
        }
    }
}

async fn copy(mut pipe: pipe::Receiver, outbox: &Outbox, wrapped: fn(Vec<u8>) -> exec_response::Message) {
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        if outbox.send(wrap(wrapped(buffer[..read].to_vec()))).await.is_err() {
            return;
        }
    }
}

async fn copy_terminal(master: &AsyncFd<OwnedFd>, outbox: &Outbox) {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let Ok(mut ready) = master.readable().await else { return };
        match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?)) {
            Ok(Ok(read @ 1..)) => {
                let piece = exec_response::Message::Stdout(buffer[..read].to_vec().into());
                if outbox.send(wrap(piece)).await.is_err() {
                    return;
                }
            }
            // An error is how a terminal says that the other side is closed.
            Ok(_) => return,
            Err(_would_block) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_on_a_terminal_sees_its_size_and_what_is_typed() {
        let start = Start { terminal: true, size: Some(TerminalSize { rows: 33, columns: 77 }), ..Start::default() };
        let (ends, mut input, outputs) = Ends::open(&start).unwrap();
        let mut command = tokio::process::Command::new("sh");
        command
            .arg("-c")
            .arg("stty size; read line; echo got $line")
            .stdin(ends.stdin)
            .stdout(ends.stdout)
            .stderr(ends.stderr);
        let mut child = command.spawn().unwrap();
        drop(command);
        input.write(b"hello\n").await;
        let (outbox, mut said) = tokio::sync::mpsc::channel(64);
        let copies = outputs.copy(&outbox);
        let (status, ()) = tokio::join!(child.wait(), copies);
        assert!(status.unwrap().success());
        drop(outbox);
        let mut text = Vec::new();
        while let Some(message) = said.recv().await {
            let Some(flowyard_proto::agent::relay_from_agent::Message::Exec(answer)) = message.message else {
                continue;
            };
            let Some(exec_response::Message::Stdout(bytes)) = answer.message else { continue };
            text.extend_from_slice(&bytes);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.contains("33 77") && text.contains("got hello"), "{text:?}");
    }
}
