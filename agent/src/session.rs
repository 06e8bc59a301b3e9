//! One session with a coordinator, as seen by the agent: sequence numbers, fences, signs of life, and what is still to be told.
//! Pure.
//!
//! On connect both sides say everything; afterwards only differences, numbered. A gap in the coordinator's numbers, or a fence
//! lower than one seen, ends the session, and the next one says everything again.
//!
//! The lease is counted from when a sign of life was sent that the coordinator answered, however late the answer comes: the
//! coordinator counts silence from when it heard that sign, so it cannot give the node up before the lease is over. And only a
//! coordinator that has said what it wants keeps anything running.

use std::collections::BTreeMap;

use flowyard_model::{AttemptReport, Desired, Fence, MemberKey, limits};

/// Batches of reports that may be on their way unacknowledged; more reports are merged until one is.
pub const BATCHES_IN_FLIGHT: u64 = 4;

/// Why a session cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A message is missing.
    #[error("the coordinator's messages have a gap: expected number {expected}, got {got}")]
    Gap {
        /// The number that should have come.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// The sender is an old leader, or answers from an old state.
    #[error("the coordinator speaks for an older term or revision than was seen before")]
    Stale,
    /// The first message did not say everything.
    #[error("the coordinator did not say everything at the start of the session")]
    Incomplete,
}

/// How long news that is not an end may wait for later news of the same member, in milliseconds: a task that is over within it
/// costs one report instead of four.
pub const HELD_MS: u64 = 20;

/// State of one session.
#[derive(Debug)]
pub struct Session {
    received: u64,
    sent: u64,
    acknowledged: u64,
    pending: BTreeMap<MemberKey, AttemptReport>,
    /// When what is pending must be told, in milliseconds of boot time; `None` if nothing is.
    due_ms: Option<u64>,
    /// When the newest sign of life was sent that was answered.
    answered_ms: u64,
}

impl Session {
    /// A session in which nothing has been said but the greeting, sent at `now_ms` and answered.
    pub fn begin(now_ms: u64) -> Self {
        Self { received: 0, sent: 0, acknowledged: 0, pending: BTreeMap::new(), due_ms: None, answered_ms: now_ms }
    }

    /// A sign of life was answered that was sent at this time.
    pub fn answered(&mut self, sent_at_ms: u64) {
        self.answered_ms = self.answered_ms.max(sent_at_ms);
    }

    /// From when on the lease counts; `None` while the coordinator has not said what it wants.
    pub fn lease_from(&self) -> Option<u64> {
        (self.received > 0).then_some(self.answered_ms)
    }

    /// Checks a message of the coordinator against what came before; `highest` is the highest fence ever seen.
    ///
    /// # Errors
    /// When the session must end and begin anew.
    pub fn receive(&mut self, desired: &Desired, highest: &mut Fence) -> Result<(), SessionError> {
        let expected = self.received + 1;
        if desired.sequence != expected {
            return Err(SessionError::Gap { expected, got: desired.sequence });
        }
        if desired.fence < *highest {
            return Err(SessionError::Stale);
        }
        if expected == 1 && !desired.all {
            return Err(SessionError::Incomplete);
        }
        self.received = expected;
        *highest = desired.fence;
        Ok(())
    }

    /// Puts a report in line; a later report on the same member replaces an earlier one that was not sent yet. An end is due
    /// at once, and takes along whatever waits.
    pub fn report(&mut self, report: AttemptReport, now_ms: u64) {
        let due_ms = if report.end.is_some() { now_ms } else { now_ms + HELD_MS };
        self.due_ms = Some(self.due_ms.map_or(due_ms, |due| due.min(due_ms)));
        // Reports may overtake each other on their way here; a member only moves forward.
        let known = self.pending.get(&report.member).map(|known| known.phase);
        if known.is_none_or(|known| known <= report.phase) {
            self.pending.insert(report.member, report);
        }
    }

    /// When [`Session::next_batch`] should be asked again, if there is room on the way.
    pub fn due_ms(&self) -> Option<u64> {
        self.due_ms.filter(|_| self.has_room())
    }

    fn has_room(&self) -> bool {
        self.sent - self.acknowledged < BATCHES_IN_FLIGHT
    }

    /// The next batch to send with its number, if something is due and there is room on the way.
    pub fn next_batch(&mut self, now_ms: u64) -> Option<(u64, Vec<AttemptReport>)> {
        if !self.has_room() || self.due_ms.is_none_or(|due| due > now_ms) {
            return None;
        }
        let mut batch = Vec::new();
        while batch.len() < limits::REPORTS_PER_ENTRY
            && let Some((_, report)) = self.pending.pop_first()
        {
            batch.push(report);
        }
        if self.pending.is_empty() {
            self.due_ms = None;
        }
        self.sent += 1;
        Some((self.sent, batch))
    }

