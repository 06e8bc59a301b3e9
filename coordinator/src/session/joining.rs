//! Reports of many agents on their way into the log: those that come while others are being made durable go together, in one entry.
//!
//! Invariant: what one agent says enters the log in the order in which it was said: it always goes by the same lane, and of a lane
//! one entry at a time is under way. What waits in a lane is bounded by what agents may have on their way unacknowledged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowyard_model::{AttemptReport, ClusterVersion, Command, ReportAttempts, Term, limits};
use tokio::sync::oneshot;

use crate::proposer::{ProposeError, Proposer};

/// Entries under way at a time: one is made durable while another is filled.
const LANES: u64 = 2;
/// What reports of one entry may weigh together, far below what an entry may.
const WEIGHT: usize = limits::ENTRY_BYTES / 4;

/// Where sessions hand in what their agents say; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Joining {
    lanes: Arc<[Mutex<Lane>]>,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// Whether somebody puts what waits into the log.
    driven: bool,
}

/// What one agent said.
#[derive(Debug)]
struct Waiting {
    term: Term,
    reports: ReportAttempts,
    weight: usize,
    taken: oneshot::Sender<Result<(), Arc<ProposeError>>>,
}

impl Default for Joining {
    fn default() -> Self {
        Self { lanes: (0..LANES).map(|_| Mutex::default()).collect() }
    }
}

impl Joining {
    /// Puts an agent's reports into the log of this term. They have their place there, behind what the same agent said before, when this
    /// returns; what it gives tells when they are applied.
    pub(crate) fn hand_in(
        &self,
        (proposer, term): (&Proposer, Term),
        reports: ReportAttempts,
    ) -> oneshot::Receiver<Result<(), Arc<ProposeError>>> {
        let (taken, told) = oneshot::channel();
        let at = (reports.node.0 % LANES) as usize;
        let weight = reports.reports.iter().map(weight).sum();
        let mut lane = lock(&self.lanes[at]);
        lane.waiting.push_back(Waiting { term, reports, weight, taken });
        if !std::mem::replace(&mut lane.driven, true) {
            tokio::spawn(drive(Driver { lanes: self.lanes.clone(), at }, proposer.clone()));
        }
        told
    }
}

fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

/// About how many bytes a report takes in an entry.
fn weight(report: &AttemptReport) -> usize {
    let end = report.end.as_ref().map_or(0, |end| {
        let outputs = end.outputs.keys().map(|name| name.as_str().len() + 128);
        end.message.len() + outputs.sum::<usize>() + 128
    });
    end + 128
}

/// Who empties a lane; when it is gone, the next who hands something in begins anew.
struct Driver {
    lanes: Arc<[Mutex<Lane>]>,
    at: usize,
}

impl Driver {
    /// What goes next, all of one term; nothing if nobody waits, and then somebody else has to drive.
    fn next(&self, joined: bool) -> Vec<Waiting> {
        let mut lane = lock(&self.lanes[self.at]);
        let most = if joined { take_together(&lane.waiting) } else { 1 };
        let most = most.min(lane.waiting.len());
        let next: Vec<_> = lane.waiting.drain(..most).collect();
        lane.driven = !next.is_empty();
        next
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut lane = lock(&self.lanes[self.at]);
        // After a panic only: whoever waits is told by the drop of what they wait for.
        if std::thread::panicking() {
            lane.waiting.clear();
            lane.driven = false;
        }
    }
}

/// How many of those at the front may go in one entry.
fn take_together(waiting: &VecDeque<Waiting>) -> usize {
    let Some(first) = waiting.front() else { return 0 };
    let (mut reports, mut weight) = (0, 0);
    let fits = |it: &&Waiting| {
        reports += it.reports.reports.len().max(1);
        weight += it.weight;
        it.term == first.term && reports <= limits::REPORTS_PER_ENTRY && weight <= WEIGHT
    };
    waiting.iter().take_while(fits).count().max(1)
}

