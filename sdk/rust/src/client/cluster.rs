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

/// One line per call.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// Whatever any call can fail with; [`ClientError::Refused`] for who is no administrator.
                pub async fn $name(&mut self, request: cluster::$request) -> Result<cluster::$answer, ClientError> {
                    let answer = self.administration.$name(request).await;
                    Ok(answer.map_err(|status| self.sorted(status))?.into_inner())
                }
            )*
        }
    };
}

calls! {
    /// Makes a token. Its text cannot be had again.
    create_token(CreateTokenRequest) -> CreateTokenResponse;
    /// All tokens that have not expired, without their secrets.
    list_tokens(ListTokensRequest) -> ListTokensResponse;
    /// Takes a token back.
    revoke_token(RevokeTokenRequest) -> RevokeTokenResponse;
    /// Shuts somebody out.
    revoke(RevokeRequest) -> RevokeResponse;
    /// The members and how they are; any role may ask.
    get_status(GetStatusRequest) -> ClusterStatus;
    /// Lets a coordinator vote.
    promote(PromoteRequest) -> PromoteResponse;
    /// Takes a coordinator out for good.
    remove_member(RemoveMemberRequest) -> RemoveMemberResponse;
    /// Hands the leadership over.
    transfer_leader(TransferLeaderRequest) -> TransferLeaderResponse;
}
