//! Coordinators with their keys and ports, on loopback: forming, joining, who may do what, and losing one.

mod audit;
mod closed;
mod crowd;
mod house;
mod leading;
mod node;
mod parts;
mod policy;
mod ports;
mod queues;
mod secrets;
mod storing;
mod watching;

use flowyard_cas::Origin;
use flowyard_proto::api::flowyard_client::FlowyardClient;
use flowyard_proto::api::{GetClusterRequest, ListJobsRequest, PruneRequest};
use flowyard_proto::blob::{GetRequest, PutRequest};
use flowyard_proto::cluster::entrance_client::EntranceClient;
use flowyard_proto::cluster::{
    AgentJoins, JoinRequest, ListTokensRequest, RemoveMemberRequest, RevokeTokenRequest, TransferLeaderRequest,
    join_request,
};
use flowyard_proto::peer::{Joiner, RoleKind};
use house::{Host, addresses, three, to_call, to_join, until};
use tonic::{Code, Request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_coordinators_form_a_cluster_and_survive_the_loss_of_their_leader() {
    let mut hosts = three().await;
    let admin = hosts[0].token(to_call("ann", RoleKind::Admin, &[])).await;
    assert_eq!(addresses(&admin).len(), 3, "a token names all coordinators");
    let status = hosts[0].status().await;
    assert_eq!((status.members.len(), status.name.as_str(), status.cluster_version), (3, "lab", 2));
    let ours: Vec<u64> = hosts.iter().map(|host| host.identity.replica).collect();
    assert!(ours[0] != ours[1] && ours[1] != ours[2], "{ours:?}");
    // Each one answers; what only the leader knows is passed on to it, and the reader's token with it.
    for host in &hosts {
        let answer = host.api(Some(&admin)).get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
        assert_eq!(answer.id, status.cluster);
        host.administration(Some(&admin)).list_tokens(ListTokensRequest {}).await.unwrap();
        host.api(Some(&admin)).prune(PruneRequest { dry_run: true, ..Default::default() }).await.unwrap();
    }
    let leader = hosts.iter().position(Host::leads).expect("a leader");
    let revision = hosts[leader].coordinator().shared().feed.view().revision();
    hosts[leader].stop().await;
    until("another to lead", async || hosts.iter().any(Host::leads)).await;
    let follower = hosts.iter().position(|host| !host.leads() && host.identity != hosts[leader].identity).unwrap();
    let mut api = hosts[follower].api(Some(&admin));
    until("a follower to answer", async || api.list_jobs(ListJobsRequest::default()).await.is_ok()).await;
    assert!(hosts[follower].coordinator().shared().feed.view().revision() >= revision, "nothing is lost");
    hosts[leader].start().await;
    until("the old leader to follow", async || {
        hosts[leader].api(Some(&admin)).list_jobs(ListJobsRequest::default()).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leadership_is_handed_over_and_a_coordinator_is_taken_out_for_good() {
    let mut hosts = three().await;
    let to = hosts[2].identity.replica;
    let moved = hosts[1].owner().transfer_leader(TransferLeaderRequest { replica: Some(to) }).await;
    assert_eq!(moved.unwrap().into_inner().leader, to);
    until("the third to lead", async || hosts[2].leads()).await;
    let gone = hosts[1].identity.replica;
    hosts[0].owner().remove_member(RemoveMemberRequest { replica: gone }).await.unwrap();
    assert_eq!(hosts[2].status().await.members.len(), 2);
    let unknown = hosts[0].owner().remove_member(RemoveMemberRequest { replica: gone }).await.unwrap_err();
    assert!(unknown.message().contains("`fctl cluster status`"), "{unknown}");
    // What it still has of its keys opens nothing.
    let mut client = with_keys_of(&hosts[1], &hosts[0]);
    until("its certificate to be void everywhere", async || client.get_cluster(GetClusterRequest {}).await.is_err())
        .await;
    // Two are left; taking out one that is silent would leave no majority.
    hosts[1].stop().await;
    let silent = hosts[0].identity.replica;
    hosts[0].stop().await;
    let refused = hosts[2].owner().remove_member(RemoveMemberRequest { replica: to }).await.unwrap_err();
    assert!(matches!(refused.code(), Code::FailedPrecondition | Code::Unavailable), "{refused} {silent}");
}

/// Calls a coordinator with the certificate that another one has.
fn with_keys_of(one: &Host, called: &Host) -> FlowyardClient<tonic::transport::Channel> {
    let credential = flowyard_identity::Credential::load(&one.folder.path().join("credential.pem"), &one.trust());
    FlowyardClient::new(called.channel(Some(flowyard_identity::Current::new(credential.unwrap()))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_was_interrupted_is_finished_by_removing_once_more() {
    let hosts = three().await;
    let at = hosts.iter().position(Host::leads).expect("a leader");
    let (leader, gone) = (&hosts[at], &hosts[(at + 1) % 3]);
    let number = gone.identity.replica;
    // As far as a leader comes that is lost between the two things that a removal is.
    let replica = &leader.coordinator().shared().replica;
    until("it to be taken out", async || {
        // The last one to vote may only just do so, and then its own change comes first.
        let removed = replica.remove(number).await.map_err(|error| error.to_string());
        removed.is_ok() || removed.is_err_and(|told| told.contains("is not a member"))
    })
    .await;
    let mut client = with_keys_of(gone, leader);
    client.get_cluster(GetClusterRequest {}).await.expect("its keys still open the door");
    let again = leader.owner().remove_member(RemoveMemberRequest { replica: number }).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound, "{again}");
    until("its certificate to be void", async || client.get_cluster(GetClusterRequest {}).await.is_err()).await;
    assert_eq!(leader.status().await.members.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinators_that_come_at_the_same_moment_are_all_let_in() {
    let host = Host::first(Origin::in_memory()).await;
    until("it to lead", async || host.leads()).await;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(host.token(to_join(Joiner::Coordinator)).await);
    }
    let joined = futures::future::join_all(tokens.iter().map(|token| Host::joining(token, Origin::in_memory()))).await;
    let mut numbers: Vec<u64> = joined.iter().map(|host| host.identity.replica).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!((numbers.len(), host.status().await.members.len()), (4, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_comes_in_without_a_token_or_above_their_role() {
    let host = Host::first(Origin::in_memory()).await;
    until("it to lead", async || host.leads()).await;
    let nobody = host.api(None).list_jobs(ListJobsRequest::default()).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    assert!(nobody.message().contains("show a certificate or a token"), "{nobody}");
    let viewer = host.token(to_call("vic", RoleKind::Viewer, &[])).await;
    host.api(Some(&viewer)).list_jobs(ListJobsRequest::default()).await.unwrap();
    let denied = host.api(Some(&viewer)).prune(PruneRequest::default()).await.unwrap_err();
    assert_eq!(
        (denied.code(), denied.message()),
        (Code::PermissionDenied, "vic (viewer) may not forget jobs; an operator may")
    );
    let denied = host.administration(Some(&viewer)).list_tokens(ListTokensRequest {}).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    // A token is good until it is taken back, on connections that are open, too.
    let mut open = host.api(Some(&viewer));
    open.list_jobs(ListJobsRequest::default()).await.unwrap();
    let listed = host.owner().list_tokens(ListTokensRequest {}).await.unwrap().into_inner().tokens;
    host.owner().revoke_token(RevokeTokenRequest { token: listed[0].token }).await.unwrap();
    let void = open.list_jobs(ListJobsRequest::default()).await.unwrap_err();
    assert!(void.message().contains("was revoked"), "{void}");
    // For joining it is no good, nor one for joining for the API.
    let joining = host.token(to_join(Joiner::Agent)).await;
    let wrong = host.api(Some(&joining)).list_jobs(ListJobsRequest::default()).await.unwrap_err();
    assert_eq!(wrong.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_in_one_agent_as_an_agent_and_the_same_key_again() {
    let host = Host::first(Origin::in_memory()).await;
    until("it to lead", async || host.leads()).await;
    let token: flowyard_identity::JoinToken = host.token(to_join(Joiner::Agent)).await.parse().unwrap();
    let request = |name: &str, key: &flowyard_identity::KeyRequest| {
        Request::new(JoinRequest {
            token: token.id.0,
            secret: token.secret.bytes().to_vec().into(),
            request: key.bytes().to_vec().into(),
            joiner: Some(join_request::Joiner::Agent(AgentJoins { name: name.to_owned() })),
            version: "0".to_owned(),
        })
    };
    let mut entrance = EntranceClient::new(host.channel(None));
    let (first, second) = (key(), key());
    let mut wrong = request("n1", &first).into_inner();
    wrong.secret = vec![0; 32].into();
    assert_eq!(entrance.join(wrong).await.unwrap_err().code(), Code::Unauthenticated);
    let answer = entrance.join(request("n1", &first)).await.unwrap().into_inner();
    assert!(answer.authority_key.is_empty() && answer.replica == 0, "an agent is given no key of the cluster");
    assert_eq!(answer.addresses, std::slice::from_ref(&host.address.api));
    entrance.join(request("n1", &first)).await.expect("an answer that was lost is given again");
    let spent = entrance.join(request("n2", &second)).await.unwrap_err();
    assert!(spent.message().contains("was used as often as it may be"), "{spent}");
    // Its certificate is an agent's: it may do nothing else.
    let credential = flowyard_identity::Credential::new(
        &first,
        vec![flowyard_identity::Certificate::from(answer.certificate.to_vec())],
        &host.trust(),
    );
    let own = flowyard_identity::Current::new(credential.unwrap());
    let mut api = FlowyardClient::new(host.channel(Some(own)));
    api.get_cluster(GetClusterRequest {}).await.unwrap();
    let denied = api.list_jobs(ListJobsRequest::default()).await.unwrap_err();
    assert_eq!(denied.message(), "agent n1 may not list jobs; a node speaks only for itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_with_a_majority_and_knowing_a_digest_is_no_right_to_read_it() {
    let mut hosts = three().await;
    let admin = hosts[0].token(to_call("ann", RoleKind::Admin, &[])).await;
    let bytes = b"kept by all".to_vec();
    let digest = flowyard_cas::digest_bytes(&bytes);
    let put = |bytes: Vec<u8>| {
        let digest = flowyard_cas::digest_bytes(&bytes);
        tokio_stream::iter([PutRequest { digest: Some(digest.into()), bytes: bytes.into() }])
    };
    hosts[1].blobs(&admin).put(put(bytes)).await.unwrap();
    let mut copies = 0;
    for host in &hosts {
        copies += usize::from(host.origin.contains(&digest).await.unwrap());
    }
    assert!(copies >= 2, "{copies} copies of what was acknowledged");
    until("the third copy", async || hosts[2].origin.contains(&digest).await.unwrap()).await;
    let request = GetRequest { digest: Some(digest.into()), ..GetRequest::default() };
    let denied = hosts[0].blobs(&admin).get(request).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
    // With two of three away nothing more is acknowledged.
    hosts[1].stop().await;
    hosts[2].stop().await;
    let refused = hosts[0].blobs(&admin).put(put(b"lonely".to_vec())).await.unwrap_err();
    assert!(refused.message().contains("only 1 of 3 coordinators have what was stored"), "{refused}");
}

fn key() -> flowyard_identity::KeyRequest {
    flowyard_identity::KeyRequest::generate().unwrap()
}
