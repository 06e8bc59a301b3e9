//! The state's own invariants hold; looked at every so many entries, since that takes long.

use flowyard_state::check_all;

use super::{Checker, Seen};

/// Entries between two looks.
const ENTRIES: u64 = 128;

pub(super) struct Invariants;

impl Checker for Invariants {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        if !seen.entry.index.0.is_multiple_of(ENTRIES) {
            return Ok(());
        }
        check_all(seen.state).map_err(|violation| violation.to_string())
    }
}
