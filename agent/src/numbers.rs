//! Numbers that attempts have to themselves: each stands for users, or for an address, of the host.
//!
//! An attempt has its number for as long as its folder is there, whoever started it: a number is given again only when the folder
//! is gone, and an agent that starts learns from the folders which numbers are taken. So nothing is written down but what lies in
//! the folders anyway, and nothing is returned that something might still use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The numbers from 0 to some count, and who has which.
#[derive(Debug)]
pub(crate) struct Numbers {
    count: u32,
    next: u32,
    held: BTreeMap<u32, PathBuf>,
}

impl Numbers {
    /// So many numbers, of which nobody has one. The first is given by where the agent keeps its things, so that agents which share
    /// a machine do not begin with the same.
    pub(crate) fn new(count: u32, home: &Path) -> Self {
        let bytes = home.as_os_str().as_encoded_bytes();
        let sum = bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        Self { count, next: if count == 0 { 0 } else { sum % count }, held: BTreeMap::new() }
    }

    /// Learns that the attempt in `folder` has this number.
    pub(crate) fn hold(&mut self, number: u32, folder: &Path) {
        self.held.insert(number, folder.to_owned());
    }

    /// The number of the attempt in `folder`: the one it has, or one that nobody has, the longest unused first. `None` if all are
    /// taken.
    pub(crate) fn take(&mut self, folder: &Path) -> Option<u32> {
        let own = self.held.iter().find(|(_, holder)| *holder == folder).map(|(number, _)| *number);
        let number = own.or_else(|| (0..self.count).map(|step| self.at(step)).find(|number| self.is_free(*number)))?;
        self.held.insert(number, folder.to_owned());
        if own.is_none() {
            self.next = (number + 1) % self.count;
        }
        Some(number)
    }

    fn at(&self, step: u32) -> u32 {
        ((u64::from(self.next) + u64::from(step)) % u64::from(self.count)) as u32
    }

    fn is_free(&self, number: u32) -> bool {
        // A folder that cannot be looked at may be there.
        self.held.get(&number).is_none_or(|folder| matches!(folder.try_exists(), Ok(false)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_again_only_when_the_folder_is_gone() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| {
            let folder = home.path().join(name);
            std::fs::create_dir_all(&folder).expect("made");
            folder
        };
        let mut numbers = Numbers::new(3, home.path());
        let [a, b, c] = ["a", "b", "c"].map(|name| numbers.take(&folder(name)).expect("a number"));
        assert!(a != b && b != c && a != c, "{a} {b} {c}");
        assert_eq!(numbers.take(&folder("b")), Some(b), "the one it has");
        assert_eq!(numbers.take(&folder("d")), None, "all are taken");
        std::fs::remove_dir(folder("b")).expect("removed");
        assert_eq!(numbers.take(&folder("d")), Some(b));
    }

    #[test]
    fn what_an_earlier_agent_gave_is_not_given_again() {
        let home = tempfile::tempdir().expect("a folder");
        let mut numbers = Numbers::new(2, home.path());
        numbers.hold(1, home.path());
        let (one, other) = (home.path().join("one"), home.path().join("other"));
        std::fs::create_dir(&one).expect("made");
        assert_eq!(numbers.take(&one), Some(0));
        assert_eq!(numbers.take(&other), None);
        assert_eq!(Numbers::new(0, home.path()).take(&one), None);
    }
}
