//! Snapshots and stretches of the log, from wherever they were kept, put together to a history that can be applied again.
//!
//! Invariant: a history has no hole. Its base is a snapshot, and its entries are all that came after it, up to its last.

use std::collections::BTreeMap;

use flowyard_model::{Entry, Revision};
use flowyard_state::State;

/// Two that do not belong together: of different clusters, or of different epochs of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "entry {0} is not the same in all of them: they are of different clusters, or of one before and after it was restored"
)]
pub struct Contradiction(pub u64);

/// Why there is nothing to apply again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoHistory {
    /// No stretch of the log at all.
    #[error("there is no log in it: make it with `fctl cluster backup --log`")]
    NoLog,
    /// A log, and no snapshot to apply it to.
    #[error(
        "the log begins at entry {first}, and there is no snapshot that it goes on from: give a folder with an older backup, of revision {} to {last}",
        .first.saturating_sub(1)
    )]
    NoBase {
        /// The first entry that is known of the last stretch.
        first: u64,
        /// The last.
        last: u64,
    },
}

/// What is known of the past.
#[derive(Debug, Default)]
pub struct Past {
    snapshots: BTreeMap<u64, State>,
    entries: BTreeMap<u64, Entry>,
    /// First and last index of what is known of the log without a hole.
    stretches: BTreeMap<u64, u64>,
}

impl Past {
    /// Nothing yet, but that every cluster began with nothing.
    pub fn new() -> Self {
        Self { snapshots: BTreeMap::from([(0, State::new())]), ..Self::default() }
    }

    /// Adds a state as it was at its revision.
    ///
    /// # Errors
    /// When another one was given for it.
    pub fn add_snapshot(&mut self, state: State) -> Result<(), Contradiction> {
        let revision = state.revision().0;
        match self.snapshots.insert(revision, state) {
            Some(before) if before != self.snapshots[&revision] => Err(Contradiction(revision)),
            _ => Ok(()),
        }
    }

    /// Adds all commands of the log from one index to another.
    ///
    /// # Errors
    /// When another one was given for one of these indexes.
    pub fn add_stretch(&mut self, first: u64, last: u64, entries: Vec<Entry>) -> Result<(), Contradiction> {
        for entry in entries {
            let index = entry.index.0;
            let known = self.stretches.range(..=index).next_back().is_some_and(|(_, end)| index <= *end);
            match self.entries.get(&index) {
                Some(same) if *same == entry => {}
                None if !known => drop(self.entries.insert(index, entry)),
                _ => return Err(Contradiction(index)),
            }
        }
        self.cover(first, last);
        Ok(())
    }

    fn cover(&mut self, mut first: u64, mut last: u64) {
        let touching = |stretches: &BTreeMap<u64, u64>| {
            let before = stretches.range(..=last.saturating_add(1)).next_back().map(|(first, last)| (*first, *last));
            before.filter(|(_, end)| end.saturating_add(1) >= first)
        };
        let mut found = touching(&self.stretches);
        while let Some((start, end)) = found {
            self.stretches.remove(&start);
            (first, last) = (first.min(start), last.max(end));
            let before = self.stretches.range(..=last.saturating_add(1)).next_back();
            found = before.map(|(first, last)| (*first, *last)).filter(|(_, end)| end.saturating_add(1) >= first);
        }
        self.stretches.insert(first, last);
    }

    /// The longest history that ends where the newest stretch of the log ends.
    ///
    /// # Errors
    /// [`NoHistory`].
    pub fn history(self) -> Result<History, NoHistory> {
        let (first, last) = self.stretches.last_key_value().map(|(f, l)| (*f, *l)).ok_or(NoHistory::NoLog)?;
        let mut snapshots = self.snapshots;
        let mut known = snapshots.split_off(&first.saturating_sub(1));
        let beyond = known.split_off(&last.saturating_add(1));
        let (_, base) = known.pop_first().ok_or(NoHistory::NoBase { first, last })?;
        let mut entries = self.entries;
        let entries = entries.split_off(&(base.revision().0 + 1)).into_values().collect();
        Ok(History { base, entries, last: Revision(last), snapshots: known, beyond: beyond.len() as u64 })
    }
}

/// A state, and everything that came after it.
#[derive(Debug, Clone)]
pub struct History {
    /// The state that the entries were applied to.
    pub base: State,
    /// The commands, in order. Indexes that are passed over are entries of the log that hold none.
    pub entries: Vec<Entry>,
    /// The last index that is known of.
    pub last: Revision,
    /// Other snapshots on the way, by revision, to compare with.
    pub snapshots: BTreeMap<u64, State>,
    /// Snapshots of later than its end.
    pub beyond: u64,
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Command, TimeMs};
    use flowyard_state::apply;

    use super::*;

    fn ticks(first: u64, last: u64) -> Vec<Entry> {
        (first..=last).map(|at| Entry { index: Revision(at), time: TimeMs(at), command: Command::Tick }).collect()
    }

    fn state(revision: u64) -> State {
        let mut state = State::new();
        ticks(1, revision).into_iter().for_each(|entry| drop(apply(&mut state, entry)));
        state
    }

    fn history(snapshots: &[u64], stretches: &[(u64, u64)]) -> Result<History, NoHistory> {
        let mut past = Past::new();
        snapshots.iter().for_each(|at| past.add_snapshot(state(*at)).unwrap());
        stretches.iter().for_each(|(first, last)| past.add_stretch(*first, *last, ticks(*first, *last)).unwrap());
        past.history()
    }

    #[test]
    fn stretches_are_joined_and_the_oldest_snapshot_that_they_follow_is_the_base() {
        let whole = history(&[7], &[(1, 4), (5, 9)]).unwrap();
        assert_eq!((whole.base.revision().0, whole.entries.len(), whole.last.0), (0, 9, 9));
        assert_eq!(whole.snapshots.keys().copied().collect::<Vec<_>>(), [7]);
        let later = history(&[5, 7, 20], &[(1, 3), (6, 9), (4, 4), (8, 12)]).unwrap();
        assert_eq!((later.base.revision().0, later.entries.len(), later.beyond), (5, 7, 1), "entry 5 is missing");
        let joined = history(&[], &[(6, 9), (1, 3), (4, 5)]).unwrap();
        assert_eq!(joined.entries.len(), 9);
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(history(&[5], &[]).unwrap_err(), NoHistory::NoLog);
        assert_eq!(history(&[5], &[(9, 12)]).unwrap_err(), NoHistory::NoBase { first: 9, last: 12 });
        let told = history(&[], &[(9, 12)]).unwrap_err().to_string();
        assert!(told.contains("older backup, of revision 8 to 12"), "{told}");
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let mut past = Past::new();
        past.add_stretch(1, 5, ticks(1, 5)).unwrap();
        past.add_stretch(3, 6, ticks(3, 6)).unwrap();
        let mut other = ticks(5, 5);
        other[0].time = TimeMs(99);
        assert_eq!(past.add_stretch(5, 5, other), Err(Contradiction(5)));
        past.add_snapshot(state(4)).unwrap();
        past.add_snapshot(state(4)).unwrap();
    }
}
