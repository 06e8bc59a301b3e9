//! `fctl bench fleet`: everything in its order, and everything gone afterwards.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flowyard_hollow::{Class, Fates, Order, Told, descriptors_for, inventory};
use flowyard_model::Name;
use flowyard_proto::api::{CancelRequest, ChangeNodeRequest, GetClusterRequest, ListNodesRequest, NodeChange};
use flowyard_proto::cluster::RevokeTokenRequest;
use flowyard_sdk::client::{Client, Endpoint};

use super::super::Outcome;
use super::agents::Agents;
use super::backlog;
use super::chaos::{Chaos, Happened, Victims};
use super::cluster::{Cluster, Door, addresses, term};
use super::figures::{Figures, Process, at};
use super::load::{Jobs, Load, active, until_ended};
use super::process::Taken;
use super::synced::Synced;
use super::verdict::{Law, Verdict};
use super::workload::Workload;
use crate::cli::Global;
use crate::cli::bench::{BenchFleet, NodeGpus};
use crate::failure::{Failure, codes};
use crate::signals::Stops;
use crate::{output, text};

/// Memory of a node for each of its CPUs.
const MEMORY_PER_CPU: u64 = 4 << 30;
/// How often it is looked whether all goes on, and how often that is told.
pub(super) const LOOK: Duration = Duration::from_millis(100);
const TELL: Duration = Duration::from_secs(5);
/// How long hollow agents may take to get on while they connect.
const CONNECT: Duration = Duration::from_secs(60);
/// How long an existing cluster may take to let go of what was cancelled.
const LET_GO: Duration = Duration::from_secs(30);

pub(super) async fn run(global: &Global, asked: &BenchFleet) -> Outcome {
    if global.local {
        return Err(Failure::Usage(
            "--local: an embedded cluster has one node; leave it out for three coordinators, or give --endpoint"
                .to_owned(),
        ));
    }
    if asked.failures.ppm + asked.faults.ppm > 1_000_000 {
        return Err(Failure::Usage("--failures and --faults are more than 1 together".to_owned()));
    }
    let workload = Workload::of(asked)?;
    // Said before anything is begun; the process with the agents raises its own.
    may_open(asked.nodes)?;
    let mut stops = Stops::hear()?;
    let mut yard = Yard::make(global, asked)?;
    let measured = tokio::select! {
        stop = stops.next() => Err(Failure::Stopped { stop, what: "the bench".to_owned() }),
        measured = measure(&mut yard, asked, &workload) => measured,
    };
    yard.clear().await;
    let figures = measured?;
    figures.print();
    Ok(if figures.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(codes::JOB_FAILED) })
}

/// Whether a process may have as many open files as the agents need.
fn may_open(nodes: u32) -> Result<(), Failure> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let (needed, root) = (descriptors_for(nodes), rustix::process::geteuid().is_root());
    match limit.maximum {
        Some(allowed) if allowed < needed && !root => {
            Err(Failure::Usage(flowyard_hollow::FleetError::Descriptors { nodes, needed, allowed }.to_string()))
        }
        _ => Ok(()),
    }
}

/// Everything that is to be gone afterwards.
struct Yard {
    run: Name,
    folder: PathBuf,
    keep: bool,
    cluster: Option<Cluster>,
    /// A cluster that is there already, which stays.
    existing: Option<Client>,
    agents: Option<Agents>,
    /// Faults that are made, and by whom.
    chaos: Option<(Chaos, Client)>,
    /// Tokens that were made.
    tokens: Vec<u64>,
}

