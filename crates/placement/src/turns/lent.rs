//! What a queue holds that others are promised: by the same rights by which it would be taken from it.

use crate::turns::group::QueueIndex;
use crate::turns::queues::{At, Queues, ROOT, node_of};
use crate::turns::share::Column;

/// What a queue, with all that is below it, holds of a resource that others may want back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lent {
    /// How much it holds beyond what it is promised.
    pub beyond: u64,
    /// How much of that others may want back: of what they lend and do not hold, what is not free.
    pub wanted: u64,
    /// Who those are, and how much each of them lends and does not hold. Of queues below each other the uppermost that lends as much.
    pub lenders: Vec<(QueueIndex, u64)>,
}

impl Queues {
    /// What a queue has borrowed of a resource; nothing if nobody could want anything of it back.
    pub fn lent_to(&mut self, queue: QueueIndex, column: Column) -> Option<Lent> {
        if node_of(queue) >= self.nodes.len() {
            return None;
        }
        self.settle();
        let column = column.at();
        // From the queue upwards, how much each level holds beyond its promise, and who lends it that.
        let mut forks: Vec<(u64, Vec<(At, u64)>)> = Vec::new();
        let mut most = u64::MAX;
        for at in self.path(node_of(queue)).take_while(|at| *at != ROOT) {
            let node = &self.nodes[at];
            most = most.min(node.held.at(column).saturating_sub(node.entitled.at(column)));
            if most == 0 {
                break;
            }
            let beside = self.nodes[node.above].below.iter().copied().filter(|beside| *beside != at);
            forks.push((most, beside.flat_map(|beside| self.lends(beside, column)).collect()));
        }
        let kept = self.kept(ROOT, column);
        let all =
            forks.iter().flat_map(|(_, lenders)| lenders).fold(0, |sum: u64, (_, lent)| sum.saturating_add(*lent));
        let missing = all.saturating_sub(self.free_at(column).saturating_sub(kept));
        let sum = |lenders: &[(At, u64)]| lenders.iter().fold(0, |sum: u64, (_, lent)| sum.saturating_add(*lent));
        let wanted =
            forks.iter().rev().fold(0, |wanted: u64, (most, lenders)| wanted.saturating_add(sum(lenders)).min(*most));
        let wanted = wanted.min(missing);
        let beyond = forks.iter().find(|(_, lenders)| !lenders.is_empty()).map(|(most, _)| *most)?;
        // Whoever promises are made to is a queue, and its own work is the node after it.
        let lenders = forks.into_iter().flat_map(|(_, lenders)| lenders);
        let lenders = lenders.map(|(at, lent)| (QueueIndex((at as u32 - 1) / 2), lent)).collect();
        (wanted > 0).then_some(Lent { beyond, wanted, lenders })
    }

    /// What a queue and those below it are entitled to, do not hold and lend.
    fn lends(&self, at: At, column: usize) -> Vec<(At, u64)> {
        let node = &self.nodes[at];
        let unused = node.entitled.at(column).saturating_sub(node.held.at(column));
        let own = unused.saturating_sub(self.kept(at, column));
        let below: Vec<_> = node.below.iter().flat_map(|below| self.lends(*below, column)).collect();
        let of_below = below.iter().fold(0, |sum: u64, (_, lent)| sum.saturating_add(*lent));
        if own > 0 && own >= of_below { vec![(at, own)] } else { below }
    }
}
