//! Tokens and revocations.
//!
//! Invariant: a token lets in at most as many keys as it may, each as one thing for good, and nobody who was shut out after it was
//! made; ids of tokens and the revisions of revocations are indexes of
//! entries, so none comes twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{
    Admitted, Changed, CreateToken, Fingerprint, Grant, Identity, Rejection, ReplicaId, Reply, Revision, Revocation,
    Role, TimeMs, Token, TokenFault, TokenId, limits,
};

use crate::indexes::Lapse;
use crate::state::State;

/// Applies `CreateToken`.
pub(crate) fn create_token(state: &mut State, wish: CreateToken) -> Reply {
    if let Err((path, message)) = check_token(state, &wish) {
        return Reply::Rejected(Rejection::Invalid { path: path.to_owned(), message });
    }
    let id = TokenId(state.meta.revision.0);
    let CreateToken { hash, grant, expires_at, uses, created_by } = wish;
    let (created_at, used_by) = (state.meta.time, BTreeMap::new());
    let token = Token { hash, grant, expires_at, uses, used_by, created_by, created_at, revoked: false };
    let before = state.tokens.insert(id, Arc::new(token));
    assert!(before.is_none(), "an entry makes one token");
    state.indexes.lapsing.insert((expires_at, Lapse::Token(id)));
    Reply::TokenCreated { token: id }
}

fn check_token(state: &State, wish: &CreateToken) -> Result<(), (&'static str, String)> {
    let now = state.meta.time;
    if wish.expires_at <= now || wish.expires_at > now.after(limits::DURATION_MS) {
        return Err(("token.expires_at", "a token expires later than now, and within ten years".to_owned()));
    }
    if wish.created_by.len() > limits::TEXT_BYTES {
        return Err(("token.created_by", format!("at most {} bytes", limits::TEXT_BYTES)));
    }
    match (&wish.grant, wish.uses) {
        (Grant::Join(_), Some(1..=limits::TOKEN_USES)) | (Grant::Api { .. }, None) => {}
        (Grant::Join(_), _) => {
            return Err(("token.uses", format!("a token to join is used 1 to {} times", limits::TOKEN_USES)));
        }
        (Grant::Api { .. }, Some(_)) => {
            return Err(("token.uses", "calls of the API are not counted; leave it out".to_owned()));
        }
    }
    if let Grant::Api { role: Role::Submitter { queues }, .. } = &wish.grant
        && !(1..=limits::QUEUES_PER_ROLE).contains(&queues.len())
    {
        return Err(("token.role", format!("a submitter is bound to 1 to {} queues", limits::QUEUES_PER_ROLE)));
    }
    if state.tokens.len() >= limits::TOKENS {
        return Err(("token", format!("there are {} tokens already; wait until some expire", limits::TOKENS)));
    }
    Ok(())
}

/// Applies `RevokeToken`.
pub(crate) fn revoke_token(state: &mut State, changed: &mut Changed, id: TokenId) -> Reply {
    let Some(token) = state.tokens.get_mut(&id) else { return unknown(id) };
    if !token.revoked {
        Arc::make_mut(token).revoked = true;
        changed.access = true;
    }
    Reply::Done
}

/// Applies `UseToken`. A key that was let in before is let in again without being counted, as what it was.
pub(crate) fn use_token(state: &mut State, id: TokenId, by: Fingerprint, who: Admitted) -> Reply {
    let Some(token) = state.tokens.get(&id) else { return unknown(id) };
    if let Some(fault) = fault(state, id, token, by, &who) {
        return Reply::Rejected(Rejection::TokenVoid { token: id, fault });
    }
    let grant = token.grant.clone();
    if !token.used_by.contains_key(&by) {
        let token = state.tokens.get_mut(&id).expect("it was found just now");
        Arc::make_mut(token).used_by.insert(by, who);
    }
    Reply::TokenUsed { grant }
}

