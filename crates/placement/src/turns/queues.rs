//! The tree of queues: what each may and what is held below it. It is told absolute facts and keeps sums and order
//! between rounds, so that a round costs what has changed.
//!
//! A queue may have work of its own beside queues below it: that work is like one more child, of weight 1 and without
//! bounds. So each queue is two nodes: itself, and its own work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fleet::ShapeIndex;
use crate::turns::bounds::Reckon;
use crate::turns::group::{ALTERNATIVES, Asks, GroupFacts, GroupKey, Kinds, Need, QueueIndex, UserIndex};
use crate::turns::leaf::{Account, Leaf};
use crate::turns::order::Key;
use crate::turns::share::{Held, History, Named};

/// What a queue may. Without it, weight 1 and no bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFacts {
    /// The queue above, if any.
    pub parent: Option<QueueIndex>,
    /// Its share relative to its siblings'; 0 counts as 1.
    pub weight: u32,
    /// Most tasks active at one time.
    pub most_active: Option<u32>,
    /// Most it may hold.
    pub limit: Named,
    /// What it is promised.
    pub reserve: Named,
    /// Most it may hold beyond its reserve, where it has one.
    pub borrow: Named,
    /// Most of its unused reserve that others may hold; all of it where it is not named.
    pub lend: Named,
}

impl QueueFacts {
    /// Of a queue that nothing is known of but what is above it.
    pub fn below(parent: Option<QueueIndex>) -> Self {
        let nothing = Named::default;
        Self {
            parent,
            weight: 1,
            most_active: None,
            limit: nothing(),
            reserve: nothing(),
            borrow: nothing(),
            lend: nothing(),
        }
    }

    /// The most that its limit, and its reserve and what it may borrow, allow of a column.
    pub(crate) fn most(&self, at: usize) -> Option<u64> {
        let borrowing = || Some(self.reserve.at(at)?.saturating_add(self.borrow.at(at)?));
        let limit = self.limit.at(at);
        borrowing().map_or(limit, |most| Some(limit.map_or(most, |limit| limit.min(most))))
    }
}

/// Position of a node.
pub(crate) type At = usize;

/// The node above all queues.
pub(crate) const ROOT: At = 0;

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) above: At,
    pub(crate) facts: QueueFacts,
    /// Queues below, and its own work.
    pub(crate) below: BTreeSet<At>,
    pub(crate) held: Held,
    pub(crate) decayed: Held,
    pub(crate) active: u64,
    /// What is promised in it to whom waits for others to end, less what those hold; sums wrap.
    pub(crate) later: (Held, u64),
    /// Its reserve within its limit, less where the reserves beside it come to more than there is; 0 is none, also where
    /// only queues below it are promised something.
    pub(crate) entitled: Held,
    /// Nodes below that do not lend all of what they, or others below them, are entitled to.
    pub(crate) lenders: Vec<At>,
    pub(crate) asks: Asks,
    /// Its place in the order of the node above, while there is work below that may be placed.
    pub(crate) key: Option<Key>,
    /// The order of those below.
    pub(crate) line: BTreeSet<Key>,
    /// Whether its place must be reckoned anew.
    pub(crate) stale: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) needs: Arc<[Need]>,
    pub(crate) kinds: Vec<u32>,
    /// Where it waits.
    pub(crate) queues: BTreeSet<QueueIndex>,
}

/// The tree with what waits in it.
#[derive(Debug, Clone)]
pub struct Queues {
    pub(crate) capacity: Held,
    /// What was told to be free where new work may go.
    free: Held,
    /// What was given out of it in this round.
    pub(crate) given: Held,
    /// Whether the round came to the end of what was counted of a group of which more waits.
    counted_out: bool,
    pub(crate) history: History,
    pub(crate) nodes: Vec<Node>,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) shapes: BTreeMap<ShapeIndex, Shape>,
    pub(crate) kinds: Kinds,
    pub(crate) stale: Vec<At>,
    /// Whether promises must be weighed against capacity anew.
    promises_stale: bool,
    /// Whether all shares must be reckoned anew.
    shares_stale: bool,
    /// Number of the round, to tell what was found in it.
    pub(crate) round: u64,
    /// How bounds are reckoned now.
    pub(crate) reckon: Reckon,
}

/// The node of a queue.
pub(crate) fn node_of(queue: QueueIndex) -> At {
    1 + 2 * queue.0 as usize
}

/// The node of a queue's own work.
pub(crate) fn own_of(queue: QueueIndex) -> At {
    node_of(queue) + 1
}

