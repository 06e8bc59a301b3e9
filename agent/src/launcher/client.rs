//! The agent's end of the connection to its launcher.
//!
//! Keeps no state about attempts: after a lost connection the next one begins with everything that runs.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::protocol::{Event, Incoming, ProtocolError, Request, Stopping, encode};
use super::socket;
use crate::runtime::spec::LaunchSpec;

/// Requests and events that may wait; senders of both wait when it is full.
const QUEUE: usize = 1024;
/// Requests sent by one write.
const BATCH: usize = 256;
const READ_BYTES: usize = 256 * 1024;

/// Why there is no launcher to talk to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, though a launcher should serve the folder.
    #[error("cannot connect to the launcher of {}", folder.display())]
    Connect {
        /// The launcher's folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program could not be run.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It ran and gave up.
    #[error("the launcher did not start: {said}")]
    Refused {
        /// What it wrote to standard error.
        said: String,
    },
    /// The connection was lost; connect again.
    #[error("the connection to the launcher is closed")]
    Closed,
}

/// How a launcher is started when none serves the folder.
#[derive(Debug, Clone)]
pub struct StartCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables added to its environment. Attempts see none of it.
    pub env: Vec<(OsString, OsString)>,
}

impl StartCommand {
    /// `exe launcher --folder FOLDER`, where `exe` is our own binary.
    pub fn of_binary(exe: &Path, folder: &Path) -> Self {
        let arguments = ["launcher".into(), "--folder".into(), folder.as_os_str().to_owned()].into();
        Self { program: exe.to_owned(), arguments, env: Vec::new() }
    }

    /// Runs it; it returns as soon as a launcher serves the folder. Nothing here keeps `Command` from using posix_spawn.
    fn run(&self) -> Result<(), ClientError> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = command.output();
        let output = output.map_err(|source| ClientError::Run { program: self.program.clone(), source })?;
        match output.status.success() {
            true => Ok(()),
            false => Err(ClientError::Refused { said: String::from_utf8_lossy(&output.stderr).trim().to_owned() }),
        }
    }
}

/// A connection to the launcher. Clones share it.
#[derive(Debug, Clone)]
pub struct LauncherClient {
    requests: mpsc::Sender<Request>,
}

impl LauncherClient {
    /// Connects to the launcher of `folder`, after starting one with `start` if there is none. The first event is `Running`. The
    /// events end when the connection is lost; then call this again.
    pub async fn connect_or_start(
        folder: &Path,
        start: StartCommand,
    ) -> Result<(Self, mpsc::Receiver<Event>), ClientError> {
        let to_connect = folder.to_owned();
        let connected = tokio::task::spawn_blocking(move || connect_or_start(&to_connect, &start)).await;
        let stream = connected.map_err(|_| ClientError::Closed)??;
        let stream = UnixStream::from_std(stream)
            .map_err(|source| ClientError::Connect { folder: folder.to_owned(), source })?;
        let (reading, writing) = stream.into_split();
        let (requests, outgoing) = mpsc::channel(QUEUE);
        let (incoming, events) = mpsc::channel(QUEUE);
        tokio::spawn(send_all(outgoing, writing));
        tokio::spawn(receive_all(reading, incoming));
        Ok((Self { requests }, events))
    }

    /// Runs an attempt; its folder must exist. Also right to call again for one that was started before.
    pub async fn start(&self, spec: LaunchSpec) -> Result<(), ClientError> {
        self.request(Request::Start(Box::new(spec))).await
    }

    /// Ends the attempt in `folder`.
    pub async fn stop(&self, folder: &Path, stopping: Stopping) -> Result<(), ClientError> {
        let Stopping { notice_ms, grace_ms } = stopping;
        self.request(Request::Stop { folder: folder.to_owned(), grace_ms, notice_ms }).await
    }

    /// Asks for a `Running` event.
    pub async fn list(&self) -> Result<(), ClientError> {
        self.request(Request::List).await
    }

    /// Ends the launcher; without `kill` only if nothing runs.
    pub async fn shutdown(&self, kill: bool) -> Result<(), ClientError> {
        self.request(Request::Shutdown { kill }).await
    }

    /// Whether the connection was lost.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    async fn request(&self, request: Request) -> Result<(), ClientError> {
        self.requests.send(request).await.map_err(|_| ClientError::Closed)
    }
}

/// Blocks, hence not on a thread that runs tasks.
fn connect_or_start(folder: &Path, start: &StartCommand) -> Result<std::os::unix::net::UnixStream, ClientError> {
    let absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    let connected = match socket::connect(folder) {
        Err(error) if absent(&error) => {
            start.run()?;
            socket::connect(folder)
        }
        other => other,
    };
    let stream = connected.map_err(|source| ClientError::Connect { folder: folder.to_owned(), source })?;
    let nonblocking = stream.set_nonblocking(true);
    nonblocking.map_err(|source| ClientError::Connect { folder: folder.to_owned(), source })?;
    Ok(stream)
}

/// Sends what is asked, many at once where many wait; ends with the connection or the last client.
async fn send_all(mut requests: mpsc::Receiver<Request>, mut stream: OwnedWriteHalf) {
    let (mut batch, mut bytes) = (Vec::new(), Vec::new());
    while requests.recv_many(&mut batch, BATCH).await > 0 {
        bytes.clear();
        batch.drain(..).for_each(|request| encode(&request, &mut bytes));
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Passes events on; ends with the connection, with nonsense in it, or when nobody listens.
async fn receive_all(mut stream: OwnedReadHalf, events: mpsc::Sender<Event>) {
    let mut incoming = Incoming::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => incoming.extend(&buffer[..count]),
        }
        loop {
            let next: Result<Option<Event>, ProtocolError> = incoming.take();
            match next {
                Ok(Some(event)) => {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the launcher sent what cannot be read");
                    return;
                }
            }
        }
    }
}
