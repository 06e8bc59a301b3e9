//! What queues are promised, and what is kept free for them.
//!
//! A promise is cut out of that of the queue above. A queue that names no reserve of a resource is promised nothing of it itself, and
//! passes on what those below it are promised: theirs count beside its siblings' as if there were nothing between, whatever
//! else is held in it. So does one that does not say what it lends. Devices of a model are devices.

use crate::turns::fixed::mul_div;
use crate::turns::queues::{At, Queues, ROOT};
use crate::turns::share::{Column, Held, Named};

impl Queues {
    /// What each queue is entitled to: its reserve, scaled where what is promised beside it comes to more than the queue
    /// above is entitled to, or than there is, so that two promises never fight.
    pub(crate) fn weigh_promises(&mut self) {
        let order = self.top_down();
        let mut promised = vec![Held::NONE; self.nodes.len()];
        for at in order.iter().rev() {
            promised[*at] = self.promised(*at, &promised);
        }
        let mut pots = vec![Held::NONE; self.nodes.len()];
        pots[ROOT] = self.capacity.clone();
        for at in &order {
            let below: Vec<_> = self.nodes[*at].below.iter().copied().collect();
            let all = sum(below.iter().map(|child| &promised[*child]));
            for child in below {
                let (mut entitled, mut pot_below) = (Held::NONE, pots[*at].clone());
                for (column, amount) in promised[child].entries() {
                    let (there_is, all) = (pots[*at].at(column), all.at(column));
                    let scaled = if all > there_is { mul_div(amount, there_is, all) } else { amount };
                    pot_below.set(column, scaled);
                    if self.names(child, column) {
                        entitled.set(column, scaled);
                    }
                }
                self.nodes[child].entitled = entitled;
                pots[child] = pot_below;
            }
        }
        for at in order.iter().rev() {
            let keeps = |child: &At| {
                let node = &self.nodes[*child];
                !node.lenders.is_empty() || (!node.entitled.is_none() && node.facts.lend != Named::default())
            };
            self.nodes[*at].lenders = self.nodes[*at].below.iter().copied().filter(keeps).collect();
        }
    }

    /// All nodes, each after the one above it.
    fn top_down(&self) -> Vec<At> {
        let (mut order, mut next) = (Vec::with_capacity(self.nodes.len()), 0);
        order.push(ROOT);
        while let Some(at) = order.get(next).copied() {
            order.extend(self.nodes[at].below.iter().copied());
            next += 1;
        }
        order
    }

    /// Whether a queue names a reserve of a column itself.
    fn names(&self, at: At, column: usize) -> bool {
        self.nodes[at].facts.reserve.at(column).is_some_and(|amount| amount > 0)
    }

    /// What counts as promised to a queue beside others: of each column what it names itself, or what those below it are promised; at
    /// most what it may hold.
    fn promised(&self, at: At, promised: &[Held]) -> Held {
        let node = &self.nodes[at];
        if at == ROOT {
            return Held::NONE;
        }
        let mut all = sum(node.below.iter().map(|child| &promised[*child]));
        let any = all.at(Column::Gpus.at());
        for (column, amount) in node.facts.reserve.entries().filter(|(_, amount)| *amount > 0) {
            all.set(column, amount);
        }
        // Of models others may be promised below it than it names.
        let models = all.entries().filter(|(at, _)| Column::is_model(*at));
        let models = models.fold(0, |sum: u64, (_, amount)| sum.saturating_add(amount));
        let any = any.max(models).max(all.at(Column::Gpus.at()));
        if any > 0 {
            all.set(Column::Gpus.at(), any);
        }
        for (column, amount) in all.entries().collect::<Vec<_>>() {
            all.set(column, node.facts.limit.at(column).map_or(amount, |limit| amount.min(limit)));
        }
        all
    }

    /// What is kept free for a queue: what it is entitled to, does not hold and does not lend; where it does not say what it
    /// lends, what is kept for those below it.
    pub(crate) fn kept(&self, at: At, column: usize) -> u64 {
        let node = &self.nodes[at];
        if let Some(lend) = node.facts.lend.at(column).filter(|_| node.entitled.at(column) > 0) {
            return node.entitled.at(column).saturating_sub(lend).saturating_sub(node.held.at(column));
        }
        node.lenders.iter().map(|below| self.kept(*below, column)).fold(0, u64::saturating_add)
    }

    /// For whom that is kept, and how much for each.
    pub(crate) fn keepers(&self, at: At, column: usize) -> Vec<(At, u64)> {
        let node = &self.nodes[at];
        if node.facts.lend.at(column).is_some() && node.entitled.at(column) > 0 {
            return Some((at, self.kept(at, column))).into_iter().filter(|(_, kept)| *kept > 0).collect();
        }
        node.lenders.iter().flat_map(|below| self.keepers(*below, column)).collect()
    }

    /// Whether a node may hold so much more of a column within what it is entitled to.
    pub(crate) fn is_within_promise(&self, at: At, column: usize, more: u64) -> bool {
        let node = &self.nodes[at];
        node.entitled.at(column) > 0 && node.held.at(column).saturating_add(more) <= node.entitled.at(column)
    }
}

fn sum<'a>(all: impl Iterator<Item = &'a Held>) -> Held {
    let mut sum = Held::NONE;
    for held in all {
        for (column, amount) in held.entries() {
            sum.set(column, sum.at(column).saturating_add(amount));
        }
    }
    sum
}