/// The queue whose own work a node is.
pub(crate) fn owner_of(at: At) -> Option<QueueIndex> {
    (at != ROOT && at.is_multiple_of(2)).then(|| QueueIndex((at / 2 - 1) as u32))
}

impl Node {
    fn new(above: At) -> Self {
        Self {
            above,
            facts: QueueFacts::below(None),
            below: BTreeSet::new(),
            held: Held::NONE,
            decayed: Held::NONE,
            active: 0,
            later: (Held::NONE, 0),
            entitled: Held::NONE,
            lenders: Vec::new(),
            asks: Asks::default(),
            key: None,
            line: BTreeSet::new(),
            stale: false,
        }
    }
}

impl Queues {
    /// No queues yet, on a cluster with so much of everything.
    pub fn new(capacity: Held) -> Self {
        Self {
            capacity,
            free: Held::NONE,
            given: Held::NONE,
            counted_out: false,
            history: History::default(),
            nodes: vec![Node::new(ROOT)],
            leaves: Vec::new(),
            shapes: BTreeMap::new(),
            kinds: Kinds::default(),
            stale: Vec::new(),
            promises_stale: false,
            shares_stale: false,
            round: 0,
            reckon: Reckon::Beside,
        }
    }

    /// How much there is of everything.
    pub fn set_capacity(&mut self, capacity: Held) {
        if self.capacity != capacity {
            self.capacity = capacity;
            (self.promises_stale, self.shares_stale) = (true, true);
        }
    }

    /// Somebody who added something to the capacity now adds something else.
    pub fn change_capacity(&mut self, before: &Held, after: &Held) {
        if before != after {
            self.capacity.take(before);
            self.capacity.add(after, 1);
            (self.promises_stale, self.shares_stale) = (true, true);
        }
    }

    /// Somebody who added something to what is free where new work may go now adds something else. It bounds what may
    /// be taken beside those for whom something is kept: until anything is told, nothing is free. What a round places
    /// counts as taken until the next one begins, and then only as far as it was told.
    pub fn change_free(&mut self, before: &Held, after: &Held) {
        if before != after {
            self.free.take(before);
            self.free.add(after, 1);
        }
    }

    /// How much of a column is free where new work may go.
    pub(crate) fn free_at(&self, column: usize) -> u64 {
        // Sums wrap: what would be below nothing is nothing.
        let left = self.free.at(column).wrapping_sub(self.given.at(column));
        if i64::try_from(left).is_ok() { left } else { 0 }
    }

    /// Begins a round: what the last one gave out is as it was told since.
    pub(crate) fn begin(&mut self) {
        self.round += 1;
        self.given = Held::NONE;
        self.counted_out = false;
    }

    /// What was found to be passed in this round is looked at again.
    pub(crate) fn begin_again(&mut self) {
        self.round += 1;
        self.counted_out = false;
    }

    /// Whether all of a group were placed that were counted, and there are more.
    pub(crate) fn is_counted_out(&self) -> bool {
        self.counted_out
    }

    /// What past use weighs.
    pub fn set_history(&mut self, history: History) {
        self.shares_stale |= self.history != history;
        self.history = history;
    }

    /// What a queue may. A parent that is below the queue itself counts as none.
    pub fn put_queue(&mut self, queue: QueueIndex, facts: QueueFacts) {
        self.ensure(queue);
        let at = node_of(queue);
        if self.nodes[at].facts == facts {
            return;
        }
        let mut above = ROOT;
        if let Some(parent) = facts.parent {
            self.ensure(parent);
            above = node_of(parent);
        }
        if self.path(above).any(|on| on == at) {
            above = ROOT;
        }
        if self.nodes[at].above != above {
            self.hang(at, above);
        }
        self.nodes[at].facts = facts;
        self.promises_stale = true;
        self.mark(at);
    }

    /// Forgets what a queue may, and what is above it. What waits and is held there stays until it is told otherwise.
    pub fn remove_queue(&mut self, queue: QueueIndex) {
        self.put_queue(queue, QueueFacts::below(None));
    }

    /// What a user holds by the work of a queue, not of those below it.
    pub fn set_account(&mut self, queue: QueueIndex, user: UserIndex, account: Account) {
        self.ensure(queue);
        let leaf = &mut self.leaves[queue.0 as usize];
        let before = leaf.account(user);
        if before == account {
            return;
        }
        for at in path(&self.nodes, own_of(queue)).collect::<Vec<_>>() {
            let node = &mut self.nodes[at];
            node.held.take(&before.held);
            node.held.add(&account.held, 1);
            node.decayed.take(&before.decayed);
            node.decayed.add(&account.decayed, 1);
            node.active = node.active - u64::from(before.active) + u64::from(account.active);
            self.mark(at);
        }
        self.leaves[queue.0 as usize].set_account(user, account, &self.capacity, self.history);
    }

