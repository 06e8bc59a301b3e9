//! Keys of secrets on their way from the coordinator that leads to the others, over TLS and into their files.

use std::time::Duration;

use flowyard_identity::Keyring;
use flowyard_model::{Fingerprint, ReplicaId, Term};
use flowyard_proto::peer::KeepKeysRequest;
use flowyard_proto::peer::members_client::MembersClient;
use tonic::Status;

use super::keeping::no_keys;
use crate::coordinator::Shared;
use crate::raft::{Member, Role};

/// How long one coordinator may take to keep them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which keys are to be forgotten: all but some, as the leader of a term says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Only<'a> {
    /// Those that stay.
    pub(crate) keys: &'a [Fingerprint],
    /// The term in which it is decided. Whoever follows another leader by now forgets nothing: that one may just be encrypting with
    /// a key that is not to stay.
    pub(crate) term: Term,
}

/// Has every other coordinator keep the keys that are here; with `only`, forget all but those.
///
/// # Errors
/// When one of them does not: a secret that it could not open would be lost with the others.
pub(crate) async fn hand_over(shared: &Shared, only: Option<Only<'_>>) -> Result<(), Status> {
    let own = shared.replica.identity().replica;
    for member in shared.replica.members().iter().filter(|member| member.peer.replica != own) {
        hand_to(shared, member, only).await.map_err(|status| {
            Status::unavailable(format!(
                "coordinator {} did not take the keys of secrets ({}), and every coordinator has to have them: start it again, or \
                 take it out with `fctl cluster remove {}`",
                member.peer.replica,
                status.message(),
                member.peer.replica
            ))
        })?;
    }
    Ok(())
}

/// Has one other coordinator keep the keys that are here.
///
/// # Errors
/// When it does not.
pub(crate) async fn hand_to(shared: &Shared, member: &Member, only: Option<Only<'_>>) -> Result<(), Status> {
    let unreachable = || Status::unavailable("its address cannot be used");
    let channel = shared.peer_channel(&member.peer.address).ok_or_else(unreachable)?;
    let (stay, term) = only.map_or((&[][..], 0), |only| (only.keys, only.term.0));
    let only = stay.iter().map(|key| key.0.to_vec().into()).collect();
    let request = KeepKeysRequest { keys: shared.vault.text(), only, term };
    let kept = tokio::time::timeout(PATIENCE, MembersClient::new(channel).keep_keys(request)).await;
    kept.map_err(|_| Status::deadline_exceeded("it does not answer"))?.map(drop)
}

/// Whether the coordinator leads here in this term.
fn leads_here(role: &Role, sender: ReplicaId, term: u64) -> bool {
    matches!(role, Role::Follower { term: here, leader } if *here == term && leader.replica == sender.0)
}

impl super::Vault {
    /// Keeps what another coordinator hands over.
    ///
    /// # Errors
    /// When it makes no sense, or cannot be written down, or keys are to be forgotten for one that does not lead.
    pub(crate) fn take(&self, sender: ReplicaId, role: &Role, request: &KeepKeysRequest) -> Result<(), Status> {
        if !request.only.is_empty() && !leads_here(role, sender, request.term) {
            return Err(Status::aborted(
                "it follows another leader by now, which may be using the keys that were to be forgotten",
            ));
        }
        let unreadable = || Status::invalid_argument("these are no keys of secrets");
        let keys = Keyring::from_text(&request.keys).ok_or_else(unreadable)?;
        let only = request.only.iter().map(|key| <[u8; 32]>::try_from(key.as_ref()).map(Fingerprint));
        let only = only.collect::<Result<Vec<_>, _>>().map_err(|_| unreadable())?;
        let kept = self.change(|own| {
            own.add(&keys);
            if !only.is_empty() {
                own.keep(&only);
            }
        });
        kept.map_err(|error| no_keys(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Peer;
    use crate::secrets::Vault;

    #[test]
    fn keys_are_forgotten_for_the_leader_that_is_followed_and_for_nobody_else() {
        let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (leader, vault) = (Vault::open(theirs.path()).unwrap(), Vault::open(ours.path()).unwrap());
        let old = vault.change(Keyring::grow).unwrap();
        let new = leader.change(Keyring::grow).unwrap();
        let only = vec![new.0.to_vec().into()];
        let request = KeepKeysRequest { keys: leader.text(), only, term: 4 };
        let follows = |term, replica| Role::Follower { term, leader: Peer { replica, address: String::new() } };
        for role in [follows(5, 2), follows(5, 1), follows(4, 2), Role::Leader { term: 5, ready: true }, Role::Seeking]
        {
            let refused = vault.take(ReplicaId(1), &role, &request).unwrap_err();
            assert!(refused.message().contains("another leader"), "{refused}");
            assert_eq!(vault.fingerprints(), [old], "{role:?}");
        }
        vault.take(ReplicaId(1), &follows(4, 1), &request).unwrap();
        assert_eq!(vault.fingerprints(), [new]);
        // New keys are kept for whoever hands them over.
        let added = KeepKeysRequest { keys: leader.text(), only: vec![], term: 0 };
        vault.take(ReplicaId(1), &Role::Seeking, &added).unwrap();
    }
}
