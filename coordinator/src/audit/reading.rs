//! What was written down, for people: of this coordinator, and of all of them.

use std::collections::VecDeque;
use std::time::Duration;

use flowyard_proto::cluster::{AuditEntry, ReadAuditRequest, ReadAuditResponse, read_audit_response};
use flowyard_proto::peer::ReadOwnAuditRequest;
use flowyard_proto::peer::members_client::MembersClient;
use futures::StreamExt;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::tail::Tail;
use super::{Audit, Entry};
use crate::coordinator::Shared;
use crate::standing::Answers;

/// Entries on their way.
const OUTBOX: usize = 256;
/// How long another coordinator may take to begin.
const PATIENCE: Duration = Duration::from_secs(2);

fn shown(entry: Entry, coordinator: u64) -> ReadAuditResponse {
    let Entry { at_ms, caller, role, address, action, object, result } = entry;
    let entry = AuditEntry { at_ms, caller, role, address, action, object, result, coordinator };
    ReadAuditResponse { said: Some(read_audit_response::Said::Entry(entry)) }
}

/// The entries of this coordinator from a time on, and those that come if the reader follows.
pub(crate) fn of_this(audit: &Audit, coordinator: u64, request: ReadAuditRequest) -> Answers<ReadAuditResponse> {
    let (outbox, receiver) = mpsc::channel(OUTBOX);
    let (mut tail, mut grown) = (Tail::of(audit), audit.grown.subscribe());
    tokio::spawn(async move {
        loop {
            grown.mark_unchanged();
            let read = tokio::task::spawn_blocking(move || (tail.read(request.since_ms), tail)).await;
            let Ok((read, after)) = read else { return };
            tail = after;
            let entries = match read {
                Ok(entries) => entries,
                Err(error) => {
                    let _ = outbox.send(Err(Status::internal(format!("what was written down: {error}")))).await;
                    return;
                }
            };
            let nothing = entries.is_empty();
            for entry in entries {
                if outbox.send(Ok(shown(entry, coordinator))).await.is_err() {
                    return;
                }
            }
            if nothing && !request.follow {
                return;
            }
            tokio::select! {
                grown = grown.changed(), if nothing => if grown.is_err() { return },
                () = outbox.closed() => return,
                () = std::future::ready(()), if !nothing => {}
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

fn at(response: &ReadAuditResponse) -> u64 {
    match &response.said {
        Some(read_audit_response::Said::Entry(entry)) => entry.at_ms,
        _ => 0,
    }
}

/// The entries of all coordinators, by time; while following, as they come. Which ones did not answer is said first.
pub(crate) async fn of_all(shared: &Shared, request: ReadAuditRequest) -> Answers<ReadAuditResponse> {
    let own = shared.replica.identity().replica;
    let mut streams = vec![of_this(&shared.audit, own, request)];
    let mut silent = Vec::new();
    for member in shared.replica.members().iter().filter(|member| member.peer.replica != own) {
        let channel = shared.peer_channel(&member.peer.address);
        let asked = match channel {
            Some(channel) => ask(channel, request).await,
            None => None,
        };
        match asked {
            Some(answers) => streams.push(answers),
            None => silent.push(ReadAuditResponse {
                said: Some(read_audit_response::Said::SilentCoordinator(member.peer.replica)),
            }),
        }
    }
    let silent = futures::stream::iter(silent.into_iter().map(Ok));
    match request.follow {
        true => Box::pin(silent.chain(futures::stream::select_all(streams))),
        false => Box::pin(silent.chain(merged(streams))),
    }
}

/// What another coordinator wrote down, if it answers.
async fn ask(channel: Channel, request: ReadAuditRequest) -> Option<Answers<ReadAuditResponse>> {
    let own = ReadOwnAuditRequest { since_ms: request.since_ms, follow: request.follow };
    let asked = tokio::time::timeout(PATIENCE, MembersClient::new(channel).read_audit(own)).await;
    let answers = asked.ok()?.ok()?.into_inner().map(|answer| {
        let unreadable = |_| Status::internal("another coordinator's entry cannot be read");
        ReadAuditResponse::decode(answer?.response).map_err(unreadable)
    });
    Some(Box::pin(answers))
}

/// Several streams, each by time, as one.
fn merged(streams: Vec<Answers<ReadAuditResponse>>) -> Answers<ReadAuditResponse> {
    let heads: VecDeque<(Option<ReadAuditResponse>, Answers<ReadAuditResponse>)> =
        streams.into_iter().map(|stream| (None, stream)).collect();
    Box::pin(futures::stream::unfold(heads, |mut heads| async move {
        let mut full = VecDeque::new();
        while let Some((head, mut stream)) = heads.pop_front() {
            let head = match head {
                Some(head) => head,
                None => match stream.next().await {
                    Some(Ok(head)) => head,
                    Some(Err(status)) => return Some((Err(status), VecDeque::new())),
                    None => continue,
                },
            };
            full.push_back((Some(head), stream));
        }
        let first = full.iter().enumerate().min_by_key(|(_, (head, _))| head.as_ref().map_or(u64::MAX, at))?.0;
        let head = full[first].0.take()?;
        Some((Ok(head), full))
    }))
}