    /// The coordinator has put everything up to this number into its log.
    pub fn acknowledge(&mut self, sequence: u64) {
        self.acknowledged = self.acknowledged.max(sequence.min(self.sent));
    }
}

#[cfg(test)]
mod tests {
    use flowyard_model::{
        AttemptNumber, Epoch, JobId, Phase, PhaseTimes, Rank, Revision, StepIndex, TaskIndex, TaskKey, Term,
    };

    use super::*;

    fn fence(term: u64, revision: u64) -> Fence {
        Fence { term: Term(term), revision: Revision(revision) }
    }

    fn desired(sequence: u64, all: bool, fence: Fence) -> Desired {
        Desired {
            fence,
            sequence,
            all,
            steps: vec![],
            run: vec![],
            stop: vec![],
            gone: vec![],
            stop_terms: BTreeMap::new(),
        }
    }

    fn report(task: u32, phase: Phase) -> AttemptReport {
        let task = TaskKey { job: JobId(1), step: StepIndex(0), task: TaskIndex(task) };
        let member = MemberKey { task, attempt: AttemptNumber(1), rank: Rank(0), epoch: Epoch(0), replacement: 0 };
        AttemptReport {
            member,
            phase,
            times: PhaseTimes::NONE,
            end: None,
            checkpoint: None,
            stuck: None,
            saved_at: None,
        }
    }

    #[test]
    fn gaps_old_leaders_and_half_truths_end_the_session() {
        let (mut session, mut highest) = (Session::begin(0), fence(3, 10));
        assert_eq!(session.receive(&desired(1, false, fence(3, 10)), &mut highest), Err(SessionError::Incomplete));
        assert_eq!(session.receive(&desired(1, true, fence(2, 99)), &mut highest), Err(SessionError::Stale));
        assert_eq!(session.receive(&desired(1, true, fence(4, 5)), &mut highest), Ok(()));
        assert_eq!(highest, fence(4, 5));
        let gap = SessionError::Gap { expected: 2, got: 3 };
        assert_eq!(session.receive(&desired(3, false, fence(4, 6)), &mut highest), Err(gap));
    }

    #[test]
    fn the_lease_counts_from_the_sending_of_what_was_answered_once_everything_was_said() {
        let (mut session, mut highest) = (Session::begin(100), fence(0, 0));
        session.answered(200);
        assert_eq!(session.lease_from(), None, "it may want nothing of what runs");
        session.receive(&desired(1, true, fence(1, 1)), &mut highest).unwrap();
        assert_eq!(session.lease_from(), Some(200));
        session.answered(400);
        session.answered(300);
        assert_eq!(session.lease_from(), Some(400));
    }

    #[test]
    fn reports_are_merged_while_too_many_are_on_their_way() {
        let mut session = Session::begin(0);
        for sequence in 1..=BATCHES_IN_FLIGHT {
            session.report(report(sequence as u32, Phase::Accepted), 0);
            assert_eq!(session.next_batch(HELD_MS).map(|batch| batch.0), Some(sequence));
        }
        session.report(report(9, Phase::Accepted), 0);
        session.report(report(9, Phase::Running), 0);
        assert_eq!(session.next_batch(1_000), None);
        session.acknowledge(1);
        let (sequence, batch) = session.next_batch(1_000).unwrap();
        assert_eq!((sequence, batch), (BATCHES_IN_FLIGHT + 1, vec![report(9, Phase::Running)]));
    }
    #[test]
    fn an_end_is_told_at_once_with_what_waits_and_other_news_soon() {
        let mut session = Session::begin(0);
        session.report(report(1, Phase::Accepted), 100);
        assert_eq!((session.next_batch(100), session.due_ms()), (None, Some(100 + HELD_MS)));
        let end = std::sync::Arc::new(crate::attempt::lost());
        session.report(AttemptReport { end: Some(end), ..report(2, Phase::Ended) }, 101);
        assert_eq!(session.next_batch(101).map(|(_, batch)| batch.len()), Some(2));
        assert_eq!(session.due_ms(), None);
        session.report(report(3, Phase::Accepted), 200);
        assert_eq!(session.next_batch(200 + HELD_MS).map(|(_, batch)| batch.len()), Some(1));
    }
}
