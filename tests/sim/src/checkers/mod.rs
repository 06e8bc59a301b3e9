//! What must hold whatever breaks, one property per file, each computed on its own rather than asked of the state.

mod acknowledged;
mod bounds;
mod changes;
mod claims;
mod closing;
mod devices;
mod evictions;
mod gangs;
mod invariants;
mod outputs;
mod retries;
mod room;
mod success;

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{Attempt, Digest, Effects, Entry, JobId, MemberKey, Phase, Task, TaskKey};
use flowyard_state::{Differences, State, View};

/// One applied entry, as the checkers see it.
pub(crate) struct Seen<'a> {
    pub(crate) before: &'a View,
    pub(crate) state: &'a State,
    pub(crate) entry: &'a Entry,
    pub(crate) effects: &'a Effects,
    /// What the entry really changed.
    pub(crate) differences: &'a Differences,
    /// Jobs that a client was told of.
    pub(crate) acknowledged: &'a BTreeSet<JobId>,
    /// Jobs that somebody asked to forget.
    pub(crate) forgotten: &'a BTreeSet<JobId>,
    /// Jobs that clients have to submit in all.
    pub(crate) submitted: u64,
    /// What runs really wrote before they succeeded, wherever they ran.
    pub(crate) written: &'a BTreeMap<Digest, MemberKey>,
}

/// A property of every history.
pub(crate) trait Checker {
    /// Looks at one applied entry.
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String>;
}

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(invariants::Invariants),
        Box::new(changes::ChangesAreNamed),
        Box::new(closing::ClosedNodesEmpty),
        Box::new(acknowledged::NoAcknowledgedJobIsLost),
        Box::new(success::OneSuccessPerTask::new()),
        Box::new(outputs::OutputsComeFromDesiredAttempts),
        Box::new(room::NoNodeIsOversubscribed),
        Box::new(bounds::NoQueueIsTakenOverItsBounds),
        Box::new(devices::NoDeviceIsGrantedTwice),
        Box::new(gangs::GangsRunWhole),
        Box::new(retries::RetriesKeepTheirRule),
        Box::new(evictions::EvictionsKeepTheContract),
        Box::new(claims::ClaimsAreTakenUp::new()),
    ]
}

pub(crate) fn require(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

/// The touched tasks that an entry changed: what held of the others holds on.
fn changed_tasks<'a>(seen: &'a Seen<'_>) -> impl Iterator<Item = (TaskKey, &'a Task)> {
    seen.differences.tasks.iter().filter_map(|key| Some((*key, &**seen.state.task(*key)?)))
}

fn is_live(attempt: &Attempt) -> bool {
    attempt.members.iter().any(|member| member.phase != Phase::Ended)
}
