//! Tokens and revocations.

use flowyard_model::*;
use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;

use super::*;

/// A fingerprint; of nothing in particular.
pub fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    any::<[u8; 32]>().prop_map(Fingerprint)
}

/// What a person may do.
pub fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        Just(Role::Viewer),
        btree_set(queue_path(), 1..4).prop_map(|queues| Role::Submitter { queues }),
        Just(Role::Operator),
        Just(Role::Admin),
    ]
}

/// What a token is good for.
pub fn grant() -> impl Strategy<Value = Grant> {
    prop_oneof![
        one_of!(Joiner { Coordinator, Agent }).prop_map(Grant::Join),
        (name(), role()).prop_map(|(principal, role)| Grant::Api { principal, role }),
    ]
}

/// Whom a certificate names.
pub fn identity() -> impl Strategy<Value = Identity> {
    prop_oneof![
        any::<u64>().prop_map(|replica| Identity::Coordinator(ReplicaId(replica))),
        name().prop_map(Identity::Agent),
        name().prop_map(Identity::Person),
        any::<[u8; 16]>().prop_map(|serial| Identity::Certificate(Serial(serial))),
    ]
}

/// As what a token let a key in.
pub fn admitted() -> impl Strategy<Value = Admitted> {
    prop_oneof![name().prop_map(Admitted::Agent), text().prop_map(Admitted::Coordinator)]
}

prop_compose! {
    /// A token to make.
    pub fn create_token()(
        hash in fingerprint(),
        grant in grant(),
        expires_at in time(),
        uses in any::<Option<u32>>(),
        created_by in text(),
    ) -> CreateToken {
        CreateToken { hash, grant, expires_at, uses, created_by }
    }
}

prop_compose! {
    /// A token.
    pub fn token()(
        create in create_token(),
        used_by in btree_map(fingerprint(), admitted(), 0..4),
        created_at in time(),
        revoked in any::<bool>(),
    ) -> Token {
        let CreateToken { hash, grant, expires_at, uses, created_by } = create;
        Token { hash, grant, expires_at, uses, used_by, created_by, created_at, revoked }
    }
}

prop_compose! {
    /// A secret to keep.
    pub fn put_secret()(
        name in name(),
        queue in option::of(queue_path()),
        sealed in digest(),
        key in fingerprint(),
        replaces in option::of(any::<u64>().prop_map(Revision)),
        by in text(),
    ) -> PutSecret {
        PutSecret { name, queue, sealed, key, replaces, by }
    }
}

prop_compose! {
    /// A secret that is kept.
    pub fn kept_secret()(put in put_secret(), revision in any::<u64>(), at in time()) -> KeptSecret {
        let PutSecret { queue, sealed, key, by, .. } = put;
        KeptSecret { queue, revision: Revision(revision), sealed, key, by, at }
    }
}

prop_compose! {
    /// An identity that was shut out.
    pub fn revocation()(revision in any::<u64>(), at in time(), until in option::of(time()), by in text()) -> Revocation {
        Revocation { revision: Revision(revision), at, until, by }
    }
}
