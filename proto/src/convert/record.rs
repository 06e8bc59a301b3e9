//! Records of a snapshot.

use std::sync::Arc;

use flowyard_model as model;
use flowyard_model::{
    AttemptNumber, ClusterVersion, Epoch, GpuIndex, Incarnation, JobDesired, JobId, JobOutcome, NodeId, Ranges, Record,
    Revision, StepIndex, SubmissionKey, TaskIndex, TaskKey, TimeMs, TokenId,
};

use super::access::{from_revocation, from_token, to_revocation, to_token};
use super::account::{from_account, to_account};
use super::closing::{from_closure, to_closure};
use super::command::check_end;
use super::device::{from_conditions, to_conditions};
use super::discredit::{from_discredit, to_discredit};
use super::duration::{from_durations, to_durations};
use super::mix::{from_mix, to_mix};
use super::outcome::{stuck_number, stuck_phase};
use super::past::{from_page, to_page};
use super::preempt::{from_claim, to_claim};
use super::records::{task_state, waiting_until_ms};
use super::secret::{from_secret, to_secret};
use super::{closed, number, surgery};
use crate::decode::{self, Closed, DecodeError, Decoded, Problem, Under};
use crate::peer::record::Kind;
use crate::{api as wire, peer};

closed! {
    AttemptDesired in peer { Run, Stop, Preempt, GiveUp }
}

