//! Letting somebody in: a token is looked at, counted in the log, and answered with a certificate.
//!
//! Invariant: what a certificate says comes from the token's grant and from the log, never from the request for it.

use flowyard_identity::{IssueError, Secret, Subject, request_fingerprint};
use flowyard_model::{
    Admitted, Command, Fingerprint, Grant, Identity, Joiner, Name, ReplicaId, Reply, TimeMs, Token, TokenId,
};
use flowyard_proto::cluster::entrance_server::Entrance;
use flowyard_proto::cluster::{
    AgentJoins, CoordinatorJoins, JoinRequest, JoinResponse, RenewRequest, RenewResponse, join_request,
};
use tonic::{Request, Response, Status};

use super::administration::{in_turn, refused};
use super::{Fleet, MemberAddress};
use crate::access::{Action, Caller, allow};
use crate::caller;
use crate::coordinator::Shared;

/// The service.
#[derive(Clone)]
pub(crate) struct EntranceEndpoint {
    shared: Shared,
}

impl EntranceEndpoint {
    /// A service of this coordinator.
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// The token, if its secret was shown and it is good for joining as this.
    fn look(&self, id: TokenId, secret: &[u8], joiner: Joiner) -> Result<(), Status> {
        let view = self.shared.feed.view();
        // Whoever guesses learns nothing of which tokens there are.
        let unknown =
            || Status::unauthenticated("this token is not known here: it has expired, or was not copied whole");
        let secret = <[u8; 32]>::try_from(secret).map(Secret::shown).map_err(|_| unknown())?;
        let token: &Token = view.token(id).filter(|known| secret.matches(&known.hash)).ok_or_else(unknown)?;
        if let Some(fault) = token.fault(TimeMs(flowyard_clock::wall_ms())) {
            return Err(Status::unauthenticated(format!("token {id} {fault}; ask an administrator for another one")));
        }
        match &token.grant {
            Grant::Join(granted) if *granted == joiner => Ok(()),
            granted => {
                Err(Status::permission_denied(format!("token {id} is for {}, and you are {}", of(granted), a(joiner))))
            }
        }
    }

    /// Counts the token as used by this key, which is this from now on.
    async fn count(&self, token: TokenId, by: Fingerprint, who: Admitted) -> Result<(), Status> {
        match self.shared.propose(&Command::UseToken { token, by, who }).await? {
            Reply::TokenUsed { .. } => Ok(()),
            other => Err(Status::internal(format!("a token's use was answered with {other:?}"))),
        }
    }

    /// Another agent that is heard from keeps its name.
    fn check_name(&self, name: &Name) -> Result<(), Status> {
        let view = self.shared.feed.view();
        match view.node_named(name) {
            Some((node, _)) if self.shared.directory.find(node).is_some() => Err(Status::already_exists(format!(
                "node `{name}` is connected; stop its agent first, or choose another name"
            ))),
            _ => Ok(()),
        }
    }

    /// Two coordinators have no address in common. Looked at before the token counts as used, so that a slip of the hand costs none.
    fn check_address(&self, asked: &MemberAddress) -> Result<(), Status> {
        for member in self.shared.replica.members() {
            let Ok(known) = member.peer.address.parse::<MemberAddress>() else { continue };
            let taken = [&asked.api, &asked.peers].into_iter().find(|at| [&known.api, &known.peers].contains(at));
            if let Some(at) = taken {
                let number = member.peer.replica;
                return Err(Status::already_exists(format!(
                    "{at} is an address of coordinator {number}; take that one out first with `fctl cluster remove {number}`, or join from \
                     another address"
                )));
            }
        }
        Ok(())
    }

    /// The id of the coordinator at this address: a new one, or the one it was given when the answer was lost.
    async fn member(&self, address: &MemberAddress, again: bool) -> Result<u64, Status> {
        let text = address.to_string();
        let members = self.shared.replica.members();
        match members.iter().find(|member| member.peer.address == text) {
            Some(member) if again => Ok(member.peer.replica),
            // Its token is used up by now: it would be lost with a change that only came at the wrong moment.
            _ => {
                let added = in_turn(|| std::future::ready(Ok(())), || self.shared.replica.add_learner(&text)).await?;
                added.map_err(|error| refused(&error))
            }
        }
    }

    async fn agent(&self, fleet: &Fleet, joins: &AgentJoins, request: &JoinRequest) -> Result<JoinResponse, Status> {
        let name: Name = joins.name.parse().map_err(|error| Status::invalid_argument(format!("name: {error}")))?;
        let (token, by) = (TokenId(request.token), fingerprint(request)?);
        self.look(token, &request.secret, Joiner::Agent)?;
        self.check_name(&name)?;
        self.count(token, by, Admitted::Agent(name.clone())).await?;
        self.answer(fleet, Subject::Agent { name }, request)
    }

