//! The embedded cluster: one coordinator and one agent in this process, over a socket in its home.
//!
//! Invariant: whoever holds the home's lock runs the coordinator. When it leaves while others use it, they take over, and the
//! attempts that run meanwhile are adopted.

use std::sync::Arc;
use std::time::Duration;

use flowyard_agent::fleet::Reach;
use flowyard_agent::{Agent, AgentConfig};
use flowyard_cas::{LocalOptions, LocalStore, Origin, Store};
use flowyard_coordinator::raft::Role;
use flowyard_coordinator::{Config, Coordinator, Timing};
use flowyard_sdk::client::Endpoint;
use flowyard_sdk::shown::chain;
use flowyard_telemetry::Source;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::failure::{Failure, codes};
use crate::home::{AgentLock, Home, HostLock};
use crate::output;
use crate::settings::Settings;
use crate::traced;

/// How long a stopping server may take to finish what it is asked.
const STOP: Duration = Duration::from_secs(2);

/// How long another process may take to let go of the agent, and how often that is looked at.
const TURN: Duration = Duration::from_secs(10);
/// How long an agent may take to connect: one that lost what it knew of its node waits until that is given up.
const CONNECT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);
/// How long a command may take to say why it was refused, before its process ends with the log.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A running embedded cluster.
pub(crate) struct Embedded {
    home: Home,
    coordinator: Option<Coordinator>,
    agent: Option<LocalAgent>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    _lock: HostLock,
}

/// Whether an embedded cluster also runs tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Only the coordinator: for commands that read.
    Coordinator,
    /// Coordinator and agent.
    All,
}

/// Ends this process when its log has stopped by itself (no room, a failed disk): it could only wait for ever. What runs goes on
/// under the launcher, and the next command takes it up.
async fn end_with_the_log(mut role: watch::Receiver<Role>, home: Home) {
    let stopped = role.wait_for(|role| matches!(role, Role::Stopped { fault: Some(_) })).await;
    let Some(Role::Stopped { fault: Some(fault) }) = stopped.ok().as_deref().cloned() else { return };
    // A command that was refused for it says so itself.
    tokio::time::sleep(LAST_WORDS).await;
    let failure = Failure::Home(format!(
        "the log in {} stopped: {fault}; nothing that was acknowledged is lost and what runs goes on. Mend the disk, or free space on it, and \
         run a command again",
        home.path().display()
    ));
    let _ = failure.report();
    std::process::exit(codes::HOME.into());
}

