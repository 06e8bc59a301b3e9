//! What the log is applied to.

use std::error::Error;
use std::io::{self, Read, Write};

/// A deterministic machine: the same entries in the same order make the same machine on every replica.
pub trait Machine: Send + 'static {
    /// What applying a command answers to its proposer.
    type Reply: Send + Sync + 'static;
    /// A copy of the machine at one moment, cheap to take and encoded on another thread.
    type Snapshot: Send + 'static;

    /// Applies one command. A panic, and so a payload that cannot be decoded, ends the process: going on would make
    /// replicas differ.
    fn apply(&mut self, index: u64, payload: &[u8]) -> Self::Reply;

    /// A reply as bytes, for a replica that passed the command on.
    fn encode_reply(reply: &Self::Reply) -> Vec<u8>;

    /// The reply that [`Self::encode_reply`] wrote, on a leader of this or the release before.
    fn decode_reply(bytes: &[u8]) -> Result<Self::Reply, Box<dyn Error + Send + Sync>>;

    /// Called after each run of applied entries and before any of its replies is sent; `index` is the last one. The place
    /// to publish a view, so that a proposer who has his reply also finds its effect there.
    fn after_batch(&mut self, index: u64);

    /// Copies the machine as it is now.
    fn snapshot(&self) -> Self::Snapshot;

    /// Writes a copy down.
    fn encode(snapshot: &Self::Snapshot, out: &mut dyn Write) -> io::Result<()>;

    /// Becomes what was written down. The bytes were verified; on an error the machine is not used any more.
    fn restore(&mut self, input: &mut dyn Read) -> Result<(), Box<dyn Error + Send + Sync>>;
}