    async fn coordinator(
        &self,
        fleet: &Fleet,
        joins: &CoordinatorJoins,
        request: &JoinRequest,
    ) -> Result<JoinResponse, Status> {
        let address = MemberAddress::new(&joins.api_address, &joins.peer_address);
        let address = address.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (token, by) = (TokenId(request.token), fingerprint(request)?);
        self.look(token, &request.secret, Joiner::Coordinator)?;
        let view = self.shared.feed.view();
        if joins.newest_version < view.version().0 {
            return Err(Status::failed_precondition(format!(
                "the cluster is at version {}, and release {} reads up to {}: join with a newer release",
                view.version(),
                request.version,
                joins.newest_version
            )));
        }
        let again = view.token(token).is_some_and(|known| known.used_by.contains_key(&by));
        if !again {
            self.check_address(&address)?;
        }
        self.count(token, by, Admitted::Coordinator(address.to_string())).await?;
        let replica = self.member(&address, again).await?;
        let mut answer = self.answer(fleet, Subject::Coordinator { replica: ReplicaId(replica) }, request)?;
        answer.replica = replica;
        answer.authority_key = fleet.authority().to_pem().to_string();
        answer.secret_keys = self.shared.vault.text();
        Ok(answer)
    }

    fn answer(&self, fleet: &Fleet, subject: Subject, request: &JoinRequest) -> Result<JoinResponse, Status> {
        let issued = fleet.issue(subject, &request.request).map_err(|error| unsigned(&error))?;
        let leaf = issued.chain.first().ok_or_else(|| Status::internal("a certificate without itself"))?;
        Ok(JoinResponse {
            cluster: self.shared.cluster_id.clone(),
            epoch: self.shared.epoch,
            certificate: leaf.to_vec().into(),
            addresses: self.shared.api_addresses(),
            replica: 0,
            authority_key: String::new(),
            cluster_name: fleet.config().name.clone(),
            secret_keys: String::new(),
        })
    }
}

fn fingerprint(request: &JoinRequest) -> Result<Fingerprint, Status> {
    request_fingerprint(&request.request).map_err(|error| unsigned(&error))
}

fn unsigned(error: &IssueError) -> Status {
    Status::invalid_argument(format!("the request for a certificate: {error}"))
}

fn of(grant: &Grant) -> &'static str {
    match grant {
        Grant::Join(Joiner::Agent) => "agents",
        Grant::Join(Joiner::Coordinator) => "coordinators",
        Grant::Api { .. } => "the API",
    }
}

fn a(joiner: Joiner) -> &'static str {
    match joiner {
        Joiner::Agent => "an agent",
        Joiner::Coordinator => "a coordinator",
    }
}

/// The keys, where there are any.
pub(super) fn fleet(shared: &Shared) -> Result<&Fleet, Status> {
    let alone = "this cluster is one machine's own: nobody joins it. Form another with `fctl coordinator init`";
    shared.fleet.as_ref().ok_or_else(|| Status::failed_precondition(alone))
}

#[tonic::async_trait]
impl Entrance for EntranceEndpoint {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let fleet = fleet(&self.shared)?;
        // Whoever has a certificate or a role already has no need of it, but may have been given a token all the same.
        match caller::of(&request)? {
            Caller::Agent { .. } | Caller::Coordinator { .. } | Caller::Person { .. } | Caller::Lapsed { .. } => {}
            nobody => allow(&nobody, Action::Join)?,
        }
        let standing = caller::standing(&request)?;
        let request = request.into_inner();
        let who = match &request.joiner {
            Some(join_request::Joiner::Agent(agent)) => format!("node {}", agent.name),
            Some(join_request::Joiner::Coordinator(joins)) => format!("coordinator at {}", joins.api_address),
            None => String::new(),
        };
        standing.about(&format!("{who} with token {}", request.token));
        let answer = match request.joiner.clone() {
            Some(join_request::Joiner::Agent(agent)) => self.agent(fleet, &agent, &request).await?,
            Some(join_request::Joiner::Coordinator(joins)) => self.coordinator(fleet, &joins, &request).await?,
            None => return Err(Status::invalid_argument("it does not say what joins")),
        };
        Ok(Response::new(answer))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let (fleet, caller) = (fleet(&self.shared)?, caller::of(&request)?);
        let nameless = || Status::failed_precondition("whoever comes by the socket has no certificate to renew");
        let who = caller.identity().ok_or_else(nameless)?;
        caller::about(&request, &who.to_string());
        allow(&caller, Action::Renew { who: &who })?;
        let subject = match &who {
            Identity::Agent(name) => Subject::Agent { name: name.clone() },
            Identity::Coordinator(replica) => Subject::Coordinator { replica: *replica },
            Identity::Person(_) | Identity::Certificate(_) => {
                return Err(Status::failed_precondition("people are given tokens, which are not renewed"));
            }
        };
        let issued = fleet.issue(subject, &request.into_inner().request).map_err(|error| unsigned(&error))?;
        let leaf = issued.chain.first().ok_or_else(|| Status::internal("a certificate without itself"))?;
        Ok(Response::new(RenewResponse { certificate: leaf.to_vec().into() }))
    }
}
