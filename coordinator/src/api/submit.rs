//! Taking and stopping jobs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flowyard_model::{
    ClusterVersion, Command, Digest, Isolation, JobId, JobSpec, Name, NetworkMode, OnDisconnect, QueuePath, Rejection,
    Reply, SecretPlace, SpecBlobs, SubmitJob, validate,
};
use flowyard_proto::api::{CancelRequest, CancelResponse, SubmitRequest, SubmitResponse};
use flowyard_state::View;
use tonic::Status;

use super::{feasible, find_job};
use crate::access::{Action, Caller, allow};
use crate::coordinator::Shared;
use crate::queues::unknown_queue;
use crate::standing::Standing;

/// Checks a job as far as it can be checked before it is in the log, and puts it there.
pub(super) async fn submit(
    shared: &Shared,
    standing: &Standing,
    request: SubmitRequest,
) -> Result<SubmitResponse, Status> {
    let began_us = flowyard_clock::wall_us();
    let command = checked(shared, standing, request).await?;
    let admitted_us = flowyard_clock::wall_us();
    let under_way = shared.shedder.begin(1)?;
    let answer = propose(shared, &command).await?;
    drop(under_way);
    if let Some(tracer) = shared.proposer.tracer().filter(|_| !answer.existing) {
        tracer.submitted(answer.job, began_us, admitted_us);
    }
    standing.about(&format!("job {}", answer.job));
    Ok(answer)
}

/// The command for a job that can be taken as far as is known now.
pub(super) async fn checked(shared: &Shared, standing: &Standing, request: SubmitRequest) -> Result<Command, Status> {
    let wish = judged(shared, standing, request, &BTreeSet::new()).await?;
    let gangs = wants_gangs(&wish.spec);
    if wish.spec.is_newer() || gangs {
        shared.grow().await?;
    }
    check_gangs(shared.feed.view().version(), gangs)
        .map_err(|rejection| flowyard_proto::status::rejected(&rejection))?;
    Ok(Command::SubmitJob(wish))
}

/// A job that can be taken as far as is known now, but for these blobs, of which it is not asked whether they are stored.
pub(super) async fn judged(
    shared: &Shared,
    standing: &Standing,
    request: SubmitRequest,
    brought: &BTreeSet<Digest>,
) -> Result<SubmitJob, Status> {
    let caller = &standing.caller;
    // A coordinator that follows may not know yet who was shut out.
    if shared.leading_term().is_err() {
        let view = shared.fresh_view().await?;
        standing.check_in(&view)?;
    }
    let (mut spec, key) = flowyard_proto::request::submission(request)?;
    decide_networks(&mut spec, shared.config.usual_network);
    standing.about(&format!("job `{}` to queue `{}`", spec.name, spec.queue));
    allow(caller, Action::Submit { queue: &spec.queue })?;
    check_queue(shared, caller, &spec.queue).await?;
    validate(&spec).map_err(|rejection| flowyard_proto::status::rejected(&rejection))?;
    let encoded = flowyard_proto::encode_spec(&spec).map_err(|error| Status::invalid_argument(error.to_string()))?;
    check_timing(shared, &spec)?;
    check_secrets(&shared.feed.view(), &spec)?;
    check_blobs(shared, caller, &spec, brought).await?;
    first_node(shared).await;
    feasible::check(&shared.feed.view(), &spec).map_err(|rejection| flowyard_proto::status::rejected(&rejection))?;
    let spec_digest = flowyard_cas::digest_bytes(&encoded);
    let owner = caller.principal();
    Ok(SubmitJob { spec: Arc::new(spec), spec_digest, owner, key })
}

/// Puts the job into the log.
pub(super) async fn propose(shared: &Shared, command: &Command) -> Result<SubmitResponse, Status> {
    match shared.propose(command).await? {
        Reply::Submitted { job, existing } => Ok(SubmitResponse { job: job.0, existing }),
        other => Err(Status::internal(format!("a submission was answered with {other:?}"))),
    }
}

/// Refuses a queue that is not there, with those that the caller may look at; the state's own refusal would name others, too.
async fn check_queue(shared: &Shared, caller: &Caller, queue: &QueuePath) -> Result<(), Status> {
    if shared.feed.view().queue(queue).is_some() {
        return Ok(());
    }
    let view = shared.fresh_view().await?;
    if view.queue(queue).is_some() {
        return Ok(());
    }
    Err(unknown_queue(&view, queue, |known| allow(caller, Action::LookAtQueue { queue: known }).is_ok()))
}

/// What a step did not ask for is decided here, so that the log says which network every task had.
fn decide_networks(spec: &mut JobSpec, usual: NetworkMode) {
    for step in spec.steps.iter_mut().filter(|step| step.network == NetworkMode::Usual) {
        // A process without a container is on its node's network, whatever is usual.
        // And members of a gang reach each other on that of their nodes only.
        let on_host = step.isolation == Isolation::Process || step.size > 1;
        step.network = if on_host { NetworkMode::Host } else { usual };
    }
}