    /// What is promised in a queue and below it to whom waits for others to end, and what those hold there.
    pub fn set_later(&mut self, queue: QueueIndex, promised: (&Held, u32), awaited: (&Held, u32)) {
        self.ensure(queue);
        let mut held = promised.0.clone();
        held.take(awaited.0);
        self.nodes[node_of(queue)].later = (held, u64::from(promised.1).wrapping_sub(awaited.1.into()));
    }

    /// The most that all queues may hold together, where that is bounded.
    pub fn set_most(&mut self, most: Named) {
        if self.nodes[ROOT].facts.limit != most {
            self.nodes[ROOT].facts.limit = most;
            self.mark(ROOT);
        }
    }

    /// As [`Queues::set_later`], in all queues.
    pub fn set_later_of_all(&mut self, promised: &Held, awaited: &Held) {
        let mut held = promised.clone();
        held.take(awaited);
        self.nodes[ROOT].later = (held, 0);
    }

    /// What waits in a group; a count of 0 removes it.
    pub fn put_group(&mut self, key: GroupKey, facts: &GroupFacts) {
        if facts.count == 0 {
            return self.remove_group(key);
        }
        self.ensure(key.queue);
        self.put_shape(key.shape, &facts.needs);
        if self.leaves[key.queue.0 as usize].put(&key, facts)
            && let Some(shape) = self.shapes.get_mut(&key.shape)
        {
            shape.queues.insert(key.queue);
        }
    }

    /// Beside what waits in a group, so many tasks more that are older.
    pub fn put_before(&mut self, key: GroupKey, more: &GroupFacts) {
        self.ensure(key.queue);
        let count = self.count(&key).saturating_add(more.count);
        let more_wait = more.more || self.leaves[key.queue.0 as usize].has_more(&key);
        self.put_group(key, &GroupFacts { count, more: more_wait, ..more.clone() });
    }

    /// Nothing waits in a group any more.
    pub fn remove_group(&mut self, key: GroupKey) {
        let Some(leaf) = self.leaves.get(key.queue.0 as usize) else { return };
        if leaf.is_last(&key) {
            self.set_open(key.queue, key.shape, 0);
            if let Some(shape) = self.shapes.get_mut(&key.shape) {
                shape.queues.remove(&key.queue);
                if shape.queues.is_empty() {
                    self.shapes.remove(&key.shape);
                }
            }
        }
        self.leaves[key.queue.0 as usize].remove(&key);
    }

    /// What is held by the work of a queue and of those below it.
    pub fn held(&self, queue: QueueIndex) -> Held {
        self.nodes.get(node_of(queue)).map_or(Held::NONE, |node| node.held.clone())
    }

    /// By which alternatives a shape in a queue may be placed, as far as is known.
    pub(crate) fn open(&self, queue: QueueIndex, shape: ShapeIndex) -> u64 {
        self.leaves[queue.0 as usize].pairs.get(&shape).map_or(0, |pair| pair.open)
    }

    pub(crate) fn open_shapes(&self, queue: QueueIndex) -> Vec<ShapeIndex> {
        let pairs = self.leaves[queue.0 as usize].pairs.iter();
        pairs.filter(|(_, pair)| pair.open != 0).map(|(shape, _)| *shape).collect()
    }

    /// How many of a group wait.
    pub(crate) fn count(&self, key: &GroupKey) -> u32 {
        self.leaves[key.queue.0 as usize].count(key)
    }

    /// Accounts for tasks that a group was given.
    pub(crate) fn charge(&mut self, key: &GroupKey, held: &Held, tasks: u32) {
        for at in path(&self.nodes, own_of(key.queue)).collect::<Vec<_>>() {
            let node = &mut self.nodes[at];
            node.held.add(held, 1);
            node.active += u64::from(tasks);
            self.mark(at);
        }
        self.given.add(held, 1);
        self.leaves[key.queue.0 as usize].charge(key.user, held, tasks, &self.capacity, self.history);
    }

    /// Takes placed tasks off those that wait.
    pub(crate) fn lessen(&mut self, key: &GroupKey, by: u32) {
        let leaf = &mut self.leaves[key.queue.0 as usize];
        if leaf.count(key) > by {
            return leaf.lessen(key, by);
        }
        self.counted_out |= leaf.has_more(key);
        self.remove_group(*key);
    }

