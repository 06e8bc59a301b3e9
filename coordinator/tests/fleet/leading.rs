//! Leading, losing and handing over: what ends with the role, and what goes on.

use std::time::Duration;

use flowyard_coordinator::Timing;
use flowyard_model::{Command, Health, Incarnation, NodeId};
use flowyard_proto::cluster::TransferLeaderRequest;
use tonic::Code;

use crate::house::{Host, three, three_with, until};
use crate::node;

/// Times in which a test sees a node given up.
const QUICK: Timing = Timing { heartbeat_ms: 100, suspect_ms: 1_500, lease_ms: 200, down_ms: 2_000 };
const BEAT: Duration = Duration::from_millis(100);

fn leader(hosts: &[Host]) -> &Host {
    hosts.iter().find(|host| host.leads()).expect("a leader")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_and_conclusions_end_with_the_role_and_nobody_healthy_is_given_up() {
    let hosts = three_with(QUICK).await;
    let (from, to) = (leader(&hosts), hosts.iter().find(|host| !host.leads()).unwrap());
    let own = node::join(from, "n1").await;
    let mut session = node::begin(from, &own, "n1", None).await.unwrap();
    let before = (session.welcome.node, session.welcome.incarnation);
    assert!(session.beat(7).await);
    assert_eq!(session.answered().await.unwrap(), 7, "an answer says what it answers");
    let old = from.coordinator().shared().leading_term().unwrap();
    let request = TransferLeaderRequest { replica: Some(to.identity.replica) };
    from.owner().transfer_leader(request).await.unwrap();
    until("the other to lead", async || to.leads()).await;
    // The session at the one that led is over, and says where to go.
    let (_, ended) = session.lives_on(BEAT).await;
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    let named = ended.metadata().get(flowyard_coordinator::LEADER).and_then(|leader| leader.to_str().ok());
    assert_eq!(named, Some(to.address.api.as_str()), "{ended}");
    // What was decided in the old term is taken by nobody: neither by its log nor by being passed on.
    let shared = from.coordinator().shared();
    let void =
        Command::SetNodeHealth { node: NodeId(before.0), incarnation: Incarnation(before.1), health: Health::Down };
    shared.proposer.in_term(old).propose(&void).await.unwrap_err();
    // The node lives on at the new leader, for longer than silence at the old one would be borne.
    let mut session = node::begin(to, &own, "n1", Some(before)).await.unwrap();
    let lives = tokio::time::timeout(Duration::from_millis(2 * QUICK.down_ms), session.lives_on(BEAT)).await;
    assert!(lives.is_err(), "the session ended: {lives:?}");
    let view = to.coordinator().shared().fresh_view().await.unwrap();
    let node = view.node(NodeId(before.0)).unwrap();
    assert_eq!((node.health, node.incarnation), (Health::Up, Incarnation(session.welcome.incarnation)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_nobody_follows_renews_no_lease_and_sends_its_agents_away() {
    let mut hosts = three_with(QUICK).await;
    let at = hosts.iter().position(Host::leads).unwrap();
    let own = node::join(&hosts[at], "n1").await;
    let mut session = node::begin(&hosts[at], &own, "n1", None).await.unwrap();
    assert!(session.beat(1).await);
    assert_eq!(session.answered().await.unwrap(), 1);
    for other in (0..3).filter(|other| *other != at) {
        hosts[other].stop().await;
    }
    // What a majority said before may still count for this long.
    tokio::time::sleep(Duration::from_millis(Timing::EVIDENCE_MS)).await;
    let (last, ended) = session.lives_on(BEAT).await;
    assert_eq!((last, ended.code()), (0, Code::Unavailable), "a lease was renewed without a majority: {ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_goes_on_leading_while_everything_else_in_its_process_is_busy() {
    let hosts = three().await;
    let term = |host: &Host| host.coordinator().shared().leading_term().ok();
    let before = term(leader(&hosts)).expect("it leads");
    // All threads of the process are held twice as long as a leader may be silent, as by the handshakes of thousands of agents; those of
    // the coordinators that follow as well, since all are in this process.
    let hold = || std::thread::sleep(Duration::from_millis(1_500));
    let held: Vec<_> = (0..4).map(|_| tokio::spawn(async move { hold() })).collect();
    for thread in held {
        thread.await.unwrap();
    }
    leader(&hosts).coordinator().shared().fresh_view().await.expect("a majority follows");
    assert_eq!(term(leader(&hosts)), Some(before), "another election was held");
}
