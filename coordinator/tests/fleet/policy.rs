//! The policy through the API: who puts and reads it, what is refused, and who did it.

use flowyard_proto::api::{GetPolicyRequest, GetPolicyResponse, Policy, PutPolicyRequest, PutPolicyResponse};
use flowyard_proto::peer::RoleKind;
use tonic::{Code, Status};

use crate::audit;
use crate::closed::alone;
use crate::house::{Host, to_call};
use crate::parts::{Agent, let_in};

async fn put(host: &Host, token: &str, levels: &[&str]) -> Result<PutPolicyResponse, Status> {
    let topology = levels.iter().map(|level| (*level).to_owned()).collect();
    let request = PutPolicyRequest { policy: Some(Policy { topology, throttle: None, ..Policy::default() }) };
    host.api(Some(token)).put_policy(request).await.map(tonic::Response::into_inner)
}

async fn get(host: &Host, token: &str) -> GetPolicyResponse {
    host.api(Some(token)).get_policy(GetPolicyRequest {}).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_declare_what_is_near_to_what_and_everybody_may_read_it() {
    let host = alone().await;
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    let vic = host.token(to_call("vic", RoleKind::Viewer, &[])).await;
    assert!(put(&host, &ann, &["zone", "rack"]).await.unwrap().before.unwrap().topology.is_empty());
    let revision = host.coordinator().shared().feed.view().revision();
    let again = put(&host, &ann, &["zone", "rack"]).await.unwrap();
    assert_eq!(again.before.unwrap().topology, ["zone", "rack"]);
    assert_eq!(host.coordinator().shared().feed.view().revision(), revision, "nothing entered the log");

    let _n1 = Agent::connect(&host, let_in(&host, "n1").await, "n1").await.unwrap();
    let shown = get(&host, &vic).await;
    assert_eq!(shown.policy.unwrap().topology, ["zone", "rack"]);
    let labelled = host.coordinator().shared().feed.view().nodes().next().unwrap().1.inventory.labels.len() as u32;
    let counts: Vec<_> = shown.levels.iter().map(|level| (level.domains, level.nodes)).collect();
    assert_eq!(counts, [(labelled, labelled), (0, 0)], "the machine is in no rack");

    let denied = put(&host, &vic, &["rack"]).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let twice = put(&host, &ann, &["rack", "rack"]).await.unwrap_err();
    assert_eq!(twice.message(), "policy.topology: `rack` is named twice; each label is one level");
    let entries = audit::read(&host, &ann).await;
    let told = entries.iter().filter(|entry| entry.action == "Flowyard/PutPolicy");
    let told: Vec<_> = told.map(|it| (it.caller.as_str(), it.object.as_str(), it.result.as_str())).collect();
    assert_eq!(told[0], ("ann", "topology zone, rack", "ok"));
    let refused = "PermissionDenied: vic (viewer) may not change the policy; an operator may";
    assert_eq!(told[2], ("vic", "topology rack", refused));
}
