//! A command beside a running attempt, for a client that waits: its standard streams go through a relay.
//!
//! The command is run by a fresh process (see [`crate::runtime::enter`]); here is only what finds the attempt and carries bytes.
//! Everything held is bounded by the relay's mailboxes and one buffer per stream. When the client hangs up, the command is
//! killed.

mod place;
mod streams;

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use flowyard_model::MemberKey;
use flowyard_proto::agent::{RelayToAgent, relay_from_agent};
use flowyard_proto::api::exec_request::Start;
use flowyard_proto::api::{ExecResponse, exec_request, exec_response};
use tokio::process::{Child, Command};
use tonic::Streaming;

use self::streams::{Ends, Input, Outputs};
use crate::attempt::{self, Desk};
use crate::launches::LaunchRequest;
use crate::relay::{Outbox, message};
use crate::runtime::enter::Order;

/// How long what a command has left in its pipes may take to come out after it has ended: something may hold them open.
const DRAIN: Duration = Duration::from_millis(500);
/// How long the process that waits for a command may take to kill it.
const KILL: Duration = Duration::from_secs(2);

/// Runs the command until it has ended or the client is gone.
///
/// # Errors
/// Why it could not be run, in words for the user.
pub(crate) async fn serve(
    desk: &Desk,
    member: MemberKey,
    start: Start,
    told: &mut Streaming<RelayToAgent>,
    outbox: &Outbox,
) -> Result<(), String> {
    let order = order(desk, member, &start).await?;
    let (ends, input, outputs) =
        Ends::open(&start).map_err(|error| format!("no terminal or pipe for the command: {error}"))?;
    let path = desk.folder(member).join(format!("exec-{}.json", uuid::Uuid::new_v4()));
    write(&path, &order).map_err(|error| format!("the command cannot be handed on: {error}"))?;
    let mut child = match spawn(desk, &path, ends) {
        Ok(child) => child,
        Err(error) => {
            // It was not read by anybody.
            let _ = std::fs::remove_file(&path);
            return Err(format!("the command cannot be run: {error}"));
        }
    };
    let code = tokio::select! {
        status = said(&mut child, outputs, outbox) => Some(status.map_err(|error| error.to_string())?),
        () = heard(told, input) => None,
        () = outbox.closed() => None,
    };
    match code {
        Some(status) => {
            let answer = exec_response::Message::ExitCode(exit_code(status));
            // If nobody listens any more, nobody misses it.
            let _ = outbox.send(wrap(answer)).await;
        }
        None => kill(&mut child).await,
    }
    Ok(())
}

/// What to run, and beside what.
async fn order(desk: &Desk, member: MemberKey, start: &Start) -> Result<Order, String> {
    let folder = desk.folder(member);
    let not_yet = || "the task does not run yet: what it needs is being fetched".to_owned();
    let mut launch = attempt::launched(&folder).ok_or_else(not_yet)?;
    let (answer, found) = tokio::sync::oneshot::channel();
    let asked = desk.launches.tell(LaunchRequest::Find { folder, answer }).await;
    asked.map_err(|error| format!("the launcher cannot be asked: {error}"))?;
    let pid = found.await.ok().flatten().ok_or_else(|| "the task does not run (any more)".to_owned())?;
    let (pid, start_ticks) = place::process(pid, &launch.sandbox)?;
    let cgroups = place::cgroups(pid)?;
    launch.argv = start.command.clone();
    // What runs beside a task is given no secrets.
    launch.secret_env.clear();
    if start.terminal && !start.term.is_empty() {
        launch.env.retain(|(name, _)| name != "TERM");
        launch.env.push(("TERM".to_owned(), start.term.clone()));
    }
    Ok(Order { pid, start_ticks, cgroups, terminal: start.terminal, launch })
}

/// Variables may be private, so only we may read it.
fn write(path: &Path, order: &Order) -> std::io::Result<()> {
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(serde_json::to_writer(file, order)?)
}

fn spawn(desk: &Desk, order: &Path, ends: Ends) -> std::io::Result<Child> {
    let mut command = Command::new(&desk.config.launcher.program);
    command.arg("enter").arg("--order").arg(order).env_clear().current_dir("/").kill_on_drop(true);
    command.stdin(ends.stdin).stdout(ends.stdout).stderr(ends.stderr);
    command.spawn()
}

/// Passes on what the command writes until it has ended.
async fn said(child: &mut Child, outputs: Outputs, outbox: &Outbox) -> std::io::Result<ExitStatus> {
    let mut copies = std::pin::pin!(outputs.copy(outbox));
    tokio::select! {
        status = child.wait() => {
            // What it left behind may hold the pipes open for as long as the attempt runs.
            let _ = tokio::time::timeout(DRAIN, &mut copies).await;
            status
        }
        () = &mut copies => child.wait().await,
    }
}

/// Passes on what the client says. Ends when the client hangs up.
async fn heard(told: &mut Streaming<RelayToAgent>, mut input: Input) {
    while let Ok(Some(told)) = told.message().await {
        match told.exec.and_then(|request| request.message) {
            Some(exec_request::Message::Stdin(bytes)) => input.write(&bytes).await,
            Some(exec_request::Message::Resize(size)) => input.resize(size),
            Some(exec_request::Message::Start(_)) | None => {}
        }
    }
}

fn wrap(answer: exec_response::Message) -> flowyard_proto::agent::RelayFromAgent {
    message(relay_from_agent::Message::Exec(ExecResponse { message: Some(answer) }))
}

/// As shells have it.
fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

/// Has the waiting process kill the command; if it does not, kills it, and the command dies of that.
async fn kill(child: &mut Child) {
    let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) else { return };
    // It may have just ended.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    if tokio::time::timeout(KILL, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
