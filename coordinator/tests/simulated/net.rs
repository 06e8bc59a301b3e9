//! The network between replicas: byte streams that are delayed, cut one way or both, and end when a host crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flowyard_coordinator::raft::{Connect, Wire};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};

use crate::dice::Dice;

/// The longest delay of a network on which nothing is wrong, in milliseconds.
const USUAL_DELAY_MS: u64 = 8;

type Ways = BTreeSet<(String, String)>;
type Door = mpsc::Sender<io::Result<DuplexStream>>;

/// Who listens where, and which ways are cut. What is sent on a cut way waits, as TCP would keep trying.
#[derive(Debug)]
pub(crate) struct Net {
    doors: Mutex<BTreeMap<String, Door>>,
    cut: watch::Sender<Ways>,
    /// How often each host's connections were broken.
    broken: watch::Sender<BTreeMap<String, u64>>,
    delay_ms: AtomicU64,
    dice: Mutex<Dice>,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            doors: Mutex::default(),
            cut: watch::Sender::default(),
            broken: watch::Sender::default(),
            delay_ms: AtomicU64::new(USUAL_DELAY_MS),
            dice: Mutex::new(Dice(seed << 20)),
        })
    }

    /// A host listens; what others open comes out of the receiver.
    pub(crate) fn listen(&self, name: &str) -> mpsc::Receiver<io::Result<DuplexStream>> {
        let (door, calls) = mpsc::channel(16);
        self.doors.lock().unwrap().insert(name.to_owned(), door);
        calls
    }

    /// Nobody is at home any more.
    pub(crate) fn leave(&self, name: &str) {
        self.doors.lock().unwrap().remove(name);
        self.break_connections(name);
    }

    /// All connections of a host end.
    pub(crate) fn break_connections(&self, name: &str) {
        self.broken.send_modify(|broken| *broken.entry(name.to_owned()).or_default() += 1);
    }

    /// Cuts these ways, from and to.
    pub(crate) fn cut(&self, ways: impl IntoIterator<Item = (String, String)>) {
        self.cut.send_modify(|cut| cut.extend(ways));
    }

    /// Everything takes up to so long.
    pub(crate) fn slow(&self, delay_ms: u64) {
        self.delay_ms.store(delay_ms, Ordering::Relaxed);
    }

    /// Nothing is cut or slow.
    pub(crate) fn mend(&self) {
        self.slow(USUAL_DELAY_MS);
        self.cut.send_modify(Ways::clear);
    }

    async fn open_way(&self, way: &(String, String)) -> io::Result<()> {
        self.cut.subscribe().wait_for(|cut| !cut.contains(way)).await.map(drop).map_err(io::Error::other)
    }

    async fn travel(&self) {
        let delay_ms = self.dice.lock().unwrap().roll(self.delay_ms.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
}

/// The network as one host sees it.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) net: Arc<Net>,
    pub(crate) name: String,
}

impl Connect for Side {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        let (net, from, to) = (self.net.clone(), self.name.clone(), address.to_owned());
        Box::pin(async move {
            let way = (from.clone(), to.clone());
            net.open_way(&way).await?;
            net.travel().await;
            let door = net.doors.lock().unwrap().get(&to).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
            let (here, near) = tokio::io::duplex(64 * 1024);
            let (far, there) = tokio::io::duplex(64 * 1024);
            door.send(Ok(there)).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            let ((near_in, near_out), (far_in, far_out)) = (tokio::io::split(near), tokio::io::split(far));
            tokio::spawn(carry(net.clone(), way, near_in, far_out));
            tokio::spawn(carry(net.clone(), (to, from), far_in, near_out));
            Ok(Box::new(here) as Box<dyn Wire>)
        })
    }
}

async fn carry(
    net: Arc<Net>,
    way: (String, String),
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) {
    let mut broken = net.broken.subscribe();
    let known = |broken: &BTreeMap<String, u64>| (broken.get(&way.0).copied(), broken.get(&way.1).copied());
    let before = known(&broken.borrow());
    tokio::select! {
        () = copy(&net, &way, &mut from, &mut to) => {}
        _ = broken.wait_for(|broken| known(broken) != before) => {}
    }
    let _ = to.shutdown().await;
}

async fn copy(
    net: &Net,
    way: &(String, String),
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return };
        net.travel().await;
        if net.open_way(way).await.is_err() || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
