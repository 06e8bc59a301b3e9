//! What would come of a submission: the checks of a real one, and the same answer as to `why`, on a copy of the state.

use std::sync::Arc;
use std::time::Duration;

use flowyard_model::{
    ClusterVersion, Command, Entry, Health, JobId, JobSpec, QueuePath, Reply, Revision, Scheduling, StepIndex,
    StepSpec, SubmitJob, TaskKey, TimeMs,
};
use flowyard_proto::api::{DryRunRequest, DryRunResponse, Finding};
use flowyard_proto::status::rejected;
use flowyard_scheduling::why::{Question, explain};
use flowyard_state::{State, View, apply};
use tonic::Status;

use super::why::{Sight, count, explanation, finding, of_reasons};
use super::{alternatives, beside, submit};
use crate::access::{Action, allow};
use crate::coordinator::Shared;
use crate::standing::Standing;

/// Steps that are explained: each costs as much as a question of its own.
const EXPLAINED: usize = 4;
/// Steps that are told about.
const STEPS_TOLD: usize = 50;

/// Checks a job as a submission does, and says of each of its steps what would come of it. Nothing is stored, and nothing proposed.
pub(super) async fn dry_run(
    shared: &Shared,
    standing: &Standing,
    request: DryRunRequest,
) -> Result<DryRunResponse, Status> {
    let (request, brought) = flowyard_proto::request::dry_run(request)?;
    let wish = submit::judged(shared, standing, request, &brought).await?;
    first_open_node(shared).await;
    let (view, caller, embedded) = (shared.fresh_view().await?, standing.caller.clone(), shared.config.embedded);
    let now = TimeMs(flowyard_clock::wall_ms());
    let turn = shared.explaining.clone().acquire_owned().await;
    let looks = move |queue: &QueuePath| allow(&caller, Action::LookAtQueue { queue }).is_ok();
    beside(move || {
        let _turn = turn;
        answer(&view, &wish, now, embedded, &looks)
    })
    .await
}

/// The agent of an embedded cluster connects as it starts: what this machine could start now is known after that.
async fn first_open_node(shared: &Shared) {
    const PATIENCE: Duration = Duration::from_secs(5);
    if shared.config.embedded {
        let open = |view: &View| {
            view.nodes().any(|(id, node)| {
                let connected = shared.directory.find(id).is_some();
                connected && node.health == Health::Up && node.scheduling == Scheduling::Open
            })
        };
        let mut views = shared.feed.views();
        let _ = tokio::time::timeout(PATIENCE, views.wait_for(open)).await;
    }
}

fn answer(
    view: &View,
    wish: &SubmitJob,
    now: TimeMs,
    may_grow: bool,
    looks: &dyn Fn(&QueuePath) -> bool,
) -> Result<DryRunResponse, Status> {
    let (revision, mut copy) = (view.revision().0, State::clone(view));
    let gangs = submit::wants_gangs(&wish.spec);
    if may_grow && (wish.spec.is_newer() || gangs) && copy.version() < ClusterVersion::ACCESS {
        let _ = perform(&mut copy, now, Command::RaiseVersion { version: ClusterVersion::ACCESS });
    }
    submit::check_gangs(copy.version(), gangs).map_err(|rejection| rejected(&rejection))?;
    let job = match perform(&mut copy, now, Command::SubmitJob(wish.clone())) {
        Reply::Submitted { job, existing: true } => {
            return Ok(DryRunResponse { findings: Vec::new(), revision, existing: Some(job.0) });
        }
        Reply::Submitted { job, .. } => job,
        Reply::Rejected(rejection) => return Err(rejected(&rejection)),
        other => return Err(Status::internal(format!("a submission was answered with {other:?}"))),
    };
    let asked = Asked { view, copy: &copy, job, wish, now, looks };
    let mut explained = 0;
    let steps = (0..).zip(&wish.spec.steps).take(STEPS_TOLD);
    let mut findings: Vec<_> = steps.map(|(at, spec)| asked.step(StepIndex(at), spec, &mut explained)).collect();
    findings.extend(untold(wish));
    Ok(DryRunResponse { findings, revision, existing: None })
}

/// That there are more steps than are told about.
fn untold(wish: &SubmitJob) -> Option<Finding> {
    let more = wish.spec.steps.len().checked_sub(STEPS_TOLD).filter(|more| *more > 0)?;
    let reason = format!("{} of it are not told about here", count(more as u64, "more step"));
    Some(finding(wish.spec.name.to_string(), "more", reason))
}

fn perform(state: &mut State, now: TimeMs, command: Command) -> Reply {
    let index = Revision(state.revision().0 + 1);
    apply(state, Entry { index, time: now.max(state.time()), command }).reply
}

/// A job that is not submitted.
struct Asked<'a> {
    view: &'a View,
    /// With the job in it.
    copy: &'a State,
    job: JobId,
    wish: &'a SubmitJob,
    now: TimeMs,
    looks: &'a dyn Fn(&QueuePath) -> bool,
}

impl Asked<'_> {
    fn step(&self, at: StepIndex, spec: &StepSpec, explained: &mut usize) -> Finding {
        let subject = spec.name.to_string();
        let Some(step) = self.copy.step(self.job, at) else { return finding(subject, "unknown", "it has no tasks") };
        if step.count == Some(0) {
            return finding(subject, "skipped", "the list that its tasks come from is empty");
        }
        if step.counts.ready == 0 {
            return finding(subject, "blocked", self.waits_for(spec));
        }
        if *explained >= EXPLAINED {
            return finding(
                subject,
                "ready",
                "it could be placed; so many other steps could that this one was not looked at",
            );
        }
        *explained += 1;
        let wish = SubmitJob { key: None, ..self.wish.clone() };
        let sight = Sight { state: self.view, own: &self.wish.spec.queue, looks: self.looks };
        let Some(told) = explain(self.view, &Question::Submission { wish, step: at }, self.now) else {
            return finding(subject, "ready", "it could be placed");
        };
        let wire = Some(explanation(sight, &told, self.now.0));
        let mut found = of_reasons(sight, spec, &told.reasons, Some(&told), subject);
        found.state = "waits".to_owned();
        if told.placed.is_none() {
            let first = self.copy.ready_tasks(self.job, at).map(|(task, _)| TaskKey { job: self.job, step: at, task });
            found.details.extend(first.take(1).flat_map(|key| alternatives::lines(sight, self.copy, key)));
        } else {
            found = Finding { details: Vec::new(), advice: Vec::new(), state: "starts".to_owned(), ..found };
            found.reason = match step.count {
                Some(1) | None => "it would start now".to_owned(),
                Some(all) => format!("{} of its {all} tasks would start now", told.placed_of_step),
            };
            let by = told.alternative.and_then(|at| alternatives::named(spec, at));
            found.details.extend(by.map(|named| format!("the first of them would have GPUs by {named}")));
        }
        Finding { explanation: wire, ..found }
    }

    fn waits_for(&self, spec: &StepSpec) -> String {
        let open = |job: &JobId| self.view.job(*job).is_some_and(|job| job.ended.is_none());
        let jobs: Vec<_> =
            self.wish.spec.after.iter().filter(|job| open(job)).map(|job| format!("job {job}")).collect();
        if !jobs.is_empty() {
            return format!("its job would wait for {}", jobs.join(", "));
        }
        let steps: &Arc<JobSpec> = &self.wish.spec;
        let needs = spec.needs.keys().filter_map(|need| steps.steps.get(need.0 as usize));
        let needs: Vec<_> = needs.map(|step| step.name.to_string()).collect();
        format!("it would wait for {}", needs.join(", "))
    }
}
