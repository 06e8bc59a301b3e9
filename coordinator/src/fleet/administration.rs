//! What administrators do: tokens, revocations, members.

use std::time::Duration;

use flowyard_identity::{ApiToken, JoinToken, LAPSED_MS, LONGEST_NODE_LIFE_MS, Secret};
use flowyard_model::{Command, CreateToken, Grant, Identity, Reply, Role, TimeMs, TokenId};
use flowyard_proto::cluster::administration_server::Administration;
use flowyard_proto::cluster::{
    BackupRequest, BackupResponse, ClusterStatus, CreateTokenRequest, CreateTokenResponse, DiagnoseRequest,
    DiagnoseResponse, GetStatusRequest, ListTokensRequest, ListTokensResponse, PromoteRequest, PromoteResponse,
    ReadAuditRequest, ReadAuditResponse, RemoveMemberRequest, RemoveMemberResponse, RevokeRequest, RevokeResponse,
    RevokeTokenRequest, RevokeTokenResponse, TokenLine, TransferLeaderRequest, TransferLeaderResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::entrance::fleet;
use crate::access::{Action, Caller};
use crate::audit;
use crate::caller::{self, about, allowed};
use crate::coordinator::Shared;
use crate::diagnosing;
use crate::queues::must_exist;
use crate::raft::{Member, MembershipError, Unavailable};
use crate::standing::{Answers, while_standing};

/// Longest life of a token to join.
const LONGEST_JOIN_LIFE_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Longest life of a token of the API.
const LONGEST_API_LIFE_MS: u64 = 366 * 24 * 3_600 * 1_000;

/// How often a change of members is tried while another one is under way, and after how long. One that begins to vote changes them by
/// itself, so whoever adds several meets that without having done anything wrong.
const CHANGE_TRIES: u32 = 100;
const CHANGE_LOOK: Duration = Duration::from_millis(100);

/// How long a change of members waits for copies of blobs before it is refused, and how often it looks.
const COPY_PATIENCE: Duration = Duration::from_secs(15);
const COPY_LOOK: Duration = Duration::from_millis(100);

/// The service.
#[derive(Clone)]
pub(crate) struct AdministrationEndpoint {
    shared: Shared,
}

impl AdministrationEndpoint {
    /// A service of this coordinator.
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

/// What stands against a change of membership, as a client reads it.
pub(super) fn refused(error: &MembershipError) -> Status {
    match error {
        MembershipError::Unavailable(Unavailable::NotLeader { .. } | Unavailable::NoQuorum | Unavailable::Stopped) => {
            Status::unavailable(error.to_string())
        }
        MembershipError::Unavailable(_) => Status::unavailable(error.to_string()),
        MembershipError::Unknown { .. } => {
            Status::not_found(format!("{error}; `fctl cluster status` lists the members"))
        }
        MembershipError::AddressTaken { .. } => Status::already_exists(format!(
            "{error}; take that one out first with `fctl cluster remove`, or join from another address"
        )),
        MembershipError::Contended => Status::aborted(error.to_string()),
        _ => Status::failed_precondition(error.to_string()),
    }
}

/// Makes a change of members once no other is under way; each try looks anew at who they are, and whether it may be made.
///
/// # Errors
/// Why it may not be made.
pub(super) async fn in_turn<T, M, C>(
    may: impl Fn() -> M,
    change: impl Fn() -> C,
) -> Result<Result<T, MembershipError>, Status>
where
    M: Future<Output = Result<(), Status>>,
    C: Future<Output = Result<T, MembershipError>>,
{
    for _ in 0..CHANGE_TRIES {
        may().await?;
        match change().await {
            Err(MembershipError::Contended) => tokio::time::sleep(CHANGE_LOOK).await,
            made => return Ok(made),
        }
    }
    may().await?;
    Ok(change().await)
}

fn life(asked_ms: u64, grant: &Grant) -> Result<u64, Status> {
    let longest = match grant {
        Grant::Join(_) => LONGEST_JOIN_LIFE_MS,
        Grant::Api { .. } => LONGEST_API_LIFE_MS,
    };
    if asked_ms == 0 || asked_ms > longest {
        let days = longest / (24 * 3_600 * 1_000);
        return Err(Status::invalid_argument(format!(
            "such a token lives for more than nothing and at most {days} days"
        )));
    }
    Ok(asked_ms)
}

/// Waits until these coordinators have copied all that is stored: what is with a majority of voters now has to be with one afterwards.
async fn copied(shared: &Shared, concerns: impl Fn(&Member) -> bool) -> Result<(), Status> {
    let Some(fleet) = &shared.fleet else { return Ok(()) };
    let still = || {
        let members: Vec<Member> = shared.replica.members().into_iter().filter(&concerns).collect();
        fleet.membership().still_copies(&members, &shared.replica.voting().voters())
    };
    let waited = async {
        while still().is_some() {
            tokio::time::sleep(COPY_LOOK).await;
        }
    };
    let _ = tokio::time::timeout(COPY_PATIENCE, waited).await;
    match still() {
        None => Ok(()),
        Some(replica) => Err(Status::failed_precondition(format!(
            "coordinator {replica} has not copied all stored blobs yet; try again when it has, or some could be lost"
        ))),
    }
}

/// What a token is good for, in words.
fn purpose(grant: &Grant) -> String {
    match grant {
        Grant::Join(joiner) => format!("joins as {joiner:?}").to_lowercase(),
        Grant::Api { principal, role } => format!("{}", Caller::Person { name: principal.clone(), role: role.clone() }),
    }
}

#[tonic::async_trait]
impl Administration for AdministrationEndpoint {
    type ReadAuditStream = Answers<ReadAuditResponse>;

    async fn read_audit(&self, request: Request<ReadAuditRequest>) -> Result<Response<Self::ReadAuditStream>, Status> {
        allowed(&request, Action::ReadAudit)?;
        let standing = caller::standing(&request)?;
        let answers = audit::of_all(&self.shared, request.into_inner()).await;
        Ok(Response::new(while_standing(standing, answers)))
    }

    type DiagnoseStream = Answers<DiagnoseResponse>;

    async fn diagnose(&self, request: Request<DiagnoseRequest>) -> Result<Response<Self::DiagnoseStream>, Status> {
        allowed(&request, Action::Diagnose)?;
        let standing = caller::standing(&request)?;
        Ok(Response::new(while_standing(standing, diagnosing::of_all(&self.shared))))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let caller = allowed(&request, Action::ChangeTokens)?;
        let standing = caller::standing(&request)?;
        let (fleet, asked) = (fleet(&self.shared)?, request.into_inner());
        let grant = asked.grant.ok_or_else(|| Status::invalid_argument("grant: missing"))?;
        let grant = Grant::try_from(grant).map_err(|error| Status::invalid_argument(format!("grant: {error}")))?;
        if let Grant::Api { role: Role::Submitter { queues }, .. } = &grant {
            let view = self.shared.fresh_view().await?;
            queues.iter().try_for_each(|queue| must_exist(&view, queue))?;
        }
        let life_ms = life(asked.life_ms, &grant)?;
        let uses = match (&grant, asked.uses) {
            (Grant::Join(_), uses) => Some(uses.unwrap_or(1)),
            (Grant::Api { .. }, None) => None,
            (Grant::Api { .. }, Some(_)) => {
                return Err(Status::invalid_argument("uses: a token of the API is not counted"));
            }
        };
        let secret = Secret::random();
        let expires_at = TimeMs(flowyard_clock::wall_ms() + life_ms);
        let create =
            CreateToken { hash: secret.hash(), grant: grant.clone(), expires_at, uses, created_by: caller.principal() };
        let id = match self.shared.propose(&Command::CreateToken(create)).await? {
            Reply::TokenCreated { token } => token,
            other => return Err(Status::internal(format!("a new token was answered with {other:?}"))),
        };
        standing.about(&format!("token {id}: {}", purpose(&grant)));
        let (authority, addresses) = (fleet.trust().fingerprint(), self.shared.api_addresses());
        let text = match grant {
            Grant::Join(_) => JoinToken { id, secret, authority, addresses }.to_text(),
            Grant::Api { .. } => ApiToken { id, secret, authority, addresses }.to_text(),
        };
        Ok(Response::new(CreateTokenResponse { token: id.0, text: text.to_string(), expires_at_ms: expires_at.0 }))
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Result<Response<ListTokensResponse>, Status> {
        allowed(&request, Action::ChangeTokens)?;
        let view = self.shared.feed.view();
        let tokens = view.tokens().map(|(id, token)| TokenLine {
            token: id.0,
            grant: Some((&token.grant).into()),
            expires_at_ms: token.expires_at.0,
            uses_left: token.uses_left(),
            created_by: token.created_by.clone(),
            created_at_ms: token.created_at.0,
            revoked: token.revoked,
        });
        Ok(Response::new(ListTokensResponse { tokens: tokens.collect() }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        allowed(&request, Action::ChangeTokens)?;
        let token = TokenId(request.get_ref().token);
        about(&request, &format!("token {token}"));
        self.shared.propose(&Command::RevokeToken { token }).await?;
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        let caller = allowed(&request, Action::Revoke)?;
        let standing = caller::standing(&request)?;
        let identity = request.into_inner().identity.ok_or_else(|| Status::invalid_argument("identity: missing"))?;
        let identity =
            Identity::try_from(identity).map_err(|error| Status::invalid_argument(format!("identity: {error}")))?;
        standing.about(&identity.to_string());
        // Nothing issued until now can be alive or renewed after that.
        let until = TimeMs(flowyard_clock::wall_ms() + 2 * LONGEST_NODE_LIFE_MS + LAPSED_MS);
        let until = matches!(identity, Identity::Agent(_) | Identity::Coordinator(_)).then_some(until);
        self.shared.propose(&Command::RevokeIdentity { identity, until, by: caller.principal() }).await?;
        Ok(Response::new(RevokeResponse {}))
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<ClusterStatus>, Status> {
        allowed(&request, Action::GetCluster)?;
        Ok(Response::new(super::members::status(&self.shared)))
    }

    type BackupStream = Answers<BackupResponse>;

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let caller = allowed(&request, Action::ReadAll)?;
        let standing = caller::standing(&request)?;
        let asked = request.into_inner();
        tracing::info!(%caller, keys = asked.with_keys, "a backup is asked for");
        let made = ReceiverStream::new(crate::backup::make(&self.shared, asked).await?);
        Ok(Response::new(while_standing(standing, Box::pin(made))))
    }

    async fn promote(&self, request: Request<PromoteRequest>) -> Result<Response<PromoteResponse>, Status> {
        about(&request, &format!("coordinator {}", request.get_ref().replica));
        allowed(&request, Action::ChangeMembers)?;
        let replica = request.into_inner().replica;
        let may = || copied(&self.shared, move |member: &Member| member.peer.replica == replica);
        let promoted = in_turn(may, || self.shared.replica.promote(replica)).await?;
        promoted.map_err(|error| refused(&error))?;
        Ok(Response::new(PromoteResponse {}))
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        about(&request, &format!("coordinator {}", request.get_ref().replica));
        let caller = allowed(&request, Action::ChangeMembers)?;
        let replica = request.into_inner().replica;
        let may = || copied(&self.shared, move |member: &Member| member.votes && member.peer.replica != replica);
        let removed = in_turn(may, || self.shared.replica.remove(replica)).await?;
        // It may not come back, whatever it still has of its keys; nor may one that an earlier call took out, and no further.
        let gone = removed.is_ok() || matches!(removed, Err(MembershipError::Unknown { .. }));
        if gone && self.shared.fleet.is_some() {
            let identity = Identity::Coordinator(flowyard_model::ReplicaId(replica));
            let revoke = Command::RevokeIdentity { identity, until: None, by: caller.principal() };
            self.shared.propose(&revoke).await?;
        }
        removed.map_err(|error| refused(&error))?;
        Ok(Response::new(RemoveMemberResponse {}))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        allowed(&request, Action::ChangeMembers)?;
        let replica = &self.shared.replica;
        let moved = match request.into_inner().replica {
            Some(to) => replica.transfer_leader(to).await,
            None => replica.step_down().await,
        };
        moved.map_err(|error| refused(&error))?;
        let leader = match &*replica.role().borrow() {
            crate::raft::Role::Follower { leader, .. } => leader.replica,
            _ => replica.identity().replica,
        };
        Ok(Response::new(TransferLeaderResponse { leader }))
    }
}