/// Whether any task of it has several members.
pub(super) fn wants_gangs(spec: &JobSpec) -> bool {
    spec.steps.iter().any(|step| step.size > 1)
}

/// Before the cluster version with which gangs are given a port, nobody could tell their members where to meet.
pub(super) fn check_gangs(current: ClusterVersion, gangs: bool) -> Result<(), Rejection> {
    let needs = ClusterVersion::ACCESS;
    if gangs && current < needs { Err(Rejection::NeedsVersion { needs, current }) } else { Ok(()) }
}

/// The agent of an embedded cluster registers as it starts. Until then nothing is known of what this machine could ever run, and
/// a job that asks for more would be taken and wait for ever.
async fn first_node(shared: &Shared) {
    const PATIENCE: Duration = Duration::from_secs(5);
    if shared.config.embedded {
        let mut views = shared.feed.views();
        // Without a node after that time the job is taken, and waits for one.
        let _ = tokio::time::timeout(PATIENCE, views.wait_for(|view| view.nodes().next().is_some())).await;
    }
}

/// A step that must be certainly gone when its node is given up cannot take longer to stop than there is time.
fn check_timing(shared: &Shared, spec: &JobSpec) -> Result<(), Status> {
    let longest = shared.config.timing.longest_grace_ms();
    let slow = spec.steps.iter().find(|step| step.on_disconnect == OnDisconnect::Stop && step.kill_grace_ms > longest);
    match slow {
        None => Ok(()),
        Some(step) => Err(flowyard_proto::status::rejected(&Rejection::Invalid {
            path: format!("steps.{}.kill_grace", step.name),
            message: format!(
                "with on_disconnect = \"stop\" at most {longest}ms, so that it is gone before its node is given up"
            ),
        })),
    }
}

/// A job names secrets that are kept, and that jobs of its queue may use. Of others nobody learns whether there are any.
fn check_secrets(view: &View, spec: &JobSpec) -> Result<(), Status> {
    let queue = &spec.queue;
    let known = |name: &Name| view.secret(name).is_some_and(|kept| kept.is_for(queue));
    let mut used = spec.steps.iter().flat_map(|step| step.secrets.iter().map(move |used| (step, used)));
    let Some((step, used)) = used.find(|(_, used)| !known(&used.secret)) else { return Ok(()) };
    let field = match &used.place {
        SecretPlace::Variable(name) => format!("env.{name}"),
        SecretPlace::File(name) => format!("secret_files.{name}"),
    };
    let name = &used.secret;
    let message = format!("there is no secret `{name}` for queue `{queue}`; keep it with `fctl secret put {name}`");
    let path = format!("steps.{}.{field}", step.name);
    Err(flowyard_proto::status::rejected(&Rejection::Invalid { path, message }))
}

/// Every blob a spec names must be stored: a job never waits for bytes that may not come. And whoever submits must have had them:
/// knowing a digest is no right to what it stands for, nor is a manifest that lists it.
async fn check_blobs(
    shared: &Shared,
    caller: &Caller,
    spec: &JobSpec,
    brought: &BTreeSet<Digest>,
) -> Result<(), Status> {
    let SpecBlobs { mut manifests, mut lists } = spec.blobs();
    manifests.retain(|digest| !brought.contains(digest));
    lists.retain(|digest| !brought.contains(digest));
    let named: Vec<Digest> = manifests.iter().chain(&lists).copied().collect();
    let missing = super::blobs::missing(shared, caller, &named).await?;
    if let Some(digest) = missing.first() {
        return Err(flowyard_proto::status::not_stored(format!(
            "{} of the blobs that the job names are not stored, the first is {digest}; upload them before submitting",
            missing.len()
        )));
    }
    for manifest in manifests {
        let listed = shared.readable.listed_by(&shared.durable, manifest).await.map_err(super::blobs::failed)?;
        let listed: Vec<Digest> = listed.iter().copied().collect();
        let view = shared.feed.view();
        let foreign = shared.readable.not_usable(&view, &shared.durable, caller, &listed).await;
        let foreign = foreign.map_err(super::blobs::failed)?;
        if let Some(digest) = foreign.first() {
            return Err(flowyard_proto::status::not_stored(format!(
                "artifact {manifest} lists {} blobs that you have neither uploaded nor may read, the first is {digest}; upload them \
                 before submitting",
                foreign.len()
            )));
        }
    }
    Ok(())
}

/// Asks a job to stop.
pub(super) async fn cancel(shared: &Shared, request: CancelRequest) -> Result<CancelResponse, Status> {
    let already_ended = find_job(&shared.feed.view(), request.job)?.1.ended.is_some();
    shared.propose(&Command::CancelJob { job: JobId(request.job) }).await?;
    Ok(CancelResponse { already_ended })
}
