//! Who may have whom evicted: work of a queue, work of less priority in the same queue; and a queue that has not all it
//! is promised, those that hold more than they are, of what it is promised. A queue above them that names no promise itself is
//! nothing between them.
//!
//! Nothing is evicted for weights alone, and priorities of different queues are not compared. Who holds no more than is
//! promised of one thing is not evicted for it, even by who is promised another: otherwise two queues, one promised
//! processors and one devices, could evict each other for ever. So whoever was evicted by a promise has no right to what
//! started in its place.

use crate::fleet::NodeIndex;
use crate::turns::group::{GroupKey, Need, QueueIndex};
use crate::turns::queues::{At, Queues, ROOT, own_of};
use crate::turns::share::{Held, dominant};

/// An attempt that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The queue that its job names.
    pub queue: QueueIndex,
    /// Its priority in the queue.
    pub priority: i64,
    /// What it holds in all, as it is accounted for.
    pub held: Held,
    /// What it holds on each node.
    pub seats: Vec<(NodeIndex, Held)>,
    /// How much of its work would be lost: milliseconds since it last saved it, or since it runs.
    pub lost_ms: u64,
    /// What it takes to start it again.
    pub restart_ms: u64,
    /// How often it was moved already.
    pub relocations: u32,
    /// Until then it is not evicted.
    pub protected_until_ms: u64,
    /// Whether it may be evicted at all; not if it is leaving already.
    pub preemptible: bool,
}

/// What evictions keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The time.
    pub now_ms: u64,
    /// What was moved so often is not evicted any more.
    pub most_relocations: u32,
    /// Up to so many attempts that may be evicted, the least loss is found exactly, as far as the steps go. At most
    /// 63.
    pub exact_up_to: usize,
}

/// Why an attempt is evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// For work of higher priority in its queue.
    Priority,
    /// For a queue that is promised what it holds.
    Reclaim,
}

impl Running {
    /// What its eviction costs: the work that is lost, in milliseconds of the cluster's parts of 2^32. What was moved
    /// before costs more each time.
    pub fn price(&self, capacity: &Held) -> u128 {
        let again = u128::from(self.restart_ms) * (1 + u128::from(self.relocations));
        u128::from(dominant(self.held.entries(), capacity).max(1)) * (u128::from(self.lost_ms) + again)
    }

    fn may_ever(&self, rules: &Rules) -> bool {
        self.preemptible && self.protected_until_ms <= rules.now_ms && self.relocations < rules.most_relocations
    }
}

/// What a group that waits may claim, as it is before anybody is evicted.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    key: GroupKey,
    rules: Rules,
    /// The columns of what it needs.
    needed: Vec<usize>,
    /// From its queue upwards, those of them that are promised, where it may have all that it needs of these.
    owed: Vec<(At, Vec<usize>)>,
}

impl Queues {
    /// What a group may claim by one of its alternatives.
    pub(crate) fn claim(&self, key: &GroupKey, need: &Need, rules: &Rules) -> Claim {
        let owed = self.path(own_of(key.queue)).map(|at| (at, self.owed(at, need))).collect();
        let needed = need.held.entries().map(|(column, _)| column).collect();
        Claim { key: *key, rules: *rules, needed, owed }
    }

    /// Why an attempt may be evicted, if it may, as the last one beside those that are lifted; it may be one of them. Of
    /// who holds more than is promised, that one may take it below.
    pub(crate) fn right_to(&self, claim: &Claim, running: &Running, is_lifted: bool) -> Option<Reason> {
        if !running.may_ever(&claim.rules) {
            return None;
        }
        if running.queue == claim.key.queue {
            return (running.priority < claim.key.priority).then_some(Reason::Priority);
        }
        let is_mine = |at: &At| claim.owed.iter().any(|(mine, _)| mine == at);
        let theirs: Vec<_> = self.path(own_of(running.queue)).take_while(|at| !is_mine(at)).collect();
        let common = theirs.last().map_or(ROOT, |at| self.nodes[*at].above);
        // What any of them is promised counts: it is no less because others below the same one hold more than they should.
        let mut mine = claim.owed.iter().take_while(|(at, _)| *at != common);
        let is_held = |column: &&usize| running.held.at(**column) > 0;
        let is_over = |column: &usize| {
            let over = |at: &At| {
                let node = &self.nodes[*at];
                let lifted = if is_lifted { running.held.at(*column) } else { 0 };
                node.held.at(*column).wrapping_add(lifted) > node.entitled.at(*column)
            };
            theirs.iter().all(over)
        };
        let may = mine.any(|(_, owed)| owed.iter().any(|column| is_held(&column)))
            && claim.needed.iter().filter(is_held).all(is_over);
        may.then_some(Reason::Reclaim)
    }

    /// The promised columns of a need, if the node is entitled to all of them.
    pub(crate) fn owed(&self, at: At, need: &Need) -> Vec<usize> {
        let node = &self.nodes[at];
        let promised: Vec<_> = need.held.entries().filter(|(column, _)| node.entitled.at(*column) > 0).collect();
        let is_owed = |(column, amount): &(usize, u64)| {
            node.held.at(*column).saturating_add(*amount) <= node.entitled.at(*column)
        };
        if promised.iter().all(is_owed) { promised.into_iter().map(|(column, _)| column).collect() } else { Vec::new() }
    }

    /// Takes what an attempt holds out of the sums, to see what would be without it. It is to be laid back.
    pub(crate) fn lift(&mut self, running: &Running) {
        self.given.take(&running.held);
        for at in self.path(own_of(running.queue)).collect::<Vec<_>>() {
            self.nodes[at].held.take(&running.held);
            self.nodes[at].active = self.nodes[at].active.wrapping_sub(1);
        }
    }

    /// Puts back what was lifted.
    pub(crate) fn lay(&mut self, running: &Running) {
        self.given.add(&running.held, 1);
        for at in self.path(own_of(running.queue)).collect::<Vec<_>>() {
            self.nodes[at].held.add(&running.held, 1);
            self.nodes[at].active = self.nodes[at].active.wrapping_add(1);
        }
    }
}
