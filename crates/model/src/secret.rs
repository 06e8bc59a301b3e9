//! Secrets, as far as the state knows them: everything but what they are.

use serde::{Deserialize, Serialize};

use crate::{Digest, Fingerprint, Name, QueuePath, Revision, TimeMs};

/// A secret that is kept. What it is lies encrypted in a blob; the key for that lies with the coordinators and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSecret {
    /// Jobs of this queue and those below it may use it; of any queue if `None`.
    pub queue: Option<QueuePath>,
    /// The entry that put it there as it is now.
    pub revision: Revision,
    /// The blob with its ciphertext.
    pub sealed: Digest,
    /// Which key opens it.
    pub key: Fingerprint,
    /// Who put it there.
    pub by: String,
    /// When.
    pub at: TimeMs,
}

impl KeptSecret {
    /// Whether jobs of this queue may use it.
    pub fn is_for(&self, queue: &QueuePath) -> bool {
        self.queue.as_ref().is_none_or(|own| own.covers(queue))
    }
}

/// Keep a secret, or replace what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutSecret {
    /// Its name; there is one of a name in the cluster.
    pub name: Name,
    /// For jobs of this queue and below; of any if `None`.
    pub queue: Option<QueuePath>,
    /// The blob with its ciphertext.
    pub sealed: Digest,
    /// Which key opens it.
    pub key: Fingerprint,
    /// Only if it is as this entry left it; whatever it is if `None`.
    pub replaces: Option<Revision>,
    /// Who asks.
    pub by: String,
}

/// Where a task finds a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretPlace {
    /// In this environment variable.
    Variable(String),
    /// In the file of this name in `$FLOWYARD_SECRETS`.
    File(String),
}

/// A secret that a step is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretUse {
    /// Where.
    pub place: SecretPlace,
    /// Which.
    pub secret: Name,
}
