//! What coordinators tell each other beside the log, and what the leader does about it: learners that have caught up vote, and
//! what is new in the log is used once all can read it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flowyard_model::{ClusterVersion, Command, Digest, TimeMs};
use flowyard_proto::blob::MissingRequest;
use flowyard_proto::blob::blobs_client::BlobsClient;
use flowyard_proto::cluster::{ClusterStatus, MemberStatus, ReadAuditRequest};
use flowyard_proto::peer::members_client::MembersClient;
use flowyard_proto::peer::members_server::Members;
use flowyard_proto::peer::{
    AboutRequest, AboutResponse, DiagnoseOwnRequest, DiagnoseOwnResponse, KeepKeysRequest, KeepKeysResponse,
    ReadOwnAuditRequest, ReadOwnAuditResponse,
};
use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};
use prost::Message;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::MemberAddress;
use super::pass_on::named;
use crate::access::{Action, Caller};
use crate::audit;
use crate::caller::{self, PASSED_ON_FOR, allowed};
use crate::coordinator::Shared;
use crate::copying;
use crate::diagnosing;
use crate::proposer::Proposer;
use crate::raft::{Member, Role};
use crate::secrets::hand_to;
use crate::standing::{Answers, Standing, while_standing};
use crate::version_mark;

/// How often the leader asks.
const LOOK: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Digests in one message about uploads.
const ASKED_AT_ONCE: usize = 10_000;

/// What the members said of themselves last; cheap to clone. One that did not answer is not in it.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    said: Arc<Mutex<BTreeMap<u64, AboutResponse>>>,
}

impl Membership {
    /// Nothing is known.
    pub(crate) fn unknown() -> Self {
        Self { said: Arc::default() }
    }

    fn said(&self, replica: u64) -> Option<AboutResponse> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).get(&replica).cloned()
    }

    /// The first of these that has not copied all that is stored since these began to vote; one that is gone is not waited for.
    pub(super) fn still_copies(&self, members: &[Member], voters: &[u64]) -> Option<u64> {
        let copies = |member: &&Member| match self.said(member.peer.replica) {
            Some(said) => said.copied_for != voters,
            None => member.heard(),
        };
        members.iter().find(copies).map(|member| member.peer.replica)
    }

    fn replace(&self, said: BTreeMap<u64, AboutResponse>) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = said;
    }
}

/// Writes down which version the cluster has, so that a program which does not know it is not started here.
fn note_version(shared: &Shared) {
    version_mark::note(&shared.config.folder, shared.feed.view().version());
}

/// How this coordinator is.
pub(crate) fn about(shared: &Shared) -> AboutResponse {
    let stats = shared.replica.stats();
    let disk = rustix::fs::statvfs(&shared.config.folder).ok();
    let bytes = |blocks: Option<u64>| blocks.zip(disk.as_ref()).map_or(0, |(blocks, disk)| blocks * disk.f_frsize);
    let expires = shared.fleet.as_ref().map(|fleet| fleet.own().get().identified().not_after.0);
    let view = shared.feed.view();
    AboutResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        newest_version: newest_version(shared.fleet.as_ref().and_then(|fleet| fleet.config().version_at_most)).0,
        applied: view.revision().0,
        certificate_expires_at_ms: expires.unwrap_or(0),
        disk_bytes: bytes(disk.as_ref().map(|disk| disk.f_blocks)),
        disk_free_bytes: bytes(disk.as_ref().map(|disk| disk.f_bavail)),
        log_bytes: stats.log.file_bytes,
        snapshot_bytes: stats.snapshot_bytes,
        wants_vote: shared.fleet.as_ref().is_some_and(|fleet| fleet.config().wants_vote),
        engine: shared.replica.engine().name().to_owned(),
        copied_for: copying::copied_for(shared),
        secret_keys: shared.vault.fingerprints().iter().map(|key| key.0.to_vec().into()).collect(),
        log_fsyncs: stats.log.barriers,
    }
}

/// The newest cluster version that this coordinator agrees to: what its build knows, unless its operator keeps the way back.
fn newest_version(at_most: Option<ClusterVersion>) -> ClusterVersion {
    at_most.map_or(ClusterVersion::NEWEST, |most| most.min(ClusterVersion::NEWEST))
}

