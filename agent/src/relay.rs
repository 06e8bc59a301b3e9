//! Answers a client's request that reached the agent through the coordinator: the log of a live attempt, or a command beside it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flowyard_model::MemberKey;
use flowyard_proto::agent::agents_client::AgentsClient;
use flowyard_proto::agent::{LogRelay, OpenRelay, RelayFromAgent, open_relay, relay_from_agent};
use flowyard_proto::api::{LogStream, LogsResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::attempt::Desk;
use crate::launcher::EXIT_RECORD;
use crate::logs::{STDERR_LOG, STDOUT_LOG};
use crate::{diagnosing, exec};
use flowyard_logs::{Follow, Frame, tail_frames};

/// Messages on their way to the coordinator.
const OUTBOX: usize = 16;
/// Bytes read from a spool at a time.
const READ_BYTES: usize = 256 * 1024;
/// How often a followed spool is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long the other side may take to hear the last messages.
const FAREWELL: Duration = Duration::from_secs(30);

/// Where a relay's messages go.
pub(crate) type Outbox = mpsc::Sender<RelayFromAgent>;

/// Calls the coordinator back and serves the request, in a task of its own.
pub(crate) fn open(desk: Arc<Desk>, mut client: AgentsClient<Channel>, request: OpenRelay) {
    let tasks = desk.tasks.clone();
    tasks.spawn(async move {
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let _ = outbox.send(message(relay_from_agent::Message::Relay(request.relay))).await;
        let mut told = match client.relay(ReceiverStream::new(outgoing)).await {
            Ok(told) => told.into_inner(),
            Err(status) => return tracing::debug!(%status, "nobody waits for a relay any more"),
        };
        let failed = match (request.member.map(MemberKey::from), request.kind) {
            (Some(member), Some(open_relay::Kind::Logs(logs))) => {
                serve_logs(&desk.folder(member), &logs, &outbox).await
            }
            (Some(member), Some(open_relay::Kind::Exec(start))) => {
                exec::serve(&desk, member, start, &mut told, &outbox).await
            }
            (None, Some(open_relay::Kind::Diagnose(_))) => diagnosing::serve(&desk, &outbox).await,
            _ => Err("the request is incomplete".to_owned()),
        };
        if let Err(why) = failed {
            let _ = outbox.send(message(relay_from_agent::Message::Failed(why))).await;
        }
        drop(outbox);
        // Letting go of this side first would tear the connection down with the last messages still on their way.
        let heard_all = async { while let Ok(Some(_)) = told.message().await {} };
        let _ = tokio::time::timeout(FAREWELL, heard_all).await;
    });
}

/// Wraps a message.
pub(crate) fn message(message: relay_from_agent::Message) -> RelayFromAgent {
    RelayFromAgent { message: Some(message) }
}

async fn serve_logs(folder: &Path, request: &LogRelay, outbox: &Outbox) -> Result<(), String> {
    if !folder.exists() {
        return Err("the attempt is not on this node any more".to_owned());
    }
    let mut streams = Vec::new();
    for (wanted, name, stream) in
        [(request.stdout, STDOUT_LOG, LogStream::Stdout), (request.stderr, STDERR_LOG, LogStream::Stderr)]
    {
        if wanted {
            streams.push((Follow::new(&folder.join(name), 0), stream));
        }
    }
    if let Some(lines) = request.tail_lines {
        for (follow, stream) in &mut streams {
            let frames = tail(follow, lines as usize)?;
            send(frames, *stream, outbox).await?;
        }
    }
    loop {
        // Looked at before reading, so that nothing written before the end is missed.
        let over = folder.join(EXIT_RECORD).exists() || !folder.exists();
        let mut idle = true;
        for (follow, stream) in &mut streams {
            let frames = follow.read_new(READ_BYTES).map_err(|error| error.to_string())?;
            idle &= frames.is_empty();
            send(frames, *stream, outbox).await?;
        }
        match (idle, over, request.follow) {
            (true, true, _) | (true, _, false) => return Ok(()),
            (true, false, true) => {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = outbox.closed() => return Ok(()),
                }
            }
            (false, _, _) => {}
        }
    }
}

/// The frames that hold the last lines of what is there; leaves `follow` at its end.
fn tail(follow: &mut Follow, lines: usize) -> Result<Vec<Frame>, String> {
    let mut there = Vec::new();
    let frames = std::iter::from_fn(|| {
        if there.is_empty() {
            match follow.read_new(READ_BYTES) {
                Ok(frames) => there = frames.into_iter().rev().collect(),
                Err(error) => return Some(Err(error)),
            }
        }
        there.pop().map(Ok)
    });
    tail_frames(frames, lines).map_err(|error| error.to_string())
}

async fn send(frames: Vec<Frame>, stream: LogStream, outbox: &Outbox) -> Result<(), String> {
    for frame in frames {
        let log = LogsResponse { stream: stream.into(), at_us: frame.at_us, bytes: frame.bytes.into() };
        let sent = outbox.send(message(relay_from_agent::Message::Log(log))).await;
        sent.map_err(|_| "nobody listens any more".to_owned())?;
    }
    Ok(())
}