/// What stands against letting this key in as this.
fn fault(state: &State, id: TokenId, token: &Token, by: Fingerprint, who: &Admitted) -> Option<TokenFault> {
    if let Some(fault) = token.fault(state.meta.time) {
        return Some(fault);
    }
    let Some(left) = token.uses_left().filter(|_| token.grant == Grant::Join(who.joiner())) else {
        return Some(TokenFault::WrongUse);
    };
    // Whoever was shut out comes back with a token made afterwards, and not with what is left of the one they know.
    let known = token.used_by.values();
    if known.chain([who]).any(|who| state.shut_out_since(Revision(id.0), who)) {
        return Some(TokenFault::ShutOut);
    }
    match token.used_by.get(&by) {
        Some(before) if before != who => Some(TokenFault::OtherName),
        None if left == 0 => Some(TokenFault::Spent),
        _ => None,
    }
}

fn unknown(token: TokenId) -> Reply {
    Reply::Rejected(Rejection::UnknownToken { token })
}

/// Applies `RevokeIdentity`. Doing it again voids what was issued in between.
pub(crate) fn revoke_identity(
    state: &mut State,
    changed: &mut Changed,
    identity: Identity,
    until: Option<TimeMs>,
    by: String,
) -> Reply {
    let invalid = |path: &str, message| Reply::Rejected(Rejection::Invalid { path: path.to_owned(), message });
    let known = state.revocations.get(&identity).cloned();
    if until.is_some_and(|until| until <= state.meta.time) {
        return invalid("revocation.until", "a revocation ends later than now, or never".to_owned());
    }
    if by.len() > limits::TEXT_BYTES {
        return invalid("revocation.by", format!("at most {} bytes", limits::TEXT_BYTES));
    }
    if known.is_none() && state.revocations.len() >= limits::REVOCATIONS {
        return invalid("revocation", format!("{} identities are shut out already", limits::REVOCATIONS));
    }
    // What an earlier revocation voids stays void: the later end of the two holds.
    let until = known.as_ref().map_or(until, |known| Some(known.until?.max(until?)));
    if let Some(until) = known.and_then(|known| known.until) {
        state.indexes.lapsing.remove(&(until, Lapse::Revocation(identity.clone())));
    }
    if let Some(until) = until {
        state.indexes.lapsing.insert((until, Lapse::Revocation(identity.clone())));
    }
    let revocation = Revocation { revision: state.meta.revision, at: state.meta.time, until, by };
    state.revocations.insert(identity, revocation);
    changed.access = true;
    Reply::Done
}

/// Forgets the token or revocation whose time was up first; whether there was one.
pub(crate) fn forget_lapsed(state: &mut State, changed: &mut Changed) -> bool {
    let now = state.meta.time;
    let Some((until, lapse)) = state.indexes.lapsing.get_min().filter(|(until, _)| *until <= now).cloned() else {
        return false;
    };
    match &lapse {
        Lapse::Token(token) => drop(state.tokens.remove(token)),
        Lapse::Revocation(identity) => drop(state.revocations.remove(identity)),
    }
    state.indexes.lapsing.remove(&(until, lapse));
    changed.access = true;
    true
}

impl State {
    /// Whether this was shut out at the revision or later. A coordinator's replica is decided after it was let in, so for one of them
    /// it is enough that any was.
    fn shut_out_since(&self, since: Revision, who: &Admitted) -> bool {
        let span = match who {
            Admitted::Agent(name) => Identity::Agent(name.clone())..=Identity::Agent(name.clone()),
            Admitted::Coordinator(_) => {
                Identity::Coordinator(ReplicaId(0))..=Identity::Coordinator(ReplicaId(u64::MAX))
            }
        };
        self.revocations.range(span).any(|(_, revocation)| revocation.revision >= since)
    }

    /// A token.
    pub fn token(&self, token: TokenId) -> Option<&Arc<Token>> {
        self.tokens.get(&token)
    }

    /// All tokens, by id.
    pub fn tokens(&self) -> impl Iterator<Item = (TokenId, &Arc<Token>)> {
        self.tokens.iter().map(|(id, token)| (*id, token))
    }

    /// All identities that are shut out.
    pub fn revocations(&self) -> impl Iterator<Item = (&Identity, &Revocation)> {
        self.revocations.iter()
    }

    /// The revocation that voids what was issued for this identity at this revision.
    pub fn revoked(&self, identity: &Identity, issued: Revision) -> Option<&Revocation> {
        let found = self.revocations.get(identity)?;
        let single = matches!(identity, Identity::Certificate(_));
        (single || issued <= found.revision).then_some(found)
    }
}
