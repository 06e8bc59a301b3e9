//! Queues: what operators make of them, and what those see who may look at their jobs.

use std::sync::Arc;

use flowyard_model::{Command, Entry, Queue, QueuePath, Rejection, Reply, Revision, limits, validate_queue};
use flowyard_proto::api::{
    self, BoundHolder, DropQueueResponse, GetQueueResponse, ListQueuesResponse, PutQueuesResponse, QueueChange,
    QueueLine, QueueRefusal,
};
use flowyard_proto::status::rejected;
use flowyard_scheduling::{Borrowed, borrowed, first_return};
use flowyard_state::{State, View, apply};
use tonic::Status;

use super::beside;
use crate::coordinator::Shared;

/// Queues named in an error.
const NAMED: usize = 20;
/// How often an order is looked for in which queues can be put.
const PASSES: usize = 32;

/// Puts queues, once it is known that all of them can be put.
///
/// What was put before one was refused stays, and is told: the log takes them one by one.
pub(super) async fn put(shared: &Shared, queues: Vec<Queue>) -> Result<PutQueuesResponse, Status> {
    queues.iter().try_for_each(validate_queue).map_err(|rejection| rejected(&rejection))?;
    shared.grow().await?;
    let view = shared.fresh_view().await?;
    let seen = view.clone();
    let queues = beside(move || ordered(&seen, queues)).await?;
    let (mut changes, mut put) = (Vec::with_capacity(queues.len()), false);
    for queue in queues {
        let before = view.queue(&queue.path);
        let change = QueueChange {
            path: queue.path.to_string(),
            before: before.map(|queue| (&**queue).into()),
            after: Some((&queue).into()),
        };
        if before.is_none_or(|before| **before != queue) {
            match shared.propose(&Command::PutQueue(queue.into())).await {
                Ok(_) => put = true,
                // Nothing was done yet, so the call as a whole has failed.
                Err(status) if !put => return Err(status),
                Err(status) => {
                    let (code, message) = (status.code().into(), status.message().to_owned());
                    let refused = Some(QueueRefusal { path: change.path, code, message });
                    return Ok(PutQueuesResponse { changes, refused });
                }
            }
        }
        changes.push(change);
    }
    Ok(PutQueuesResponse { changes, refused: None })
}

/// An order in which all of them can be put: a reserve is cut out of the one above, so that which of two has to come first depends on
/// whether they grow. They are applied to a copy of the state, and nothing is proposed while one of them would be refused.
fn ordered(view: &View, queues: Vec<Queue>) -> Result<Vec<Queue>, Status> {
    let mut state: State = (**view).clone();
    let before = state.queues().count();
    let (mut order, mut left) = (Vec::with_capacity(queues.len()), queues);
    for _ in 0..PASSES {
        let (tried, mut refusal) = (left.len(), None);
        for queue in std::mem::take(&mut left) {
            match rehearse(&mut state, &queue) {
                Ok(()) => order.push(queue),
                Err(status) => {
                    refusal.get_or_insert(status);
                    left.push(queue);
                }
            }
        }
        match refusal {
            None => break,
            Some(status) if left.len() == tried => return Err(status),
            Some(_) => left.reverse(),
        }
    }
    let after = state.queues().count();
    if after > limits::QUEUES.max(before) {
        let message = format!("at most {} queues, and these would make it {after}", limits::QUEUES);
        return Err(rejected(&Rejection::Invalid { path: "queues".to_owned(), message }));
    }
    match left.iter().find_map(|queue| rehearse(&mut state, queue).err()) {
        None => Ok(order.into_iter().chain(left).collect()),
        Some(status) => Err(status),
    }
}

fn rehearse(state: &mut State, queue: &Queue) -> Result<(), Status> {
    let (index, command) = (Revision(state.revision().0 + 1), Command::PutQueue(queue.clone().into()));
    let entry = Entry { index, time: state.time(), command };
    let Reply::Rejected(rejection) = apply(state, entry).reply else { return Ok(()) };
    let status = rejected(&rejection);
    let message = format!("queue `{}`: {}", queue.path, status.message());
    Err(Status::with_metadata(status.code(), message, status.metadata().clone()))
}

/// Forgets a queue in which there is no job, and below which there is no queue.
pub(super) async fn forget(shared: &Shared, path: QueuePath) -> Result<DropQueueResponse, Status> {
    shared.propose(&Command::DropQueue { path }).await?;
    Ok(DropQueueResponse {})
}

fn line(view: &View, queue: &Queue) -> QueueLine {
    let load = view.load(&queue.path);
    QueueLine {
        queue: Some(queue.into()),
        jobs: load.jobs,
        active: load.active,
        held: Some((&load.held).into()),
        own_jobs: load.own_jobs,
        own_active: load.own_active,
        contract: Some(view.contract(&queue.path).into()),
        held_for_good: Some((&load.held_for_good).into()),
    }
}

/// The queues that the caller may look at.
pub(super) fn list(view: &View, looks: impl Fn(&QueuePath) -> bool) -> ListQueuesResponse {
    let seen = view.queues().filter(|queue| looks(&queue.path));
    ListQueuesResponse { queues: seen.map(|queue| line(view, queue)).collect() }
}

