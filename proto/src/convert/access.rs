//! Roles, tokens and revocations.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model as model;
use flowyard_model::{
    Admitted, Fingerprint, Grant, Identity, Record, ReplicaId, Revision, Role, Serial, TimeMs, TokenId, limits,
};
use prost::bytes::Bytes;

use super::closed;
use crate::decode::{self, DecodeError, Decoded, Problem, Under};
use crate::peer;
use crate::peer::{RoleKind, admitted, grant, identity};

closed! {
    Joiner in peer { Coordinator, Agent }
    TokenFault in peer { Revoked, Expired, Spent, WrongUse, OtherName, ShutOut }
}

/// A hash of 32 bytes.
pub(super) fn fingerprint(field: &str, bytes: &[u8]) -> Decoded<Fingerprint> {
    let hash = <[u8; 32]>::try_from(bytes).map_err(|_| Problem::HashLength { bytes: bytes.len() });
    hash.map(Fingerprint).under(field)
}

pub(super) fn bytes_of(fingerprint: Fingerprint) -> Bytes {
    Bytes::copy_from_slice(&fingerprint.0)
}

impl From<&Role> for peer::Role {
    fn from(role: &Role) -> Self {
        let kind = match role {
            Role::Viewer => RoleKind::Viewer,
            Role::Submitter { .. } => RoleKind::Submitter,
            Role::Operator => RoleKind::Operator,
            Role::Admin => RoleKind::Admin,
        };
        let queues = match role {
            Role::Submitter { queues } => queues.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        Self { kind: kind.into(), queues }
    }
}

impl TryFrom<peer::Role> for Role {
    type Error = DecodeError;

