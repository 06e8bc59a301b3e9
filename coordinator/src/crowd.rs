//! How much one caller may ask at a time, how often, and how slowly: whoever asks too much is told so, and others are answered.
//!
//! Calls are counted per person and agent, and per address for those that have shown nothing; a call counts until its answer has
//! been sent. A request has to come within a time, but for those whose streams are meant to stay open.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flowyard_proto::status::ask_again;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::access::Caller;
use crate::around::{Answer, Around, Request, UntilSent, until_sent};
use crate::config::CallRate;
use crate::rates::Rates;
use crate::standing::Standing;

/// Calls of one person at a time.
const PERSON: usize = 256;
/// Calls of one agent at a time: a session, relays, and blobs on their way.
const AGENT: usize = 1_024;
/// Calls of all that have shown nothing, of one address, at a time.
const STRANGER: usize = 16;
/// How long a request may be in coming.
const WHOLE: Duration = Duration::from_secs(20);
/// How long the next part of an upload may be in coming.
const PART: Duration = Duration::from_secs(30);
/// Calls whose request stays open for as long as its maker likes.
const OPEN: [&str; 3] =
    ["/flowyard.api.v1.Flowyard/Exec", "/flowyard.agent.v1.Agents/Session", "/flowyard.agent.v1.Agents/Relay"];
const UPLOAD: &str = "/flowyard.blob.v1.Blobs/Put";

/// Who has how many calls under way, and made how many of late; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    calls: Arc<Mutex<HashMap<String, usize>>>,
    rates: Arc<Rates>,
}

/// A call that is counted, until dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    who: String,
    crowd: Crowd,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut calls = self.crowd.lock();
        match calls.get_mut(&self.who) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(calls.remove(&self.who)),
        }
    }
}

impl Crowd {
    /// Nobody calls yet; each person may so often.
    pub(crate) fn new(rate: CallRate) -> Self {
        Self { calls: Arc::default(), rates: Arc::new(Rates::new(rate)) }
    }

