//! Keys of secrets on their way from the coordinator that leads to the others, over TLS and into their files.

use std::time::Duration;

use flowyard_identity::Keyring;
use flowyard_model::Fingerprint;
use flowyard_proto::peer::KeepKeysRequest;
use flowyard_proto::peer::members_client::MembersClient;
use tonic::Status;

use super::keeping::no_keys;
use crate::coordinator::Shared;
use crate::raft::Member;

/// How long one coordinator may take to keep them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has every other coordinator keep the keys that are here; with `only`, forget all but those.
///
/// # Errors
/// When one of them does not: a secret that it could not open would be lost with the others.
pub(crate) async fn hand_over(shared: &Shared, only: &[Fingerprint]) -> Result<(), Status> {
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
pub(crate) async fn hand_to(shared: &Shared, member: &Member, only: &[Fingerprint]) -> Result<(), Status> {
    let unreachable = || Status::unavailable("its address cannot be used");
    let channel = shared.peer_channel(&member.peer.address).ok_or_else(unreachable)?;
    let only = only.iter().map(|key| key.0.to_vec().into()).collect();
    let request = KeepKeysRequest { keys: shared.vault.text(), only };
    let kept = tokio::time::timeout(PATIENCE, MembersClient::new(channel).keep_keys(request)).await;
    kept.map_err(|_| Status::deadline_exceeded("it does not answer"))?.map(drop)
}

impl super::Vault {
    /// Keeps what another coordinator hands over.
    ///
    /// # Errors
    /// When it makes no sense, or cannot be written down.
    pub(crate) fn take(&self, request: &KeepKeysRequest) -> Result<(), Status> {
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
