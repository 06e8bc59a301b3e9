//! Tokens and revocations.
//!
//! Invariant: a token lets in at most as many keys as it may; ids of tokens and the revisions of revocations are indexes of
//! entries, so none comes twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{
    Changed, CreateToken, Fingerprint, Grant, Identity, Rejection, Reply, Revision, Revocation, Role, TimeMs, Token,
    TokenFault, TokenId, limits,
};

use crate::indexes::Lapse;
use crate::state::State;

/// Applies `CreateToken`.
pub(crate) fn create_token(state: &mut State, changed: &mut Changed, wish: CreateToken) -> Reply {
    if let Err((path, message)) = check_token(state, &wish) {
        return Reply::Rejected(Rejection::Invalid { path: path.to_owned(), message });
    }
    let id = TokenId(state.meta.revision.0);
    let CreateToken { hash, grant, expires_at, uses, created_by } = wish;
    let (created_at, used_by) = (state.meta.time, BTreeSet::new());
    let token = Token { hash, grant, expires_at, uses, used_by, created_by, created_at, revoked: false };
    let before = state.tokens.insert(id, Arc::new(token));
    assert!(before.is_none(), "an entry makes one token");
    state.indexes.lapsing.insert((expires_at, Lapse::Token(id)));
    changed.access = true;
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

/// Applies `UseToken`. A key that was let in before is let in again without being counted.
pub(crate) fn use_token(state: &mut State, changed: &mut Changed, id: TokenId, by: Fingerprint) -> Reply {
    let now = state.meta.time;
    let Some(token) = state.tokens.get_mut(&id) else { return unknown(id) };
    let void = |fault| Reply::Rejected(Rejection::TokenVoid { token: id, fault });
    if let Some(fault) = token.fault(now) {
        return void(fault);
    }
    match token.uses_left() {
        None => void(TokenFault::WrongUse),
        Some(_) if token.used_by.contains(&by) => Reply::TokenUsed { grant: token.grant.clone() },
        Some(0) => void(TokenFault::Spent),
        Some(_) => {
            let token = Arc::make_mut(token);
            token.used_by.insert(by);
            changed.access = true;
            Reply::TokenUsed { grant: token.grant.clone() }
        }
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
