//! Who may come in: roles, tokens, and the identities that were shut out.
//!
//! Secrets never come here. What is kept of a token is the hash of its secret, which lets nobody in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Name, QueuePath, ReplicaId, Revision, TimeMs};

/// The BLAKE3 hash of something that is told apart by it alone: a token's secret, a public key, a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The serial number of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(pub [u8; 16]);

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a person may do, from little to everything. Each may what the one before may.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at everything that is no secret.
    Viewer,
    /// Submit to these queues, and cancel, enter and read what is in them.
    Submitter {
        /// These; at least one.
        queues: BTreeSet<QueuePath>,
    },
    /// Run the cluster: any job, queues, nodes, storage.
    Operator,
    /// Decide who comes in: tokens, revocations, members.
    Admin,
}

/// What joins the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joiner {
    /// A coordinator.
    Coordinator,
    /// An agent.
    Agent,
}

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// To join the cluster; counted.
    Join(Joiner),
    /// To call the API; as often as one likes.
    Api {
        /// As whom.
        principal: Name,
        /// As what.
        role: Role,
    },
}

/// As what a token let a key in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admitted {
    /// As the agent of this node.
    Agent(Name),
    /// As the coordinator that is reached there. Which replica it becomes is decided afterwards.
    Coordinator(String),
}

impl Admitted {
    /// What kind of joiner it is.
    pub fn joiner(&self) -> Joiner {
        match self {
            Self::Agent(_) => Joiner::Agent,
            Self::Coordinator(_) => Joiner::Coordinator,
        }
    }
}

/// A token. Known to the state by the index of the entry that made it, so that no id is ever used twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Hash of its secret.
    pub hash: Fingerprint,
    /// What it is good for.
    pub grant: Grant,
    /// From when on it is good for nothing, and forgotten.
    pub expires_at: TimeMs,
    /// How often it lets someone in; exactly one that joins is counted.
    pub uses: Option<u32>,
    /// The public keys it let in, each as one thing for good. One that comes again, because the answer was lost, is not counted
    /// again.
    pub used_by: BTreeMap<Fingerprint, Admitted>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: TimeMs,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// Why a token lets nobody in any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenFault {
    /// It was taken back.
    Revoked,
    /// Its time is up.
    Expired,
    /// It let in as many as it should.
    Spent,
    /// It was made for something else.
    WrongUse,
    /// It let this key in as somebody else.
    OtherName,
    /// Whom it lets in, or let in, was shut out after it was made.
    ShutOut,
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Revoked => "was revoked",
            Self::Expired => "has expired",
            Self::Spent => "was used as often as it may be",
            Self::WrongUse => "was made for something else",
            Self::OtherName => "let this key in under another name",
            Self::ShutOut => "is older than the revocation of somebody it lets in",
        })
    }
}

impl Token {
    /// What is wrong with it at this time, whoever brings it.
    pub fn fault(&self, now: TimeMs) -> Option<TokenFault> {
        match () {
            () if self.revoked => Some(TokenFault::Revoked),
            () if self.expires_at <= now => Some(TokenFault::Expired),
            () => None,
        }
    }

    /// How many it can still let in; `None` if that is not counted.
    pub fn uses_left(&self) -> Option<u32> {
        self.uses.map(|uses| uses.saturating_sub(self.used_by.len() as u32))
    }
}

/// Whom a certificate names, or the certificate itself: what can be shut out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// A coordinator.
    Coordinator(ReplicaId),
    /// The agent of a node.
    Agent(Name),
    /// A person.
    Person(Name),
    /// One certificate, whomever it names.
    Certificate(Serial),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator(replica) => write!(f, "coordinator {replica}"),
            Self::Agent(name) => write!(f, "agent {name}"),
            Self::Person(name) => write!(f, "person {name}"),
            Self::Certificate(serial) => write!(f, "certificate {serial}"),
        }
    }
}

/// An identity was shut out: certificates of it that were issued at an earlier revision, or this one, are void. Who joins
/// again afterwards gets a certificate of a later revision, so no clock decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Index of the entry that did it.
    pub revision: Revision,
    /// When.
    pub at: TimeMs,
    /// From when on no certificate it voids can be alive, so that it is forgotten; never if `None`.
    pub until: Option<TimeMs>,
    /// Who did it.
    pub by: String,
}
