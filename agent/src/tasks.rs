//! The agent's tasks that are no actors: walks of attempts, relays. They share what the agent has, so stopping the agent ends them and
//! waits until they have let go of it.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where such tasks are started; clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Starts a task that ends, wherever it is, when all are stopped; then its result is `None`.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let stop = self.stop.clone();
        self.tracker.spawn(async move { stop.run_until_cancelled(task).await })
    }

    /// Ends all tasks, and waits until they are gone with all they held.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn what_a_task_held_is_let_go_once_all_are_stopped() {
        let tasks = Tasks::default();
        let held = Arc::new(());
        for _ in 0..3 {
            let theirs = Arc::clone(&held);
            tasks.spawn(async move {
                let _theirs = theirs;
                std::future::pending::<()>().await;
            });
        }
        tokio::task::yield_now().await;
        tasks.stop().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
