//! Work that waits: groups of tasks that are alike, and which resources are asked for by how many of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fleet::ShapeIndex;
use crate::turns::share::{Column, Held};

/// Number of a queue. Numbers are dense, in the order of the paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueIndex(pub u32);

/// Number of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserIndex(pub u64);

/// Tasks that are alike in all that the order looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The queue that their job names.
    pub queue: QueueIndex,
    /// Higher goes first within the queue.
    pub priority: i64,
    /// Whose they are.
    pub user: UserIndex,
    /// What they need.
    pub shape: ShapeIndex,
}

/// What is known of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFacts {
    /// Job and step of the one that waits longest.
    pub oldest: (u64, u32),
    /// How many tasks wait.
    pub count: u32,
    /// Whether still more wait than were counted: a round ends with the last one that was, since who comes next is not known then.
    pub more: bool,
    /// What one task holds by each alternative, at least one and at most 64. It is the shape's: groups of one shape
    /// have equal needs, and those that were put last count for all of them.
    pub needs: Arc<[Need]>,
}

/// What one task, with all its members, holds by an alternative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Its amounts. Devices are counted among all of them and, where the model is asked for, among those of the
    /// model.
    pub held: Held,
    /// Whether devices of any model will do: their models are known once it is seated.
    pub any_model: bool,
}

impl Need {
    /// Thousandths of devices whose model is not known before it is seated.
    pub(crate) fn open_gpus(&self) -> u64 {
        if self.any_model { self.held.get(Column::Gpus) } else { 0 }
    }

    /// The most it can come to: as if its devices were of every model of which there is any.
    pub(crate) fn at_worst(&self, capacity: &Held) -> Held {
        let mut held = self.held.clone();
        if self.open_gpus() > 0 {
            let models = (0..capacity.models()).map(|model| Column::Gpu(model).at());
            models.filter(|at| capacity.at(*at) > 0).for_each(|at| held.set(at, self.open_gpus()));
        }
        held
    }
}

/// Most alternatives of a shape that are looked at: they are bits of a word.
pub(crate) const ALTERNATIVES: usize = 64;

/// Sets of columns, numbered. Shapes ask for few different ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kinds {
    columns: Vec<Vec<usize>>,
    numbers: BTreeMap<Vec<usize>, u32>,
}

impl Kinds {
    pub(crate) fn number(&mut self, need: &Need) -> u32 {
        let columns: Vec<_> = need.held.entries().map(|(at, _)| at).collect();
        if let Some(number) = self.numbers.get(&columns) {
            return *number;
        }
        let number = self.columns.len() as u32;
        self.columns.push(columns.clone());
        self.numbers.insert(columns, number);
        number
    }

    pub(crate) fn columns(&self, kind: u32) -> &[usize] {
        &self.columns[kind as usize]
    }
}

/// Which kinds may be picked: all, or those that a promise is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct May(Option<Vec<u32>>);

impl May {
    pub(crate) const ALL: Self = Self(None);

    /// Only these, ascending.
    pub(crate) fn only(kinds: Vec<u32>) -> Self {
        Self(Some(kinds))
    }

    pub(crate) fn has(&self, kind: u32) -> bool {
        self.0.as_ref().is_none_or(|kinds| kinds.binary_search(&kind).is_ok())
    }

    /// Whether it leaves out nothing that is asked for.
    pub(crate) fn has_all(&self, asks: &Asks) -> bool {
        self.0.is_none() || asks.kinds().all(|kind| self.has(kind))
    }
}

/// How often each kind is asked for somewhere below, by work that may be placed as far as is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asks {
    kinds: BTreeMap<u32, u32>,
    /// Shared columns that any of them asks for, ascending.
    columns: Vec<usize>,
}

impl Asks {
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = u32> + '_ {
        self.kinds.keys().copied()
    }

    pub(crate) fn counts(&self) -> Vec<(u32, u32)> {
        self.kinds.iter().map(|(kind, count)| (*kind, *count)).collect()
    }

    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    pub(crate) fn add(&mut self, kind: u32, count: u32, kinds: &Kinds) {
        let entry = self.kinds.entry(kind).or_insert(0);
        *entry += count;
        if *entry == count {
            self.gather(kinds);
        }
    }

    pub(crate) fn take(&mut self, kind: u32, count: u32, kinds: &Kinds) {
        let Some(entry) = self.kinds.get_mut(&kind) else { return };
        *entry = entry.saturating_sub(count);
        if *entry == 0 {
            self.kinds.remove(&kind);
            self.gather(kinds);
        }
    }

    fn gather(&mut self, kinds: &Kinds) {
        self.columns.clear();
        let asked = self.kinds.keys().flat_map(|kind| kinds.columns(*kind)).copied();
        self.columns.extend(asked.filter(|at| Column::is_shared(*at)));
        self.columns.sort_unstable();
        self.columns.dedup();
    }
}