    /// By which alternatives the groups of a shape in a queue may be placed. It changes what is asked for on the way
    /// up.
    pub(crate) fn set_open(&mut self, queue: QueueIndex, shape: ShapeIndex, open: u64) {
        let Some(pair) = self.leaves[queue.0 as usize].pairs.get_mut(&shape) else { return };
        let changed = std::mem::replace(&mut pair.open, open) ^ open;
        let Some(shape) = self.shapes.get(&shape).filter(|_| changed != 0) else { return };
        for at in path(&self.nodes, own_of(queue)).collect::<Vec<_>>() {
            let node = &mut self.nodes[at];
            for (alternative, kind) in shape.kinds.iter().enumerate() {
                let bit = 1 << alternative;
                match (changed & bit != 0, open & bit != 0) {
                    (true, true) => node.asks.add(*kind, 1, &self.kinds),
                    (true, false) => node.asks.take(*kind, 1, &self.kinds),
                    _ => {}
                }
            }
            if !std::mem::replace(&mut node.stale, true) {
                self.stale.push(at);
            }
        }
    }

    /// Brings shares, promises and order up to what was told.
    pub(crate) fn settle(&mut self) {
        if std::mem::take(&mut self.promises_stale) {
            self.weigh_promises();
            (0..self.nodes.len()).for_each(|at| self.mark(at));
        }
        if std::mem::take(&mut self.shares_stale) {
            self.leaves.iter_mut().for_each(|leaf| leaf.reweigh(&self.capacity, self.history));
            (0..self.nodes.len()).for_each(|at| self.mark(at));
        }
        self.refresh();
    }

    /// The node and all above it, without the root's own.
    pub(crate) fn path(&self, at: At) -> impl Iterator<Item = At> + '_ {
        path(&self.nodes, at)
    }

    /// Its place is to be reckoned anew.
    pub(crate) fn mark(&mut self, at: At) {
        if !std::mem::replace(&mut self.nodes[at].stale, true) {
            self.stale.push(at);
        }
    }

    fn ensure(&mut self, queue: QueueIndex) {
        while self.leaves.len() <= queue.0 as usize {
            let at = self.nodes.len();
            self.nodes.push(Node::new(ROOT));
            self.nodes.push(Node::new(at));
            self.nodes[ROOT].below.insert(at);
            self.nodes[at].below.insert(at + 1);
            self.leaves.push(Leaf::default());
        }
    }

    /// Moves a node with all below it under another.
    fn hang(&mut self, at: At, above: At) {
        let (held, decayed) = (self.nodes[at].held.clone(), self.nodes[at].decayed.clone());
        let (active, asks) = (self.nodes[at].active, self.nodes[at].asks.counts());
        let before = self.nodes[at].above;
        if let Some(key) = self.nodes[at].key.take() {
            self.nodes[before].line.remove(&key);
        }
        self.nodes[before].below.remove(&at);
        for on in path(&self.nodes, before).collect::<Vec<_>>() {
            let node = &mut self.nodes[on];
            node.held.take(&held);
            node.decayed.take(&decayed);
            node.active -= active;
            asks.iter().for_each(|(kind, count)| node.asks.take(*kind, *count, &self.kinds));
            self.mark(on);
        }
        self.nodes[at].above = above;
        self.nodes[above].below.insert(at);
        for on in path(&self.nodes, above).collect::<Vec<_>>() {
            let node = &mut self.nodes[on];
            node.held.add(&held, 1);
            node.decayed.add(&decayed, 1);
            node.active += active;
            asks.iter().for_each(|(kind, count)| node.asks.add(*kind, *count, &self.kinds));
            self.mark(on);
        }
    }

    fn put_shape(&mut self, index: ShapeIndex, needs: &Arc<[Need]>) {
        if let Some(shape) = self.shapes.get(&index) {
            if shape.needs == *needs {
                return;
            }
            for queue in shape.queues.clone() {
                self.set_open(queue, index, 0);
            }
        }
        let kinds = needs.iter().take(ALTERNATIVES).map(|need| self.kinds.number(need)).collect();
        let queues = self.shapes.remove(&index).map(|shape| shape.queues).unwrap_or_default();
        self.shapes.insert(index, Shape { needs: Arc::clone(needs), kinds, queues });
    }
}

/// The node and all above it, up to the root.
pub(crate) fn path(nodes: &[Node], at: At) -> impl Iterator<Item = At> + '_ {
    let above = |at: &At| (*at != ROOT).then(|| nodes[*at].above);
    std::iter::successors(Some(at), above)
}
