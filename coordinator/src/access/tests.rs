//! Who may do what, as a matrix of calls and callers.

use std::collections::BTreeSet;

use prost::Message;

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn queue(path: &str) -> QueuePath {
    path.parse().unwrap()
}

fn person(role: Role) -> Caller {
    Caller::Person { name: name("ada"), role }
}

/// In the order of the columns.
fn callers() -> Vec<(char, Caller)> {
    let queues = [queue("research")].into();
    vec![
        ('O', Caller::Owner { name: "me".to_owned() }),
        ('v', person(Role::Viewer)),
        ('s', person(Role::Submitter { queues })),
        ('o', person(Role::Operator)),
        ('a', person(Role::Admin)),
        ('n', Caller::Agent { name: name("n1") }),
        ('c', Caller::Coordinator { replica: ReplicaId(1) }),
        ('l', Caller::Lapsed { who: Identity::Agent(name("n1")) }),
        ('-', Caller::Nobody),
    ]
}

/// Every action with the callers that may, by their letters; and the call that it is, where there is one already.
fn peoples_table<'a>(own: &'a Objects) -> Vec<(Action<'a>, &'static str, &'static str)> {
    let Objects { mine, below, other, beside, of_mine, of_other, of_ada, of_eve, .. } = own;
    vec![
        (Action::GetCluster, "Ovsoanc", "Flowyard/GetCluster"),
        (Action::Submit { queue: mine }, "Osoa", "Flowyard/Submit"),
        (Action::Submit { queue: below }, "Osoa", "Flowyard/SubmitBatch"),
        (Action::Submit { queue: mine }, "Osoa", "Flowyard/DryRun"),
        (Action::Submit { queue: other }, "Ooa", ""),
        (Action::Submit { queue: beside }, "Ooa", ""),
        (Action::UseBlob { named_by: of_mine }, "Ovsoa", ""),
        (Action::UseBlob { named_by: of_other }, "Ovoa", ""),
        (Action::UseBlob { named_by: of_ada }, "Ovsoa", ""),
        (Action::UseBlob { named_by: of_eve }, "O", ""),
        (Action::UseBlob { named_by: &[] }, "O", ""),
        (Action::UseBlob { named_by: &[Named::Stored] }, "Ovoa", ""),
        (Action::Cancel { queue: mine }, "Osoa", "Flowyard/Cancel"),
        (Action::Cancel { queue: other }, "Ooa", ""),
        (Action::ListJobs, "Ovsoa", "Flowyard/ListJobs"),
        (Action::GetJob { queue: mine }, "Ovsoa", "Flowyard/GetJob"),
        (Action::GetJob { queue: other }, "Ovoa", ""),
        (Action::ListTasks { queue: mine }, "Ovsoa", "Flowyard/ListTasks"),
        (Action::ListTasks { queue: other }, "Ovoa", ""),
        (Action::WatchJob { queue: mine }, "Ovsoa", "Flowyard/WatchJob"),
        (Action::WatchJob { queue: other }, "Ovoa", ""),
        (Action::Logs { queue: mine }, "Ovsoa", "Flowyard/Logs"),
        (Action::Logs { queue: other }, "Ovoa", ""),
        (Action::Why { queue: mine }, "Ovsoa", "Flowyard/Why"),
        (Action::Why { queue: other }, "Ovoa", ""),
        (Action::Exec { queue: mine }, "Osoa", "Flowyard/Exec"),
        (Action::Exec { queue: other }, "Ooa", ""),
        (Action::ListArtifacts { queue: mine }, "Ovsoa", "Flowyard/ListArtifacts"),
        (Action::ListArtifacts { queue: other }, "Ovoa", ""),
        (Action::ListNodes, "Ovsoa", "Flowyard/ListNodes"),
        (Action::GetStorage, "Ovsoa", "Flowyard/GetStorage"),
        (Action::Prune, "Ooa", "Flowyard/Prune"),
        (Action::ChangeQueue, "Ooa", "Flowyard/PutQueues"),
        (Action::ChangeQueue, "Ooa", "Flowyard/DropQueue"),
        (Action::ListQueues, "Ovsoa", "Flowyard/ListQueues"),
        (Action::GetUsage, "Ovsoa", "Flowyard/GetUsage"),
        (Action::LookAtQueue { queue: mine }, "Ovsoa", "Flowyard/GetQueue"),
        (Action::LookAtQueue { queue: below }, "Ovsoa", ""),
        (Action::LookAtQueue { queue: other }, "Ovoa", ""),
        (Action::LookAtQueue { queue: beside }, "Ovoa", ""),
        (Action::ChangeNode, "Ooa", "Flowyard/ChangeNode"),
        (Action::ChangePolicy, "Ooa", "Flowyard/PutPolicy"),
        (Action::GetPolicy, "Ovsoa", "Flowyard/GetPolicy"),
    ]
}

