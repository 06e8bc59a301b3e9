//! Makes observed follow desired: the decision, as a pure function. The reconciler actor and the simulator run it.
//!
//! Invariants: an attempt the coordinator does not desire is stopped; one it desires and the agent lacks is started, or
//! reported lost when the coordinator knows that it had begun. Nothing is decided without word from a coordinator, so an
//! outage of the control plane never kills work.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{Desired, MemberKey, Phase};

/// What the coordinator wants of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It should run; the coordinator last knew it in this phase.
    Run {
        /// Its phase in the replicated state.
        known: Phase,
    },
    /// It should stop, and its end be reported.
    Stop,
}

/// What the agent has of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// Somewhere between accepted and storing.
    Live {
        /// Whether it was already asked to stop.
        stopping: bool,
    },
    /// Over; its end is kept until the coordinator says that it was applied.
    Ended,
}

/// What to do about one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Begin it.
    Start,
    /// Ask it to stop.
    Stop,
    /// Tell the coordinator how it ended, again.
    Report,
    /// Tell the coordinator that it had begun and is gone.
    ReportLost,
    /// Tell the coordinator that it stopped before it began.
    ReportStopped,
    /// Remove what is kept of it.
    Forget,
}

/// Everything that the coordinator wants, as far as it has said so.
#[derive(Debug, Default)]
pub struct Wishes {
    wanted: BTreeMap<MemberKey, Wanted>,
    complete: bool,
}

impl Wishes {
    /// Takes what a coordinator said; the members that are to be looked at because of it, `held` being those the agent has.
    pub fn take(&mut self, desired: &Desired, held: impl Iterator<Item = MemberKey>) -> BTreeSet<MemberKey> {
        let mut touched = BTreeSet::new();
        if desired.all {
            touched.extend(self.wanted.keys().copied().chain(held));
            self.wanted.clear();
            self.complete = true;
        }
        for member in &desired.run {
            self.wanted.insert(member.key, Wanted::Run { known: member.known });
            touched.insert(member.key);
        }
        for key in &desired.stop {
            self.wanted.insert(*key, Wanted::Stop);
            touched.insert(*key);
        }
        for key in &desired.gone {
            self.wanted.remove(key);
            touched.insert(*key);
        }
        touched
    }

    /// What is wanted of a member; `None` when the coordinator, having said everything, did not name it.
    pub fn of(&self, key: MemberKey) -> Option<Wanted> {
        self.wanted.get(&key).copied()
    }

    /// All members of which something is wanted.
    pub fn members(&self) -> impl Iterator<Item = &MemberKey> {
        self.wanted.keys()
    }

    /// Whether there is anything to do about a member of which there is news: it goes on though nobody wants it.
    pub fn is_undesired(&self, key: MemberKey) -> bool {
        self.complete && !self.wanted.contains_key(&key)
    }
}

/// Decides about one member. `wanted` is `None` when the coordinator, having said everything, did not name it.
pub fn reconcile(wanted: Option<Wanted>, observed: Option<Observed>) -> Option<Action> {
    match (wanted, observed) {
        (Some(Wanted::Run { known: Phase::Placed }), None) => Some(Action::Start),
        (Some(Wanted::Run { .. }), None) => Some(Action::ReportLost),
        (Some(Wanted::Stop), None) => Some(Action::ReportStopped),
        (Some(_), Some(Observed::Ended)) => Some(Action::Report),
        (Some(Wanted::Run { .. }), Some(Observed::Live { .. })) => None,
        (Some(Wanted::Stop) | None, Some(Observed::Live { stopping: false })) => Some(Action::Stop),
        (Some(Wanted::Stop) | None, Some(Observed::Live { stopping: true })) => None,
        (None, Some(Observed::Ended)) => Some(Action::Forget),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: Observed = Observed::Live { stopping: false };

    #[test]
    fn what_is_desired_and_missing_is_started_once_and_reported_lost_if_it_had_begun() {
        assert_eq!(reconcile(Some(Wanted::Run { known: Phase::Placed }), None), Some(Action::Start));
        for known in [Phase::Accepted, Phase::Fetching, Phase::Running, Phase::Storing] {
            assert_eq!(reconcile(Some(Wanted::Run { known }), None), Some(Action::ReportLost));
        }
        assert_eq!(reconcile(Some(Wanted::Run { known: Phase::Placed }), Some(LIVE)), None);
    }

    #[test]
    fn what_is_not_desired_is_stopped_then_forgotten() {
        assert_eq!(reconcile(None, Some(LIVE)), Some(Action::Stop));
        assert_eq!(reconcile(None, Some(Observed::Live { stopping: true })), None);
        assert_eq!(reconcile(None, Some(Observed::Ended)), Some(Action::Forget));
    }

    #[test]
    fn an_end_is_reported_until_the_coordinator_lets_it_go() {
        assert_eq!(reconcile(Some(Wanted::Stop), Some(Observed::Ended)), Some(Action::Report));
        assert_eq!(reconcile(Some(Wanted::Run { known: Phase::Running }), Some(Observed::Ended)), Some(Action::Report));
        assert_eq!(reconcile(Some(Wanted::Stop), None), Some(Action::ReportStopped));
    }
}
