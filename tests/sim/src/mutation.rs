//! Ways in which the product is made wrong on purpose, at the seams between it and the simulator: each must be noticed.

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "`what` says it")]
pub enum Mutation {
    DoubleCommit,
    ForgetReport,
    AcknowledgeBeforeCommit,
    RenewWithoutSession,
    LeaseFromReceipt,
    LeaseOfEarlierBoot,
    BeginWithoutLease,
    LeaseWithoutQuorum,
    NoGraceAfterElection,
    AdoptUndesired,
    StartWhatEnded,
    LoseWatchEvent,
    ApplyDiffers,
    LoseChosenEntry,
    OrphanProgram,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::DoubleCommit,
        Self::ForgetReport,
        Self::AcknowledgeBeforeCommit,
        Self::NoGraceAfterElection,
        Self::LoseWatchEvent,
        Self::ApplyDiffers,
        Self::LoseChosenEntry,
        Self::OrphanProgram,
        Self::RenewWithoutSession,
        Self::AdoptUndesired,
        Self::StartWhatEnded,
        Self::LeaseWithoutQuorum,
        Self::BeginWithoutLease,
        Self::LeaseOfEarlierBoot,
        Self::LeaseFromReceipt,
    ];

    /// What is done wrong.
    pub fn what(self) -> &'static str {
        match self {
            Self::DoubleCommit => "a submission enters the log twice, as two",
            Self::ForgetReport => "an agent takes its report of an end for told",
            Self::AcknowledgeBeforeCommit => "a job is acknowledged before it is durable",
            Self::RenewWithoutSession => "an agent renews its lease by itself",
            Self::LeaseFromReceipt => "a lease counts from when the answer came",
            Self::LeaseOfEarlierBoot => "a lease of an earlier boot counts",
            Self::BeginWithoutLease => "a task begins though its lease is over",
            Self::LeaseWithoutQuorum => "a leader without a quorum keeps leases alive",
            Self::NoGraceAfterElection => "a new leader counts silence from before it led",
            Self::AdoptUndesired => "an agent keeps what nobody wants running",
            Self::StartWhatEnded => "an agent starts again what it has reported ended",
            Self::LoseWatchEvent => "an entry does not say which jobs it changed",
            Self::ApplyDiffers => "one replica applies an entry at another time",
            Self::LoseChosenEntry => "a replica passes over an entry",
            Self::OrphanProgram => "an attempt is reported stopped while its program runs",
        }
    }
}
