//! The agent's side of running things: one connection to the launcher, shared by all attempts.
//!
//! Owns who waits for which folder. The connection may be lost at any time; after a new one everything that waits is told
//! what became of it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};
use kameo::message::{Context, Message};
use tokio::sync::{mpsc, oneshot, watch};

use crate::attempt::Handed;
use crate::cgroup::Enforcement;
use crate::launcher::protocol::{Event, Stopping};
use crate::launcher::{LauncherClient, StartCommand, read_exit};
use crate::runtime::spec::{ExitRecord, LaunchSpec};

/// Wait before the launcher is connected to again.
const RETRY: Duration = Duration::from_millis(200);

/// Listeners that may be kept beside those of what runs, before it is looked which of them still listen.
const LISTENERS_SPARE: usize = 64;

/// Places in a listener's channel that only an end may take.
const ROOM_FOR_END: usize = 1;

/// The launcher that serves.
#[derive(Debug, Clone)]
pub struct Serving {
    /// How it enforces limits.
    pub enforcement: Enforcement,
    /// Its name among all there ever were; `None` for one of a release that does not say.
    pub launcher: Option<String>,
}

/// What one attempt hears about its process.
#[derive(Debug)]
pub enum LaunchEvent {
    /// The user's process runs.
    Started {
        /// Since when, wall clock in milliseconds.
        at_ms: u64,
    },
    /// The launcher was never asked: it is started once [`LaunchRequest::Begin`] says so.
    Unasked,
    /// It is over.
    Ended(ExitRecord),
    /// Neither the launcher nor the folder knows of it, and it may have run under an earlier launcher: it was lost.
    Gone,
}

impl LaunchEvent {
    /// Whether nothing follows.
    fn is_end(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Gone)
    }
}

/// What attempts ask for.
#[derive(Debug)]
pub enum LaunchRequest {
    /// Run this, and tell `listener`.
    Start {
        /// What to run; in its folder, too.
        handed: Box<Handed>,
        /// Who wants to know; has room for at least three events.
        listener: mpsc::Sender<LaunchEvent>,
    },
    /// Tell `listener` about something that an earlier agent was about to start, or did.
    Adopt {
        /// Its folder.
        folder: PathBuf,
        /// What was handed over; without it nothing is ever started.
        handed: Option<Box<Handed>>,
        /// Who wants to know.
        listener: mpsc::Sender<LaunchEvent>,
    },
    /// Start what was adopted, if the launcher was never asked.
    Begin {
        /// Its folder.
        folder: PathBuf,
    },
    /// End the launcher, and kill what still runs if `kill`; answered once it is asked.
    Shutdown {
        /// Whether to kill what runs; otherwise a launcher with anything to run stays.
        kill: bool,
        /// Dropped once it was asked.
        asked: tokio::sync::oneshot::Sender<()>,
    },
    /// Say which process stands for an attempt on the host.
    Find {
        /// Its folder.
        folder: PathBuf,
        /// The user's process, or the shim of a container; nothing if it does not run.
        answer: oneshot::Sender<Option<u32>>,
    },
    /// End it.
    Stop {
        /// Its folder.
        folder: PathBuf,
        /// How, where not as its spec says.
        stopping: Stopping,
    },
}

/// Somebody who waits for news of a folder.
#[derive(Debug)]
struct Waiting {
    listener: mpsc::Sender<LaunchEvent>,
    /// What is to be asked for, should the launcher not have heard of it.
    handed: Option<Box<Handed>>,
    /// Whether it is to be started then: whoever adopts must hear first that it is still wanted.
    begins: bool,
}

/// What is known of something that runs.
#[derive(Debug, Clone, Copy)]
struct Process {
    /// The user's process, or the shim of a container; 0 while there is none.
    pid: u32,
    /// Since when the user's process runs.
    started_at_ms: Option<u64>,
}

/// The actor.
pub struct Launches {
    folder: PathBuf,
    start: StartCommand,
    serving: watch::Sender<Option<Serving>>,
    connection: Option<(LauncherClient, mpsc::Receiver<Event>)>,
    listeners: BTreeMap<PathBuf, Waiting>,
    /// Everything that runs, or was asked to on this connection, as far as it was heard of.
    running: BTreeMap<PathBuf, Process>,
    /// Whether this connection has said what runs.
    told: bool,
    /// What was asked to stop, in which way, and has not ended.
    stopping: BTreeMap<PathBuf, Stopping>,
    /// Whether the launcher was asked to end: a lost connection is then the answer.
    ending: bool,
    /// Requests whose sending failed, to be repeated on the next connection.
    unsent: Vec<LaunchSpec>,
}

