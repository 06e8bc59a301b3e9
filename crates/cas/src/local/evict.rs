//! Keeping the store within its budget.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::index::Key;
use super::{LocalStore, remove_any};

/// How many things are taken out under one hold of the index's lock.
const BATCH: usize = 64;
/// The least that is freed when the disk is full, so that the next small blob does not find it full again.
const ROOM_BYTES: u64 = 64 * 1024 * 1024;

/// What an eviction removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Blobs removed.
    pub blobs: u64,
    /// Trees removed.
    pub trees: u64,
    /// What they counted for.
    pub bytes: u64,
}

impl LocalStore {
    /// Removes the longest unused unpinned blobs and trees until the store holds at most `target_bytes`, or nothing more may go.
    pub fn evict_to(&self, target_bytes: u64) -> Evicted {
        let mut evicted = Evicted::default();
        // A tree that goes lets go of its blobs, which then may go in the next round.
        while self.total_bytes() > target_bytes {
            let before = evicted;
            for keys in self.oldest_first().chunks(BATCH) {
                if !self.evict_batch(keys, target_bytes, &mut evicted) {
                    break;
                }
            }
            if evicted == before {
                break;
            }
        }
        evicted
    }

    /// Frees about `needed_bytes` and a little more on a disk that is full. Says whether anything went.
    pub(crate) fn make_room(&self, needed_bytes: u64) -> bool {
        let held_bytes = self.total_bytes();
        let evicted = self.evict_to(held_bytes.saturating_sub(needed_bytes.saturating_mul(2).max(ROOM_BYTES)));
        tracing::warn!(?evicted, needed_bytes, "the disk is full; evicted what was not in use");
        evicted.bytes > 0
    }

    /// Evicts a little below the budget, so that the next put does not evict again.
    pub(super) fn evict_to_budget(&self) {
        let budget = self.shared.options.budget_bytes;
        if self.total_bytes() <= budget {
            return;
        }
        let evicted = self.evict_to(budget - budget / 10);
        tracing::debug!(?evicted, "evicted to the budget");
        let held_bytes = self.total_bytes();
        if held_bytes > budget {
            tracing::warn!(held_bytes, budget, "the local store is over its budget: the rest is in use");
        }
    }

    /// Least recently used first. What was not used since the store was opened goes by the age of its file.
    fn oldest_first(&self) -> Vec<Key> {
        let evictable = self.index().evictable();
        let aged = evictable.into_iter().map(|(used, key)| {
            let modified = if used == 0 { fs::metadata(self.path_of(key)).map_or(0, |looks| looks.mtime()) } else { 0 };
            (used, modified, key)
        });
        let mut keys: Vec<_> = aged.collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, _, key)| key).collect()
    }

    /// Takes `keys` out as long as there is too much. Says whether there still is.
    fn evict_batch(&self, keys: &[Key], target_bytes: u64, evicted: &mut Evicted) -> bool {
        let mut aside = Vec::new();
        let mut index = self.index();
        for key in keys {
            let total_before = index.total_bytes();
            if total_before <= target_bytes {
                break;
            }
            if !index.is_evictable(*key) {
                continue;
            }
            let temp = self.temp_path();
            match fs::rename(self.path_of(*key), &temp) {
                Ok(()) => aside.push(temp),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(?key, %error, "could not be evicted");
                    continue;
                }
            }
            index.remove(*key);
            evicted.bytes += total_before - index.total_bytes();
            match key {
                Key::Blob(_) => evicted.blobs += 1,
                Key::Tree(_) => evicted.trees += 1,
            }
        }
        let too_much = index.total_bytes() > target_bytes;
        drop(index);
        for path in aside {
            if let Err(error) = remove_any(&path) {
                tracing::warn!(path = %path.display(), %error, "an evicted file could not be removed; it goes at the next start");
            }
        }
        too_much
    }
}
