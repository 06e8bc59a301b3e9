//! Logs: of a live attempt through its agent, of one that has ended from the origin. A client that follows is carried from
//! waiting over live to stored without noticing.

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
use crate::durable::Durable;

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

/// The stored logs of a job that is only in the archive.
pub(super) fn archived(
    shared: &Shared,
    view: &View,
    mut request: LogsRequest,
) -> Result<Answers<LogsResponse>, Status> {
    if !request.stdout && !request.stderr {
        (request.stdout, request.stderr) = (true, true);
    }
    // It has ended, so there is nothing to wait for.
    request.follow = false;
    let key = find_task(view, request.job, request.step, request.task)?;
    let Place::Stored(logs) = place(view, key, &request)? else {
        return Err(Status::failed_precondition("the attempt was archived without an end"));
    };
    let (outbox, receiver) = mpsc::channel(OUTBOX);
    let durable = shared.durable.clone();
    tokio::spawn(async move {
        if let Err(status) = stored(&durable, logs, &request, Sent::default(), &outbox).await {
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

/// What a client was sent of a live log.
#[derive(Default)]
struct Sent {
    /// Whether a relay has told all it could: the rest is in the stored log.
    live: bool,
    /// The last frame of each stream.
    last: [Option<LogsResponse>; 2],
}

async fn serve(shared: &Shared, key: TaskKey, request: &LogsRequest, outbox: &Outbox) -> Result<(), Status> {
    let mut changed = shared.feed.job(JobId(request.job));
    let mut sent = Sent::default();
    loop {
        changed.mark_unchanged();
        match place(&shared.feed.view(), key, request)? {
            Place::Stored(logs) => return stored(&shared.durable, logs, request, sent, outbox).await,
            Place::Live(member, node) if !sent.live => {
                match live(shared, node, member, request, &mut sent, outbox).await {
                    // An agent removes its spool once the end is applied, maybe before the last of it was read.
                    Ok(()) if request.follow => sent.live = true,
                    // It ended while the agent was asked: its log is stored, or about to be.
                    Err(status) if status.code() == Code::FailedPrecondition => {
                        sent.live = sent.last.iter().any(Option::is_some);
                    }
                    other => return other,
                }
            }
            Place::Live(..) | Place::Nowhere => {}
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
        Status::not_found(match attempt.members.len() {
            1 => "the attempt has one member, number 0".to_owned(),
            several => format!("the attempt has {several} members, numbered from 0"),
        })
    })?;
    match (&member.end, member.phase) {
        (Some(end), _) => Ok(Place::Stored(end.logs)),
        (None, Phase::Placed) if request.follow => Ok(Place::Nowhere),
        (None, Phase::Placed) => {
            Err(Status::failed_precondition("the attempt is placed, and its agent has not begun it yet"))
        }
        (None, _) => Ok(Place::Live(attempt.member_key(key, Rank(request.rank)), member.node)),
    }
}

async fn live(
    shared: &Shared,
    node: flowyard_model::NodeId,
    member: MemberKey,
    request: &LogsRequest,
    sent: &mut Sent,
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
        let relay_from_agent::Message::Log(frame) = message else { continue };
        sent.last[usize::from(frame.stream() == LogStream::Stderr)] = Some(frame.clone());
        if outbox.send(Ok(frame)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads stored logs on a thread that may block, a bounded piece at a time. What was sent live is passed over.
async fn stored(
    origin: &Durable,
    logs: Logs,
    request: &LogsRequest,
    sent: Sent,
    outbox: &Outbox,
) -> Result<(), Status> {
    let stdout = open(origin, logs.stdout.filter(|_| request.stdout)).await?;
    let stderr = open(origin, logs.stderr.filter(|_| request.stderr)).await?;
    let [stdout_last, stderr_last] = sent.last;
    let (stdout, stderr) = (after(stdout, stdout_last), after(stderr, stderr_last));
    // A tail was chosen when the live log was begun with.
    let (outbox, tail) = (outbox.clone(), request.tail_lines.filter(|_| !sent.live));
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

async fn open(origin: &Durable, digest: Option<Digest>) -> Result<StoredFrames, Status> {
    let Some(digest) = digest else { return Ok(Box::new(std::iter::empty())) };
    let stream = origin.get_stream(&digest).await.map_err(|error| Status::unavailable(format!("the log: {error}")))?;
    let reader = StreamReader::new(stream.map_err(std::io::Error::other).boxed());
    Ok(Box::new(Frames::new(SyncIoBridge::new(reader))))
}

/// The frames after the last one that was sent; of that, the beginning may have been cut off.
fn after(frames: StoredFrames, last: Option<LogsResponse>) -> StoredFrames {
    let Some(last) = last else { return frames };
    let mut passed = false;
    Box::new(frames.filter(move |frame| match frame {
        Ok(frame) if !passed => {
            passed = frame.at_us == last.at_us && frame.bytes.ends_with(&last.bytes);
            false
        }
        _ => true,
    }))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(texts: &[(u64, &str)]) -> StoredFrames {
        let frame =
            |(at_us, text): &(u64, &str)| Ok(Frame { at_us: *at_us, note: false, bytes: text.as_bytes().to_vec() });
        Box::new(texts.iter().map(frame).collect::<Vec<_>>().into_iter())
    }

    #[test]
    fn a_stored_log_goes_on_after_what_was_sent_live() {
        let stored = || frames(&[(1, "a\nb\n"), (2, "c\n"), (2, "d\n"), (9, "e\n")]);
        let rest = |at_us, text: &'static str| {
            let last = LogsResponse { stream: LogStream::Stdout.into(), at_us, bytes: text.into() };
            after(stored(), Some(last)).map(|frame| frame.unwrap().at_us).collect::<Vec<_>>()
        };
        assert_eq!(rest(2, "c\n"), [2, 9]);
        assert_eq!(rest(2, "d\n"), [9]);
        assert_eq!(rest(1, "b\n"), [2, 2, 9], "a tail begins within a frame");
        assert_eq!(after(stored(), None).count(), 4);
    }
}
