//! Logs: of a live attempt through its agent, of one that has ended from the origin. A client that follows is carried from
//! waiting over live to stored without noticing.

use flowyard_cas::Origin;
use flowyard_logs::{Frame, Frames, LogError, tail_frames};
use flowyard_model::{Digest, JobId, Logs, Member, MemberKey, Phase, Rank, TaskKey};
use flowyard_proto::agent::{LogRelay, open_relay, relay_from_agent};
use flowyard_proto::api::{LogStream, LogsRequest, LogsResponse};
use flowyard_state::View;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tonic::{Code, Status};

use super::{Answers, find_attempt, find_task};
use crate::coordinator::Shared;

/// Frames on their way to a client.
const OUTBOX: usize = 64;

type Outbox = mpsc::Sender<Result<LogsResponse, Status>>;

pub(super) async fn logs(shared: &Shared, mut request: LogsRequest) -> Result<Answers<LogsResponse>, Status> {
    if !request.stdout && !request.stderr {
        (request.stdout, request.stderr) = (true, true);
    }
    let key = find_task(&shared.feed.view(), request.job, request.step, request.task)?;
    if !request.follow {
        find_attempt(&shared.feed.view(), key, request.attempt)?;
    }
    let (outbox, receiver) = mpsc::channel(OUTBOX);
    let shared = shared.clone();
    tokio::spawn(async move {
        if let Err(status) = serve(&shared, key, &request, &outbox).await {
            let _ = outbox.send(Err(status)).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Where the log of the attempt asked for is.
enum Place {
    /// Nowhere yet.
    Nowhere,
    /// With an agent.
    Live(MemberKey, flowyard_model::NodeId),
    /// In the origin.
    Stored(Logs),
}

async fn serve(shared: &Shared, key: TaskKey, request: &LogsRequest, outbox: &Outbox) -> Result<(), Status> {
    let mut changed = shared.feed.job(JobId(request.job));
    loop {
        changed.mark_unchanged();
        match place(&shared.feed.view(), key, request)? {
            Place::Stored(logs) => return stored(&shared.origin, logs, request, outbox).await,
            Place::Live(member, node) => match live(shared, node, member, request, outbox).await {
                // It ended while the agent was asked: its log is stored, or about to be.
                Err(status) if status.code() == Code::FailedPrecondition => {}
                other => return other,
            },
            Place::Nowhere => {}
        }
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return Ok(()) },
            () = outbox.closed() => return Ok(()),
        }
    }
}

fn place(view: &View, key: TaskKey, request: &LogsRequest) -> Result<Place, Status> {
    let attempt = match find_attempt(view, key, request.attempt) {
        Ok(attempt) => attempt,
        Err(status) => {
            let over = view.job(key.job).is_none_or(|job| job.ended.is_some());
            return if request.follow && !over { Ok(Place::Nowhere) } else { Err(status) };
        }
    };
    let member: &Member = attempt.members.get(request.rank as usize).ok_or_else(|| {
        Status::not_found(format!("the attempt has {} members, numbered from 0", attempt.members.len()))
    })?;
    match (&member.end, member.phase) {
        (Some(end), _) => Ok(Place::Stored(end.logs)),
        (None, Phase::Placed) if request.follow => Ok(Place::Nowhere),
        (None, Phase::Placed) => {
            Err(Status::failed_precondition("the attempt is placed, and its agent has not begun it yet"))
        }
        (None, _) => {
            Ok(Place::Live(MemberKey { task: key, attempt: attempt.number, rank: Rank(request.rank) }, member.node))
        }
    }
}

async fn live(
    shared: &Shared,
    node: flowyard_model::NodeId,
    member: MemberKey,
    request: &LogsRequest,
    outbox: &Outbox,
) -> Result<(), Status> {
    let kind = open_relay::Kind::Logs(LogRelay {
        stdout: request.stdout,
        stderr: request.stderr,
        follow: request.follow,
        tail_lines: request.tail_lines,
    });
    let mut relay = shared.relays.open(node, member, kind).await?;
    while let Some(message) = relay.next().await? {
        if let relay_from_agent::Message::Log(frame) = message
            && outbox.send(Ok(frame)).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads stored logs on a thread that may block, a bounded piece at a time.
async fn stored(origin: &Origin, logs: Logs, request: &LogsRequest, outbox: &Outbox) -> Result<(), Status> {
    let stdout = open(origin, logs.stdout.filter(|_| request.stdout)).await?;
    let stderr = open(origin, logs.stderr.filter(|_| request.stderr)).await?;
    let (outbox, tail) = (outbox.clone(), request.tail_lines);
    let sent = tokio::task::spawn_blocking(move || match tail {
        None => send_merged(stdout, stderr, &outbox),
        Some(lines) => {
            let stdout = tail_frames(stdout, lines as usize)?.into_iter().map(Ok);
            let stderr = tail_frames(stderr, lines as usize)?.into_iter().map(Ok);
            send_merged(stdout, stderr, &outbox)
        }
    });
    let sent = sent.await.map_err(|panic| Status::internal(panic.to_string()))?;
    sent.map_err(|error| Status::data_loss(error.to_string()))
}

type StoredFrames = Box<dyn Iterator<Item = Result<Frame, LogError>> + Send>;

async fn open(origin: &Origin, digest: Option<Digest>) -> Result<StoredFrames, Status> {
    let Some(digest) = digest else { return Ok(Box::new(std::iter::empty())) };
    let stream = origin.get_stream(&digest).await.map_err(|error| Status::unavailable(format!("the log: {error}")))?;
    let reader = StreamReader::new(stream.map_err(std::io::Error::other).boxed());
    Ok(Box::new(Frames::new(SyncIoBridge::new(reader))))
}

/// Sends both streams in the order of their times; within a stream the order is kept.
fn send_merged(
    stdout: impl IntoIterator<Item = Result<Frame, LogError>>,
    stderr: impl IntoIterator<Item = Result<Frame, LogError>>,
    outbox: &Outbox,
) -> Result<(), LogError> {
    let (mut stdout, mut stderr) = (stdout.into_iter().peekable(), stderr.into_iter().peekable());
    // An error sorts first, so it is told at once.
    let time = |frame: &Result<Frame, LogError>| frame.as_ref().map_or(0, |frame| frame.at_us);
    loop {
        let stdout_first = match (stdout.peek(), stderr.peek()) {
            (None, None) => return Ok(()),
            (Some(out), Some(err)) => time(out) <= time(err),
            (out, _) => out.is_some(),
        };
        let (stream, frame) = match stdout_first {
            true => (LogStream::Stdout, stdout.next()),
            false => (LogStream::Stderr, stderr.next()),
        };
        let Some(frame) = frame.transpose()? else { return Ok(()) };
        let answer = LogsResponse { stream: stream.into(), at_us: frame.at_us, bytes: frame.bytes.into() };
        if outbox.blocking_send(Ok(answer)).is_err() {
            return Ok(());
        }
    }
}