impl Yard {
    fn make(global: &Global, asked: &BenchFleet) -> Result<Self, Failure> {
        let endpoint = global.endpoint.as_ref().map(|text| text.parse::<Endpoint>());
        let existing = endpoint.transpose().map_err(|error| Failure::Usage(format!("--endpoint: {error}")))?;
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let run = format!("bench-{}", &mark[..8]);
        let parent = asked.folder.clone().unwrap_or_else(std::env::temp_dir);
        let folder = parent.join(format!("flowyard-{run}"));
        std::fs::create_dir_all(&folder).map_err(Failure::local(folder.display()))?;
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&folder, private).map_err(Failure::local(folder.display()))?;
        let run = run.parse().map_err(|error| Failure::Internal(format!("{error}")))?;
        let existing = existing.map(Client::new);
        Ok(Self {
            run,
            folder,
            keep: asked.keep,
            cluster: None,
            existing,
            agents: None,
            chaos: None,
            tokens: Vec::new(),
        })
    }

    /// A client of whoever may do everything there.
    fn owner(&self) -> Result<Client, Failure> {
        let own = self.cluster.as_ref().map(Cluster::owner);
        self.existing.clone().or(own).ok_or_else(|| Failure::Internal("a bench without a cluster".to_owned()))
    }

    /// Why a process of ours is over, if one is.
    fn check(&mut self) -> Result<Told, Failure> {
        let folder = self.folder.clone();
        let cluster = self.cluster.as_mut().and_then(Cluster::fault);
        match cluster.or_else(|| self.agents.as_mut().and_then(|agents| agents.fault(&folder))) {
            Some(fault) => Err(fault),
            None => Ok(self.agents.as_ref().map(Agents::told).unwrap_or_default()),
        }
    }

    /// Makes the faults that are due; whether all are over.
    async fn stir(&mut self, over: u64, all: u64, ended: bool) -> Result<bool, Failure> {
        let Self { cluster: Some(cluster), agents: Some(agents), chaos: Some((chaos, client)), .. } = self else {
            return Ok(true);
        };
        chaos.look(over, all, ended, Victims { cluster, agents, client }).await?;
        Ok(chaos.is_over())
    }

    /// What faults there were, once everybody is there again.
    async fn calm(&mut self) -> Result<Vec<Happened>, Failure> {
        let Some((chaos, _)) = self.chaos.take() else { return Ok(Vec::new()) };
        if let Some(cluster) = &self.cluster {
            cluster.whole().await?;
        }
        Ok(chaos.happened())
    }

    fn taken(&self) -> (Vec<Taken>, Taken) {
        let agents = self.agents.as_ref().map(Agents::taken).unwrap_or_default();
        (self.cluster.as_ref().map(Cluster::taken).unwrap_or_default(), agents)
    }

    /// Takes everything away again.
    async fn clear(&mut self) {
        if let Some(mut client) = self.existing.clone() {
            told_if_failed("jobs of the bench are left", stop_jobs(&mut client, &self.run).await);
        }
        if let Some(agents) = self.agents.take() {
            agents.end().await;
        }
        if let Some(mut client) = self.existing.clone() {
            told_if_failed("hollow nodes are left", remove_nodes(&mut client, &self.run, &self.tokens).await);
        }
        if let Some(cluster) = self.cluster.take() {
            cluster.end().await;
        }
        if self.keep {
            output::note(format!("what the coordinators kept and said is in {}", self.folder.display()));
        } else if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            output::warning(format!("{} could not be removed: {error}", self.folder.display()));
        }
    }
}

fn told_if_failed(what: &str, done: Result<(), Failure>) {
    if let Err(error) = done {
        output::warning(format!("{what}: {error}"));
    }
}

