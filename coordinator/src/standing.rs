//! On what a caller's right rests, and whether it still does: a certificate or a token may expire or be taken back while a request
//! is being sent, passed on, or answered.
//!
//! Invariant: whoever calls is judged when a request begins, again when it is whole, by the leader a call is passed on to, and for
//! as long as it is answered.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flowyard_identity::{Identified, Refused, Shown};
use flowyard_model::{Identity, Revision, Serial, TimeMs, TokenId};
use flowyard_proto::peer;
use flowyard_state::State;
use futures::StreamExt;
use tokio_stream::Stream;
use tonic::Status;

use crate::access::Caller;
use crate::feed::Feed;

/// How long an expiry is slept towards at once: the clock may have been set meanwhile.
const LOOK: Duration = Duration::from_secs(30);

/// What was shown, so that it can be looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ground {
    /// The machine is theirs, or they have shown nothing: there is nothing to take back.
    Nothing,
    /// A certificate.
    Certificate(Certified),
    /// A token of the API.
    Token(TokenId),
}

/// What matters of a certificate that was believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certified {
    /// Whom it names.
    pub who: Identity,
    /// Its serial number.
    pub serial: Serial,
    /// When it was issued, in the log.
    pub revision: Revision,
    /// Until when it is valid.
    pub not_after: TimeMs,
    /// Whether it had expired already, and was let in to be renewed.
    pub lapsed: bool,
}

impl Certified {
    /// That of a connection.
    pub(crate) fn of(found: &Identified) -> Self {
        Self {
            who: found.claim.subject.identity(),
            serial: found.serial,
            revision: found.claim.revision,
            not_after: found.not_after,
            lapsed: found.lapsed,
        }
    }

    fn check(&self, state: &State, now: TimeMs) -> Result<(), Refused> {
        if !self.lapsed && now > self.not_after {
            return Err(Refused::Expired { who: self.who.clone(), not_after: self.not_after, now });
        }
        let revoked = [self.who.clone(), Identity::Certificate(self.serial)];
        match revoked.iter().any(|who| state.revoked(who, self.revision).is_some()) {
            true => Err(Refused::Revoked { who: self.who.clone() }),
            false => Ok(()),
        }
    }
}

impl Ground {
    /// Whether it still holds.
    ///
    /// # Errors
    /// Why it does not.
    fn check(&self, state: &State, now: TimeMs) -> Result<(), Status> {
        match self {
            Self::Nothing => Ok(()),
            Self::Certificate(it) => {
                it.check(state, now).map_err(|refused| Status::unauthenticated(refused.to_string()))
            }
            Self::Token(id) => match state.token(*id).map(|token| token.fault(now)) {
                Some(None) => Ok(()),
                Some(Some(fault)) => Err(void(&fault.to_string())),
                None => Err(void("has expired")),
            },
        }
    }

    fn expires_at(&self, state: &State) -> Option<TimeMs> {
        match self {
            Self::Nothing => None,
            Self::Certificate(it) => (!it.lapsed).then_some(it.not_after),
            Self::Token(id) => state.token(*id).map(|token| token.expires_at),
        }
    }
}

fn void(fault: &str) -> Status {
    Status::unauthenticated(format!("the token {fault}; ask an administrator for another one"))
}

/// What the maker of a call is told when the coordinator that passes it on is not believed: it is no fault of theirs, and another
/// coordinator may do.
pub(crate) fn by_another(refused: &Status) -> Status {
    Status::unavailable(format!(
        "the coordinator that was asked cannot pass this on to the leader: {}",
        refused.message()
    ))
}

/// Who calls, from where, and on what ground; it can be asked again at any time.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// Who.
    pub caller: Caller,
    /// What was shown.
    pub ground: Ground,
    /// Where they come from. Nothing may trust it.
    pub address: String,
    /// The coordinator that passed the call on.
    pub through: Option<Certified>,
    /// Told when they have shown a token, on a connection that did not name them.
    pub shown: Option<Shown>,
    /// What the call is about, once somebody has read it.
    pub object: Arc<Mutex<String>>,
    /// Where tokens and revocations are.
    pub feed: Feed,
}

