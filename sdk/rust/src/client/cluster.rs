//! What administrators ask of a cluster.

use flowyard_proto::cluster;
use tonic::Streaming;

use super::{Client, ClientError};

impl Client {
    /// The bytes of a backup of the cluster as it is now. A stream that ends with an error is none.
    ///
    /// # Errors
    /// Whatever any call can fail with; [`ClientError::Refused`] for who is no administrator.
    pub async fn backup(
        &mut self,
        request: cluster::BackupRequest,
    ) -> Result<Streaming<cluster::BackupResponse>, ClientError> {
        let answer = self.administration.backup(request).await;
        Ok(answer.map_err(|status| self.sorted(status))?.into_inner())
    }
}

/// One line per call: of which service, and by its name there.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $service:ident.$call:ident($request:ident) -> $answer:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// Whatever any call can fail with; [`ClientError::Refused`] for who is no administrator.
                pub async fn $name(&mut self, request: cluster::$request) -> Result<cluster::$answer, ClientError> {
                    let answer = self.$service.$call(request).await;
                    Ok(answer.map_err(|status| self.sorted(status))?.into_inner())
                }
            )*
        }
    };
}

calls! {
    /// Makes a token. Its text cannot be had again.
    create_token = administration.create_token(CreateTokenRequest) -> CreateTokenResponse;
    /// All tokens that have not expired, without their secrets.
    list_tokens = administration.list_tokens(ListTokensRequest) -> ListTokensResponse;
    /// Takes a token back.
    revoke_token = administration.revoke_token(RevokeTokenRequest) -> RevokeTokenResponse;
    /// Shuts somebody out.
    revoke = administration.revoke(RevokeRequest) -> RevokeResponse;
    /// The members and how they are; any role may ask.
    get_status = administration.get_status(GetStatusRequest) -> ClusterStatus;
    /// Lets a coordinator vote.
    promote = administration.promote(PromoteRequest) -> PromoteResponse;
    /// Takes a coordinator out for good.
    remove_member = administration.remove_member(RemoveMemberRequest) -> RemoveMemberResponse;
    /// Hands the leadership over.
    transfer_leader = administration.transfer_leader(TransferLeaderRequest) -> TransferLeaderResponse;
    /// Keeps a secret, or replaces what it is.
    put_secret = secrets.put(PutSecretRequest) -> PutSecretResponse;
    /// The names of secrets and whom they are for.
    list_secrets = secrets.list(ListSecretsRequest) -> ListSecretsResponse;
    /// Forgets a secret.
    remove_secret = secrets.remove(RemoveSecretRequest) -> RemoveSecretResponse;
    /// Encrypts all secrets with a new key.
    rotate_secret_key = secrets.rotate_key(RotateKeyRequest) -> RotateKeyResponse;
}