    fn try_from(role: peer::Role) -> Decoded<Self> {
        decode::at_most("queues", limits::QUEUES_PER_ROLE, role.queues.len())?;
        let queues: BTreeSet<model::QueuePath> =
            decode::set("queues", role.queues.iter().map(|path| Ok(path.parse().map_err(Problem::QueuePath)?)))?;
        let kind =
            RoleKind::try_from(role.kind).map_err(|_| Problem::UnknownValue { number: role.kind }).under("kind")?;
        match kind {
            RoleKind::Submitter if queues.is_empty() => Err(Problem::Missing).under("queues"),
            RoleKind::Submitter => Ok(Self::Submitter { queues }),
            _ if !queues.is_empty() => {
                Err(Problem::Contradiction("only a submitter is bound to queues")).under("queues")
            }
            RoleKind::Unspecified => Err(Problem::Missing).under("kind"),
            RoleKind::Viewer => Ok(Self::Viewer),
            RoleKind::Operator => Ok(Self::Operator),
            RoleKind::Admin => Ok(Self::Admin),
        }
    }
}

impl From<&Grant> for peer::Grant {
    fn from(grant: &Grant) -> Self {
        let kind = match grant {
            Grant::Join(joiner) => grant::Kind::Join(peer::Joiner::from(*joiner).into()),
            Grant::Api { principal, role } => {
                grant::Kind::Api(peer::ApiGrant { principal: principal.to_string(), role: Some(role.into()) })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<peer::Grant> for Grant {
    type Error = DecodeError;

    fn try_from(grant: peer::Grant) -> Decoded<Self> {
        match grant.kind.ok_or(Problem::Missing).under("kind")? {
            grant::Kind::Join(joiner) => Ok(Self::Join(decode::closed("join", joiner)?)),
            grant::Kind::Api(api) => Ok(Self::Api {
                principal: decode::name("principal", &api.principal).under("api")?,
                role: decode::required("role", api.role).under("api")?,
            }),
        }
    }
}

impl From<&Identity> for peer::Identity {
    fn from(it: &Identity) -> Self {
        let kind = match it {
            Identity::Coordinator(replica) => identity::Kind::Coordinator(replica.0),
            Identity::Agent(name) => identity::Kind::Agent(name.to_string()),
            Identity::Person(name) => identity::Kind::Person(name.to_string()),
            Identity::Certificate(serial) => identity::Kind::Certificate(Bytes::copy_from_slice(&serial.0)),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<peer::Identity> for Identity {
    type Error = DecodeError;

    fn try_from(it: peer::Identity) -> Decoded<Self> {
        match it.kind.ok_or(Problem::Missing).under("kind")? {
            identity::Kind::Coordinator(replica) => Ok(Self::Coordinator(ReplicaId(replica))),
            identity::Kind::Agent(name) => Ok(Self::Agent(decode::name("agent", &name)?)),
            identity::Kind::Person(name) => Ok(Self::Person(decode::name("person", &name)?)),
            identity::Kind::Certificate(serial) => {
                let wrong = Problem::Contradiction("a serial number has 16 bytes");
                let serial = <[u8; 16]>::try_from(serial.as_ref()).map_err(|_| wrong).under("certificate")?;
                Ok(Self::Certificate(Serial(serial)))
            }
        }
    }
}

impl From<&Admitted> for peer::Admitted {
    fn from(who: &Admitted) -> Self {
        let kind = match who {
            Admitted::Agent(name) => admitted::Kind::Agent(name.to_string()),
            Admitted::Coordinator(addresses) => admitted::Kind::Coordinator(addresses.clone()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<peer::Admitted> for Admitted {
    type Error = DecodeError;

    fn try_from(who: peer::Admitted) -> Decoded<Self> {
        match who.kind.ok_or(Problem::Missing).under("kind")? {
            admitted::Kind::Agent(name) => Ok(Self::Agent(decode::name("agent", &name)?)),
            admitted::Kind::Coordinator(addresses) => {
                decode::within("coordinator", limits::ADDRESS_BYTES, addresses.len())?;
                Ok(Self::Coordinator(addresses))
            }
        }
    }
}

fn admission((key, who): (&Fingerprint, &Admitted)) -> peer::Admission {
    peer::Admission { key: bytes_of(*key), who: Some(who.into()) }
}

fn decode_admissions(wire: Vec<peer::Admission>) -> Decoded<BTreeMap<Fingerprint, Admitted>> {
    let mut used_by = BTreeMap::new();
    for (at, admission) in wire.into_iter().enumerate() {
        let key = fingerprint("key", &admission.key).under_index("used_by", at)?;
        let who = decode::required("who", admission.who).under_index("used_by", at)?;
        if used_by.insert(key, who).is_some() {
            return Err(Problem::Duplicate).under_index("used_by", at);
        }
    }
    Ok(used_by)
}

impl From<&model::CreateToken> for peer::CreateToken {
    fn from(create: &model::CreateToken) -> Self {
        Self {
            hash: bytes_of(create.hash),
            grant: Some((&create.grant).into()),
            expires_at_ms: create.expires_at.0,
            uses: create.uses,
            created_by: create.created_by.clone(),
        }
    }
}

impl TryFrom<peer::CreateToken> for model::CreateToken {
    type Error = DecodeError;

    fn try_from(create: peer::CreateToken) -> Decoded<Self> {
        Ok(Self {
            hash: fingerprint("hash", &create.hash)?,
            grant: decode::required("grant", create.grant)?,
            expires_at: TimeMs(create.expires_at_ms),
            uses: create.uses,
            created_by: create.created_by,
        })
    }
}

pub(super) fn from_token(id: TokenId, token: &model::Token) -> peer::Token {
    peer::Token {
        token: id.0,
        hash: bytes_of(token.hash),
        grant: Some((&token.grant).into()),
        expires_at_ms: token.expires_at.0,
        uses: token.uses,
        used_by: token.used_by.iter().map(admission).collect(),
        created_by: token.created_by.clone(),
        created_at_ms: token.created_at.0,
        revoked: token.revoked,
    }
}

pub(super) fn to_token(token: peer::Token) -> Decoded<model::Token> {
    Ok(model::Token {
        hash: fingerprint("hash", &token.hash)?,
        grant: decode::required("grant", token.grant)?,
        expires_at: TimeMs(token.expires_at_ms),
        uses: token.uses,
        used_by: decode_admissions(token.used_by)?,
        created_by: token.created_by,
        created_at: TimeMs(token.created_at_ms),
        revoked: token.revoked,
    })
}

pub(super) fn from_revocation(identity: &Identity, revocation: &model::Revocation) -> peer::Revocation {
    peer::Revocation {
        identity: Some(identity.into()),
        revision: revocation.revision.0,
        at_ms: revocation.at.0,
        until_ms: revocation.until.map(|until| until.0),
        by: revocation.by.clone(),
    }
}

pub(super) fn to_revocation(wire: peer::Revocation) -> Decoded<Record> {
    let identity = decode::required("identity", wire.identity)?;
    let (at, until) = (TimeMs(wire.at_ms), wire.until_ms.map(TimeMs));
    let revocation = model::Revocation { revision: Revision(wire.revision), at, until, by: wire.by };
    Ok(Record::Revocation(identity, revocation))
}
