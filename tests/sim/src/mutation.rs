//! Ways in which the product is made wrong on purpose, at the seams between it and the simulator: each must be noticed.

use crate::circumstances::Circumstances;
use crate::faults::FaultKind;
use crate::faults::FaultKind::{AgentCutOff, AgentPaused, CancelStorm, Delay, LeaderIsolated, SessionCut};

macro_rules! mutations {
    ($($(#[$meta:meta])* $mutation:ident = $what:literal,)*) => {
        /// One of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "`what` says it")]
        pub enum Mutation { $($mutation,)* }

        impl Mutation {
            /// All of them.
            pub const ALL: [Self; [$($what),*].len()] = [$(Self::$mutation),*];

            /// What is done wrong.
            pub fn what(self) -> &'static str {
                match self { $(Self::$mutation => $what,)* }
            }
        }
    };
}

mutations! {
    DoubleCommit = "a submission enters the log twice, as two",
    ForgetReport = "an agent takes its report of an end for told",
    AcknowledgeBeforeCommit = "a job is acknowledged before it is durable",
    NoGraceAfterElection = "a new leader counts silence from before it led",
    LoseWatchEvent = "an entry does not say which jobs it changed",
    ApplyDiffers = "one replica applies an entry at another time",
    LoseChosenEntry = "a replica passes over an entry",
    OrphanProgram = "an attempt is reported stopped while its program runs",
    StopOnOutage = "an agent that loses its coordinator stops what runs",
    PublishUnwritten = "an attempt whose program vanished is reported to have succeeded",
    SkipFence = "a report counts for its task, whichever attempt it is of",
    ReuseIncarnation = "a node that registers again keeps its incarnation",
    AdoptUndesired = "an agent keeps what nobody wants running",
    StartWhatEnded = "an agent starts again what it has reported ended",
    RenewWithoutSession = "an agent renews its lease by itself",
    LeaseWithoutQuorum = "a leader without a quorum keeps leases alive",
    BeginWithoutLease = "a task begins though its lease is over",
    BeginUnasked = "an agent begins what the one before it left, wanted or not",
    LeaseFromReceipt = "a lease counts from when the answer came",
    EvictWithoutClaim = "what is evicted makes room for nobody: the claim is dropped at once",
    StaleClaim = "a claim is not taken up when its room is free",
    ReplaceWithoutFence = "a report counts for its rank, whichever member of it it is of",
}

/// Long enough for a node to be given up meanwhile.
const CUT_OFF: (FaultKind, u64, u64) = (AgentCutOff, 130_000, 200_000);
const ISOLATED: (FaultKind, u64, u64) = (LeaderIsolated, 150_000, 240_000);
/// Shorter than a lease.
const PAUSED: (FaultKind, u64, u64) = (AgentPaused, 30_000, 44_000);

impl Mutation {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutation| format!("{mutation:?}") == name)
    }

    /// Whether it is looked for in other circumstances than usual ones.
    pub fn is_rare(self) -> bool {
        !self.circumstances().faults.is_empty()
    }

    /// In which circumstances it is met soon.
    pub(crate) fn circumstances(self) -> Circumstances {
        let lonely = Circumstances { faults: &[CUT_OFF], one_machine: true, ..Circumstances::USUAL };
        let stubborn = Circumstances { long_programs: true, stubborn: true, ..lonely };
        match self {
            Self::SkipFence | Self::AdoptUndesired => Circumstances { long_programs: true, ..lonely },
            Self::StartWhatEnded => {
                let faults = &[(Delay, 60_000, 120_000), (CancelStorm, 0, 0), (SessionCut, 0, 0)];
                Circumstances { faults, spacing_ms: (1_000, 8_000), ..Circumstances::USUAL }
            }
            Self::RenewWithoutSession => stubborn,
            Self::ReplaceWithoutFence => Circumstances { long_programs: true, surgery: true, ..lonely },
            Self::LeaseWithoutQuorum => {
                Circumstances { faults: &[ISOLATED], spacing_ms: (60_000, 200_000), one_machine: false, ..stubborn }
            }
            Self::BeginWithoutLease => Circumstances { slow_fetching: true, ..stubborn },
            Self::LeaseFromReceipt => {
                let faults = &[PAUSED, PAUSED, PAUSED, PAUSED, (AgentCutOff, 125_000, 135_000)];
                Circumstances { faults, spacing_ms: (10_000, 40_000), ..stubborn }
            }
            _ => Circumstances::USUAL,
        }
    }
}
