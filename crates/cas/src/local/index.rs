//! What the store holds, in memory: sizes, pins and last use of every blob and tree.
//!
//! It touches no file. Invariants: `total_bytes` is the sum over present slots; a slot that is neither present nor pinned is
//! not kept; a tree's slot pins the blobs it holds.

use std::collections::HashMap;

use flowyard_model::Digest;

use super::stamp::Stamp;

/// What can be pinned and evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    Blob(Digest),
    Tree(Digest),
}

#[derive(Debug, Default)]
struct Slot {
    /// Whether its file (or folder) is there. A damaged blob goes away under its pins, and comes back under them.
    present: bool,
    bytes: u64,
    pins: u64,
    /// When it was used last, in uses of the store; 0 means not since the store was opened.
    used: u64,
    /// What its file looked like when its bytes were last found right.
    verified: Option<Stamp>,
    /// The blobs a tree links.
    holds: Vec<Digest>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    slots: HashMap<Key, Slot>,
    total_bytes: u64,
    uses: u64,
}

impl Index {
    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(super) fn is_present(&self, key: Key) -> bool {
        self.slots.get(&key).is_some_and(|slot| slot.present)
    }

    /// Records that `key` is on disk now.
    pub(super) fn insert(&mut self, key: Key, bytes: u64, holds: Vec<Digest>) {
        for digest in &holds {
            self.slots.entry(Key::Blob(*digest)).or_default().pins += 1;
        }
        let slot = self.slots.entry(key).or_default();
        assert!(!slot.present, "{key:?} was put in place twice");
        slot.present = true;
        slot.bytes = bytes;
        slot.holds = holds;
        self.total_bytes += bytes;
    }

    /// Records that `key` is no longer on disk.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        if slot.present {
            self.total_bytes -= slot.bytes;
        }
        slot.present = false;
        slot.verified = None;
        let holds = std::mem::take(&mut slot.holds);
        self.drop_if_unused(key);
        for digest in holds {
            self.unpin(Key::Blob(digest));
        }
    }

    /// Pins `key` if it is present, and notes the use.
    pub(super) fn pin(&mut self, key: Key) -> bool {
        self.uses += 1;
        match self.slots.get_mut(&key) {
            Some(slot) if slot.present => {
                slot.pins += 1;
                slot.used = self.uses;
                true
            }
            _ => false,
        }
    }

    /// Adds a pin to one that exists.
    pub(super) fn pin_again(&mut self, key: Key) {
        let slot = self.slots.get_mut(&key).expect("a pinned slot is kept");
        assert!(slot.pins > 0, "{key:?} was to be pinned again but has no pin");
        slot.pins += 1;
    }

    pub(super) fn unpin(&mut self, key: Key) {
        let slot = self.slots.get_mut(&key).expect("a pinned slot is kept");
        assert!(slot.pins > 0, "{key:?} has fewer pins than guards");
        slot.pins -= 1;
        // The end of a use is a use: what a long task just read is younger than what was looked at meanwhile.
        self.uses += 1;
        slot.used = self.uses;
        self.drop_if_unused(key);
    }

    fn drop_if_unused(&mut self, key: Key) {
        if self.slots.get(&key).is_some_and(|slot| !slot.present && slot.pins == 0) {
            self.slots.remove(&key);
        }
    }

    pub(super) fn verified(&self, key: Key) -> Option<Stamp> {
        self.slots.get(&key).and_then(|slot| slot.verified)
    }

    pub(super) fn set_verified(&mut self, key: Key, stamp: Stamp) {
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.verified = Some(stamp);
        }
    }

    pub(super) fn is_evictable(&self, key: Key) -> bool {
        self.slots.get(&key).is_some_and(|slot| slot.present && slot.pins == 0)
    }

    /// Everything that may go, with its last use.
    pub(super) fn evictable(&self) -> Vec<(u64, Key)> {
        let may_go = self.slots.iter().filter(|(_, slot)| slot.present && slot.pins == 0);
        may_go.map(|(key, slot)| (slot.used, *key)).collect()
    }
}