/// As [`peoples_table`], for nodes, blobs and who decides on them.
fn nodes_table<'a>(own: &'a Objects) -> Vec<(Action<'a>, &'static str, &'static str)> {
    let Objects { n1, n2, of_mine, of_other, of_n1, of_n2, of_ada, of_eve, .. } = own;
    vec![
        (Action::Session { node: n1 }, "On", "Agents/Session"),
        (Action::Session { node: n2 }, "O", ""),
        (Action::Relay { node: n1 }, "On", "Agents/Relay"),
        (Action::Relay { node: n2 }, "O", ""),
        (Action::MissingBlobs, "Osoan", "Blobs/Missing"),
        (Action::PutBlob, "Osoan", "Blobs/Put"),
        (Action::GetBlob { named_by: of_mine }, "Ovsoa", "Blobs/Get"),
        (Action::GetBlob { named_by: of_other }, "Ovoa", ""),
        (Action::GetBlob { named_by: of_n1 }, "On", ""),
        (Action::GetBlob { named_by: of_n2 }, "O", ""),
        (Action::GetBlob { named_by: of_ada }, "Ovsoa", ""),
        (Action::GetBlob { named_by: of_eve }, "O", ""),
        (Action::GetBlob { named_by: &[] }, "O", ""),
        (Action::Replicate { replica: ReplicaId(1) }, "Oc", "Raft/AppendEntries"),
        (Action::Replicate { replica: ReplicaId(1) }, "Oc", "Raft/AppendStream"),
        (Action::Replicate { replica: ReplicaId(1) }, "Oc", "Raft/Vote"),
        (Action::Replicate { replica: ReplicaId(1) }, "Oc", "Raft/PreVote"),
        (Action::Replicate { replica: ReplicaId(1) }, "Oc", "Raft/InstallSnapshot"),
        (Action::Replicate { replica: ReplicaId(1) }, "Oc", "Raft/TransferLeader"),
        (Action::Replicate { replica: ReplicaId(2) }, "O", ""),
        (Action::Forward { replica: ReplicaId(1) }, "Oc", "Raft/Propose"),
        (Action::Forward { replica: ReplicaId(1) }, "Oc", "Raft/ReadIndex"),
        (Action::Forward { replica: ReplicaId(1) }, "Oc", "Members/About"),
        (Action::Forward { replica: ReplicaId(2) }, "O", ""),
        (Action::Mirror { replica: ReplicaId(1) }, "Oc", ""),
        (Action::Mirror { replica: ReplicaId(2) }, "O", ""),
        (Action::ListSecrets, "Ovsoa", "Secrets/List"),
        (Action::LookAtSecret { queue: None }, "Ovsoa", ""),
        (Action::LookAtSecret { queue: Some(&own.mine) }, "Ovsoa", ""),
        (Action::LookAtSecret { queue: Some(&own.other) }, "Ovoa", ""),
        (Action::ChangeSecret { queue: Some(&own.mine) }, "Osoa", "Secrets/Put"),
        (Action::ChangeSecret { queue: Some(&own.below) }, "Osoa", "Secrets/Remove"),
        (Action::ChangeSecret { queue: Some(&own.other) }, "Ooa", ""),
        (Action::ChangeSecret { queue: None }, "Ooa", ""),
        (Action::RotateSecretKey, "Oa", "Secrets/RotateKey"),
        (Action::ReadSecret { node: n1, job: &own.below, queue: Some(&own.mine) }, "On", "Agents/Secrets"),
        (Action::ReadSecret { node: n1, job: &own.other, queue: None }, "On", ""),
        (Action::ReadSecret { node: n1, job: &own.other, queue: Some(&own.mine) }, "", ""),
        (Action::ReadSecret { node: n2, job: &own.mine, queue: None }, "O", ""),
        (Action::Forward { replica: ReplicaId(1) }, "Oc", "Members/KeepKeys"),
        (Action::Join, "O-", "Entrance/Join"),
        (Action::Renew { who: &own.agent_n1 }, "Onl", "Entrance/Renew"),
        (Action::Renew { who: &own.agent_n2 }, "O", ""),
        (Action::Renew { who: &own.ada }, "Ovsoa", ""),
        (Action::Renew { who: &own.replica }, "Oc", ""),
        (Action::ChangeTokens, "Oa", "Administration/CreateToken"),
        (Action::ChangeTokens, "Oa", "Administration/ListTokens"),
        (Action::ChangeTokens, "Oa", "Administration/RevokeToken"),
        (Action::Revoke, "Oa", "Administration/Revoke"),
        (Action::GetCluster, "Ovsoanc", "Administration/GetStatus"),
        (Action::ChangeMembers, "Oa", "Administration/Promote"),
        (Action::ChangeMembers, "Oa", "Administration/RemoveMember"),
        (Action::ChangeMembers, "Oa", "Administration/TransferLeader"),
        (Action::ReadAll, "Oa", "Administration/Backup"),
        (Action::ReadAudit, "Ooa", "Administration/ReadAudit"),
        (Action::Diagnose, "Ooa", "Administration/Diagnose"),
        (Action::Forward { replica: ReplicaId(1) }, "Oc", "Members/Diagnose"),
        (Action::Forward { replica: ReplicaId(1) }, "Oc", "Members/ReadAudit"),
        (Action::Ping, "Ovsoanc", ""),
    ]
}

