//! Who did what: read from any coordinator, about all of them, by those who may.

use flowyard_identity::{ApiToken, Secret};
use flowyard_proto::api::{CancelRequest, GetClusterRequest, ListJobsRequest, PruneRequest};
use flowyard_proto::cluster::read_audit_response::Said;
use flowyard_proto::cluster::{AuditEntry, ReadAuditRequest};
use flowyard_proto::peer::RoleKind;
use tonic::Code;

use crate::house::{Host, three, to_call, until};
use crate::parts::job;

/// Everything that was written down, by whichever coordinator.
pub(crate) async fn read(host: &Host, token: &str) -> Vec<AuditEntry> {
    let request = ReadAuditRequest { since_ms: 0, follow: false };
    let mut answers = host.administration(Some(token)).read_audit(request).await.unwrap().into_inner();
    let mut entries = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.said {
            Some(Said::Entry(entry)) => entries.push(entry),
            other => panic!("all coordinators answer: {other:?}"),
        }
    }
    entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_did_what_is_read_from_any_coordinator() {
    let hosts = three().await;
    let leader = hosts.iter().position(Host::leads).unwrap();
    let (host, follower) = (&hosts[leader], &hosts[(leader + 1) % 3]);
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    let eve = host.token(to_call("eve", RoleKind::Viewer, &[])).await;
    until("the token to be known", async || {
        follower.api(Some(&eve)).list_jobs(ListJobsRequest::default()).await.is_ok()
    })
    .await;
    let id = follower.api(Some(&ann)).submit(job("default", None)).await.unwrap().into_inner().job;
    follower.api(Some(&ann)).cancel(CancelRequest { job: id }).await.unwrap();
    follower.api(Some(&eve)).prune(PruneRequest::default()).await.unwrap_err();
    let guess = ApiToken { secret: Secret::random(), ..eve.parse::<ApiToken>().unwrap() }.to_text();
    follower.api(Some(&guess)).get_cluster(GetClusterRequest {}).await.unwrap_err();
    let (from, other) = (read(host, &ann).await, read(follower, &ann).await);
    assert!(other.len() >= from.len(), "the same is read from each");
    let one = |caller: &str, action: &str| {
        let found: Vec<_> = from.iter().filter(|it| it.caller == caller && it.action == action).collect();
        assert_eq!(found.len(), 1, "{caller} {action}: {from:#?}");
        (found[0].role.clone(), found[0].object.clone(), found[0].result.clone(), found[0].address.clone())
    };
    let (role, object, result, address) = one("ann", "Flowyard/Submit");
    assert_eq!((role.as_str(), object, result.as_str()), ("operator", format!("job {id}"), "ok"));
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let (_, object, result, address) = one("ann", "Flowyard/Cancel");
    assert_eq!((object, result.as_str()), (format!("job {id}"), "ok"), "passed on, with who made it");
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let (role, _, result, _) = one("eve", "Flowyard/Prune");
    assert_eq!(role, "viewer");
    assert!(result.starts_with("PermissionDenied: eve (viewer) may not forget jobs"), "{result}");
    let (_, _, result, _) = one("somebody unknown", "Flowyard/GetCluster");
    assert!(result.starts_with("Unauthenticated: this token is not known here"), "{result}");
    assert!(from.iter().any(|it| it.action == "Administration/CreateToken" && it.object.ends_with(": ann (operator)")));
    assert!(from.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms), "by time");
    let all = format!("{from:?}");
    assert!(!all.contains("fya1-") && !all.contains("fyt1-"), "a token is in it");
    // Reading is not written down, and is not for everybody.
    assert!(!all.contains("ReadAudit"));
    let request = ReadAuditRequest { since_ms: 0, follow: false };
    let denied = follower.administration(Some(&eve)).read_audit(request).await.unwrap_err();
    assert_eq!(
        (denied.code(), denied.message()),
        (Code::PermissionDenied, "eve (viewer) may not read who did what; an operator may")
    );
    // Who follows is told what comes, wherever it is done.
    let request = ReadAuditRequest { since_ms: from.last().unwrap().at_ms + 1, follow: true };
    let mut follows = follower.administration(Some(&ann)).read_audit(request).await.unwrap().into_inner();
    follower.api(Some(&ann)).submit(job("default", None)).await.unwrap();
    let told = loop {
        match follows.message().await.unwrap().unwrap().said {
            Some(Said::Entry(entry)) if entry.action == "Flowyard/Submit" => break entry,
            _ => {}
        }
    };
    assert_eq!((told.caller.as_str(), told.coordinator), ("ann", follower.identity.replica));
}
