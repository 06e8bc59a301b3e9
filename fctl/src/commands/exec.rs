//! `fctl exec`: a command beside a running task, or a shell there. Its exit code is ours.

use std::io::Read;
use std::process::ExitCode;

use flowyard_proto::api::{self, ExecRequest, ExecResponse, exec_request, exec_response};
use flowyard_sdk::client::{Client, ClientError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Outcome;
use crate::asking::asking;
use crate::cli::{Exec, Global};
use crate::failure::Failure;
use crate::output;
use crate::target::{self, Target};
use crate::terminal::{self, RawMode};

/// Messages on their way to the command; with [`READ_BYTES`] this bounds what is held of standard input.
const OUTBOX: usize = 16;
/// Bytes read at a time.
const READ_BYTES: usize = 32 * 1024;
/// What runs when no command is named: the better shell, if it is there.
const SHELL: [&str; 3] = ["/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh"];

type Outbox = mpsc::Sender<ExecRequest>;

pub(super) async fn run(global: &Global, exec: Exec) -> Outcome {
    let code = asking(global, async |client| join(client, &exec).await).await?;
    // What cannot be an exit code is told as the highest one.
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

async fn join(client: &mut Client, exec: &Exec) -> Result<i32, Failure> {
    let target = target::find(client, &exec.reference).await?;
    let interactive = terminal::is_interactive();
    let start = start(&target, exec, interactive)?;
    let (outbox, requests) = mpsc::channel(OUTBOX);
    // The channel was just made and has room.
    let _ = outbox.try_send(message(exec_request::Message::Start(start)));
    let mut answers = client.exec(ReceiverStream::new(requests)).await?;
    let _raw = match interactive {
        true => Some(RawMode::enter().map_err(Failure::local("the terminal"))?),
        false => None,
    };
    if interactive {
        tokio::spawn(tell_size(outbox.clone()));
    }
    read_stdin(outbox);
    while let Some(answer) = answers.message().await.map_err(|status| client.sorted(status))? {
        if let Some(code) = print(&answer) {
            return Ok(code);
        }
    }
    Err(ClientError::Unavailable("the connection to the command was lost".to_owned()).into())
}

fn start(target: &Target, exec: &Exec, interactive: bool) -> Result<exec_request::Start, Failure> {
    let at = target.one_task()?;
    let command = match exec.command.is_empty() {
        true => SHELL.map(str::to_owned).into(),
        false => exec.command.clone(),
    };
    Ok(exec_request::Start {
        job: target.job_id().0,
        step: at.step,
        task: at.task,
        attempt: exec.reference.attempt.map(|attempt| attempt.0),
        rank: exec.reference.rank.map_or(0, |rank| rank.0),
        command,
        terminal: interactive,
        size: terminal::size().filter(|_| interactive),
        term: std::env::var("TERM").unwrap_or_default(),
    })
}

fn message(message: exec_request::Message) -> ExecRequest {
    ExecRequest { message: Some(message) }
}

/// Prints what the command wrote; its exit code, once it has ended.
fn print(answer: &ExecResponse) -> Option<i32> {
    match answer.message.as_ref()? {
        exec_response::Message::Stdout(bytes) => output::bytes(bytes),
        exec_response::Message::Stderr(bytes) => output::error_bytes(bytes),
        exec_response::Message::ExitCode(code) => return Some(*code),
    }
    None
}

/// Sends standard input from a thread of its own, which may block for as long as the process lives.
fn read_stdin(outbox: Outbox) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        let mut stdin = std::io::stdin().lock();
        loop {
            // A standard input that cannot be read is at its end.
            let read = stdin.read(&mut buffer).unwrap_or(0);
            let bytes = buffer[..read].to_vec();
            let sent = outbox.blocking_send(message(exec_request::Message::Stdin(bytes.into())));
            if read == 0 || sent.is_err() {
                return;
            }
        }
    });
}

/// Tells the command whenever the size of the terminal changed.
async fn tell_size(outbox: Outbox) {
    let Ok(mut changed) = signal(SignalKind::window_change()) else { return };
    while changed.recv().await.is_some() {
        let Some(size) = terminal::size() else { continue };
        let resize = api::TerminalSize { rows: size.rows, columns: size.columns };
        if outbox.send(message(exec_request::Message::Resize(resize))).await.is_err() {
            return;
        }
    }
}
