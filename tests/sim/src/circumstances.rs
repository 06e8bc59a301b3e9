//! What a run meets more often than others, so that what seldom goes wrong is met within few seeds. Everything is still drawn
//! from the seed and done by the same faults, and the right product must withstand it.

use crate::faults::FaultKind::{self, *};
use crate::mutation::Mutation;

/// How a run differs from a usual one.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
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
    /// Whether every plan is proposed once more when its tasks are planned again.
    pub(crate) late_plans: bool,
    /// Whether an agent is told what is wanted of it up to a minute after its welcome.
    pub(crate) late_news: bool,
    /// Whether every step is of gangs that go on when they lose members, as far as there is room for gangs.
    pub(crate) surgery: bool,
    /// Whether another machine comes under the name of each that is lost, before that is given up.
    pub(crate) names_taken: bool,
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
        late_plans: false,
        late_news: false,
        surgery: false,
        names_taken: false,
    };
    /// Programs that must not run twice run long, and do not end when asked to.
    const STUBBORN: Self = Self { long_programs: true, stubborn: true, ..Self::USUAL };
    /// Those in which other mistakes than the mutations of the simulator are noticed, by their name.
    const NAMED: [(&str, Self); 6] = [
        ("LatePlans", Self { faults: &[(AgentKilled, 300, 3_000)], late_plans: true, ..Self::USUAL }),
        (
            "LateNews",
            Self {
                faults: &[(AgentCutOff, 130_000, 200_000)],
                one_machine: true,
                slow_fetching: true,
                late_news: true,
                ..Self::STUBBORN
            },
        ),
        (
            "NamesTaken",
            Self { faults: &[(AgentGone, 0, 0), (AgentKilled, 300, 3_000)], names_taken: true, ..Self::STUBBORN },
        ),
        ("DevicesLost", Self { faults: &[(DeviceLost, 300, 3_000), (AgentKilled, 300, 3_000)], ..Self::STUBBORN }),
        (
            "Surgery",
            Self {
                faults: &[
                    (AgentGone, 0, 0),
                    (AgentCutOff, 130_000, 200_000),
                    (DeviceLost, 300, 3_000),
                    (Drained, 0, 0),
                ],
                surgery: true,
                long_programs: true,
                ..Self::USUAL
            },
        ),
        (
            "NodesClosed",
            Self {
                faults: &[(Drained, 0, 0), (Drained, 0, 0), (SlowDisk, 20_000, 60_000)],
                spacing_ms: (200, 3_000),
                ..Self::USUAL
            },
        ),
    ];

    /// Those of this name, or those in which the mutation of this name is looked for.
    pub fn named(name: &str) -> Option<Self> {
        let known = Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, circumstances)| *circumstances);
        known.or_else(|| Some(Mutation::named(name)?.circumstances()))
    }

    /// The names of all that are no mutation's.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMED.iter().map(|(name, _)| *name)
    }

    /// How long a fault of this kind lasts, where that is special.
    pub(crate) fn lasts(&self, kind: FaultKind) -> Option<(u64, u64)> {
        self.faults.iter().find(|(favoured, ..)| *favoured == kind).map(|(_, least, most)| (*least, *most))
    }
}
