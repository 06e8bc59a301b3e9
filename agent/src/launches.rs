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

use crate::cgroup::Enforcement;
use crate::launcher::protocol::Event;
use crate::launcher::{LauncherClient, StartCommand, read_exit};
use crate::runtime::spec::{ExitRecord, LaunchSpec};

/// Wait before the launcher is connected to again.
const RETRY: Duration = Duration::from_millis(200);

/// What one attempt hears about its process.
#[derive(Debug)]
pub enum LaunchEvent {
    /// The user's process runs.
    Started {
        /// Since when, wall clock in milliseconds.
        at_ms: u64,
    },
    /// It is over.
    Ended(ExitRecord),
    /// Neither the launcher nor the folder knows of it: it was lost.
    Gone,
}

/// What attempts ask for.
#[derive(Debug)]
pub enum LaunchRequest {
    /// Run this, and tell `listener`.
    Start {
        /// What to run.
        spec: Box<LaunchSpec>,
        /// Who wants to know; at most three events come.
        listener: mpsc::Sender<LaunchEvent>,
    },
    /// Tell `listener` about something that was started before.
    Adopt {
        /// Its folder.
        folder: PathBuf,
        /// Who wants to know.
        listener: mpsc::Sender<LaunchEvent>,
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
    /// End it, with the grace of its spec.
    Stop {
        /// Its folder.
        folder: PathBuf,
    },
}

/// The actor.
pub struct Launches {
    folder: PathBuf,
    start: StartCommand,
    enforcement: watch::Sender<Option<Enforcement>>,
    connection: Option<(LauncherClient, mpsc::Receiver<Event>)>,
    listeners: BTreeMap<PathBuf, mpsc::Sender<LaunchEvent>>,
    /// The process of everything that runs.
    processes: BTreeMap<PathBuf, u32>,
    /// Whether the launcher was asked to end: a lost connection is then the answer.
    ending: bool,
    /// Requests whose sending failed, to be repeated on the next connection.
    unsent: Vec<LaunchSpec>,
}

impl Launches {
    /// What it is made from: the launcher's folder, how one is started, and where to say how it enforces limits.
    pub fn new(folder: PathBuf, start: StartCommand, enforcement: watch::Sender<Option<Enforcement>>) -> Self {
        Self {
            folder,
            start,
            enforcement,
            connection: None,
            listeners: BTreeMap::new(),
            processes: BTreeMap::new(),
            ending: false,
            unsent: Vec::new(),
        }
    }

    async fn connected(&mut self) -> &LauncherClient {
        loop {
            if self.connection.is_none() {
                match LauncherClient::connect_or_start(&self.folder, self.start.clone()).await {
                    Ok(connection) => self.connection = Some(connection),
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
        }
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Running { attempts, enforcement } => {
                self.enforcement.send_replace(Some(enforcement));
                self.processes = attempts.iter().map(|one| (one.folder.clone(), one.pid)).collect();
                let running: BTreeMap<_, _> =
                    attempts.into_iter().map(|one| (one.folder.clone(), one.started_at_ms)).collect();
                self.compare(&running).await;
            }
            Event::Started { folder, pid, at_ms } => {
                self.tell(&folder, LaunchEvent::Started { at_ms }).await;
                self.processes.insert(folder, pid);
            }
            Event::Ended { folder, record } => {
                self.processes.remove(&folder);
                self.tell(&folder, LaunchEvent::Ended(record)).await;
                self.listeners.remove(&folder);
            }
            Event::ShutdownRefused { .. } => {}
        }
    }

    /// After a new connection: whoever waits for something that does not run learns what became of it.
    async fn compare(&mut self, running: &BTreeMap<PathBuf, Option<u64>>) {
        for spec in std::mem::take(&mut self.unsent) {
            self.start(spec).await;
        }
        let unsent: Vec<_> = self.unsent.iter().map(|spec| spec.folder.clone()).collect();
        for folder in self.listeners.keys().cloned().collect::<Vec<_>>() {
            let event = match running.get(&folder) {
                Some(Some(at_ms)) => LaunchEvent::Started { at_ms: *at_ms },
                Some(None) => continue,
                None if unsent.contains(&folder) => continue,
                None => match read_exit(&folder) {
                    Ok(Some(record)) => LaunchEvent::Ended(record),
                    Ok(None) | Err(_) => LaunchEvent::Gone,
                },
            };
            let over = !matches!(event, LaunchEvent::Started { .. });
            self.tell(&folder, event).await;
            if over {
                self.listeners.remove(&folder);
            }
        }
    }

    async fn tell(&self, folder: &Path, event: LaunchEvent) {
        if let Some(listener) = self.listeners.get(folder) {
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
            LaunchRequest::Start { spec, listener } => {
                self.listeners.insert(spec.folder.clone(), listener);
                self.start(*spec).await;
            }
            LaunchRequest::Adopt { folder, listener } => {
                self.listeners.insert(folder, listener);
                // The answer says what runs, and so what became of it.
                if self.connected().await.list().await.is_err() {
                    self.connection = None;
                }
            }
            LaunchRequest::Shutdown { kill, asked } => {
                let _ = self.connected().await.shutdown(kill).await;
                self.ending = true;
                drop(asked);
            }
            LaunchRequest::Find { folder, answer } => {
                // Whoever asked may have left.
                let _ = answer.send(self.processes.get(&folder).copied());
            }
            LaunchRequest::Stop { folder } => {
                if self.connected().await.stop(&folder, None).await.is_err() {
                    self.connection = None;
                }
            }
        }
    }
}