async fn drive(driver: Driver, proposer: Proposer) {
    loop {
        let joined = proposer.feed().view().version() >= ClusterVersion::ACCESS;
        let mut next = driver.next(joined);
        let Some(first) = next.first() else { return };
        let proposer = proposer.in_term(first.term);
        let answer = match next.len() {
            1 => proposer.propose(&Command::ReportAttempts(next[0].reports.clone())).await,
            _ => {
                let all = next.iter().map(|one| one.reports.clone()).collect();
                proposer.propose(&Command::ReportMany(all)).await
            }
        };
        match answer {
            // Their weights were guessed too low.
            Err(ProposeError::Encoding(error)) if next.len() > 1 && error.is_too_large() => {
                for one in next.drain(..) {
                    let answer = proposer.propose(&Command::ReportAttempts(one.reports)).await;
                    let _ = one.taken.send(answer.map(drop).map_err(Arc::new));
                }
            }
            answer => {
                let answer = answer.map(drop).map_err(Arc::new);
                next.into_iter().for_each(|one| drop(one.taken.send(answer.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flowyard_model::{Incarnation, NodeId};

    use super::*;
    use crate::fixture;

    fn waiting(term: u64, reports: usize, weight: usize) -> Waiting {
        let report =
            ReportAttempts { node: NodeId(1), incarnation: Incarnation(1), reports: vec![fixture::report(); reports] };
        Waiting { term: Term(term), reports: report, weight, taken: oneshot::channel().0 }
    }

    #[test]
    fn what_goes_together_is_of_one_term_and_fits_in_an_entry() {
        let together = |all: &[(u64, usize, usize)]| {
            take_together(&all.iter().map(|(term, reports, weight)| waiting(*term, *reports, *weight)).collect())
        };
        assert_eq!(together(&[]), 0);
        assert_eq!(together(&[(1, 1, 1), (1, 2, 1), (1, 0, 0)]), 3);
        assert_eq!(together(&[(1, 1, 1), (2, 1, 1), (1, 1, 1)]), 1, "another term is another log");
        assert_eq!(together(&[(1, 600, 1), (1, 400, 1), (1, 1, 1)]), 2);
        assert_eq!(together(&[(1, 1, WEIGHT - 1), (1, 1, 1), (1, 1, 1)]), 2);
        assert_eq!(together(&[(1, 1, 2 * WEIGHT), (1, 1, 1)]), 1, "what is too heavy goes alone");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn reports_that_come_together_go_together_and_each_is_answered() {
        let (coordinator, _folder) = fixture::coordinator().await;
        let shared = coordinator.shared();
        let mut views = shared.feed.views();
        let raised = views.wait_for(|view| view.version() >= ClusterVersion::ACCESS);
        drop(tokio::time::timeout(Duration::from_secs(60), raised).await.expect("it is raised").unwrap());
        let term = shared.leading_term().unwrap();
        let joining = Joining::default();
        let before = shared.feed.view().revision().0;
        let full = loop {
            match shared.replica.fill() {
                Some(full) => break full,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let from = (&shared.proposer, term);
        let reports =
            |node| ReportAttempts { node: NodeId(node), incarnation: Incarnation(1), reports: vec![fixture::report()] };
        let told: Vec<_> = (0..100).map(|node| joining.hand_in(from, reports(node))).collect();
        drop(full);
        for told in told {
            // The first of each lane goes alone, and its node is unknown.
            match tokio::time::timeout(Duration::from_secs(10), told).await.expect("it is answered").unwrap() {
                Ok(()) => {}
                Err(error) => assert!(matches!(*error, ProposeError::Rejected(_)), "{error}"),
            }
        }
        let entries = shared.feed.view().revision().0 - before;
        assert!(entries < 20, "{entries} entries for 100 agents");
        coordinator.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn reports_of_a_term_that_is_over_are_refused_and_others_are_not() {
        let (coordinator, _folder) = fixture::coordinator().await;
        let shared = coordinator.shared();
        let (node, incarnation) = fixture::node(&coordinator, "n1").await;
        let (joining, term) = (Joining::default(), shared.leading_term().unwrap());
        let reports = || ReportAttempts { node, incarnation, reports: vec![] };
        let old = joining.hand_in((&shared.proposer, Term(term.0 + 7)), reports());
        let new = joining.hand_in((&shared.proposer, term), reports());
        assert!(old.await.unwrap().is_err());
        assert!(new.await.unwrap().is_ok());
        coordinator.shutdown().await;
    }
}
