//! What is held of each resource, by column, and which share of the cluster that is.

use crate::turns::fixed::{mul_div, part};

/// What is counted. The number of a column never changes, however many models and tokens there come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Thousandths of a CPU.
    Cpu,
    /// Bytes of memory.
    Memory,
    /// Bytes of scratch space.
    Disk,
    /// Thousandths of devices of all models together.
    Gpus,
    /// Thousandths of devices of a model, by its number.
    Gpu(u32),
    /// Tokens of a kind, by its number.
    Token(u32),
}

impl Column {
    /// Its position: models and tokens take turns after the fixed ones, so that either may grow.
    pub fn at(self) -> usize {
        match self {
            Self::Cpu => 0,
            Self::Memory => 1,
            Self::Disk => 2,
            Self::Gpus => 3,
            Self::Gpu(model) => 4 + 2 * model as usize,
            Self::Token(token) => 5 + 2 * token as usize,
        }
    }

    /// Whether the column at a position is that of a model.
    pub(crate) fn is_model(at: usize) -> bool {
        at > Self::Gpus.at() && at.is_multiple_of(2)
    }

    /// Whether the column at a position counts towards shares: scratch space and tokens are only bounded.
    pub(crate) fn is_shared(at: usize) -> bool {
        at != Self::Disk.at() && (at <= Self::Gpus.at() || at.is_multiple_of(2))
    }
}

/// An amount of each column; a missing one is 0.
#[derive(Debug, Clone, Default)]
pub struct Held(Vec<u64>);

impl Held {
    /// Nothing of anything.
    pub const NONE: Self = Self(Vec::new());

    /// The amount of a column.
    pub fn get(&self, column: Column) -> u64 {
        self.at(column.at())
    }

    /// The same with another amount of a column.
    #[must_use]
    pub fn with(mut self, column: Column, amount: u64) -> Self {
        self.set(column.at(), amount);
        self
    }

    /// How many models it can tell apart: 1 more than the highest of which there is any.
    pub(crate) fn models(&self) -> u32 {
        let first = Column::Gpu(0).at();
        let last = (first..self.0.len()).rev().find(|at| at.is_multiple_of(2) && self.0[*at] > 0);
        last.map_or(0, |at| ((at - first) / 2 + 1) as u32)
    }

    pub(crate) fn at(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or(0)
    }

    pub(crate) fn set(&mut self, at: usize, amount: u64) {
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        self.0[at] = amount;
    }

    /// The columns of which there is any.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.0.iter().copied().enumerate().filter(|(_, amount)| *amount > 0)
    }

    pub(crate) fn is_none(&self) -> bool {
        self.entries().next().is_none()
    }

    /// Adds an amount so many times. Sums wrap, so that taking away what was added always gives what was there
    /// before.
    pub fn add(&mut self, other: &Self, times: u64) {
        if other.0.len() > self.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = mine.wrapping_add(theirs.wrapping_mul(times));
        }
    }

    /// Takes away what was added.
    pub fn take(&mut self, other: &Self) {
        if other.0.len() > self.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = mine.wrapping_sub(*theirs);
        }
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        (0..self.0.len().max(other.0.len())).all(|at| self.at(at) == other.at(at))
    }
}

impl Eq for Held {}

impl From<Vec<u64>> for Held {
    /// By position.
    fn from(amounts: Vec<u64>) -> Self {
        Self(amounts)
    }
}

impl FromIterator<(Column, u64)> for Held {
    /// The sums by column.
    fn from_iter<T: IntoIterator<Item = (Column, u64)>>(amounts: T) -> Self {
        let mut held = Self::NONE;
        for (column, amount) in amounts {
            held.set(column.at(), held.get(column).saturating_add(amount));
        }
        held
    }
}

/// An amount of each column that is named.
#[derive(Debug, Clone, Default)]
pub struct Named(Vec<Option<u64>>);

impl Named {
    /// The amount of a column, if it is named.
    pub fn get(&self, column: Column) -> Option<u64> {
        self.at(column.at())
    }

    /// The same with a column named.
    #[must_use]
    pub fn with(mut self, column: Column, amount: u64) -> Self {
        let at = column.at();
        if at >= self.0.len() {
            self.0.resize(at + 1, None);
        }
        self.0[at] = Some(amount);
        self
    }

    pub(crate) fn at(&self, at: usize) -> Option<u64> {
        self.0.get(at).copied().flatten()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.0.iter().enumerate().filter_map(|(at, amount)| Some((at, (*amount)?)))
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.entries().eq(other.entries())
    }
}

impl Eq for Named {}

impl FromIterator<(Column, u64)> for Named {
    fn from_iter<T: IntoIterator<Item = (Column, u64)>>(amounts: T) -> Self {
        amounts.into_iter().fold(Self::default(), |named, (column, amount)| named.with(column, amount))
    }
}

/// What past use weighs beside what is held now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// Weight of the past, in parts of 2^32.
    pub weight: u64,
    /// Decayed use of who has held one unit for ever: 1 if use is an average, the half-life / ln 2 if it is a sum
    /// over time.
    pub span: u64,
}

impl Default for History {
    /// The past weighs as much as the present, and use is an average.
    fn default() -> Self {
        Self { weight: crate::turns::fixed::ONE, span: 1 }
    }
}

impl History {
    /// A share of decayed use as a share of the present.
    pub(crate) fn of(self, share: u64) -> u64 {
        mul_div(share / self.span.max(1), self.weight, crate::turns::fixed::ONE)
    }
}

/// The largest share among columns, in parts of 2^32. What there is none of is no share of the cluster: who holds the
/// devices of a node that is down is not behind for it in everything else.
pub(crate) fn dominant(columns: impl Iterator<Item = (usize, u64)>, capacity: &Held) -> u64 {
    let there_is = columns.map(|(at, amount)| (amount, capacity.at(at))).filter(|(_, all)| *all > 0);
    there_is.map(|(amount, all)| part(amount, all)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_has_its_place_and_only_some_are_shared() {
        let all = [Column::Cpu, Column::Memory, Column::Disk, Column::Gpus];
        let more = (0..3).flat_map(|at| [Column::Gpu(at), Column::Token(at)]);
        let places: Vec<_> = all.into_iter().chain(more).map(Column::at).collect();
        assert_eq!(places, (0..10).collect::<Vec<_>>());
        let shared: Vec<_> = places.into_iter().filter(|at| Column::is_shared(*at)).collect();
        assert_eq!(shared, [0, 1, 3, 4, 6, 8]);
    }

    #[test]
    fn what_is_taken_away_is_what_was_added() {
        let some = Held::NONE.with(Column::Cpu, 3).with(Column::Token(1), 5);
        let mut held = Held::NONE.with(Column::Memory, 1);
        held.add(&some, 2);
        assert_eq!(held.get(Column::Cpu), 6);
        held.take(&some);
        held.take(&some);
        assert_eq!(held, Held::NONE.with(Column::Memory, 1));
        assert_eq!(Held::NONE.with(Column::Gpu(2), 1).models(), 3);
        assert_eq!(some.models(), 0);
    }

    #[test]
    fn the_dominant_share_is_the_largest() {
        let capacity = Held::NONE.with(Column::Cpu, 9).with(Column::Memory, 18);
        let held = Held::NONE.with(Column::Cpu, 1).with(Column::Memory, 4);
        assert_eq!(dominant(held.entries(), &capacity), part(4, 18));
    }
}
