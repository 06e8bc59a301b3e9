//! One running agent: its actors, from start to stop.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flowyard_cas::Store;
use flowyard_model::{Inventory, StuckLimits};
use flowyard_telemetry::traces::Exporter;
use kameo::actor::{ActorRef, Spawn};
use tokio::sync::{mpsc, oneshot, watch};

use crate::attempt::{self, Desk, Images};
use crate::config::AgentConfig;
use crate::counts::Told;
use crate::fleet::Reach;
use crate::inventory;
use crate::inventory::health::{self, Health};
use crate::journal::Journal;
use crate::launcher::protocol::Stopping;
use crate::launches::{LaunchEvent, LaunchRequest, Launches};
use crate::lease;
use crate::link::Link;
use crate::network::Networks;
use crate::outgoing::Outgoing;
use crate::reconciler::{Reconciler, ReconcilerMessage};
use crate::tasks::Tasks;
use crate::users::UserRanges;

/// How long an attempt that nobody knows may take to end: the usual kill grace and more.
const STRAY_END: Duration = Duration::from_secs(60);
/// How long a launcher may take to end what it runs.
const LAUNCHER_END: Duration = Duration::from_secs(5);
/// How long what has ended may take to be forgotten when the agent stops.
const FORGET: Duration = Duration::from_secs(1);

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
    tasks: Tasks,
    trouble: watch::Receiver<Option<String>>,
    folder: PathBuf,
    desk: Arc<Desk>,
}

impl Agent {
    /// Starts an agent whose coordinators are reached so.
    ///
    /// # Errors
    /// When its folder or journal cannot be used.
    pub async fn start(config: AgentConfig, store: Store, reach: Reach) -> Result<Self, AgentError> {
        Self::start_traced(config, store, reach, None).await
    }

    /// The same, and tells a collector what it does for each job.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub async fn start_traced(
        config: AgentConfig,
        store: Store,
        reach: Reach,
        exporter: Option<Exporter>,
    ) -> Result<Self, AgentError> {
        let folder = |source| AgentError::Folder { path: config.folder.display().to_string(), source };
        std::fs::create_dir_all(config.attempts()).map_err(folder)?;
        close(&config.folder).map_err(folder)?;
        spread(&config.attempts());
        lease::end_of_earlier_boot(&config.lease_file()).map_err(folder)?;
        let (journal, remembered) = Journal::open(&config.journal()).map_err(folder)?;
        let (serving, mut known) = watch::channel(None);
        let launcher = config.folder.join("launcher");
        std::fs::create_dir_all(&launcher).map_err(folder)?;
        let launches = Launches::spawn(Launches::new(launcher, config.launcher.clone(), serving));
        let first = known.wait_for(Option::is_some).await.map_err(|_| AgentError::Launcher)?.clone();
        let enforcement = first.ok_or(AgentError::Launcher)?.enforcement;
        // After the launcher is ours: one that just leaves takes the filter with it.
        let networks = Arc::new(networks(&config).await);
        let inventory = Arc::new(inventory::probe(&config, &enforcement, &networks));
        let images = Images::in_folder(config.folder.join("images"), config.attempts());
        let tasks = Tasks::default();
        let health = Health::new();
        inventory::watch::begin(&health, &inventory.gpus);
        let desk = Desk {
            health,
            store,
            launches: launches.clone(),
            heard: watch::Sender::new(false),
            serving: known,
            images,
            inventory: Arc::clone(&inventory),
            tasks: tasks.clone(),
            stuck: watch::Sender::new(StuckLimits::PAUSED),
            networks: Arc::clone(&networks),
            users: config.users.map(|span| UserRanges::of(span, &config.folder)),
            reach: reach.clone(),
            counts: Arc::default(),
            exporter,
            cluster: watch::Sender::new(
                remembered.registered.as_ref().map_or_else(String::new, |it| it.cluster.clone()),
            ),
            config,
        };
        let desk = Arc::new(desk);
        sweep(&desk, &remembered).await;
        keep_what_is_given(&desk);
        let (outgoing, folder) = (Outgoing::default(), desk.config.folder.clone());
        let epoch = remembered.registered.as_ref().map_or(0, |registered| registered.epoch);
        let reconciler = Reconciler::new(Arc::clone(&desk), journal, remembered, outgoing.clone());
        let reconciler = Reconciler::spawn(reconciler);
        desk.tasks.spawn(reach.clone().renew());
        desk.tasks.spawn(networks.keep());
        let (health, folder_of_faults) = (Arc::clone(&desk.health), desk.config.folder.clone());
        desk.tasks.spawn(health::pretend(health, folder_of_faults, desk.inventory.gpus.clone()));
        let link = Link::new(Arc::clone(&desk), reach, reconciler.clone(), outgoing, epoch);
        let trouble = link.trouble();
        Ok(Self { inventory, link: Link::spawn(link), reconciler, launches, tasks, trouble, folder, desk })
    }

    /// What the node offers.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// What it tells its operator in figures.
    pub fn metrics(&self) -> Arc<dyn flowyard_telemetry::Source> {
        Arc::new(Told { desk: Arc::clone(&self.desk) })
    }

    /// Why there is no session with a coordinator at the moment, if one was tried and lost.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Stops the agent. With `kill`, what runs is ended with it; otherwise it goes on under the launcher, for the next agent
    /// to adopt. Afterwards nothing of this agent uses its folder any more, and what ended takes no room in it.
    pub async fn stop(&self, kill: bool) {
        self.forget().await;
        self.link.kill();
        self.reconciler.kill();
        self.tasks.stop().await;
        let (asked, answer) = oneshot::channel();
        if self.launches.tell(LaunchRequest::Shutdown { kill, asked }).await.is_ok() {
            let _ = answer.await;
            // A launcher that keeps running does not hang up, so this wait is bounded.
            let _ = tokio::time::timeout(LAUNCHER_END, self.launches.wait_for_shutdown()).await;
        }
        if kill {
            attempt::secrets::sweep(&self.folder, |_| false);
        }
        self.launches.kill();
        tokio::join!(
            self.link.wait_for_shutdown(),
            self.reconciler.wait_for_shutdown(),
            self.launches.wait_for_shutdown()
        );
        if let Some(exporter) = &self.desk.exporter {
            exporter.flush().await;
        }
    }

    /// Waits until the coordinators have taken the ends that they were told, and the folders of those attempts are gone: on a full
    /// disk nothing could be begun again before. For a moment only: there may be no coordinator.
    async fn forget(&self) {
        let (leaving, gone) = oneshot::channel();
        let forgotten = async {
            if self.reconciler.tell(ReconcilerMessage::Forgotten(leaving)).await.is_ok() {
                let _ = gone.await;
            }
        };
        let _ = tokio::time::timeout(FORGET, forgotten).await;
    }
}

