//! The replicated state as the log's machine: decode, apply, publish.
//!
//! Invariant: an entry that cannot be decoded ends the process. Passing it over would make replicas differ.

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use flowyard_model::{Changed, Entry, Reply, Revision};
use flowyard_state::{State, View, apply};

use crate::feed::Feed;
use crate::metrics::Counts;
use crate::raft::Machine;

/// Owns the state.
#[derive(Debug)]
pub struct Applier {
    state: State,
    changed: Changed,
    feed: Feed,
    counts: Arc<Counts>,
    /// When the first entry of the batch came, and how many did.
    batch: Option<(Instant, u64)>,
}

impl Applier {
    /// An applier of an empty state, and the feed it publishes to.
    pub fn new() -> (Self, Feed) {
        let state = State::new();
        let feed = Feed::starting_with(state.view());
        let changed = Changed::nothing();
        (Self { state, changed, feed: feed.clone(), counts: Arc::default(), batch: None }, feed)
    }

    /// The same, that counts there.
    #[must_use]
    pub(crate) fn counted(self, counts: Arc<Counts>) -> Self {
        Self { counts, ..self }
    }
}

impl Machine for Applier {
    type Reply = Reply;
    type Snapshot = View;

    fn apply(&mut self, index: u64, payload: &[u8]) -> Reply {
        self.batch.get_or_insert_with(|| (flowyard_clock::monotonic(), 0)).1 += 1;
        let (time, command) = match flowyard_proto::decode_entry(payload) {
            Ok(decoded) => decoded,
            Err(error) => panic!("log entry {index} cannot be read by this build: {error}"),
        };
        let effects = apply(&mut self.state, Entry { index: Revision(index), time, command });
        self.changed.merge(effects.changed);
        effects.reply
    }

    fn encode_reply(reply: &Reply) -> Vec<u8> {
        flowyard_proto::encode_reply(reply)
    }

    fn decode_reply(bytes: &[u8]) -> Result<Reply, Box<dyn Error + Send + Sync>> {
        Ok(flowyard_proto::decode_reply(bytes)?)
    }

    fn after_batch(&mut self, _index: u64) {
        let changed = std::mem::replace(&mut self.changed, Changed::nothing());
        self.feed.publish(self.state.view(), &changed);
        if let Some((start, entries)) = self.batch.take() {
            self.counts.apply.observe_since(start);
            self.counts.applied.add(entries);
        }
    }

    fn snapshot(&self) -> View {
        self.state.view()
    }

    fn encode(snapshot: &View, out: &mut dyn Write) -> io::Result<()> {
        flowyard_proto::write_records(snapshot.version(), snapshot.records(), out).map(drop).map_err(io::Error::other)
    }

    fn restore(&mut self, input: &mut dyn Read) -> Result<(), Box<dyn Error + Send + Sync>> {
        let records = flowyard_proto::read_records(input)?.collect::<Result<Vec<_>, _>>()?;
        self.state = State::from_records(records)?;
        self.feed.restart(self.state.view());
        Ok(())
    }
}