/// The next cluster version, once every member has said that it agrees to it; who did not answer has said nothing.
fn agreed(now: ClusterVersion, said: impl IntoIterator<Item = Option<u32>>) -> Option<ClusterVersion> {
    let next = ClusterVersion(now.0 + 1);
    let common = said.into_iter().map(Option::unwrap_or_default).min()?;
    (next.0 <= common && next <= ClusterVersion::NEWEST).then_some(next)
}

/// The members as this coordinator, which should lead, knows them.
pub(super) fn status(shared: &Shared) -> ClusterStatus {
    let (view, own) = (shared.feed.view(), shared.replica.identity().replica);
    let term = match &*shared.replica.role().borrow() {
        Role::Leader { term, .. } | Role::Follower { term, .. } => *term,
        Role::Seeking | Role::Stopped { .. } => 0,
    };
    let said = |replica: u64| shared.fleet.as_ref().and_then(|fleet| fleet.membership().said(replica));
    let members = shared.replica.members().into_iter().map(|member| {
        let address = member.peer.address.parse::<MemberAddress>().ok();
        let replica = member.peer.replica;
        MemberStatus {
            replica,
            api_address: address.as_ref().map_or_else(String::new, |address| address.api.clone()),
            peer_address: address.map_or_else(String::new, |address| address.peers),
            votes: member.votes,
            leads: member.leads,
            lag_entries: member.lag,
            silent_ms: member.silent_for.map(|silent| silent.as_millis() as u64),
            about: if replica == own { Some(about(shared)) } else { said(replica) },
        }
    });
    ClusterStatus {
        cluster: shared.cluster_id.clone(),
        name: shared.fleet.as_ref().map_or_else(String::new, |fleet| fleet.config().name.clone()),
        epoch: shared.epoch,
        cluster_version: view.version().0,
        term,
        revision: view.revision().0,
        members: members.collect(),
        answered_by: own,
    }
}

/// The service that other coordinators call.
#[derive(Clone)]
pub(crate) struct MembersEndpoint {
    shared: Shared,
}

