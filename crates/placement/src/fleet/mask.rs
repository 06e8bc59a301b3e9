//! A set of devices of one node.

/// A set of devices by their position. Below 64 of them it needs no allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceMask {
    low: u64,
    /// The words above the first; the last of them is not 0, so that equal sets are equal.
    more: Option<Box<[u64]>>,
}

impl DeviceMask {
    /// No devices.
    pub const NONE: Self = Self { low: 0, more: None };

    /// Puts a device in.
    pub fn insert(&mut self, at: usize) {
        if at < 64 {
            self.low |= 1 << at;
            return;
        }
        let mut words = self.more.take().unwrap_or_default().into_vec();
        words.resize(words.len().max(at / 64), 0);
        words[at / 64 - 1] |= 1 << (at % 64);
        self.more = Some(words.into_boxed_slice());
    }

    /// Takes a device out.
    pub fn remove(&mut self, at: usize) {
        if at < 64 {
            self.low &= !(1 << at);
        } else if self.contains(at) {
            let mut words = self.more.take().unwrap_or_default().into_vec();
            words[at / 64 - 1] &= !(1 << (at % 64));
            self.more = trimmed(words);
        }
    }

    /// Whether a device is in.
    pub fn contains(&self, at: usize) -> bool {
        self.word(at / 64) & (1 << (at % 64)) != 0
    }

    /// How many are in.
    pub fn len(&self) -> usize {
        (0..self.words()).map(|at| self.word(at).count_ones() as usize).sum()
    }

    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.low == 0 && self.more.is_none()
    }

    /// The positions of the devices, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.words()).flat_map(|word| ones(self.word(word)).map(move |bit| word * 64 + bit))
    }

    /// How many words of 64 devices there may be.
    pub(crate) fn words(&self) -> usize {
        1 + self.more.as_ref().map_or(0, |more| more.len())
    }

    /// A word of 64 devices; 0 beyond the last.
    pub(crate) fn word(&self, at: usize) -> u64 {
        if at == 0 { self.low } else { self.more.as_ref().and_then(|more| more.get(at - 1)).copied().unwrap_or(0) }
    }

    /// The set whose words the function gives.
    pub(crate) fn of_words(words: usize, word: impl Fn(usize) -> u64) -> Self {
        let more = if words > 1 { trimmed((1..words).map(&word).collect()) } else { None };
        Self { low: word(0), more }
    }
}

impl FromIterator<usize> for DeviceMask {
    fn from_iter<T: IntoIterator<Item = usize>>(devices: T) -> Self {
        let mut mask = Self::NONE;
        devices.into_iter().for_each(|at| mask.insert(at));
        mask
    }
}

fn trimmed(mut words: Vec<u64>) -> Option<Box<[u64]>> {
    let length = words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
    words.truncate(length);
    (length > 0).then(|| words.into_boxed_slice())
}

/// The positions of the bits of a word, ascending.
pub(crate) fn ones(word: u64) -> impl Iterator<Item = usize> {
    let rest = |bits: u64| Some(bits).filter(|bits| *bits != 0);
    std::iter::successors(rest(word), move |bits| rest(bits & (bits - 1))).map(|bits| bits.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_and_not_taken_out_is_in() {
        let mut mask: DeviceMask = [3, 63, 64, 200].into_iter().collect();
        assert_eq!(mask.iter().collect::<Vec<_>>(), [3, 63, 64, 200]);
        assert_eq!((mask.len(), mask.words()), (4, 4));
        assert!(mask.contains(64) && !mask.contains(65) && !mask.contains(1_000));
        mask.remove(200);
        mask.remove(500);
        assert_eq!(mask, [64, 3, 63].into_iter().collect());
        mask.remove(64);
        assert_eq!(mask, [3, 63].into_iter().collect(), "the same set however it came about");
        mask.remove(3);
        mask.remove(63);
        assert!(mask.is_empty() && mask == DeviceMask::NONE);
    }
}
