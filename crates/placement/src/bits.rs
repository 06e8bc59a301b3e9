//! A set of node positions.

/// A set of small numbers, one bit each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Room for numbers below `length`, none of them in.
    pub fn none(length: usize) -> Self {
        Self { words: vec![0; length.div_ceil(64)] }
    }

    /// All numbers below `length`.
    pub fn all(length: usize) -> Self {
        let mut bits = Self::none(length);
        (0..length).for_each(|at| bits.insert(at));
        bits
    }

    /// Puts a number in.
    ///
    /// # Panics
    /// If it is not below the length.
    pub fn insert(&mut self, at: usize) {
        self.words[at / 64] |= 1 << (at % 64);
    }

    /// Puts a number in, and makes room for it where there is none.
    pub fn put(&mut self, at: usize) {
        self.words.resize(self.words.len().max(at / 64 + 1), 0);
        self.insert(at);
    }

    /// Whether a number is in.
    pub fn contains(&self, at: usize) -> bool {
        self.words.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Forgets the length beyond the last number, so that equal sets are equal.
    pub(crate) fn trim(&mut self) {
        let length = self.words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        self.words.truncate(length);
    }

    /// The numbers in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(word, bits)| {
            let rest = |bits: u64| Some(bits).filter(|bits| *bits != 0);
            std::iter::successors(rest(*bits), move |bits| rest(bits & (bits - 1)))
                .map(move |bits| word * 64 + bits.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_found_in_order() {
        let mut bits = Bits::none(200);
        for at in [199, 0, 63, 64, 130] {
            bits.insert(at);
        }
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 63, 64, 130, 199]);
        assert!(bits.contains(63) && !bits.contains(62) && !bits.contains(10_000));
        assert_eq!(Bits::all(65).iter().count(), 65);
        assert_eq!(Bits::none(0).iter().count(), 0);
    }
}
