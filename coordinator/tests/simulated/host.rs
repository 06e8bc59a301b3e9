//! One machine: what survives a crash, and the replica while it runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flowyard_coordinator::raft::{
    HomeError, Identity, MembershipError, OpenError, Replica, ReplicaConfig, Speakers, Start,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::common::{Journal, Published};
use crate::disk::{Disk, Platter};
use crate::net::{Net, Side};

/// A replica that runs, and what it has applied.
pub(crate) type Open = (Replica<Journal>, Published);

struct Running {
    open: Open,
    power: watch::Sender<bool>,
    server: AbortHandle,
}

pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) platter: Arc<Platter>,
    folder: TempDir,
    running: Option<Running>,
}

impl Host {
    fn new(number: usize, lies: bool) -> Self {
        Self { name: format!("host{number}"), folder: folder(), platter: Platter::blank(lies), running: None }
    }

    pub(crate) async fn start(&mut self, net: &Arc<Net>, start: Start) {
        let connect = Arc::new(Side { net: net.clone(), name: self.name.clone() });
        let config = ReplicaConfig {
            address: self.name.clone(),
            start,
            connect,
            snapshot_every_entries: 60,
            keep_entries: 10,
            ..ReplicaConfig::new(self.folder.path())
        };
        let (disk, power) = Disk::mount(&self.platter);
        let open = loop {
            let (journal, published) = Journal::new();
            match Replica::open_over(config.clone(), disk.clone(), journal).await {
                Ok(replica) => break (replica, published),
                // A client still waits for what the crashed one will never answer.
                Err(OpenError::Home(HomeError::InUse { .. })) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        };
        let calls = net.listen(&self.name);
        let service = open.0.peer_service(Speakers::Anyone);
        let server = tokio::spawn(async move {
            let _ = Server::builder().add_service(service).serve_with_incoming(ReceiverStream::new(calls)).await;
        });
        self.running = Some(Running { open, power, server: server.abort_handle() });
    }

    /// The power is cut. Whoever waits for an answer must have let go of the replica's handle to have it started again.
    pub(crate) async fn crash(&mut self, net: &Net) {
        let Some(Running { open, power, server }) = self.running.take() else { return };
        power.send_replace(false);
        net.leave(&self.name);
        server.abort();
        open.0.shutdown().await;
    }

    pub(crate) fn open(&self) -> Option<Open> {
        self.running.as_ref().map(|running| running.open.clone())
    }
}

/// Where snapshots lie: in memory, since a real disk would take real time for its barriers.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder can be made")
}

/// A cluster of three; with disks that lie or not.
pub(crate) async fn grow(net: &Arc<Net>, lies: bool) -> Vec<Host> {
    let mut hosts: Vec<Host> = (0..3).map(|number| Host::new(number, lies)).collect();
    hosts[0].start(net, Start::Form).await;
    let (first, _) = hosts[0].open().expect("it was started");
    first.wait_ready().await.expect("alone it leads");
    for host in &mut hosts[1..] {
        let id = first.add_learner(&host.name).await.expect("it leads");
        host.start(net, Start::Join(Identity { replica: id, ..first.identity() })).await;
        while let Err(error) = first.promote(id).await {
            let wait = matches!(error, MembershipError::Behind { .. } | MembershipError::Silent { .. });
            assert!(wait || matches!(error, MembershipError::Contended), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    hosts
}