/// Lets nobody but us into the agent's folder: not the machine's other users, and not a task that found a way to its path.
fn close(folder: &Path) -> io::Result<()> {
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

/// The networks of tasks, as far as this machine has them. Programs are run for it.
async fn networks(config: &AgentConfig) -> Networks {
    let (folder, users) = (config.folder.clone(), config.users);
    let Some(choices) = config.networks.clone() else {
        return Networks::none(&folder, "tasks of an embedded cluster are its own user");
    };
    let opened = tokio::task::spawn_blocking({
        let folder = folder.clone();
        move || Networks::open(choices, &folder, users)
    });
    opened.await.unwrap_or_else(|panic| Networks::none(&folder, &panic.to_string()))
}

/// What is left in the attempts' folders keeps its users and its network, whether or not it still runs.
fn keep_what_is_given(desk: &Desk) {
    let folders = std::fs::read_dir(desk.config.attempts()).into_iter().flatten().flatten();
    for launch in folders.filter_map(|entry| attempt::launched(&entry.path())) {
        desk.users.iter().for_each(|users| users.hold(&launch));
        desk.networks.hold(&launch);
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

/// Ends attempts that the journal does not know, and removes their folders: an earlier agent had forgotten them when it died, or its
/// journal was damaged.
async fn sweep(desk: &Desk, remembered: &crate::journal::Remembered) {
    let known: BTreeSet<_> = remembered.members.keys().map(|key| desk.folder(*key)).collect();
    attempt::secrets::sweep(&desk.config.folder, |name| known.contains(&desk.config.attempts().join(name)));
    let Ok(entries) = std::fs::read_dir(desk.config.attempts()) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| !known.contains(path)) {
        if tokio::time::timeout(STRAY_END, end_stray(desk, &path)).await.is_err() {
            tracing::error!(path = %path.display(), "an attempt that nobody knows does not end");
            continue;
        }
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "a forgotten attempt's folder could not be removed");
        }
    }
}

/// Stops what runs in a folder, and waits for its end.
async fn end_stray(desk: &Desk, folder: &Path) {
    if attempt::launched(folder).is_none() {
        return;
    }
    let (listener, mut events) = mpsc::channel(4);
    let adopt = LaunchRequest::Adopt { folder: folder.to_owned(), handed: None, listener };
    let stop = LaunchRequest::Stop { folder: folder.to_owned(), stopping: Stopping::default() };
    if desk.launches.tell(adopt).await.is_err() || desk.launches.tell(stop).await.is_err() {
        return;
    }
    while let Some(LaunchEvent::Started { .. }) = events.recv().await {
        tracing::warn!(folder = %folder.display(), "an attempt runs that nobody knows; it is stopped");
    }
}