impl Launches {
    /// What it is made from: the launcher's folder, how one is started, and where to say which one serves.
    pub fn new(folder: PathBuf, start: StartCommand, serving: watch::Sender<Option<Serving>>) -> Self {
        Self {
            folder,
            start,
            serving,
            connection: None,
            listeners: BTreeMap::new(),
            running: BTreeMap::new(),
            told: false,
            stopping: BTreeMap::new(),
            ending: false,
            unsent: Vec::new(),
        }
    }

    async fn connected(&mut self) -> &LauncherClient {
        loop {
            if self.connection.is_none() {
                match LauncherClient::connect_or_start(&self.folder, self.start.clone()).await {
                    Ok(connection) => {
                        // The first event will say what runs; until then only what is asked for now is known.
                        self.connection = Some(connection);
                        self.running.clear();
                        self.told = false;
                    }
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "no launcher");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
            if self.connection.as_ref().is_some_and(|(client, _)| !client.is_closed()) {
                break;
            }
            self.connection = None;
        }
        &self.connection.as_ref().expect("the loop ended with a connection").0
    }

    async fn start(&mut self, spec: LaunchSpec) {
        if self.connected().await.start(spec.clone()).await.is_err() {
            self.connection = None;
            self.unsent.push(spec);
        } else {
            // A list made before this request does not name it; its end will be told, or the connection will break.
            self.running.entry(spec.folder).or_insert(Process { pid: 0, started_at_ms: None });
        }
    }

    async fn stop(&mut self, folder: PathBuf, stopping: Stopping) {
        if self.connected().await.stop(&folder, stopping).await.is_err() {
            self.connection = None;
        }
        self.stopping.insert(folder, stopping);
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Running { attempts, enforcement, launcher } => {
                self.serving.send_replace(Some(Serving { enforcement, launcher }));
                for one in attempts {
                    self.running.insert(one.folder, Process { pid: one.pid, started_at_ms: one.started_at_ms });
                }
                if !std::mem::replace(&mut self.told, true) {
                    self.take_up().await;
                }
            }
            Event::Started { folder, pid, at_ms } => {
                self.tell(&folder, LaunchEvent::Started { at_ms }).await;
                self.running.insert(folder, Process { pid, started_at_ms: Some(at_ms) });
            }
            Event::Ended { folder, record } => {
                self.running.remove(&folder);
                self.stopping.remove(&folder);
                self.tell(&folder, LaunchEvent::Ended(record)).await;
                self.listeners.remove(&folder);
            }
            Event::ShutdownRefused { .. } => {}
        }
    }

    /// A new connection has said what runs: what could not be sent is sent, and everybody who waits learns what became of it.
    async fn take_up(&mut self) {
        for spec in std::mem::take(&mut self.unsent) {
            self.start(spec).await;
        }
        for folder in self.listeners.keys().cloned().collect::<Vec<_>>() {
            self.look_up(&folder).await;
        }
        for (folder, stopping) in std::mem::take(&mut self.stopping) {
            if self.running.contains_key(&folder) {
                self.stop(folder, stopping).await;
            }
        }
    }

    /// Tells whoever waits for a folder what is known of it.
    async fn look_up(&mut self, folder: &Path) {
        let unsent = self.unsent.iter().any(|spec| spec.folder == folder);
        let event = match self.running.get(folder) {
            Some(Process { started_at_ms: Some(at_ms), .. }) => LaunchEvent::Started { at_ms: *at_ms },
            Some(Process { started_at_ms: None, .. }) => return,
            None if unsent => return,
            None => match (read_exit(folder), self.unheard(folder)) {
                (Ok(Some(record)), _) => LaunchEvent::Ended(record),
                (Ok(None), Some(spec)) if self.begins(folder) => return self.start(spec).await,
                (Ok(None), Some(_)) => LaunchEvent::Unasked,
                (Ok(None), None) | (Err(_), _) => LaunchEvent::Gone,
            },
        };
        let over = event.is_end();
        self.tell(folder, event).await;
        if over {
            self.listeners.remove(folder);
        }
    }

