//! A cluster on loopback: an authority, a clock that tests turn, and a port that answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flowyard_identity::{
    Accepted, Authority, Bounds, Certificates, Clock, Connector, Credential, Current, Gate, Identified, KeyRequest,
    NODE_LIFE_MS, Order, Refused, Subject, Trust, accept,
};
use flowyard_model::{Epoch, Name, ReplicaId, Revision, Role, TimeMs};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The time at which every test begins.
pub(crate) const NOON: u64 = 1_800_000_000_000;
pub(crate) const HOUR: u64 = 3_600_000;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct House {
    pub(crate) authority: Authority,
    pub(crate) now: Arc<AtomicU64>,
    pub(crate) shut_out: Arc<AtomicBool>,
    pub(crate) trust: Arc<Trust>,
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn coordinator() -> Subject {
    Subject::Coordinator { replica: ReplicaId(1) }
}

pub(crate) fn agent() -> Subject {
    Subject::Agent { name: name("n1") }
}

pub(crate) fn person() -> Subject {
    Subject::Person { name: name("ada"), role: Role::Operator }
}

impl House {
    /// A cluster in its first epoch.
    pub(crate) fn new(cluster: &str) -> Self {
        let authority = Authority::generate(cluster.parse().unwrap(), TimeMs(NOON)).unwrap();
        let now = Arc::new(AtomicU64::new(NOON));
        let shut_out = Arc::new(AtomicBool::new(false));
        let (told, read) = (shut_out.clone(), now.clone());
        let clock = Clock::of(move || TimeMs(read.load(Ordering::Relaxed)));
        let judge = move |who: &Identified| {
            told.load(Ordering::Relaxed) && !matches!(who.claim.subject, Subject::Coordinator { .. })
        };
        let trust = Trust::new(authority.certificate().clone(), Epoch(1), clock, judge).unwrap();
        Self { authority, now, shut_out, trust: Arc::new(trust) }
    }

    pub(crate) fn set_time(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }

    pub(crate) fn clock(&self) -> Clock {
        self.trust.clock().clone()
    }

    /// Somebody's certificate of now.
    pub(crate) fn credential(&self, subject: Subject) -> Current {
        self.credential_at(subject, 1, NOON)
    }

    /// Somebody's certificate of another time and epoch.
    pub(crate) fn credential_at(&self, subject: Subject, epoch: u32, now: u64) -> Current {
        let request = KeyRequest::generate().unwrap();
        let (epoch, now) = (Epoch(epoch), TimeMs(now));
        let order = Order { subject, epoch, revision: Revision(7), now, life_ms: NODE_LIFE_MS };
        let issued = self.authority.issue(request.bytes(), &order).unwrap();
        let then = Clock::of(move || now);
        let trust = Trust::new(self.authority.certificate().clone(), epoch, then, |_| false).unwrap();
        Current::new(Credential::new(&request, issued.chain, &trust).unwrap())
    }

    pub(crate) fn connector(&self, own: Option<Current>) -> Connector {
        Connector::new(self.trust.clone(), own)
    }

    pub(crate) async fn open(&self, own: Current, certificates: Certificates) -> Port {
        let bounds = Bounds { handshakes: 64, handshake_ms: 10_000, connections: 1_000, ..Bounds::STANDARD };
        self.open_bounded(own, certificates, bounds).await
    }

    /// A port that sends back what it is sent.
    pub(crate) async fn open_bounded(&self, own: Current, certificates: Certificates, bounds: Bounds) -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, refused) = mpsc::channel(1_000);
        let (came, accepted) = mpsc::channel(1_000);
        let refusals = move |_: SocketAddr, refused: &Refused| told.try_send(refused.clone()).unwrap();
        let trust = self.trust.clone();
        let gate = Gate { trust, own, certificates, bounds, refusals: Some(Arc::new(refusals)) };
        let serving = tokio::spawn(async move {
            let mut stream = Box::pin(accept(listener, gate));
            while let Some(Ok(accepted)) = stream.next().await {
                came.try_send(accepted.identified().cloned()).unwrap();
                tokio::spawn(echo(accepted));
            }
        });
        Port { address: address.to_string(), accepted, refused, serving }
    }
}

async fn echo(mut accepted: Accepted) {
    let mut bytes = [0; 64];
    while let Ok(read @ 1..) = accepted.read(&mut bytes).await {
        if accepted.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

pub(crate) struct Port {
    pub(crate) address: String,
    accepted: mpsc::Receiver<Option<Arc<Identified>>>,
    refused: mpsc::Receiver<Refused>,
    serving: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Port {
    /// Who came, once somebody did.
    pub(crate) async fn came(&mut self) -> Option<Arc<Identified>> {
        tokio::time::timeout(PATIENCE, self.accepted.recv()).await.expect("nobody came").unwrap()
    }

    /// Why somebody was refused, once somebody was.
    pub(crate) async fn refused(&mut self) -> Refused {
        tokio::time::timeout(PATIENCE, self.refused.recv()).await.expect("nobody was refused").unwrap()
    }

    pub(crate) fn nobody_came(&mut self) -> bool {
        self.accepted.try_recv().is_err()
    }

    pub(crate) fn nobody_was_refused(&mut self) -> bool {
        self.refused.try_recv().is_err()
    }
}

/// Sends a word and reads it back.
pub(crate) async fn talk<S>(stream: &mut S) -> std::io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    stream.write_all(b"word").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"word");
    Ok(())
}