    fn begin(&self, standing: &Standing) -> Result<Option<Counted>, Status> {
        let (who, most) = match &standing.caller {
            // The machine is theirs; coordinators trust each other, and have counted those they pass on.
            Caller::Owner { .. } | Caller::Coordinator { .. } => return Ok(None),
            Caller::Person { .. } => (standing.caller.principal(), PERSON),
            Caller::Agent { .. } => (standing.caller.principal(), AGENT),
            Caller::Lapsed { .. } | Caller::Nobody => {
                (format!("whoever calls from {}", host(&standing.address)), STRANGER)
            }
        };
        if let Caller::Person { .. } = &standing.caller {
            self.rates.count(&who).map_err(|wait| too_often(&who, wait))?;
        }
        let mut calls = self.lock();
        let count = calls.entry(who.clone()).or_default();
        if *count >= most {
            tracing::debug!(who, most, "a call was refused because too many are under way");
            let sentence = format!("{who} has {most} calls under way, as many as one may");
            return Err(ask_again(Code::Unavailable, &sentence, SOME_END));
        }
        *count += 1;
        drop(calls);
        Ok(Some(Counted { who, crowd: self.clone() }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After so long some of the calls that were under way have ended, as a rule.
const SOME_END: Duration = Duration::from_millis(500);

fn too_often(who: &str, wait: Duration) -> Status {
    tracing::debug!(who, "a call was refused because there were too many before it");
    let sentence = format!("{who} calls more often than one may over time");
    ask_again(Code::ResourceExhausted, &sentence, wait)
}

/// An address without its port.
pub(crate) fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

impl Around for Crowd {
    type Call = Option<Counted>;

    fn asked(&self, request: &mut Request) -> Result<Self::Call, Status> {
        let Some(standing) = request.extensions().get::<Standing>() else { return Ok(None) };
        let counted = self.begin(standing)?;
        if counted.is_some() {
            in_time(request);
        }
        Ok(counted)
    }

    async fn answered(&self, counted: Self::Call, answer: Answer) -> Answer {
        match counted {
            Some(counted) => until_sent(answer, counted),
            None => answer,
        }
    }
}

impl UntilSent for Counted {}

/// Its body has to come within its time.
fn in_time(request: &mut Request) {
    let path = request.uri().path();
    let (patience, anew) = match () {
        () if OPEN.contains(&path) => return,
        () if path == UPLOAD => (PART, true),
        () => (WHOLE, false),
    };
    let body = std::mem::take(request.body_mut());
    let until = Box::pin(tokio::time::sleep(patience));
    *request.body_mut() = Body::new(Timely { body, until, patience, anew });
}

/// A body that is given up when it is too slow.
struct Timely {
    body: Body,
    until: Pin<Box<Sleep>>,
    patience: Duration,
    /// Whether the time begins anew with each part.
    anew: bool,
}

impl http_body::Body for Timely {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            if self.anew {
                let until = Instant::now() + self.patience;
                self.until.as_mut().reset(until);
            }
            return frame;
        }
        match self.until.as_mut().poll(cx) {
            Poll::Ready(()) => {
                let waited = self.patience.as_secs();
                Poll::Ready(Some(Err(Status::deadline_exceeded(format!("the request did not come within {waited} s")))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use flowyard_state::State;

    use super::*;
    use crate::feed::Feed;
    use crate::standing::Ground;

    fn standing(caller: Caller, address: &str) -> Standing {
        let feed = Feed::starting_with(State::new().view());
        let address = address.to_owned();
        Standing { caller, ground: Ground::Nothing, address, through: None, shown: None, object: Arc::default(), feed }
    }

    #[test]
    fn strangers_of_one_address_share_its_calls_and_leave_others_theirs() {
        let crowd = Crowd::new(CallRate::STANDARD);
        let begin = |port: usize| crowd.begin(&standing(Caller::Nobody, &format!("10.0.0.1:{port}")));
        let calls: Vec<_> = (0..STRANGER).map(|port| begin(port).unwrap().unwrap()).collect();
        let refused = begin(99).unwrap_err();
        assert!(refused.message().starts_with("whoever calls from 10.0.0.1 has 16 calls under way"), "{refused}");
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        crowd.begin(&standing(Caller::Nobody, "10.0.0.2:1")).unwrap();
        let agent = Caller::Agent { name: "n1".parse().unwrap() };
        crowd.begin(&standing(agent, "10.0.0.1:1")).unwrap();
        drop(calls);
        assert!(crowd.lock().is_empty(), "a call that is over is not remembered");
    }

    #[test]
    fn a_person_who_calls_too_often_is_told_when_to_call_again_and_the_owner_never_is() {
        let crowd = Crowd::new(CallRate { per_second: 1, burst: 2 });
        let ada = Caller::Person { name: "ada".parse().unwrap(), role: flowyard_model::Role::Admin };
        let call = |caller: &Caller| crowd.begin(&standing(caller.clone(), "10.0.0.1:1")).map(drop);
        assert!(call(&ada).is_ok() && call(&ada).is_ok());
        let refused = call(&ada).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(flowyard_proto::status::wait_asked_for(&refused).is_some_and(|wait| wait <= Duration::from_secs(1)));
        let owner = Caller::Owner { name: "root".to_owned() };
        let agent = Caller::Agent { name: "n1".parse().unwrap() };
        assert!((0..100).all(|_| call(&owner).is_ok() && call(&agent).is_ok()));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let never = http_body_util::StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Status>>());
        let patience = Duration::from_millis(20);
        let until = Box::pin(tokio::time::sleep(patience));
        let mut slow = Timely { body: Body::new(never), until, patience, anew: true };
        let frame = futures::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut slow), cx)).await;
        assert_eq!(frame.unwrap().unwrap_err().code(), tonic::Code::DeadlineExceeded);
    }
}