/// One of them, with what is above and below it.
pub(super) fn get(
    view: &View,
    path: &QueuePath,
    looks: impl Fn(&QueuePath) -> bool,
) -> Result<GetQueueResponse, Status> {
    let seen = || view.queues().filter(|queue| looks(&queue.path));
    let below = seen().filter(|queue| path.covers(&queue.path) && queue.path != *path);
    let below: Vec<String> = below.map(|queue| queue.path.to_string()).collect();
    let Some(queue) = view.queue(path) else { return Err(unknown(path, &below, seen())) };
    let above = seen().filter(|queue| queue.path.covers(path) && queue.path != *path);
    let above = above.map(|queue| line(view, queue)).collect();
    let lent = borrowed(view, path);
    let returns_from_ms = first_return(view, path, &lent).map(|at| at.0);
    let borrowed = lent.iter().map(|it| told(it, &looks)).collect();
    Ok(GetQueueResponse { line: Some(line(view, queue)), above, below, borrowed, returns_from_ms })
}

/// What is borrowed, without names that the caller may not see.
fn told(borrowed: &Borrowed, looks: &impl Fn(&QueuePath) -> bool) -> api::Borrowed {
    let (seen, hidden): (Vec<_>, Vec<_>) = borrowed.lenders.iter().partition(|(queue, _)| looks(queue));
    let lender = |(queue, unused): &(QueuePath, u64)| BoundHolder {
        queue: queue.to_string(),
        owner: String::new(),
        held: *unused,
    };
    api::Borrowed {
        resource: borrowed.resource.column().field(),
        beyond: borrowed.beyond,
        wanted: borrowed.wanted,
        lenders: seen.into_iter().map(lender).collect(),
        lent_by_others: hidden.into_iter().map(|(_, unused)| *unused).fold(0, u64::saturating_add),
    }
}

/// There is no such queue, but there are these.
fn unknown<'q>(path: &QueuePath, below: &[String], seen: impl Iterator<Item = &'q Arc<Queue>>) -> Status {
    if !below.is_empty() {
        let named = below.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if below.len() > NAMED { ", ..." } else { "" };
        let message = format!("`{path}` is no queue itself, there are only queues below it: {named}{more}");
        return Status::not_found(message);
    }
    let known = seen.take(NAMED).map(|queue| queue.path.to_string()).collect::<Vec<_>>().join(", ");
    rejected(&Rejection::UnknownQueue { queue: path.clone(), known })
}

#[cfg(test)]
mod tests {
    use flowyard_model::QueueAmounts;

    use super::*;

    fn queue(path: &str) -> Queue {
        Queue::new(path.parse().unwrap())
    }

    #[test]
    fn a_cluster_whose_members_are_not_all_upgraded_takes_what_they_know_and_refuses_the_rest() {
        let view = State::new().view();
        let plain = Queue { weight: 2, max_active: Some(3), ..queue("a") };
        assert_eq!(ordered(&view, vec![plain.clone()]).unwrap(), std::slice::from_ref(&plain));
        let limit = QueueAmounts { cpu_milli: Some(1), ..QueueAmounts::default() };
        let refused = ordered(&view, vec![plain, Queue { limit, ..queue("b") }]).unwrap_err();
        let said = "queue `b`: this needs cluster version 2, and the cluster is at 1: upgrade all its members first";
        assert_eq!((refused.code(), refused.message()), (tonic::Code::FailedPrecondition, said));
    }

    /// A state of version 2 with these queues.
    fn with(queues: &[Queue]) -> State {
        let mut state = State::new();
        let raise = Command::RaiseVersion { version: flowyard_model::ClusterVersion::ACCESS };
        apply(&mut state, Entry { index: Revision(1), time: flowyard_model::TimeMs(1), command: raise });
        queues.iter().for_each(|queue| rehearse(&mut state, queue).unwrap());
        state
    }

    fn reserving(path: &str, cpu_milli: u64) -> Queue {
        let reserve = QueueAmounts { cpu_milli: Some(cpu_milli), ..QueueAmounts::default() };
        Queue { reserve, ..queue(path) }
    }

    #[test]
    fn queues_are_put_in_an_order_in_which_no_promise_is_broken_on_the_way() {
        let paths = |queues: &[Queue]| queues.iter().map(|queue| queue.path.to_string()).collect::<Vec<_>>();
        let small = [reserving("a", 4), reserving("a/b", 2), reserving("a/c", 2)];
        let large = [reserving("a", 8), reserving("a/b", 4), reserving("a/c", 4)];
        // What promises to others grows before them, and shrinks after them, however they are written.
        for upside_down in [false, true] {
            let written = |queues: &[Queue; 3]| {
                let mut queues = queues.to_vec();
                if upside_down {
                    queues.reverse();
                }
                queues
            };
            let grown = ordered(&with(&small).view(), written(&large)).unwrap();
            assert_eq!(paths(&grown)[0], "a");
            let shrunk = ordered(&with(&large).view(), written(&small)).unwrap();
            assert_eq!(paths(&shrunk)[2], "a");
        }
        // A sibling gives before another takes.
        let moved = vec![reserving("a/b", 3), reserving("a/c", 1)];
        assert_eq!(paths(&ordered(&with(&small).view(), moved).unwrap()), ["a/c", "a/b"]);
        let too_much = ordered(&with(&small).view(), vec![reserving("a/b", 3), reserving("a/c", 2)]).unwrap_err();
        assert!(too_much.message().contains("the queues directly below `a` would be promised"), "{too_much}");
    }

    #[test]
    fn there_are_not_more_queues_than_a_state_can_carry() {
        let view = State::new().view();
        let many: Vec<Queue> = (1..limits::QUEUES).map(|at| queue(&format!("q{at}"))).collect();
        assert_eq!(ordered(&view, many.clone()).unwrap().len(), limits::QUEUES - 1);
        let one_more = [many, vec![queue("more")]].concat();
        assert!(ordered(&view, one_more).unwrap_err().message().contains("at most 10000 queues"));
    }
}
