//! What the parts of the cluster say of themselves, as files, for whoever looks for a fault.
//!
//! Each part makes its own files; whoever is asked gathers them from the others, and says which did not answer.
//!
//! Invariant: nothing of what jobs are given, run or print is in them: no parameter, variable, command, message, log of a task; and no
//! key, token or secret. They are made of figures, settings, the log of what goes on inside, and counts of the state.

use std::sync::Arc;
use std::time::Duration;

use flowyard_model::{Health, NodeId};
use flowyard_proto::agent::{DiagnoseRelay, open_relay, relay_from_agent};
use flowyard_proto::cluster::DiagnoseResponse;
use flowyard_proto::peer::DiagnoseOwnRequest;
use flowyard_proto::peer::members_client::MembersClient;
use flowyard_state::View;
use flowyard_telemetry::{Exposition, logs};
use futures::StreamExt;
use prost::Message;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::coordinator::Shared;
use crate::fleet::members::about;
use crate::metrics::Told;
use crate::raft::{Member, Role};
use crate::standing::Answers;

/// Files on their way.
const OUTBOX: usize = 16;
/// How long another part may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Agents asked at a time.
const AT_ONCE: usize = 16;
/// Agents asked at all; of a larger fleet those with a lower number.
const AGENTS: usize = 200;
/// Bytes of one file.
const FILE_BYTES: usize = 1024 * 1024;
/// Files that one agent may send; it has five.
const AGENT_FILES: usize = 8;

type Outbox = mpsc::Sender<Result<DiagnoseResponse, Status>>;