    /// What was handed over for a folder, if it was to this very launcher. One that neither runs it nor has written down its end was
    /// never asked: the request was lost with whoever was to send it. (An end that it could not write down, it tells when asked.)
    fn unheard(&self, folder: &Path) -> Option<LaunchSpec> {
        let handed = self.listeners.get(folder)?.handed.as_ref()?;
        let serving = self.serving.borrow();
        let serves = serving.as_ref()?.launcher.as_ref()?;
        (handed.launcher.as_ref() == Some(serves)).then(|| handed.spec.clone())
    }

    /// Keeps a listener. Those of attempts that were stopped before they began hear no end, and go here once they are many.
    fn listen(&mut self, folder: PathBuf, waiting: Waiting) {
        if self.listeners.len() > self.running.len() + LISTENERS_SPARE {
            self.listeners.retain(|_, waiting| !waiting.listener.is_closed());
        }
        self.listeners.insert(folder, waiting);
    }

    fn begins(&self, folder: &Path) -> bool {
        self.listeners.get(folder).is_some_and(|waiting| waiting.begins)
    }

    /// There is always room for the end: news of a start, which the end repeats, is left out where it would take it.
    async fn tell(&self, folder: &Path, event: LaunchEvent) {
        let Some(Waiting { listener, .. }) = self.listeners.get(folder) else { return };
        if event.is_end() || listener.capacity() > ROOM_FOR_END {
            // An attempt that does not listen any more has its end already.
            let _ = listener.send(event).await;
        }
    }
}

impl Actor for Launches {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(mut args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        args.connected().await;
        Ok(args)
    }

    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        mailbox: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        loop {
            let Some((_, events)) = self.connection.as_mut() else {
                self.connected().await;
                continue;
            };
            tokio::select! {
                signal = mailbox.recv() => return Ok(signal),
                event = events.recv() => match event {
                    Some(event) => self.on_event(event).await,
                    None if self.ending => return Ok(None),
                    None => self.connection = None,
                },
            }
        }
    }
}

impl Message<LaunchRequest> for Launches {
    type Reply = ();

    async fn handle(&mut self, request: LaunchRequest, _: &mut Context<Self, ()>) {
        match request {
            LaunchRequest::Start { handed, listener } => {
                let spec = handed.spec.clone();
                self.listen(spec.folder.clone(), Waiting { listener, handed: Some(handed), begins: true });
                self.start(spec).await;
            }
            LaunchRequest::Adopt { folder, handed, listener } => {
                self.listen(folder.clone(), Waiting { listener, handed, begins: false });
                if self.told {
                    self.look_up(&folder).await;
                }
            }
            LaunchRequest::Begin { folder } => {
                if let Some(waiting) = self.listeners.get_mut(&folder) {
                    waiting.begins = true;
                }
                if self.told {
                    self.look_up(&folder).await;
                }
            }
            LaunchRequest::Shutdown { kill, asked } => {
                let _ = self.connected().await.shutdown(kill).await;
                self.ending = true;
                drop(asked);
            }
            LaunchRequest::Find { folder, answer } => {
                // Whoever asked may have left.
                let pid = self.running.get(&folder).map(|process| process.pid);
                let _ = answer.send(pid.filter(|pid| *pid != 0));
            }
            LaunchRequest::Stop { folder, stopping } => self.stop(folder, stopping).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_no_more_is_forgotten_and_who_does_is_not() {
        let folder = |name: u32| PathBuf::from(format!("/attempts/{name}"));
        let start = StartCommand { program: "/bin/false".into(), arguments: vec![], env: vec![] };
        let mut launches = Launches::new("/launcher".into(), start, watch::Sender::new(None));
        let (open, _hears) = mpsc::channel(1);
        for name in 0..1_000 {
            let listener = if name == 7 { open.clone() } else { mpsc::channel(1).0 };
            launches.listen(folder(name), Waiting { listener, handed: None, begins: false });
        }
        assert!(launches.listeners.contains_key(&folder(7)));
        assert!(launches.listeners.len() <= LISTENERS_SPARE + 2, "{}", launches.listeners.len());
    }
}
