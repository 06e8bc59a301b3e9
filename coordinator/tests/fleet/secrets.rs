//! Secrets: who may keep and use them, who is told, where they never are, and what happens to their keys.

use flowyard_cas::Origin;
use flowyard_model::{Name, SecretPlace, SecretUse};
use flowyard_proto::agent::SecretsRequest;
use flowyard_proto::agent::agents_client::AgentsClient;
use flowyard_proto::api::{MemberKey, SubmitRequest};
use flowyard_proto::cluster::secrets_client::SecretsClient;
use flowyard_proto::cluster::{ListSecretsRequest, PutSecretRequest, RemoveSecretRequest, RotateKeyRequest};
use flowyard_proto::peer::{Joiner, RoleKind};
use tonic::{Code, Status};

use crate::closed::alone;
use crate::house::{Bearer, Host, Shown, three, to_call, to_join, until};
use crate::parts::{Agent, job, let_in};

const VALUE: &[u8] = b"open sesame, said Ali Baba";

fn secrets(host: &Host, token: &str) -> SecretsClient<Shown> {
    SecretsClient::with_interceptor(host.channel(None), Bearer::of(token))
}

fn put(name: &str, queue: Option<&str>) -> PutSecretRequest {
    PutSecretRequest { name: name.to_owned(), queue: queue.map(str::to_owned), value: VALUE.into() }
}

/// A job that is given this secret.
fn given(queue: &str, secret: &str) -> SubmitRequest {
    let name: Name = secret.parse().unwrap();
    let used = SecretUse { place: SecretPlace::Variable("KEY".to_owned()), secret: name };
    let mut request = job(queue, None);
    request.spec.as_mut().unwrap().steps[0].secrets = vec![(&used).into()];
    request
}

async fn told(host: &Host, agent: &Agent, member: MemberKey) -> Result<Vec<u8>, Status> {
    let mut agents = AgentsClient::new(host.channel(Some(agent.own.clone())));
    let answer = agents.secrets(SecretsRequest { member: Some(member) }).await?.into_inner();
    Ok(answer.values.into_values().next().unwrap().to_vec())
}