impl MembersEndpoint {
    /// A service of this coordinator.
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl Members for MembersEndpoint {
    async fn about(&self, request: Request<AboutRequest>) -> Result<Response<AboutResponse>, Status> {
        let Caller::Coordinator { replica } = caller::of(&request)? else {
            return Err(Status::permission_denied("only coordinators ask this"));
        };
        allowed(&request, Action::Forward { replica })?;
        let follows = matches!(&*self.shared.replica.role().borrow(), Role::Follower { leader, .. } if leader.replica == replica.0);
        let time_ms = request.into_inner().time_ms;
        if follows && time_ms > 0 {
            self.shared.stamps.told(TimeMs(time_ms));
        }
        note_version(&self.shared);
        Ok(Response::new(about(&self.shared)))
    }

    type ReadAuditStream = Answers<ReadOwnAuditResponse>;

    async fn read_audit(
        &self,
        request: Request<ReadOwnAuditRequest>,
    ) -> Result<Response<Self::ReadAuditStream>, Status> {
        let standing = caller::standing(&request)?;
        let Caller::Coordinator { replica } = standing.caller else {
            return Err(Status::permission_denied("only coordinators ask this"));
        };
        allowed(&request, Action::Forward { replica })?;
        let ReadOwnAuditRequest { since_ms, follow } = request.into_inner();
        let own = self.shared.replica.identity().replica;
        let answers = audit::of_this(&self.shared.audit, own, ReadAuditRequest { since_ms, follow });
        let answers = answers.map(|answer| Ok(ReadOwnAuditResponse { response: answer?.encode_to_vec().into() }));
        Ok(Response::new(while_standing(standing, Box::pin(answers))))
    }

    type DiagnoseStream = Answers<DiagnoseOwnResponse>;

    async fn diagnose(&self, request: Request<DiagnoseOwnRequest>) -> Result<Response<Self::DiagnoseStream>, Status> {
        let standing = caller::standing(&request)?;
        let Caller::Coordinator { replica } = standing.caller else {
            return Err(Status::permission_denied("only coordinators ask this"));
        };
        allowed(&request, Action::Forward { replica })?;
        let said = diagnosing::of_this(&self.shared);
        let said = said.map(|file| Ok(DiagnoseOwnResponse { response: file?.encode_to_vec().into() }));
        Ok(Response::new(while_standing(standing, Box::pin(said))))
    }

    async fn keep_keys(&self, request: Request<KeepKeysRequest>) -> Result<Response<KeepKeysResponse>, Status> {
        let Caller::Coordinator { replica } = caller::of(&request)? else {
            return Err(Status::permission_denied("only coordinators hand keys over"));
        };
        allowed(&request, Action::Forward { replica })?;
        self.shared.vault.take(replica, &self.shared.replica.role().borrow(), request.get_ref())?;
        Ok(Response::new(KeepKeysResponse {}))
    }
}

/// Those of the blobs that no other coordinator knows this caller to have uploaded or to be allowed to use.
pub(crate) async fn not_usable_anywhere(shared: &Shared, standing: &Standing, mut left: Vec<Digest>) -> Vec<Digest> {
    if left.is_empty() {
        return left;
    }
    // All at once: one that is away must not keep the answers of the others back.
    let asked = others(shared).into_iter().map(|channel| usable_at(channel, standing, &left));
    let usable: BTreeSet<Digest> = futures::future::join_all(asked).await.into_iter().flatten().collect();
    left.retain(|digest| !usable.contains(digest));
    left
}

/// Those of the blobs that the caller may use as this coordinator knows.
async fn usable_at(channel: Channel, standing: &Standing, digests: &[Digest]) -> Vec<Digest> {
    let mut usable = Vec::new();
    for part in digests.chunks(ASKED_AT_ONCE) {
        let asked = part.iter().map(|digest| (*digest).into()).collect();
        let mut request = Request::new(MissingRequest { digests: asked, stored_by: None });
        request.metadata_mut().insert_bin(PASSED_ON_FOR, named(standing));
        let answer = tokio::time::timeout(PATIENCE, BlobsClient::new(channel.clone()).missing(request)).await;
        let Ok(Ok(answer)) = answer else { break };
        let missing = answer.into_inner().digests;
        usable.extend(part.iter().copied().filter(|digest| !missing.contains(&(*digest).into())));
    }
    usable
}

/// Tells the other coordinators who stored these blobs, where all have one store and so need not be sent them.
pub(crate) async fn tell_stored(shared: &Shared, by: &str, digests: &[Digest]) {
    let told = others(shared).into_iter().map(async |channel| {
        for part in digests.chunks(ASKED_AT_ONCE) {
            let digests = part.iter().map(|digest| (*digest).into()).collect();
            let request = MissingRequest { digests, stored_by: Some(by.to_owned()) };
            BlobsClient::new(channel.clone()).missing(request).await?;
        }
        Ok::<_, Status>(())
    });
    if tokio::time::timeout(PATIENCE, futures::future::join_all(told)).await.is_err() {
        tracing::debug!(by, "not every coordinator heard of what was stored");
    }
}

fn others(shared: &Shared) -> Vec<Channel> {
    let own = shared.replica.identity().replica;
    let members = shared.replica.members().into_iter().filter(|member| member.peer.replica != own);
    members.filter_map(|member| shared.peer_channel(&member.peer.address)).collect()
}

/// The actor that looks after the members while this coordinator leads. It has no messages.
pub(crate) struct MembersWatch {
    shared: Shared,
    proposer: Proposer,
}

impl MembersWatch {
    /// What it is made from, anew at each term.
    pub(crate) fn new(shared: Shared, proposer: Proposer) -> Self {
        Self { shared, proposer }
    }

    async fn look(&self) {
        let members = self.shared.replica.members();
        let own = self.shared.replica.identity().replica;
        let mut said = BTreeMap::from([(own, about(&self.shared))]);
        let others = members.iter().filter(|member| member.peer.replica != own);
        let asked = others.map(async |member| (member.peer.replica, self.ask(member).await));
        for (replica, answer) in futures::future::join_all(asked).await {
            said.extend(answer.map(|answer| (replica, answer)));
        }
        self.hand_keys(&members, &said).await;
        self.promote(&members, &said).await;
        self.raise(&members, &said).await;
        note_version(&self.shared);
        if let Some(fleet) = &self.shared.fleet {
            fleet.membership().replace(said);
        }
    }

