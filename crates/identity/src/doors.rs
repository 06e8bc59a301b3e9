//! The addresses of all coordinators as one place to connect to: whichever answers.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use flowyard_model::Fingerprint;
use http::Uri;
use hyper_util::rt::TokioIo;

use crate::clock::Clock;
use crate::connect::{ConnectError, Connector, introduce};
use crate::judged::{Judged, Open};

/// Where coordinators are, and how they are believed; cheap to clone, and all clones know the same.
#[derive(Clone)]
pub struct Doors {
    /// The one to try first is the first.
    order: Arc<Mutex<Vec<String>>>,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Trusted(Connector),
    Pinned(Fingerprint, Clock),
}

/// No coordinator could be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{}", said(.0))]
pub struct NoDoor(Vec<ConnectError>);

fn said(errors: &[ConnectError]) -> String {
    if errors.is_empty() {
        return "the address of no coordinator is known".to_owned();
    }
    let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
    all.join("; ")
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Doors({:?})", self.lock())
    }
}

impl Doors {
    /// These, to be connected to as somebody who knows the cluster.
    pub fn new(addresses: Vec<String>, connector: Connector) -> Self {
        Self { order: Arc::new(Mutex::new(addresses)), way: Way::Trusted(connector) }
    }

    /// These, of a cluster of which only the authority's fingerprint is known.
    pub fn pinned(addresses: Vec<String>, authority: Fingerprint) -> Self {
        Self { order: Arc::new(Mutex::new(addresses)), way: Way::Pinned(authority, Clock::wall()) }
    }

    /// The addresses, the one to be tried first in front.
    pub fn addresses(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// Knows these from now on; the order of those that stay is kept.
    pub fn replace(&self, addresses: Vec<String>) {
        let mut order = self.lock();
        let mut kept: Vec<String> = order.iter().filter(|known| addresses.contains(known)).cloned().collect();
        let fresh: Vec<String> = addresses.into_iter().filter(|address| !kept.contains(address)).collect();
        kept.extend(fresh);
        *order = kept;
    }

    /// Tries this one first, also if it is not known yet.
    pub fn prefer(&self, address: &str) {
        let mut order = self.lock();
        order.retain(|known| known != address);
        order.insert(0, address.to_owned());
    }

    /// Tries this one last.
    pub fn avoid(&self, address: &str) {
        let mut order = self.lock();
        if let Some(at) = order.iter().position(|known| known == address) {
            let avoided = order.remove(at);
            order.push(avoided);
        }
    }

    /// Connects to the first that answers, which is tried first the next time.
    ///
    /// # Errors
    /// When none does, with what each said.
    pub async fn connect(&self) -> Result<Open, NoDoor> {
        let mut errors = Vec::new();
        for address in self.addresses() {
            match self.open(&address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    self.avoid(&address);
                    errors.push(error);
                }
            }
        }
        Err(NoDoor(errors))
    }

    async fn open(&self, address: &str) -> Result<Open, ConnectError> {
        match &self.way {
            Way::Trusted(connector) => Ok(connector.connect(address).await?.0),
            Way::Pinned(authority, clock) => {
                Ok(Judged::once(introduce(address, *authority, clock.clone()).await?.stream))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl tower::Service<Uri> for Doors {
    type Response = TokioIo<Open>;
    type Error = NoDoor;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NoDoor>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoDoor>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let doors = self.clone();
        Box::pin(async move { Ok(TokioIo::new(doors.connect().await?)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_preferred_is_first_and_what_is_gone_is_forgotten() {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let doors = Doors::pinned(texts(&["a:1", "b:1", "c:1"]), Fingerprint([0; 32]));
        doors.prefer("c:1");
        doors.prefer("d:1");
        assert_eq!(doors.addresses(), texts(&["d:1", "c:1", "a:1", "b:1"]));
        doors.avoid("d:1");
        doors.replace(texts(&["a:1", "c:1", "e:1"]));
        assert_eq!(doors.addresses(), texts(&["c:1", "a:1", "e:1"]));
    }

    #[tokio::test]
    async fn when_nobody_answers_each_failure_is_said() {
        let nobody = Doors::pinned(vec!["127.0.0.1:1".to_owned(), "nonsense".to_owned()], Fingerprint([0; 32]));
        let error = nobody.connect().await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1") && error.contains("nonsense"), "{error}");
        let none = Doors::pinned(vec![], Fingerprint([0; 32])).connect().await.unwrap_err();
        assert_eq!(none.to_string(), "the address of no coordinator is known");
    }
}
