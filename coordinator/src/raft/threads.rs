//! The threads that a replica of a fleet runs on: its own, before those of the sessions.
//!
//! Sessions of ten thousand agents may keep every thread of a process busy, and the others elect another leader when this one is silent
//! for less than a second. So what is asked between replicas, both ways, and the log's own work go on two threads that nothing else
//! runs on. They ask the system for no preference: it lets threads that sleep much come before those that are always busy, and a thread that
//! takes every proposal the moment it comes makes many small entries of what could have travelled together.
//!
//! A replica that is alone shares the threads of its process: there is nobody who could miss it.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};
use tokio::task::{JoinError, JoinSet};

/// One may apply entries while the other gives signs of life.
const WORKERS: usize = 2;

/// Where a replica runs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Threads {
    handle: Handle,
    own: Option<Arc<Own>>,
}

/// Ends with the last who knows it, from wherever: a runtime must not be waited for by what runs on another.
#[derive(Debug)]
struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Threads {
    /// Those that whoever asks runs on.
    pub(super) fn shared() -> Self {
        Self { handle: Handle::current(), own: None }
    }

    /// Of their own.
    pub(super) fn own() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(WORKERS).thread_name("raft").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), own: Some(Arc::new(Own(Some(runtime)))) })
    }

    /// Runs this on them, for as long as it is waited for.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        if self.own.is_none() {
            return Ok(work.await);
        }
        let mut running = JoinSet::new();
        running.spawn_on(work, &self.handle);
        match running.join_next().await {
            Some(done) => done,
            // It holds the one that was just put there.
            None => std::future::pending().await,
        }
    }

    /// Does this at once on one of them. For a beginning only: it may take its time.
    pub(super) async fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match &self.own {
            Some(_) => self.run(async move { work() }).await,
            None => self.handle.spawn_blocking(work).await,
        }
    }

    /// Does this there, whoever waits for it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }

    /// What is begun while this is held runs on them.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn what_begins_there_stays_there() {
        let threads = Threads::own().unwrap();
        assert_eq!(threads.run(async { name() }).await.unwrap(), "raft");
        let deeper = threads.run(async { tokio::spawn(async { name() }).await.unwrap() });
        assert_eq!(deeper.await.unwrap(), "raft");
        let guarded = {
            let _there = threads.enter();
            tokio::spawn(async { name() })
        };
        assert_eq!(guarded.await.unwrap(), "raft");
        assert_eq!(threads.begin(name).await.unwrap(), "raft");
        assert_ne!(Threads::shared().run(async { name() }).await.unwrap(), "raft");
    }

    #[tokio::test]
    async fn work_ends_with_whoever_waits_for_it_and_threads_with_the_last_who_knows_them() {
        let threads = Threads::own().unwrap();
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let waiting = threads.run(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), waiting).await.is_err());
        assert!(dropped.await.is_err(), "it goes on");
        // In a task: a runtime that is waited for here would panic.
        drop(threads);
    }
}