    async fn ask(&self, member: &Member) -> Option<AboutResponse> {
        let channel = self.shared.peer_channel(&member.peer.address)?;
        let told = AboutRequest { time_ms: self.shared.stamps.now().0 };
        let answer = tokio::time::timeout(PATIENCE, MembersClient::new(channel).about(told)).await;
        answer.ok()?.ok().map(Response::into_inner)
    }

    /// A coordinator that lacks keys of secrets is given them: its disk was replaced, or it was away when they were made.
    async fn hand_keys(&self, members: &[Member], said: &BTreeMap<u64, AboutResponse>) {
        let own = self.shared.vault.fingerprints();
        for member in members {
            let Some(theirs) = said.get(&member.peer.replica) else { continue };
            if own.iter().all(|key| theirs.secret_keys.iter().any(|their| their.as_ref() == key.0)) {
                continue;
            }
            match hand_to(&self.shared, member, None).await {
                Ok(()) => tracing::info!(replica = member.peer.replica, "a coordinator was given the keys of secrets"),
                Err(error) => tracing::debug!(%error, replica = member.peer.replica, "keys of secrets were not taken"),
            }
        }
    }

    /// A learner that wants to vote does, once it has caught up and copied what is stored.
    async fn promote(&self, members: &[Member], said: &BTreeMap<u64, AboutResponse>) {
        let voters = self.shared.replica.voting().voters();
        let ready = members.iter().find(|member| {
            let said = said.get(&member.peer.replica);
            let wants = said.is_some_and(|said| said.wants_vote && said.copied_for == voters);
            !member.votes && wants && member.lag.is_some_and(|lag| lag <= crate::raft::PROMOTE_LAG_MAX)
        });
        let Some(member) = ready else { return };
        match self.shared.replica.promote(member.peer.replica).await {
            Ok(()) => tracing::info!(replica = member.peer.replica, "a coordinator that caught up votes from now on"),
            Err(error) => tracing::debug!(%error, replica = member.peer.replica, "a coordinator cannot vote yet"),
        }
    }

    /// Uses what is new once every member has said that it can read it.
    async fn raise(&self, members: &[Member], said: &BTreeMap<u64, AboutResponse>) {
        let knows = |member: &Member| said.get(&member.peer.replica).map(|said| said.newest_version);
        let Some(next) = agreed(self.shared.feed.view().version(), members.iter().map(knows)) else { return };
        match self.proposer.propose(&Command::RaiseVersion { version: next }).await {
            Ok(_) => tracing::info!(version = %next, "all coordinators can: the cluster's version was raised"),
            Err(error) => tracing::debug!(%error, "the cluster's version could not be raised"),
        }
    }
}

impl Actor for MembersWatch {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }

    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        mailbox: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        loop {
            self.look().await;
            // The embedded cluster has no others to ask, and must not wake up for them.
            let wait = async {
                match self.shared.fleet {
                    Some(_) => tokio::time::sleep(LOOK).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                signal = mailbox.recv() => return Ok(signal),
                () = wait => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: u32 = ClusterVersion::NEWEST.0;

    #[test]
    fn the_version_is_raised_once_everybody_agrees_and_not_before() {
        let before = ClusterVersion(NEWEST - 1);
        assert_eq!(agreed(before, [Some(NEWEST), Some(NEWEST), Some(NEWEST)]), Some(ClusterVersion::NEWEST));
        assert_eq!(agreed(before, [Some(NEWEST), Some(NEWEST), Some(before.0)]), None, "one is of the release before");
        assert_eq!(agreed(before, [Some(NEWEST), Some(NEWEST), None]), None, "one has not answered");
        assert_eq!(agreed(before, []), None, "nobody is known yet");
    }

    #[test]
    fn versions_are_raised_one_by_one_and_none_that_this_build_does_not_know() {
        assert_eq!(agreed(ClusterVersion(0), [Some(NEWEST)]), Some(ClusterVersion(1)));
        assert_eq!(agreed(ClusterVersion::NEWEST, [Some(NEWEST + 1), Some(NEWEST + 1)]), None);
    }

    #[test]
    fn an_operator_can_keep_the_way_back_and_cannot_go_ahead_of_the_build() {
        assert_eq!(newest_version(None), ClusterVersion::NEWEST);
        assert_eq!(newest_version(Some(ClusterVersion(1))), ClusterVersion(1));
        assert_eq!(newest_version(Some(ClusterVersion(NEWEST + 1))), ClusterVersion::NEWEST);
    }
}