/// Cancels what still runs, and waits until it does not any more.
async fn stop_jobs(client: &mut Client, run: &Name) -> Result<(), Failure> {
    const PAGE: u32 = 1_000;
    loop {
        let jobs = active(client, run, PAGE).await?;
        if jobs.is_empty() {
            return Ok(());
        }
        for job in &jobs {
            client.cancel(CancelRequest { job: *job }).await?;
        }
        let start = flowyard_clock::monotonic();
        while !active(client, run, 1).await?.is_empty() && (jobs.len() as u32) < PAGE {
            if flowyard_clock::elapsed(start) > LET_GO {
                return Err(Failure::Home("what was cancelled does not end".to_owned()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Takes the hollow nodes out of a cluster that stays, and what let them in.
async fn remove_nodes(client: &mut Client, run: &Name, tokens: &[u64]) -> Result<(), Failure> {
    for token in tokens {
        client.revoke_token(RevokeTokenRequest { token: *token }).await?;
    }
    let prefix = format!("{run}-");
    let nodes = client.list_nodes(ListNodesRequest::default()).await?.nodes;
    for node in nodes.into_iter().filter(|node| node.name.starts_with(&prefix)) {
        for change in [NodeChange::Cordon, NodeChange::Remove] {
            let reason = "a bench is over".to_owned();
            let asked =
                ChangeNodeRequest { name: node.name.clone(), change: change.into(), reason, ..Default::default() };
            client.change_node(asked).await?;
        }
    }
    Ok(())
}

async fn measure(yard: &mut Yard, asked: &BenchFleet, workload: &Workload) -> Result<Figures, Failure> {
    if yard.existing.is_none() {
        output::note(format!("three coordinators are formed in {}", yard.folder.display()));
        yard.cluster.insert(Cluster::none(&yard.folder)).form().await?;
    }
    let mut owner = yard.owner()?;
    let (addresses, first_term) = (addresses(&mut owner).await?, term(&mut owner).await?);
    let law = Law {
        fates: Fates { seed: asked.seed, failures_ppm: asked.failures.ppm, faults_ppm: asked.faults.ppm },
        retries: asked.retries,
    };
    let mut door = Door { client: owner.clone(), addresses, made: &mut yard.tokens };
    let tokens = door.agents(asked.nodes).await?;
    if yard.cluster.is_some() {
        // Those of a cluster that stays are its own.
        door.queues(workload.queues()?).await?;
    }
    let mut clients = BTreeMap::from([(None, door.person("bench").await?)]);
    for user in workload.users() {
        clients.insert(Some(user.clone()), door.person(user.as_str()).await?);
    }
    let order = Order { run: yard.run.clone(), tokens, classes: classes(asked, &yard.run), fates: law.fates };
    let begun = flowyard_clock::monotonic();
    yard.agents = Some(Agents::start(&yard.folder, &order).await?);
    connected(yard, asked.nodes).await?;
    let connect_ms = flowyard_clock::elapsed(begun).as_millis() as u64;
    let (run, patience) = (yard.run.clone(), Duration::from_millis(asked.patience));
    let mut bench = clients.get(&None).cloned().unwrap_or_else(|| owner.clone());
    let backlog = match (&yard.cluster, asked.backlog) {
        (Some(cluster), Some(tasks)) => {
            Some(backlog::submit(cluster, &mut bench, &run, (tasks, asked.backlog_distinct), patience).await?)
        }
        _ => None,
    };
    if !asked.chaos.is_empty() {
        let chaos = Chaos::of(&asked.chaos, workload.first_queue(), u64::from(asked.nodes) * asked.slots * 1_000);
        yard.chaos = Some((chaos, bench.clone()));
        // Any coordinator may be the one that is away.
        owner = bench;
    }
    let load = Load { run: &run, tag: &run, retries: asked.retries, clients, taken: Arc::default(), patience };
    let (before, first) = (yard.taken(), last_entry(&mut owner).await);
    let synced = Synced::begin(yard.cluster.is_some(), &mut owner).await?;
    let (jobs, submit_ms) = carried(yard, asked, workload, &load, owner.clone()).await?;
    let after = yard.taken();
    let entries = last_entry(&mut owner).await.saturating_sub(first);
    let told = let_go(yard).await?;
    let chaos = yard.calm().await?;
    output::note("all has ended; every task is looked at");
    let mut verdict = Verdict::of(&mut owner, &run, &jobs, law, &told).await?;
    verdict.problems.extend(chaos.iter().filter_map(Happened::problem));
    let fsyncs = synced.finish(&mut owner, &mut verdict.problems).await?;
    let elections = term(&mut owner).await?.saturating_sub(first_term);
    let took = Took { connect_ms, submit_ms, before, after };
    let found = figures(asked, &yard.folder, verdict, &told, took, jobs.len() as u64);
    let fsync = found.fsync.map(|means| means && fsyncs.is_some_and(|(_, all)| all));
    let fsyncs = fsyncs.map(|(count, _)| count);
    Ok(Figures { elections, entries, backlog, chaos, fsync, fsyncs, ..found })
}

/// The number of the last entry, as far as whoever answers knows; 0 if nobody does.
async fn last_entry(client: &mut Client) -> u64 {
    client.get_cluster(GetClusterRequest {}).await.map_or(0, |cluster| cluster.revision)
}

/// Submits everything and waits for its end, through all faults; what was taken, and how long submitting took.
async fn carried(
    yard: &mut Yard,
    asked: &BenchFleet,
    workload: &Workload,
    load: &Load<'_>,
    mut asker: Client,
) -> Result<(Jobs, u64), Failure> {
    let (start, ended) = (flowyard_clock::monotonic(), AtomicBool::new(false));
    if let Some((chaos, _)) = &mut yard.chaos {
        chaos.begin();
    }
    let work = async {
        let jobs = load.submit(workload).await?;
        let submit_ms = flowyard_clock::elapsed(start).as_millis() as u64;
        until_ended(&mut asker, load.run, load.patience).await?;
        ended.store(true, Ordering::Relaxed);
        Ok((jobs, submit_ms))
    };
    let watched = watch(yard, &load.taken, (workload.tasks(), &ended), asked);
    tokio::try_join!(work, watched).map(|(carried, ())| carried)
}

/// Nodes that are alike, as many of each kind as of the others.
fn classes(asked: &BenchFleet, run: &Name) -> Vec<Class> {
    let kinds: Vec<_> = match asked.gpus.is_empty() {
        true => vec![Vec::new()],
        false => asked.gpus.iter().map(NodeGpus::devices).collect(),
    };
    let (all, several) = (asked.nodes, kinds.len() as u32);
    let class = |(at, gpus): (u32, _)| Class {
        count: all / several + u32::from(at < all % several),
        inventory: inventory(run, asked.slots * 1_000, asked.slots * MEMORY_PER_CPU, gpus),
    };
    (0..).zip(kinds).map(class).collect()
}

/// Waits until all hollow agents have a session.
async fn connected(yard: &mut Yard, nodes: u32) -> Result<(), Failure> {
    let (mut moved, mut said) = ((flowyard_clock::monotonic(), 0), flowyard_clock::monotonic());
    loop {
        let told = yard.check()?;
        if told.connected >= u64::from(nodes) {
            return Ok(());
        }
        let got_on = told.joined + told.sessions;
        if got_on != moved.1 {
            moved = (flowyard_clock::monotonic(), got_on);
        }
        if flowyard_clock::elapsed(moved.0) > CONNECT {
            let trouble = told.trouble.map_or_else(String::new, |trouble| format!("; the last trouble: {trouble}"));
            let connected = told.connected;
            return Err(Failure::Home(format!(
                "{connected} of {nodes} hollow agents are connected, and no more come{trouble}"
            )));
        }
        if flowyard_clock::elapsed(said) > TELL {
            said = flowyard_clock::monotonic();
            output::note(format!("hollow agents: {} joined, {} connected of {nodes}", told.joined, told.connected));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells how it goes, and makes the faults that are due, until all has ended and all faults are over.
///
/// # Errors
/// When a process is over, or nothing gets on any more.
async fn watch(
    yard: &mut Yard,
    taken: &AtomicU64,
    (all, over): (u64, &AtomicBool),
    asked: &BenchFleet,
) -> Result<(), Failure> {
    let start = flowyard_clock::monotonic();
    let (mut moved, mut said, mut before) = ((start, (0, 0)), start, 0);
    loop {
        let (told, taken, over) = (yard.check()?, taken.load(Ordering::Relaxed), over.load(Ordering::Relaxed));
        let calm = yard.stir(told.let_go, all, over).await?;
        if over && calm {
            return Ok(());
        }
        let ended = told.succeeded + told.failed + told.broken;
        // While something runs that takes its time, or nothing has arrived for a while, nothing has to get on.
        let idle = told.begun == told.let_go && taken < all;
        if moved.1 != (ended + told.let_go, taken) || ended < told.begun || idle || over {
            moved = (flowyard_clock::monotonic(), (ended + told.let_go, taken));
        }
        if flowyard_clock::elapsed(moved.0) > Duration::from_millis(asked.patience) {
            let patience = text::duration(asked.patience);
            let trouble = told.trouble.map_or_else(String::new, |trouble| format!("; the last trouble: {trouble}"));
            return Err(Failure::Home(format!(
                "nothing got on for {patience}: {taken} of {all} tasks were taken, {} attempts begun, {ended} ended and {} of them \
                 taken by the coordinators{trouble}",
                told.begun, told.let_go
            )));
        }
        let since = flowyard_clock::elapsed(said);
        if since > TELL {
            let rate = (told.let_go - before) * 1_000 / since.as_millis().max(1) as u64;
            output::note(format!(
                "{taken} of {all} tasks submitted, {} attempts begun, {} over, {rate} per second, {} of {} connected",
                told.begun, told.let_go, told.connected, asked.nodes
            ));
            (said, before) = (flowyard_clock::monotonic(), told.let_go);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What agents have counted, once they have told it after the last end; they hear of that end a moment later than we do.
async fn let_go(yard: &mut Yard) -> Result<Told, Failure> {
    let start = flowyard_clock::monotonic();
    loop {
        let told = yard.check()?;
        if told.let_go == told.begun || flowyard_clock::elapsed(start) > LET_GO {
            return Ok(told);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What was measured beside the records.
struct Took {
    connect_ms: u64,
    submit_ms: u64,
    before: (Vec<Taken>, Taken),
    after: (Vec<Taken>, Taken),
}

fn figures(asked: &BenchFleet, folder: &Path, verdict: Verdict, told: &Told, took: Took, jobs: u64) -> Figures {
    let took_ms = verdict.last_ms.saturating_sub(verdict.first_ms);
    let both = took.before.0.iter().zip(&took.after.0);
    let coordinators: Vec<_> = both.map(|(before, after)| Process::between(*before, *after)).collect();
    let cpu_us: u64 = coordinators.iter().map(|process| process.cpu_us).sum();
    let ours = !coordinators.is_empty();
    let (disk, fsync) = disk(folder);
    Figures {
        nodes: asked.nodes,
        tasks: verdict.tasks,
        jobs,
        attempts: verdict.attempts,
        failed_attempts: verdict.failed_attempts,
        broken_attempts: verdict.broken_attempts,
        failed_tasks: verdict.failed_tasks,
        tasks_per_second: verdict.tasks * 1_000 / took_ms.max(1),
        took_ms,
        submit_ms: took.submit_ms,
        placed_p50_ms: at(&verdict.placed_ms, 500),
        placed_p99_ms: at(&verdict.placed_ms, 990),
        placed_max_ms: at(&verdict.placed_ms, 1_000),
        connect_ms: took.connect_ms,
        peak_rss_bytes: coordinators.iter().map(|process| process.peak_rss_bytes).max(),
        cpu_us_per_task: ours.then(|| cpu_us / verdict.tasks.max(1)),
        entries: 0,
        coordinators,
        agents: Process::between(took.before.1, took.after.1),
        sessions_lost: told.lost_sessions,
        elections: 0,
        backlog: None,
        chaos: Vec::new(),
        tls: true,
        fsync: ours.then_some(fsync),
        fsyncs: None,
        disk: ours.then_some(disk),
        problems: verdict.problems,
    }
}

/// What kind of disk a folder is on, and whether syncing means anything there.
fn disk(folder: &Path) -> (String, bool) {
    let kind = rustix::fs::statfs(folder).map(|told| told.f_type as u64 & 0xffff_ffff);
    match kind {
        Ok(0x0102_1994) => ("tmpfs".to_owned(), false),
        Ok(0xef53) => ("ext4".to_owned(), true),
        Ok(0x5846_5342) => ("xfs".to_owned(), true),
        Ok(0x9123_683e) => ("btrfs".to_owned(), true),
        Ok(0x794c_7630) => ("overlayfs".to_owned(), true),
        Ok(other) => (format!("file system {other:#x}"), true),
        Err(error) => (error.to_string(), true),
    }
}