impl Standing {
    /// Says what the call is about.
    pub(crate) fn about(&self, object: &str) {
        object.clone_into(&mut self.object.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What the call is about.
    pub(crate) fn object(&self) -> String {
        self.object.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the caller still is who they were.
    ///
    /// # Errors
    /// When what they showed, or what the coordinator that passes their call on has shown, has expired or was taken back.
    pub(crate) fn check(&self) -> Result<(), Status> {
        self.check_in(&self.feed.view())
    }

    /// As [`Standing::check`], in a state that is known to be fresh.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn check_in(&self, state: &State) -> Result<(), Status> {
        let now = TimeMs(flowyard_clock::wall_ms());
        self.ground.check(state, now)?;
        match &self.through {
            Some(through) => {
                Ground::Certificate(through.clone()).check(state, now).map_err(|refused| by_another(&refused))
            }
            None => Ok(()),
        }
    }

    /// Done when the right is lost; tells why.
    pub(crate) async fn lost(self) -> Status {
        if self.ground == Ground::Nothing && self.through.is_none() {
            return std::future::pending().await;
        }
        let mut changed = self.feed.access();
        loop {
            changed.mark_unchanged();
            let view = self.feed.view();
            if let Err(status) = self.check_in(&view) {
                return status;
            }
            let expires = self.ground.expires_at(&view).unwrap_or(TimeMs(u64::MAX));
            let left = expires.0.saturating_sub(flowyard_clock::wall_ms()).saturating_add(1);
            tokio::select! {
                changed = changed.changed() => if changed.is_err() {
                    return Status::unavailable("this coordinator is stopping");
                },
                () = tokio::time::sleep(LOOK.min(Duration::from_millis(left))) => {}
            }
        }
    }
}

/// A stream of answers.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The answers for as long as the caller may have them; then the reason why there are no more.
pub(crate) fn while_standing<T: Send + 'static>(standing: Standing, answers: Answers<T>) -> Answers<T> {
    let lost: Pin<Box<dyn Future<Output = Status> + Send>> = Box::pin(standing.lost());
    Box::pin(futures::stream::unfold(Some((answers, lost)), |open| async move {
        let (mut answers, mut lost) = open?;
        tokio::select! {
            biased;
            status = &mut lost => Some((Err(status), None)),
            answer = answers.next() => Some((answer?, Some((answers, lost)))),
        }
    }))
}

impl From<&Standing> for peer::Caller {
    fn from(standing: &Standing) -> Self {
        use peer::ground::Kind;
        let kind = match &standing.ground {
            Ground::Nothing => None,
            Ground::Token(token) => Some(Kind::Token(token.0)),
            Ground::Certificate(it) => Some(Kind::Certificate(peer::Certified {
                who: Some((&it.who).into()),
                serial: it.serial.0.to_vec().into(),
                revision: it.revision.0,
                not_after_ms: it.not_after.0,
                lapsed: it.lapsed,
            })),
        };
        let ground = kind.map(|kind| peer::Ground { kind: Some(kind) });
        Self { address: standing.address.clone(), ground, ..(&standing.caller).into() }
    }
}

impl TryFrom<Option<peer::Ground>> for Ground {
    type Error = Status;

    fn try_from(wire: Option<peer::Ground>) -> Result<Self, Status> {
        use peer::ground::Kind;
        let Some(wire) = wire else { return Ok(Self::Nothing) };
        let unreadable = |what: &str| Status::invalid_argument(format!("caller: ground: {what}"));
        match wire.kind.ok_or_else(|| unreadable("missing"))? {
            Kind::Token(token) => Ok(Self::Token(TokenId(token))),
            Kind::Certificate(it) => {
                let who = it.who.ok_or_else(|| unreadable("it names nobody"))?;
                let serial = <[u8; 16]>::try_from(it.serial.as_ref());
                Ok(Self::Certificate(Certified {
                    who: Identity::try_from(who).map_err(|error| unreadable(&error.to_string()))?,
                    serial: Serial(serial.map_err(|_| unreadable("a serial number has 16 bytes"))?),
                    revision: Revision(it.revision),
                    not_after: TimeMs(it.not_after_ms),
                    lapsed: it.lapsed,
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flowyard_model::ReplicaId;

    use super::*;

    fn certified(who: Identity, not_after: u64) -> Certified {
        Certified { who, serial: Serial([1; 16]), revision: Revision(1), not_after: TimeMs(not_after), lapsed: false }
    }

    fn standing(ground: Ground, through: Certified) -> Standing {
        Standing {
            caller: Caller::Nobody,
            ground,
            address: "a:1".to_owned(),
            through: Some(through),
            shown: None,
            object: Arc::default(),
            feed: Feed::starting_with(State::new().view()),
        }
    }

    #[test]
    fn who_asks_a_coordinator_that_the_leader_does_not_believe_is_sent_to_another_and_not_refused() {
        let coordinator = Identity::Coordinator(ReplicaId(1));
        let valid = certified(coordinator.clone(), u64::MAX);
        assert!(standing(Ground::Nothing, valid.clone()).check().is_ok());
        // The leader's clock may be the one that is wrong.
        let told = standing(Ground::Nothing, certified(coordinator, 1)).check().unwrap_err();
        assert_eq!(told.code(), tonic::Code::Unavailable, "{told}");
        assert!(told.message().contains("the certificate of coordinator 1 expired"), "{told}");
        let expired = Ground::Certificate(certified(Identity::Agent("n1".parse().unwrap()), 1));
        let told = standing(expired, valid).check().unwrap_err();
        assert_eq!(told.code(), tonic::Code::Unauthenticated, "their own ground is their own matter: {told}");
    }
}