fn table<'a>(own: &'a Objects) -> Vec<(Action<'a>, &'static str, &'static str)> {
    [peoples_table(own), nodes_table(own)].concat()
}

/// What the actions of the table are about. The submitter's queue is `research`, its agent's node n1.
struct Objects {
    mine: QueuePath,
    below: QueuePath,
    other: QueuePath,
    beside: QueuePath,
    n1: Name,
    n2: Name,
    of_mine: [Named<'static>; 1],
    of_other: [Named<'static>; 1],
    of_n1: [Named<'static>; 1],
    of_n2: [Named<'static>; 1],
    of_ada: [Named<'static>; 1],
    of_eve: [Named<'static>; 1],
    agent_n1: Identity,
    agent_n2: Identity,
    ada: Identity,
    replica: Identity,
}

fn kept<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn objects() -> Objects {
    Objects {
        mine: queue("research"),
        below: queue("research/vision"),
        other: queue("default"),
        beside: queue("research-2"),
        n1: name("n1"),
        n2: name("n2"),
        of_mine: [Named::Job { queue: kept(queue("research/vision")) }],
        of_other: [Named::Job { queue: kept(queue("default")) }],
        of_n1: [Named::Allocation { node: kept(name("n1")) }],
        of_n2: [Named::Allocation { node: kept(name("n2")) }],
        of_ada: [Named::Upload { by: "ada" }],
        of_eve: [Named::Upload { by: "eve" }],
        agent_n1: Identity::Agent(name("n1")),
        agent_n2: Identity::Agent(name("n2")),
        ada: Identity::Person(name("ada")),
        replica: Identity::Coordinator(ReplicaId(1)),
    }
}

#[test]
fn each_caller_may_what_the_table_says_and_nothing_else() {
    let objects = objects();
    for (action, expected, _) in table(&objects) {
        let callers = callers();
        let may = callers.iter().filter(|(_, caller)| allow(caller, action).is_ok());
        let may: String = may.map(|(letter, _)| letter).collect();
        assert_eq!(may, expected, "{action:?}");
    }
}

#[test]
fn every_call_of_every_service_is_an_action() {
    let files = prost_types::FileDescriptorSet::decode(flowyard_proto::DESCRIPTORS).unwrap();
    let services = files.file.iter().flat_map(|file| &file.service);
    let calls: BTreeSet<String> = services
        .flat_map(|service| service.method.iter().map(|method| format!("{}/{}", service.name(), method.name())))
        .collect();
    let objects = objects();
    let decided: BTreeSet<String> = table(&objects).iter().map(|(_, _, call)| (*call).to_owned()).collect();
    let undecided: Vec<_> = calls.difference(&decided).collect();
    assert!(undecided.is_empty(), "nothing decides who may call {undecided:?}");
}

#[test]
fn a_denial_says_who_asked_for_what_and_who_could() {
    let submitter = person(Role::Submitter { queues: [queue("research"), queue("b")].into() });
    let denied = allow(&submitter, Action::Cancel { queue: &queue("default") }).unwrap_err();
    let told = "ada (submitter to b, research) may not cancel jobs in queue `default`; \
                a submitter to its queue or an operator may";
    assert_eq!(denied.to_string(), told);
    assert_eq!(Status::from(denied).code(), tonic::Code::PermissionDenied);
    let denied = allow(&Caller::Nobody, Action::ListJobs).unwrap_err();
    assert_eq!(denied.to_string(), "somebody unknown may not list jobs; show a certificate or a token");
    assert_eq!(Status::from(denied).code(), tonic::Code::Unauthenticated);
}

#[test]
fn a_queue_covers_what_is_below_it_and_not_what_begins_alike() {
    let covers = |own: &str, other: &str| queue(own).covers(&queue(other));
    assert!(covers("a", "a") && covers("a", "a/b") && covers("a/b", "a/b/c"));
    assert!(!covers("a", "ab") && !covers("a/b", "a") && !covers("a", "b/a"));
}
