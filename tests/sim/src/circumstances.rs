//! What a run meets more often than others, so that what seldom goes wrong is met within few seeds. Everything is still drawn
//! from the seed and done by the same faults, and the right product must withstand it.

use crate::faults::FaultKind;

/// How a run differs from a usual one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    /// Kinds of fault that most faults are of, the more often the more often it stands here, and how long each lasts at least
    /// and at most, in milliseconds; none: all alike.
    pub(crate) faults: &'static [(FaultKind, u64, u64)],
    /// Between two faults at least and at most, in milliseconds.
    pub(crate) spacing_ms: (u64, u64),
    /// Whether most of them hit the same machine.
    pub(crate) one_machine: bool,
    /// Whether every program runs for minutes.
    pub(crate) long_programs: bool,
    /// Whether every step is one that must never run twice, with the longest grace, and its programs do not end when asked to.
    pub(crate) stubborn: bool,
    /// Whether every other fetch takes up to minutes.
    pub(crate) slow_fetching: bool,
}

/// Of a thousand faults, those that are of a favoured kind where there is one, or hit the one machine.
pub(crate) const FAVOURED: u64 = 800;

impl Circumstances {
    /// Nothing is likelier than anything else.
    pub(crate) const USUAL: Self = Self {
        faults: &[],
        spacing_ms: (1_000, 30_000),
        one_machine: false,
        long_programs: false,
        stubborn: false,
        slow_fetching: false,
    };

    /// How long a fault of this kind lasts, where that is special.
    pub(crate) fn lasts(&self, kind: FaultKind) -> Option<(u64, u64)> {
        self.faults.iter().find(|(favoured, ..)| *favoured == kind).map(|(_, least, most)| (*least, *most))
    }
}
