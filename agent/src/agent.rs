//! One running agent: its actors, from start to stop.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flowyard_cas::Store;
use flowyard_model::Inventory;
use kameo::actor::{ActorRef, Spawn};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::transport::Channel;

use crate::attempt::{Desk, Images};
use crate::config::AgentConfig;
use crate::inventory;
use crate::journal::Journal;
use crate::launches::{LaunchRequest, Launches};
use crate::link::Link;
use crate::reconciler::{NEWS, Reconciler};

/// How long a launcher may take to end what it runs.
const LAUNCHER_END: Duration = Duration::from_secs(5);

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its folder cannot be used.
    #[error("the agent's folder {path}: {source}")]
    Folder {
        /// The folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its launcher cannot be had.
    #[error("the agent's launcher did not start; see launcher.log in its folder")]
    Launcher,
}

/// A running agent. Dropping it leaves what runs running; the next agent adopts it.
pub struct Agent {
    inventory: Arc<Inventory>,
    link: ActorRef<Link>,
    reconciler: ActorRef<Reconciler>,
    launches: ActorRef<Launches>,
}

impl Agent {
    /// Starts an agent that talks to its coordinator over `channel`.
    ///
    /// # Errors
    /// When its folder or journal cannot be used.
    pub async fn start(config: AgentConfig, store: Store, channel: Channel) -> Result<Self, AgentError> {
        let folder = |source| AgentError::Folder { path: config.folder.display().to_string(), source };
        std::fs::create_dir_all(config.attempts()).map_err(folder)?;
        spread(&config.attempts());
        let (journal, remembered) = Journal::open(&config.journal()).map_err(folder)?;
        let (enforcement, mut known) = watch::channel(None);
        let launcher = config.folder.join("launcher");
        std::fs::create_dir_all(&launcher).map_err(folder)?;
        let launches = Launches::spawn(Launches::new(launcher, config.launcher.clone(), enforcement));
        let enforcement =
            known.wait_for(Option::is_some).await.map_err(|_| AgentError::Launcher)?.ok_or(AgentError::Launcher)?;
        let inventory = Arc::new(inventory::probe(&config, &enforcement));
        let images = Images::in_folder(config.folder.join("images"), config.attempts());
        let desk = Desk { store, launches: launches.clone(), images, inventory: Arc::clone(&inventory), config };
        let desk = Arc::new(desk);
        sweep(&desk, &remembered);
        let (reports, reported) = mpsc::channel(NEWS);
        let reconciler = Reconciler::spawn(Reconciler::new(Arc::clone(&desk), journal, remembered, reports));
        let link = Link::spawn(Link::new(desk, channel, reconciler.clone(), reported));
        Ok(Self { inventory, link, reconciler, launches })
    }

    /// What the node offers.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Stops the agent. With `kill`, what runs is ended with it; otherwise it goes on under the launcher, for the next agent
    /// to adopt.
    pub async fn stop(&self, kill: bool) {
        self.link.kill();
        self.reconciler.kill();
        let (asked, answer) = oneshot::channel();
        if self.launches.tell(LaunchRequest::Shutdown { kill, asked }).await.is_ok() {
            let _ = answer.await;
            // A launcher that keeps running does not hang up, so this wait is bounded.
            let _ = tokio::time::timeout(LAUNCHER_END, self.launches.wait_for_shutdown()).await;
        }
        self.launches.kill();
    }
}

/// Asks the file system to put the attempts' folders far from each other. ext4 would put all into one group, and making a file
/// there steps over every one that was removed in the last seconds: at a thousand attempts per second that costs more than
/// all the rest. Other file systems refuse, and do not need it.
fn spread(attempts: &Path) {
    let asked = std::fs::File::open(attempts).and_then(|folder| {
        let flags = rustix::fs::ioctl_getflags(&folder)?;
        Ok(rustix::fs::ioctl_setflags(&folder, flags | rustix::fs::IFlags::TOPDIR)?)
    });
    if let Err(error) = asked {
        tracing::debug!(%error, "attempts are not spread over the disk");
    }
}

/// Removes folders of attempts that the journal does not know: an earlier agent had forgotten them when it died.
fn sweep(desk: &Desk, remembered: &crate::journal::Remembered) {
    let known: Vec<_> = remembered.members.keys().map(|key| desk.folder(*key)).collect();
    let Ok(entries) = std::fs::read_dir(desk.config.attempts()) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| !known.contains(path)) {
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "a forgotten attempt's folder could not be removed");
        }
    }
}
