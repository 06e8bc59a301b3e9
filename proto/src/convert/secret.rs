//! Secrets: their names and whereabouts.

use std::sync::Arc;

use flowyard_model::{KeptSecret, Name, PutSecret, QueuePath, Record, Revision, SecretPlace, SecretUse, TimeMs};

use super::access::{bytes_of, fingerprint};
use crate::api as wire;
use crate::decode::{self, DecodeError, Decoded, Problem, Under};
use crate::peer;

fn queue(path: Option<String>) -> Decoded<Option<QueuePath>> {
    path.map(|path| path.parse::<QueuePath>().map_err(Problem::QueuePath)).transpose().under("queue")
}

impl From<&SecretUse> for wire::SecretUse {
    fn from(used: &SecretUse) -> Self {
        use wire::secret_use::Place;
        let place = match &used.place {
            SecretPlace::Variable(name) => Place::Variable(name.clone()),
            SecretPlace::File(name) => Place::File(name.clone()),
        };
        Self { place: Some(place), secret: used.secret.to_string() }
    }
}

impl TryFrom<wire::SecretUse> for SecretUse {
    type Error = DecodeError;

    fn try_from(used: wire::SecretUse) -> Decoded<Self> {
        use wire::secret_use::Place;
        let place = match used.place.ok_or(Problem::Missing).under("place")? {
            Place::Variable(name) => SecretPlace::Variable(name),
            Place::File(name) => SecretPlace::File(name),
        };
        Ok(Self { place, secret: decode::name("secret", &used.secret)? })
    }
}

impl From<&PutSecret> for peer::PutSecret {
    fn from(put: &PutSecret) -> Self {
        Self {
            name: put.name.to_string(),
            queue: put.queue.as_ref().map(ToString::to_string),
            sealed: Some(put.sealed.into()),
            key: bytes_of(put.key),
            replaces: put.replaces.map(|revision| revision.0),
            by: put.by.clone(),
        }
    }
}

impl TryFrom<peer::PutSecret> for PutSecret {
    type Error = DecodeError;

    fn try_from(put: peer::PutSecret) -> Decoded<Self> {
        Ok(Self {
            name: decode::name("name", &put.name)?,
            queue: queue(put.queue)?,
            sealed: decode::required("sealed", put.sealed)?,
            key: fingerprint("key", &put.key)?,
            replaces: put.replaces.map(Revision),
            by: put.by,
        })
    }
}

pub(super) fn from_secret(name: &Name, secret: &KeptSecret) -> peer::Secret {
    peer::Secret {
        name: name.to_string(),
        queue: secret.queue.as_ref().map(ToString::to_string),
        revision: secret.revision.0,
        sealed: Some(secret.sealed.into()),
        key: bytes_of(secret.key),
        by: secret.by.clone(),
        at_ms: secret.at.0,
    }
}

pub(super) fn to_secret(wire: peer::Secret) -> Decoded<Record> {
    let kept = KeptSecret {
        queue: queue(wire.queue)?,
        revision: Revision(wire.revision),
        sealed: decode::required("sealed", wire.sealed)?,
        key: fingerprint("key", &wire.key)?,
        by: wire.by,
        at: TimeMs(wire.at_ms),
    };
    Ok(Record::Secret(decode::name("name", &wire.name)?, Arc::new(kept)))
}