/// Whether any file below a folder holds these bytes.
fn holds(folder: &std::path::Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => holds(&entry.path(), bytes),
        Ok(kind) if kind.is_file() => {
            let found = std::fs::read(entry.path()).unwrap_or_default();
            found.windows(bytes.len()).any(|part| part == bytes)
        }
        _ => false,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_told_to_the_agent_of_the_task_and_is_nowhere_else() {
    let hosts = three().await;
    let leader = hosts.iter().position(Host::leads).unwrap();
    let (host, follower) = (&hosts[leader], &hosts[(leader + 1) % 3]);
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    secrets(follower, &ann).put(put("API_KEY", None)).await.unwrap();
    let id = host.api(Some(&ann)).submit(given("default", "API_KEY")).await.unwrap().into_inner().job;
    let mut n1 = Agent::connect(host, let_in(host, "n1").await, "n1").await.unwrap();
    let n2 = Agent::connect(host, let_in(host, "n2").await, "n2").await.unwrap();
    let member = n1.next_member().await;
    for host in &hosts {
        assert_eq!(told(host, &n1, member).await.unwrap(), VALUE, "whichever coordinator is asked");
    }
    // Another node is not told, nor a person, nor the holder of it when it is over.
    let other = told(host, &n2, member).await.unwrap_err();
    assert_eq!(other.message(), "agent n2 may not be told secrets for tasks of node n1; a node speaks only for itself");
    let mut people = AgentsClient::with_interceptor(host.channel(None), Bearer::of(&ann));
    let person = people.secrets(SecretsRequest { member: Some(member) }).await.unwrap_err();
    assert_eq!(person.code(), Code::PermissionDenied);
    // Neither the log, nor snapshots, nor blobs, nor what anybody is shown has it in it.
    host.coordinator().shared().replica.snapshot_now().await.unwrap();
    for host in &hosts {
        assert!(!holds(host.folder.path(), VALUE), "it lies on a disk");
        let mode = std::fs::metadata(host.folder.path().join("secrets.key")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    }
    let shown = host.api(Some(&ann)).get_job(flowyard_proto::api::GetJobRequest { job: id }).await.unwrap();
    let listed = secrets(host, &ann).list(ListSecretsRequest {}).await.unwrap();
    let state = format!("{shown:?} {listed:?} {:?}", host.coordinator().shared().feed.view());
    assert!(state.contains("API_KEY") && !state.contains("sesame") && !state.contains("[111, 112, 101"), "shown");
    secrets(host, &ann).remove(RemoveSecretRequest { name: "API_KEY".to_owned() }).await.unwrap();
    let gone = told(host, &n1, member).await.unwrap_err();
    assert!(gone.message().contains("there is no secret `API_KEY` for queue `default` (any more)"), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_known_everywhere_as_soon_as_it_was_given_out() {
    let hosts = three().await;
    let leader = hosts.iter().position(Host::leads).unwrap();
    for round in 0..12 {
        let token = hosts[leader].token(to_call("ann", RoleKind::Operator, &[])).await;
        let follower = &hosts[(leader + 1 + round % 2) % 3];
        let asked = secrets(follower, &token).list(ListSecretsRequest {}).await;
        assert!(asked.is_ok(), "at a coordinator that follows, round {round}: {asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_for_its_queue_and_changed_by_those_who_submit_there() {
    let host = alone().await;
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    let eve = host.token(to_call("eve", RoleKind::Submitter, &["default"])).await;
    host.queue("research").await;
    secrets(&host, &ann).put(put("R", Some("research"))).await.unwrap();
    // Of a queue that is not hers she learns nothing, and gets nothing.
    let refused = host.api(Some(&eve)).submit(given("default", "R")).await.unwrap_err();
    let unknown = host.api(Some(&eve)).submit(given("default", "NONE")).await.unwrap_err();
    assert_eq!(refused.message().replace('R', "NONE"), unknown.message().replace('R', "NONE"));
    assert!(refused.message().contains("steps.work.env.KEY: there is no secret `R` for queue `default`"), "{refused}");
    assert!(secrets(&host, &eve).list(ListSecretsRequest {}).await.unwrap().into_inner().secrets.is_empty());
    let hidden = secrets(&host, &eve).remove(RemoveSecretRequest { name: "R".to_owned() }).await.unwrap_err();
    assert_eq!(hidden.code(), Code::NotFound);
    let taken = secrets(&host, &eve).put(put("R", Some("default"))).await.unwrap_err();
    assert!(taken.message().contains("the name `R` is taken"), "{taken}");
    assert_eq!(secrets(&host, &eve).put(put("E", None)).await.unwrap_err().code(), Code::PermissionDenied);
    secrets(&host, &eve).put(put("E", Some("default"))).await.unwrap();
    host.api(Some(&eve)).submit(given("default", "E")).await.unwrap();
    let queues = secrets(&host, &ann).put(put("X", Some("nowhere"))).await.unwrap_err();
    assert!(queues.message().contains("there is no queue `nowhere`"), "{queues}");
    let empty = PutSecretRequest { value: Vec::new().into(), ..put("X", None) };
    assert_eq!(secrets(&host, &ann).put(empty).await.unwrap_err().code(), Code::InvalidArgument);
    let vic = host.token(to_call("vic", RoleKind::Viewer, &[])).await;
    assert_eq!(secrets(&host, &vic).put(put("V", None)).await.unwrap_err().code(), Code::PermissionDenied);
    let denied = secrets(&host, &ann).rotate_key(RotateKeyRequest {}).await.unwrap_err();
    assert_eq!(denied.message(), "ann (operator) may not change the key of secrets; an admin may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_to_every_coordinator_are_rotated_and_their_loss_is_said() {
    let mut hosts = vec![alone().await];
    let (ann, root) = (
        hosts[0].token(to_call("ann", RoleKind::Operator, &[])).await,
        hosts[0].token(to_call("root", RoleKind::Admin, &[])).await,
    );
    secrets(&hosts[0], &ann).put(put("A", None)).await.unwrap();
    let keys = |host: &Host| std::fs::read_to_string(host.folder.path().join("secrets.key")).unwrap();
    // Who joins is given them with the authority's key.
    let token = hosts[0].token(to_join(Joiner::Coordinator)).await;
    let mut second = Host::joining(&token, Origin::in_memory()).await;
    assert_eq!(keys(&second), keys(&hosts[0]));
    second.start().await;
    until("the new one to vote", async || hosts[0].status().await.members.iter().all(|member| member.votes)).await;
    hosts.push(second);
    let old = keys(&hosts[0]);
    let rotated = secrets(&hosts[0], &root).rotate_key(RotateKeyRequest {}).await.unwrap().into_inner();
    assert_eq!((rotated.encrypted, rotated.lost.len()), (1, 0));
    assert_eq!(keys(&hosts[0]), keys(&hosts[1]), "both have the new key");
    assert_eq!(keys(&hosts[0]).matches("BEGIN").count(), 1, "and the old one is forgotten");
    assert_ne!(keys(&hosts[0]), old);
    hosts[0].api(Some(&ann)).submit(given("default", "A")).await.unwrap();
    let mut n1 = Agent::connect(&hosts[0], let_in(&hosts[0], "n1").await, "n1").await.unwrap();
    let member = n1.next_member().await;
    assert_eq!(told(&hosts[1], &n1, member).await.unwrap(), VALUE, "what was kept before can be read");
    // A key that is with no coordinator any more: the secret cannot be read, that is said, and it can be kept anew.
    for host in &mut hosts {
        host.stop().await;
        std::fs::remove_file(host.folder.path().join("secrets.key")).unwrap();
    }
    for host in &mut hosts {
        host.start().await;
    }
    until("one to lead", async || hosts.iter().any(Host::leads)).await;
    let leader = hosts.iter().find(|host| host.leads()).unwrap();
    let lost = told(leader, &n1, member).await.unwrap_err();
    assert!(lost.message().contains("secret `A` cannot be read: the key"), "{lost}");
    let listed = secrets(leader, &ann).list(ListSecretsRequest {}).await.unwrap().into_inner().secrets;
    assert!(!listed[0].readable);
    secrets(leader, &ann).put(put("A", None)).await.unwrap();
    assert_eq!(told(leader, &n1, member).await.unwrap(), VALUE);
}
