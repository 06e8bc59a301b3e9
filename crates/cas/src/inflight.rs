//! One piece of work per key at a time: whoever asks while it runs waits for it and shares what it gives.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};

use crate::StoreError;

/// Work that everybody gave up on leaves its key behind; above this many keys those are taken away.
const SWEEP_ABOVE: usize = 1_024;

type Outcome<T> = Result<T, Arc<StoreError>>;
type Work<T> = BoxFuture<'static, Outcome<T>>;

/// The work that is under way, by key. It is driven by those who wait; when the last of them gives up, it stops.
pub(crate) struct InFlight<K, T: Clone> {
    running: Mutex<HashMap<K, WeakShared<Work<T>>>>,
}

impl<K, T: Clone> Default for InFlight<K, T> {
    fn default() -> Self {
        Self { running: Mutex::default() }
    }
}

impl<K, T: Clone> fmt::Debug for InFlight<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").finish_non_exhaustive()
    }
}

impl<K: Eq + Hash + Copy, T: Clone> InFlight<K, T> {
    /// Waits for the work on `key`, which `start` begins if nobody has.
    pub(crate) async fn share<F>(&self, key: K, start: impl FnOnce() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let work = self.join(key, start);
        let outcome = work.await;
        // At worst this takes away work that began after ours ended; then the next caller does it once more.
        self.lock().remove(&key);
        outcome.map_err(StoreError::from)
    }

    fn join<F>(&self, key: K, start: impl FnOnce() -> F) -> Shared<Work<T>>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let mut running = self.lock();
        if let Some(work) = running.get(&key).and_then(WeakShared::upgrade) {
            return work;
        }
        let work = start().map(|outcome| outcome.map_err(Arc::new)).boxed().shared();
        if running.len() >= SWEEP_ABOVE {
            running.retain(|_, work| work.upgrade().is_some());
        }
        if let Some(weak) = work.downgrade() {
            running.insert(key, weak);
        }
        work
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, WeakShared<Work<T>>>> {
        // Insertions and removals are single steps, so a poisoned map is still sound.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
