//! A command beside a running task: the client's stream and the agent's, joined.

use std::time::Duration;

use flowyard_model::{Phase, Rank};
use flowyard_proto::agent::{RelayToAgent, open_relay, relay_from_agent};
use flowyard_proto::api::{ExecRequest, ExecResponse, exec_request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Answers, check_job, find_attempt, find_task, reference};
use crate::access::Action;
use crate::coordinator::Shared;
use crate::relay::Relay;
use crate::standing::Standing;

/// Answers on their way to a client.
const OUTBOX: usize = 16;
/// How long what begins an exec may be in coming.
const START: Duration = Duration::from_secs(20);

pub(super) async fn exec(
    shared: &Shared,
    standing: &Standing,
    mut said: Streaming<ExecRequest>,
) -> Result<Answers<ExecResponse>, Status> {
    let first = tokio::time::timeout(START, said.message()).await;
    let slow = |_| Status::deadline_exceeded("an exec begins with `start`, at once");
    let first = first.map_err(slow)??.and_then(|said| said.message);
    let Some(exec_request::Message::Start(start)) = first else {
        return Err(Status::invalid_argument("an exec begins with `start`"));
    };
    if start.command.is_empty() {
        return Err(Status::invalid_argument("name a command to run"));
    }
    standing.about(&format!("task {}/{}/{}: {}", start.job, start.step, start.task, start.command.join(" ")));
    // What says whom to join may have been long in coming.
    standing.check()?;
    let view = shared.feed.view();
    check_job(&standing.caller, &view, start.job, |queue| Action::Exec { queue })?;
    let task = find_task(&view, start.job, start.step, start.task)?;
    let attempt = find_attempt(&view, task, start.attempt)?;
    let key = attempt.member_key(task, Rank(start.rank));
    let member = attempt.members.get(start.rank as usize);
    let member = member.ok_or_else(|| Status::not_found(format!("attempt {key:?} has no member {}", start.rank)))?;
    if !matches!(member.phase, Phase::Accepted | Phase::Fetching | Phase::Running) {
        let reference = reference(&view, task);
        return Err(Status::failed_precondition(format!(
            "task {reference} does not run; a command can only join a running one"
        )));
    }
    let relay = shared.relays.open(member.node, key, open_relay::Kind::Exec(start)).await?;
    let (answers, receiver) = mpsc::channel(OUTBOX);
    tokio::spawn(join(said, relay, answers));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn join(mut said: Streaming<ExecRequest>, mut relay: Relay, answers: mpsc::Sender<Result<ExecResponse, Status>>) {
    let mut client_speaks = true;
    loop {
        tokio::select! {
            request = said.message(), if client_speaks => match request {
                Ok(Some(request)) => {
                    if relay.tell.send(Ok(RelayToAgent { exec: Some(request) })).await.is_err() {
                        client_speaks = false;
                    }
                }
                Ok(None) => client_speaks = false,
                // The client is gone: dropping the relay ends the command.
                Err(_) => return,
            },
            answer = relay.next() => {
                let answer = match answer {
                    Ok(Some(relay_from_agent::Message::Exec(answer))) => Ok(answer),
                    Ok(Some(_)) => continue,
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                let over = answer.is_err();
                if answers.send(answer).await.is_err() || over {
                    return;
                }
            }
            () = answers.closed() => return,
        }
    }
}
