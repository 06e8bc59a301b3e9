//! What a service manager that started this process is told: that it is ready, that it is alive, that it stops. Nobody is told where
//! there is none.

use sd_notify::NotifyState;
use tokio::task::AbortHandle;

/// Tells the service manager until dropped that this process is alive, if it asked for that.
pub(crate) struct Watched {
    telling: Option<AbortHandle>,
}

/// Says that this process serves, and from then on that it is alive: as often as asked for, and as long as its threads do their work.
pub(crate) fn ready(status: &str) -> Watched {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    let telling = sd_notify::watchdog_enabled().map(|within| {
        let telling = async move {
            let mut often = tokio::time::interval(within / 3);
            loop {
                often.tick().await;
                tell(&[NotifyState::Watchdog]);
            }
        };
        tokio::spawn(telling).abort_handle()
    });
    Watched { telling }
}

/// Says that this process is about to end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(telling) = &self.telling {
            telling.abort();
        }
    }
}