impl From<&Record> for peer::Record {
    fn from(record: &Record) -> Self {
        let kind = match record {
            Record::Meta(meta) => Kind::Meta((*meta).into()),
            Record::Queue(queue) => Kind::Queue((&**queue).into()),
            Record::Account(key, account) => Kind::Account(from_account(key, account)),
            Record::Node(id, node) => Kind::Node(from_node(*id, node)),
            Record::Submission(key, submission) => Kind::Submission(from_submission(key, *submission)),
            Record::Job(id, job) => Kind::Job(from_job(*id, job)),
            Record::Wait(job, until) => Kind::Wait(peer::Wait { job: job.0, until: until.0 }),
            Record::Step(job, step, it) => Kind::Step(from_step(*job, *step, it)),
            Record::Task(key, task) => Kind::Task(from_task(*key, task)),
            Record::Token(id, token) => Kind::Token(from_token(*id, token)),
            Record::Revocation(identity, revocation) => Kind::Revocation(from_revocation(identity, revocation)),
            Record::ArchivePage(page, it) => Kind::ArchivePage(from_page(*page, it)),
            Record::Segment(segment) => Kind::Segment((*segment).into()),
            Record::Secret(name, secret) => Kind::Secret(from_secret(name, secret)),
            Record::Claim(task, claim) => Kind::Claim(from_claim(*task, claim)),
            Record::Policy(policy) => Kind::Policy((&**policy).into()),
            Record::Durations(key, known) => Kind::Durations(from_durations(key, known)),
            Record::Mix(mix) => Kind::Mix(from_mix(mix)),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<peer::Record> for Record {
    type Error = DecodeError;

    fn try_from(record: peer::Record) -> Decoded<Self> {
        Ok(match record.kind.ok_or(Problem::UnknownRecord)? {
            Kind::Meta(meta) => Self::Meta(meta.into()),
            Kind::Queue(queue) => Self::Queue(Arc::new(queue.try_into().under("queue")?)),
            Kind::Account(account) => to_account(account).under("account")?,
            Kind::Node(node) => Self::Node(NodeId(node.node), Arc::new(to_node(node).under("node")?)),
            Kind::Submission(submission) => to_submission(submission).under("submission")?,
            Kind::Job(job) => Self::Job(JobId(job.job), Arc::new(to_job(job).under("job")?)),
            Kind::Wait(wait) => Self::Wait(JobId(wait.job), JobId(wait.until)),
            Kind::Step(step) => {
                Self::Step(JobId(step.job), StepIndex(step.step), Arc::new(to_step(step).under("step")?))
            }
            Kind::Task(task) => {
                let key = TaskKey { job: JobId(task.job), step: StepIndex(task.step), task: TaskIndex(task.task) };
                Self::Task(key, Arc::new(to_task(task).under("task")?))
            }
            Kind::Token(token) => Self::Token(TokenId(token.token), Arc::new(to_token(token).under("token")?)),
            Kind::Revocation(revocation) => to_revocation(revocation).under("revocation")?,
            Kind::ArchivePage(page) => {
                let (page, it) = to_page(page).under("archive_page")?;
                Self::ArchivePage(page, it)
            }
            Kind::Segment(segment) => Self::Segment(segment.try_into().under("segment")?),
            Kind::Secret(secret) => to_secret(secret).under("secret")?,
            Kind::Claim(claim) => to_claim(claim).under("claim")?,
            Kind::Policy(policy) => Self::Policy(Arc::new(policy.try_into().under("policy")?)),
            Kind::Durations(known) => to_durations(known).under("durations")?,
            Kind::Mix(mix) => to_mix(mix).under("mix")?,
        })
    }
}

impl From<model::Meta> for peer::Meta {
    fn from(meta: model::Meta) -> Self {
        Self {
            revision: meta.revision.0,
            time_ms: meta.time.0,
            version: meta.version.0,
            next_job: meta.next_job.0,
            next_node: meta.next_node.0,
            epoch: meta.epoch.0,
        }
    }
}

impl From<peer::Meta> for model::Meta {
    fn from(meta: peer::Meta) -> Self {
        Self {
            revision: Revision(meta.revision),
            time: TimeMs(meta.time_ms),
            version: ClusterVersion(meta.version),
            next_job: JobId(meta.next_job),
            next_node: NodeId(meta.next_node),
            epoch: Epoch(meta.epoch),
        }
    }
}

fn from_node(id: NodeId, node: &model::Node) -> peer::Node {
    peer::Node {
        node: id.0,
        name: node.name.to_string(),
        incarnation: node.incarnation.0,
        inventory: Some(node.inventory.as_ref().into()),
        health: number::<_, wire::Health>(node.health),
        scheduling: number::<_, wire::Scheduling>(node.scheduling),
        registered_at_ms: node.registered_at.0,
        used: Some((&node.used).into()),
        closure: node.closure.as_deref().map(from_closure),
        discredit: node.discredit.as_deref().map(from_discredit),
        devices: from_conditions(&node.devices),
    }
}

fn to_node(node: peer::Node) -> Decoded<model::Node> {
    Ok(model::Node {
        name: decode::name("name", &node.name)?,
        incarnation: Incarnation(node.incarnation),
        inventory: Arc::new(decode::required("inventory", node.inventory)?),
        health: decode::closed("health", node.health)?,
        scheduling: decode::closed("scheduling", node.scheduling)?,
        closure: node.closure.map(to_closure).transpose().under("closure")?.map(Arc::new),
        registered_at: TimeMs(node.registered_at_ms),
        used: decode::required("used", node.used)?,
        discredit: node.discredit.map(to_discredit).transpose().under("discredit")?.map(Arc::new),
        devices: to_conditions(node.devices)?,
    })
}

fn from_submission(key: &SubmissionKey, submission: model::Submission) -> peer::Submission {
    peer::Submission {
        owner: key.owner.clone(),
        key: key.key.clone(),
        job: submission.job.0,
        spec_digest: Some(submission.spec_digest.into()),
    }
}

fn to_submission(wire: peer::Submission) -> Decoded<Record> {
    let spec_digest = decode::required("spec_digest", wire.spec_digest)?;
    let key = SubmissionKey { owner: wire.owner, key: wire.key };
    Ok(Record::Submission(key, model::Submission { job: JobId(wire.job), spec_digest }))
}

fn from_job(id: JobId, job: &model::Job) -> peer::Job {
    peer::Job {
        job: id.0,
        spec: Some(job.spec.as_ref().into()),
        owner: job.owner.clone(),
        key: job.key.clone(),
        submitted_at_ms: job.submitted_at.0,
        desired: number::<_, peer::JobDesired>(job.desired),
        waits_for: job.waits_for,
        open_steps: job.open_steps,
        ended: job
            .ended
            .map(|end| peer::JobEnd { outcome: number::<_, wire::JobOutcome>(end.outcome), at_ms: end.at.0 }),
        overdue: job.overdue.map_or(0, number::<_, peer::Overdue>),
        startable_at_ms: job.startable_at.map(|time| time.0),
    }
}

fn to_job(job: peer::Job) -> Decoded<model::Job> {
    let ended = |end: peer::JobEnd| {
        let outcome = decode::closed("ended.outcome", end.outcome)?;
        Decoded::Ok(model::JobEnd { outcome, at: TimeMs(end.at_ms) })
    };
    Ok(model::Job {
        spec: Arc::new(decode::required("spec", job.spec)?),
        owner: job.owner,
        key: job.key,
        submitted_at: TimeMs(job.submitted_at_ms),
        desired: decode::closed("desired", job.desired)?,
        waits_for: job.waits_for,
        open_steps: job.open_steps,
        ended: job.ended.map(ended).transpose()?,
        overdue: match job.overdue {
            0 => None,
            number => Some(decode::closed("overdue", number)?),
        },
        startable_at: job.startable_at_ms.map(TimeMs),
    })
}

closed! {
    Overdue in peer { Deadline, QueueTtl }
}

impl From<JobDesired> for peer::JobDesired {
    fn from(desired: JobDesired) -> Self {
        match desired {
            JobDesired::Run => Self::Run,
            JobDesired::Stop(JobOutcome::Succeeded) => Self::StopSucceeded,
            JobDesired::Stop(JobOutcome::Failed) => Self::StopFailed,
            JobDesired::Stop(JobOutcome::Cancelled) => Self::StopCancelled,
        }
    }
}

impl Closed for JobDesired {
    fn from_number(number: i32) -> Option<Self> {
        match peer::JobDesired::try_from(number).ok()? {
            peer::JobDesired::Unspecified => None,
            peer::JobDesired::Run => Some(Self::Run),
            peer::JobDesired::StopSucceeded => Some(Self::Stop(JobOutcome::Succeeded)),
            peer::JobDesired::StopFailed => Some(Self::Stop(JobOutcome::Failed)),
            peer::JobDesired::StopCancelled => Some(Self::Stop(JobOutcome::Cancelled)),
        }
    }
}

fn from_step(job: JobId, index: StepIndex, step: &model::Step) -> peer::Step {
    peer::Step {
        job: job.0,
        step: index.0,
        count: step.count,
        segments: step.segments.iter().map(|segment| (*segment).into()).collect(),
        blocked: Some((&step.blocked).into()),
        ready: Some((&step.ready).into()),
        cancelled: Some((&step.cancelled).into()),
        skipped: Some((&step.skipped).into()),
        open_needs: step.open_needs,
        counts: Some(step.counts.into()),
        started_at_ms: step.started_at.map(|time| time.0),
        ended_at_ms: step.ended_at.map(|time| time.0),
    }
}

fn to_step(step: peer::Step) -> Decoded<model::Step> {
    Ok(model::Step {
        count: step.count,
        segments: decode::list("segments", step.segments)?,
        blocked: decode::required("blocked", step.blocked)?,
        ready: decode::required("ready", step.ready)?,
        cancelled: decode::required("cancelled", step.cancelled)?,
        skipped: decode::required("skipped", step.skipped)?,
        open_needs: step.open_needs,
        counts: decode::required("counts", step.counts)?,
        started_at: step.started_at_ms.map(TimeMs),
        ended_at: step.ended_at_ms.map(TimeMs),
    })
}

impl From<model::Segment> for peer::Segment {
    fn from(segment: model::Segment) -> Self {
        Self { parent: segment.parent.0, start: segment.start.0, list: Some(segment.list.into()) }
    }
}

impl TryFrom<peer::Segment> for model::Segment {
    type Error = DecodeError;

    fn try_from(segment: peer::Segment) -> Decoded<Self> {
        let list = decode::required("list", segment.list)?;
        Ok(Self { parent: TaskIndex(segment.parent), start: TaskIndex(segment.start), list })
    }
}

impl From<&Ranges> for peer::Ranges {
    fn from(ranges: &Ranges) -> Self {
        Self { bounds: ranges.pairs().iter().flat_map(|(start, end)| [*start, *end]).collect() }
    }
}

impl TryFrom<peer::Ranges> for Ranges {
    type Error = DecodeError;

    fn try_from(ranges: peer::Ranges) -> Decoded<Self> {
        let (pairs, rest) = ranges.bounds.as_chunks::<2>();
        let ascending = ranges.bounds.is_sorted_by(|a, b| a < b);
        let pairs = (ascending && rest.is_empty()).then_some(pairs).ok_or(Problem::Ranges).under("bounds")?;
        let ranges = Self::from_pairs(pairs.iter().map(|[start, end]| (*start, *end)));
        ranges.ok_or(Problem::Ranges).under("bounds")
    }
}

fn from_task(key: TaskKey, task: &model::Task) -> peer::Task {
    peer::Task {
        job: key.job.0,
        step: key.step.0,
        task: key.task.0,
        state: number::<_, wire::TaskState>(task.state),
        waiting_until_ms: waiting_until_ms(task.state),
        attempts: task.attempts.iter().map(Into::into).collect(),
        spent: task.spent,
        unblamed: task.unblamed,
    }
}

fn to_task(task: peer::Task) -> Decoded<model::Task> {
    Ok(model::Task {
        state: task_state(task.state, task.waiting_until_ms)?,
        attempts: decode::list("attempts", task.attempts)?,
        spent: task.spent,
        unblamed: task.unblamed,
    })
}

impl From<&model::Attempt> for peer::Attempt {
    fn from(attempt: &model::Attempt) -> Self {
        Self {
            number: attempt.number.0,
            placed_at_ms: attempt.placed_at.0,
            desired: number::<_, peer::AttemptDesired>(attempt.desired),
            members: attempt.members.iter().map(Into::into).collect(),
            checkpoint: attempt.checkpoint.map(Into::into),
            accept_by_ms: attempt.accept_by.map(|time| time.0),
            epoch: attempt.epoch.0,
            main_port: attempt.main_port.map_or(0, u32::from),
            preempted: attempt.preempted.map(Into::into),
            saved_at_ms: attempt.saved_at.map(|time| time.0),
            surgery: attempt.surgery.as_deref().map(Into::into),
        }
    }
}

impl TryFrom<peer::Attempt> for model::Attempt {
    type Error = DecodeError;

    fn try_from(attempt: peer::Attempt) -> Decoded<Self> {
        Ok(Self {
            number: AttemptNumber(attempt.number),
            placed_at: TimeMs(attempt.placed_at_ms),
            desired: decode::closed("desired", attempt.desired)?,
            members: decode::list("members", attempt.members)?,
            checkpoint: decode::optional("checkpoint", attempt.checkpoint)?,
            accept_by: attempt.accept_by_ms.map(TimeMs),
            epoch: Epoch(attempt.epoch),
            main_port: match attempt.main_port {
                0 => None,
                port => Some(decode::port("main_port", port)?),
            },
            preempted: decode::optional("preempted", attempt.preempted)?,
            saved_at: attempt.saved_at_ms.map(TimeMs),
            surgery: decode::optional("surgery", attempt.surgery)?.map(Arc::new),
        })
    }
}

impl From<&model::Member> for peer::Member {
    fn from(member: &model::Member) -> Self {
        Self {
            node: member.node.0,
            incarnation: member.incarnation.0,
            gpus: member.gpus.iter().map(|gpu| gpu.0).collect(),
            gpu_alternative: member.gpu_alternative,
            phase: number::<_, wire::Phase>(member.phase),
            times: Some(member.times.into()),
            end: member.end.as_deref().map(Into::into),
            stuck: stuck_number(member.stuck),
            replacement: member.replacement,
            leaving: surgery::leaving_number(member.leaving),
        }
    }
}

impl TryFrom<peer::Member> for model::Member {
    type Error = DecodeError;

    fn try_from(member: peer::Member) -> Decoded<Self> {
        let phase = decode::closed("phase", member.phase)?;
        let end: Option<model::End> = decode::optional("end", member.end)?;
        check_end(phase, end.as_ref())?;
        Ok(Self {
            node: NodeId(member.node),
            incarnation: Incarnation(member.incarnation),
            gpus: member.gpus.into_iter().map(GpuIndex).collect(),
            gpu_alternative: member.gpu_alternative,
            phase,
            times: decode::required("times", member.times)?,
            end: end.map(Arc::new),
            stuck: stuck_phase(member.stuck)?,
            replacement: member.replacement,
            leaving: surgery::leaving(member.leaving)?,
        })
    }
}
