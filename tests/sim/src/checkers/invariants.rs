//! The state's own invariants hold after every entry.

use flowyard_state::check_all;

use super::{Checker, Seen};

pub(super) struct Invariants;

impl Checker for Invariants {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        check_all(seen.state).map_err(|violation| violation.to_string())
    }
}