/// What this coordinator says, what the others say, and the agents of whichever leads.
pub(crate) fn of_all(shared: &Shared) -> Answers<DiagnoseResponse> {
    let (outbox, receiver) = mpsc::channel(OUTBOX);
    let shared = shared.clone();
    tokio::spawn(async move {
        let own = shared.replica.identity().replica;
        let others: Vec<Member> =
            shared.replica.members().into_iter().filter(|member| member.peer.replica != own).collect();
        let asked = others.into_iter().map(|member| pass_on(shared.clone(), member, outbox.clone()));
        tokio::join!(say(&shared, &outbox), futures::future::join_all(asked));
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// What this coordinator says, and the agents that have a session with it.
pub(crate) fn of_this(shared: &Shared) -> Answers<DiagnoseResponse> {
    let (outbox, receiver) = mpsc::channel(OUTBOX);
    let shared = shared.clone();
    tokio::spawn(async move { say(&shared, &outbox).await });
    Box::pin(ReceiverStream::new(receiver))
}

async fn say(shared: &Shared, outbox: &Outbox) {
    let made = {
        let shared = shared.clone();
        tokio::task::spawn_blocking(move || own_files(&shared)).await
    };
    for file in made.unwrap_or_default() {
        send(outbox, file).await;
    }
    if shared.leading_term().is_err() {
        return;
    }
    let view = shared.feed.view();
    let mut nodes: Vec<(NodeId, String)> = view.nodes().map(|(id, node)| (id, node.name.to_string())).collect();
    for (_, name) in nodes.drain(nodes.len().min(AGENTS)..) {
        send(outbox, missing(&format!("agents/{name}"), &format!("only {AGENTS} agents are asked"))).await;
    }
    let asking = futures::stream::iter(nodes);
    asking.for_each_concurrent(AT_ONCE, async |(node, name)| ask_agent(shared, node, &name, outbox).await).await;
}

/// Whoever asked may have gone; then there is nobody to tell.
async fn send(outbox: &Outbox, file: DiagnoseResponse) {
    let _ = outbox.send(Ok(file)).await;
}

fn missing(path: &str, why: &str) -> DiagnoseResponse {
    DiagnoseResponse { path: path.to_owned(), content: Default::default(), missing: why.to_owned() }
}

/// A file, cut off at its beginning where it is too long: what is new stands at the end.
fn file(path: String, mut content: String) -> DiagnoseResponse {
    if content.len() > FILE_BYTES {
        let mut from = content.len() - FILE_BYTES;
        while !content.is_char_boundary(from) {
            from += 1;
        }
        content.drain(..from);
    }
    DiagnoseResponse { path, content: content.into_bytes().into(), missing: String::new() }
}

fn own_files(shared: &Shared) -> Vec<DiagnoseResponse> {
    let folder = format!("coordinators/{}", shared.replica.identity().replica);
    let pretty = |value: &Value| format!("{value:#}\n");
    let told = Exposition::of(vec![Arc::new(Told { shared: shared.clone() })]).text();
    vec![
        file(format!("{folder}/about.json"), pretty(&about_this(shared))),
        file(format!("{folder}/settings.txt"), format!("{:#?}\n", shared.config)),
        file(format!("{folder}/state.json"), pretty(&summary(&shared.feed.view()))),
        file(format!("{folder}/metrics.txt"), told),
        file(format!("{folder}/log.jsonl"), logs::recent()),
    ]
}

fn about_this(shared: &Shared) -> Value {
    let (about, identity) = (about(shared), shared.replica.identity());
    let role = match &*shared.replica.role().borrow() {
        Role::Leader { term, ready } => json!({ "role": "leader", "term": term, "ready": ready }),
        Role::Follower { term, leader } => json!({ "role": "follower", "term": term, "leader": leader.replica }),
        Role::Seeking => json!({ "role": "seeking" }),
        Role::Stopped { fault } => json!({ "role": "stopped", "why": fault.as_ref().map(ToString::to_string) }),
    };
    let members = shared.replica.members().into_iter().map(|member| {
        json!({
            "coordinator": member.peer.replica, "address": member.peer.address, "votes": member.votes,
            "leads": member.leads, "lag_entries": member.lag,
            "silent_ms": member.silent_for.map(|silent| silent.as_millis() as u64),
        })
    });
    json!({
        "release": about.version, "cluster": shared.cluster_id, "epoch": shared.epoch, "coordinator": identity.replica,
        "at_ms": flowyard_clock::wall_ms(), "applied": about.applied, "newest_version": about.newest_version,
        "engine": about.engine, "disk_bytes": about.disk_bytes, "disk_free_bytes": about.disk_free_bytes,
        "log_bytes": about.log_bytes, "snapshot_bytes": about.snapshot_bytes,
        "certificate_expires_at_ms": about.certificate_expires_at_ms, "role": role,
        "members": members.collect::<Vec<_>>(), "system": system(),
    })
}

/// The kernel's name and release.
fn system() -> String {
    let told = rustix::system::uname();
    format!(
        "{} {} {}",
        told.sysname().to_string_lossy(),
        told.release().to_string_lossy(),
        told.machine().to_string_lossy()
    )
}

/// Counts of what the state holds, and its nodes; of jobs nothing else.
fn summary(view: &View) -> Value {
    let nodes = view.nodes().map(|(id, node)| {
        json!({
            "node": id.0, "name": node.name.to_string(), "incarnation": node.incarnation.0,
            "health": format!("{:?}", node.health), "scheduling": format!("{:?}", node.scheduling),
            "registered_ms": node.registered_at.0, "members": node.used.members,
            "cpu_milli": [node.used.cpu_milli, node.inventory.cpu_milli],
            "memory_bytes": [node.used.memory_bytes, node.inventory.memory_bytes],
            "gpus": node.inventory.gpus.len(), "release": node.inventory.abilities.agent_version,
            "system": node.inventory.abilities.system, "enforcement": node.inventory.abilities.enforcement,
        })
    });
    let up = view.nodes().filter(|(_, node)| node.health == Health::Up).count();
    let queues = view.queues().map(|queue| {
        let load = view.load(&queue.path);
        json!({ "queue": queue.path.to_string(), "jobs": load.jobs, "active_tasks": load.active })
    });
    json!({
        "revision": view.revision().0, "time_ms": view.time().0, "version": view.version().0, "epoch": view.epoch().0,
        "next_deadline_ms": view.next_deadline().map(|at| at.0), "jobs": view.job_count(),
        "jobs_finished": view.finished_count(), "ready_groups": view.ready_groups().count(), "nodes_up": up,
        "queues": queues.collect::<Vec<_>>(), "nodes": nodes.collect::<Vec<_>>(),
    })
}

/// Passes on what another coordinator says, or that it does not answer.
async fn pass_on(shared: Shared, member: Member, outbox: Outbox) {
    let replica = member.peer.replica;
    let heard = match shared.peer_channel(&member.peer.address) {
        None => Err("its address cannot be used".to_owned()),
        Some(channel) => ask_coordinator(channel, &outbox).await,
    };
    if let Err(why) = heard {
        send(&outbox, missing(&format!("coordinators/{replica}"), &why)).await;
    }
}

async fn ask_coordinator(channel: Channel, outbox: &Outbox) -> Result<(), String> {
    let mut client = MembersClient::new(channel);
    let slow = |_| format!("it did not answer within {} s", PATIENCE.as_secs());
    let asked = tokio::time::timeout(PATIENCE, client.diagnose(DiagnoseOwnRequest {})).await.map_err(slow)?;
    let mut said = asked.map_err(|status| status.message().to_owned())?.into_inner();
    loop {
        let next = tokio::time::timeout(2 * PATIENCE, said.message()).await.map_err(slow)?;
        let Some(said) = next.map_err(|status| status.message().to_owned())? else { return Ok(()) };
        let said = DiagnoseResponse::decode(said.response).map_err(|error| error.to_string())?;
        send(outbox, said).await;
    }
}

async fn ask_agent(shared: &Shared, node: NodeId, name: &str, outbox: &Outbox) {
    if let Err(why) = hear_agent(shared, node, name, outbox).await {
        send(outbox, missing(&format!("agents/{name}"), &why)).await;
    }
}

/// Only the agent's own silence is counted against it, not how slowly the answer is read; and it says so much and no more.
async fn hear_agent(shared: &Shared, node: NodeId, name: &str, outbox: &Outbox) -> Result<(), String> {
    let slow = |_| format!("it did not answer within {} s", PATIENCE.as_secs());
    let refused = |status: Status| status.message().to_owned();
    let opening = shared.relays.open_to_agent(node, open_relay::Kind::Diagnose(DiagnoseRelay {}));
    let mut relay = tokio::time::timeout(PATIENCE, opening).await.map_err(slow)?.map_err(refused)?;
    for _ in 0..AGENT_FILES {
        let next = tokio::time::timeout(PATIENCE, relay.next()).await.map_err(slow)?;
        let Some(said) = next.map_err(refused)? else { return Ok(()) };
        let relay_from_agent::Message::Diagnosis(said) = said else { continue };
        // A name is an agent's word: it does not leave its folder.
        let plain: String = said.name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).collect();
        let content = said.content.slice(..said.content.len().min(FILE_BYTES));
        let path = format!("agents/{name}/{}", plain.trim_start_matches('.'));
        send(outbox, DiagnoseResponse { path, content, missing: String::new() }).await;
    }
    Ok(())
}
