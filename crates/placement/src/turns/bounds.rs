//! How much more a queue may have: limits, borrowing and active tasks on the way up, and what is kept free for those
//! beside.

use crate::bits::Bits;
use crate::turns::group::{Need, QueueIndex};
use crate::turns::queues::{At, Queues, ROOT, own_of};
use crate::turns::share::{Column, Named};

/// What counts as held where it is asked how much more may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reckon {
    /// What is held now, or will be once whoever is waited for has ended and those who wait have started: the greater of them.
    Beside,
    /// What is held now.
    Without,
    /// What will be held then.
    InTheEnd,
}

impl Reckon {
    fn of(self, now: u64, later: u64) -> u64 {
        let then = now.wrapping_add(later);
        match self {
            Self::Beside => now.max(then),
            Self::Without => now,
            Self::InTheEnd => then,
        }
    }
}

/// How many tasks are within all bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Within {
    /// How many at most.
    pub(crate) most: u32,
    /// Models that all of them may be of; all if `None`.
    pub(crate) models: Option<Bits>,
    /// The bounds that leave room for none.
    pub(crate) met: Vec<Met>,
}

/// A bound that leaves room for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Met {
    /// Whoever is below it and asks for the same may be out of bounds too.
    pub(crate) at: At,
    /// What it bounds; how many are active if `None`.
    pub(crate) column: Option<usize>,
    /// Whether it is what is kept free for those beside.
    is_kept: bool,
}

impl Met {
    /// Whether it bounds what a task needs.
    pub(crate) fn is_asked_by(&self, need: &Need) -> bool {
        let is_open_model = |column| need.open_gpus() > 0 && Column::is_model(column);
        self.column.is_none_or(|column| need.held.at(column) > 0 || is_open_model(column))
    }
}

impl Within {
    fn lower(&mut self, room: u64, met: Met) {
        if room < u64::from(self.most) {
            self.most = room as u32;
        }
        if room == 0 {
            self.met.push(met);
        }
    }
}

/// What is kept free of a resource for queues beside one, so that it may not take as much as it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// How much is free.
    pub free: u64,
    /// How much of that is kept.
    pub kept: u64,
    /// For which queues, and how much for each.
    pub keepers: Vec<(QueueIndex, u64)>,
}

impl Queues {
    /// What keeps a queue from taking so much more of a resource because it is kept free for others; nothing if it may.
    pub fn kept_from(&mut self, queue: QueueIndex, column: Column, amount: u64) -> Option<Kept> {
        self.settle();
        let column = column.at();
        self.beside_kept(queue, column, amount, 1).filter(|(most, _)| *most == 0)?;
        let mut keepers = Vec::new();
        for at in self.path(own_of(queue)).take_while(|at| *at != ROOT) {
            // What is promised on the way up to here is kept for nobody else.
            if self.is_within_promise(at, column, amount) {
                break;
            }
            let beside = self.nodes[self.nodes[at].above].lenders.iter().filter(|beside| **beside != at);
            keepers.extend(beside.flat_map(|beside| self.keepers(*beside, column)));
        }
        // Whoever promises are made to is a queue, and its own work is the node after it.
        let keepers: Vec<_> = keepers.into_iter().map(|(at, kept)| (QueueIndex((at as u32 - 1) / 2), kept)).collect();
        let kept = keepers.iter().map(|(_, kept)| *kept).fold(0, u64::saturating_add);
        Some(Kept { free: self.free_at(column), kept, keepers })
    }

    /// Whether a queue may not have all of this now, by none of these alternatives, because it is kept free for others.
    pub fn is_kept_from(&mut self, queue: QueueIndex, needs: &[Need]) -> bool {
        self.settle();
        let is_kept = |(column, amount)| self.beside_kept(queue, column, amount, 1).is_some_and(|(most, _)| most == 0);
        needs.iter().all(|need| need.held.entries().any(is_kept))
    }

    /// Says what counts as held from now on.
    pub(crate) fn reckon(&mut self, reckon: Reckon) {
        self.reckon = reckon;
    }

    /// How many of so many tasks may be added in a queue.
    pub(crate) fn within(&self, queue: QueueIndex, need: &Need, wanted: u32) -> Within {
        let mut within = Within { most: wanted, models: None, met: Vec::new() };
        for at in self.path(own_of(queue)) {
            if let Some(most) = self.nodes[at].facts.most_active {
                let active = self.reckon.of(self.nodes[at].active, self.nodes[at].later.1);
                let room = u64::from(most).saturating_sub(active);
                within.lower(room, Met { at, column: None, is_kept: false });
            }
        }
        for (column, amount) in need.held.entries() {
            self.lower_by_column(&mut within, queue, column, amount);
        }
        if need.open_gpus() > 0 && within.most > 0 {
            self.lower_by_models(&mut within, queue, need.open_gpus());
        }
        within
    }

