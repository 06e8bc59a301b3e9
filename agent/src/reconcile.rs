//! Makes observed follow desired: the decision, as a pure function. The reconciler actor and the simulator run it.
//!
//! Invariants: an attempt the coordinator does not desire is stopped; one it desires and the agent lacks is started, or
//! reported lost when the coordinator knows that it had begun. Nothing is decided without word from a coordinator, so an
//! outage of the control plane never kills work.

use flowyard_model::Phase;

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