impl Embedded {
    /// Starts the cluster of `home`, of which `lock` is held.
    ///
    /// # Errors
    /// When its folders cannot be used.
    pub(crate) async fn start(home: &Home, lock: HostLock, parts: Parts, settings: &Settings) -> Result<Self, Failure> {
        let origin = Origin::in_directory(&home.origin(), true).map_err(|error| Failure::Home(chain(&error)))?;
        let config = Config {
            folder: home.coordinator(),
            socket: home.socket(),
            engine: settings.engine.unwrap_or_default(),
            embedded: true,
            // A task is the user who submitted it: there is nobody to keep it apart from.
            usual_network: flowyard_model::NetworkMode::Host,
            home: home.path().to_owned(),
            timing: Timing { lease_ms: settings.lease_ms, ..Timing::STANDARD },
            stuck: settings.stuck,
            retention: settings.keeping.retention,
            log_keeping: settings.keeping.log,
            storage_budget_bytes: settings.storage_budget_bytes,
            call_rate: flowyard_coordinator::CallRate::STANDARD,
            shared_origin: true,
            fleet: None,
        };
        let exporter = traced::exporter(settings.otlp.as_deref(), "flowyard-coordinator")?;
        let coordinator = Coordinator::start_traced(config, origin.clone(), exporter)
            .await
            .map_err(|error| Failure::Home(chain(&error)))?;
        tokio::spawn(end_with_the_log(coordinator.shared().replica.role(), home.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let served = flowyard_coordinator::serve(coordinator.shared().clone(), async move {
            let _ = stopped.await;
        });
        let served = served.map_err(|error| Failure::Home(chain(&error)))?;
        let server = tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "the API server failed");
            }
        });
        let mut this = Self {
            home: home.clone(),
            coordinator: Some(coordinator),
            agent: None,
            stop: Some(stop),
            server,
            _lock: lock,
        };
        if parts == Parts::All {
            this.agent = Some(LocalAgent::start_in_turn(home, settings).await?);
        }
        Ok(this)
    }

    /// Waits until the agent of this cluster is connected, so that what is submitted can be placed.
    ///
    /// # Errors
    /// When the agent does not connect.
    pub(crate) async fn connected(&self) -> Result<(), Failure> {
        let Some(shared) = self.coordinator.as_ref().map(Coordinator::shared) else { return Ok(()) };
        let start = flowyard_clock::monotonic();
        while !shared.feed.view().nodes().any(|(id, _)| shared.directory.find(id).is_some()) {
            if flowyard_clock::elapsed(start) > CONNECT {
                let path = self.home.path().display();
                let why = self.agent.as_ref().and_then(|local| local.agent.trouble()).unwrap_or_default();
                return Err(Failure::Home(format!("the agent of {path} does not connect: {why}")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// What its parts tell their operator in figures.
    pub(crate) fn metrics(&self) -> Vec<Arc<dyn Source>> {
        let coordinator = self.coordinator.as_ref().map(Coordinator::metrics);
        coordinator.into_iter().chain(self.agent.as_ref().map(|local| local.agent.metrics())).collect()
    }

    /// Ends the cluster. Unless others use it, what still runs is killed: its jobs go on with the next cluster of this home.
    pub(crate) async fn shutdown(mut self) {
        let leave_running = self.home.has_guests();
        if let Some(agent) = self.agent.take() {
            agent.stop(leave_running).await;
        }
        drop(self.stop.take());
        if tokio::time::timeout(STOP, &mut self.server).await.is_err() {
            self.server.abort();
        }
        if let Some(coordinator) = self.coordinator.take() {
            coordinator.shutdown().await;
        }
    }
}

/// The agent of a home. Usually its process runs the coordinator, too; beside a command that only reads it does not.
pub(crate) struct LocalAgent {
    agent: Agent,
    _lock: AgentLock,
}

impl LocalAgent {
    /// Starts the agent once the process that ran it has let go: it does when its coordinator is gone.
    async fn start_in_turn(home: &Home, settings: &Settings) -> Result<Self, Failure> {
        let start = flowyard_clock::monotonic();
        loop {
            if let Some(agent) = Self::start(home, settings).await? {
                return Ok(agent);
            }
            if flowyard_clock::elapsed(start) > TURN {
                let path = home.path().display();
                return Err(Failure::Home(format!(
                    "another process runs the agent of {path} and does not let go; end it, or set FLOWYARD_HOME to another folder"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Starts the agent, unless another process runs it.
    ///
    /// # Errors
    /// When its folders cannot be used.
    pub(crate) async fn start(home: &Home, settings: &Settings) -> Result<Option<Self>, Failure> {
        let Some(lock) = home.agent_lock()? else { return Ok(None) };
        let origin = Origin::in_directory(&home.origin(), true).map_err(|error| Failure::Home(chain(&error)))?;
        let folder = home.agent();
        std::fs::create_dir_all(&folder).map_err(Failure::local(folder.display()))?;
        let options = LocalOptions::with_budget(settings.cache_budget_bytes);
        let local = LocalStore::open(&folder.join("cache"), options).map_err(|error| Failure::Home(chain(&error)))?;
        let exe = std::env::current_exe().map_err(Failure::local("this program"))?;
        let config = AgentConfig::embedded(home.path().to_owned(), folder, &exe, settings.agent.clone());
        let channel = Endpoint::socket(home.socket()).channel();
        let exporter = traced::exporter(settings.otlp.as_deref(), "flowyard-agent")?;
        let store = Store::new(local, origin);
        let agent = Agent::start_traced(config, store, Reach::Embedded(channel), exporter).await;
        let agent = agent.map_err(|error| Failure::Home(chain(&error)))?;
        say_limits(home, &agent.inventory().abilities.enforcement);
        Ok(Some(Self { agent, _lock: lock }))
    }

    /// Stops the agent. Unless what runs is left to the next one, it is killed.
    pub(crate) async fn stop(self, leave_running: bool) {
        self.agent.stop(!leave_running).await;
    }
}

/// Where the kernel does not hold all limits of tasks, that is said; once, until it changes.
fn say_limits(home: &Home, enforcement: &str) {
    const HELD: &str = "cpu by cgroup, memory by cgroup, processes by cgroup";
    let said = home.agent().join("limits-said");
    let before = std::fs::read_to_string(&said).unwrap_or_default();
    if before == enforcement || (before.is_empty() && enforcement.starts_with(HELD)) {
        return;
    }
    output::note(format!(
        "limits of tasks here: {enforcement}; what is watched is looked at, and a task above its limit is killed (said once)"
    ));
    // If it cannot be kept, it is said again.
    let _ = std::fs::write(&said, enforcement);
}