    /// Below which node somebody would have to go for bounds to be kept: the uppermost whose bound was met, and anywhere
    /// if it is for what is kept free.
    pub(crate) fn tight(&self, met: &[Met]) -> Option<At> {
        let tight = met.iter().map(|met| if met.is_kept { ROOT } else { met.at });
        tight.reduce(|one, other| if self.path(one).any(|at| at == other) { other } else { one })
    }

    /// Whether there is any bound on the way up, or anything that may be kept for others.
    pub(crate) fn is_bounded(&self, queue: QueueIndex) -> bool {
        self.path(own_of(queue)).any(|at| {
            let (node, nothing) = (&self.nodes[at], Named::default());
            let facts = &node.facts;
            let has_most = facts.most_active.is_some() || facts.limit != nothing || facts.borrow != nothing;
            has_most || !node.lenders.is_empty()
        })
    }

    fn lower_by_column(&self, within: &mut Within, queue: QueueIndex, column: usize, amount: u64) {
        for at in self.path(own_of(queue)) {
            if let Some(most) = self.nodes[at].facts.most(column) {
                let held = self.reckon.of(self.nodes[at].held.at(column), self.nodes[at].later.0.at(column));
                let room = most.saturating_sub(held) / amount;
                within.lower(room, Met { at, column: Some(column), is_kept: false });
            }
        }
        if let Some((most, at)) = self.beside_kept(queue, column, amount, within.most) {
            within.lower(u64::from(most), Met { at, column: Some(column), is_kept: true });
        }
    }

    /// Each model that has room for one task is let in, and no more tasks than each of those has room for: which of
    /// them will be found is not known.
    fn lower_by_models(&self, within: &mut Within, queue: QueueIndex, amount: u64) {
        let count = self.capacity.models();
        let (mut models, mut met) = (Bits::none(count as usize), Vec::new());
        for model in 0..count {
            let mut of_model = Within { most: within.most, models: None, met: Vec::new() };
            self.lower_by_column(&mut of_model, queue, Column::Gpu(model).at(), amount);
            if of_model.most > 0 {
                models.insert(model as usize);
                within.most = of_model.most;
            }
            met.append(&mut of_model.met);
        }
        if met.is_empty() {
            return;
        }
        if models.iter().next().is_none() {
            within.most = 0;
            within.met = met;
        }
        within.models = Some(models);
    }

    /// How many of so many tasks leave free what is kept for those beside the queue and beside each one above it, and
    /// beside which that is, the uppermost that keeps something from one task; nothing if nothing is kept. From where on the path is
    /// entitled to what it takes, nothing is kept from it, whatever those above hold.
    fn beside_kept(&self, queue: QueueIndex, column: usize, amount: u64, wanted: u32) -> Option<(u32, At)> {
        let kept_beside = |at: At| -> u64 {
            let beside = self.nodes[self.nodes[at].above].lenders.iter().filter(|beside| **beside != at);
            beside.map(|beside| self.kept(*beside, column)).fold(0, u64::saturating_add)
        };
        let on_path = self.path(own_of(queue)).take_while(|at| *at != ROOT);
        let kept: Vec<_> = on_path.map(|at| (at, kept_beside(at))).collect();
        let (last, _) = *kept.iter().rfind(|(_, kept)| *kept > 0)?;
        let free = self.free_at(column);
        let from_it = |taken: u64| {
            let owing = kept.iter().take_while(move |(at, _)| !self.is_within_promise(*at, column, taken));
            owing.filter(|(_, kept)| *kept > 0)
        };
        let fits = |tasks: u32| {
            let taken = amount.saturating_mul(u64::from(tasks));
            let kept = from_it(taken).map(|(_, kept)| *kept).fold(0, u64::saturating_add);
            kept == 0 || taken.saturating_add(kept) <= free
        };
        if !fits(1) {
            return Some((0, from_it(amount).last().map_or(last, |(at, _)| *at)));
        }
        let (mut most, mut too_many) = (1, u64::from(wanted).max(1) + 1);
        while u64::from(most) + 1 < too_many {
            let middle = (u64::from(most) + too_many) / 2;
            if fits(middle as u32) { most = middle as u32 } else { too_many = middle }
        }
        Some((most, last))
    }
}
