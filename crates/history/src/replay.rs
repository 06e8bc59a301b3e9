//! A history applied again, by the same `apply` that every replica ran.

use flowyard_model::{ClusterVersion, Command, Entry, Revision};
use flowyard_state::State;

use crate::past::History;

/// Why a history cannot be applied again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// A newer release is needed.
    #[error(
        "entry {index} raises the cluster to version {version}, which a newer release of Flowyard knows: use that one"
    )]
    Newer {
        /// The entry.
        index: Revision,
        /// The version.
        version: ClusterVersion,
    },
    /// The index is before the base.
    #[error("entry {until} is before what is known: the history begins after entry {base}")]
    TooEarly {
        /// As asked for.
        until: Revision,
        /// Where it begins.
        base: Revision,
    },
    /// The index is behind the last.
    #[error("entry {until} is behind what is known: the history ends with entry {last}")]
    TooLate {
        /// As asked for.
        until: Revision,
        /// Where it ends.
        last: Revision,
    },
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The state at the end.
    pub state: State,
    /// Commands that were applied.
    pub applied: u64,
    /// Snapshots on the way that are the same as what was derived.
    pub same: Vec<Revision>,
    /// Those that are not: the release that is running derives another state than the one that ran.
    pub different: Vec<Revision>,
}

/// Applies a history up to an index, or to its end, and shows each entry to `look` with the state before it.
///
/// # Errors
/// [`ReplayError`].
pub fn replay(
    history: &History,
    until: Option<Revision>,
    mut look: impl FnMut(&State, &Entry),
) -> Result<Replayed, ReplayError> {
    let (base, last) = (history.base.revision(), history.last);
    let until = until.unwrap_or(last);
    if until < base {
        return Err(ReplayError::TooEarly { until, base });
    }
    if until > last {
        return Err(ReplayError::TooLate { until, last });
    }
    let mut replayed = Replayed { state: history.base.clone(), applied: 0, same: Vec::new(), different: Vec::new() };
    for entry in history.entries.iter().take_while(|entry| entry.index <= until) {
        known(entry)?;
        look(&replayed.state, entry);
        flowyard_state::apply(&mut replayed.state, entry.clone());
        replayed.applied += 1;
        match history.snapshots.get(&entry.index.0) {
            Some(snapshot) if *snapshot == replayed.state => replayed.same.push(entry.index),
            Some(_) => replayed.different.push(entry.index),
            None => {}
        }
    }
    Ok(replayed)
}

/// Apply stops at what it does not know; so it is told before.
fn known(entry: &Entry) -> Result<(), ReplayError> {
    match entry.command {
        Command::RaiseVersion { version } if version > ClusterVersion::NEWEST => {
            Err(ReplayError::Newer { index: entry.index, version })
        }
        _ => Ok(()),
    }
}
