//! Commands, and the reports in them that agents send too.

use std::sync::Arc;

use flowyard_model as model;
use flowyard_model::{
    AttemptNumber, ClusterVersion, Command, Epoch, GpuIndex, Incarnation, JobId, NodeId, Phase, Revision, StepIndex,
    TaskIndex, TaskKey, TimeMs, TokenId, limits,
};

use super::access::{bytes_of, fingerprint};
use super::number;
use super::outcome::{stuck_number, stuck_phase};
use crate::decode::{self, DecodeError, Decoded, Problem, Under};
use crate::peer::log_entry::Command as WireCommand;
use crate::{api as wire, peer};

impl From<&Command> for WireCommand {
    fn from(command: &Command) -> Self {
        match command {
            Command::SubmitJob(submit) => Self::SubmitJob(submit.into()),
            Command::CancelJob { job } => Self::CancelJob(peer::CancelJob { job: job.0 }),
            Command::PutQueue(queue) => Self::PutQueue(peer::PutQueue { queue: Some((&**queue).into()) }),
            Command::DropQueue { path } => Self::DropQueue(peer::DropQueue { path: path.to_string() }),
            Command::RegisterNode(register) => Self::RegisterNode(register.into()),
            Command::SetNodeHealth { node, incarnation, health } => Self::SetNodeHealth(peer::SetNodeHealth {
                node: node.0,
                incarnation: incarnation.0,
                health: number::<_, wire::Health>(*health),
            }),
            Command::SetNodeScheduling { node, scheduling } => Self::SetNodeScheduling(peer::SetNodeScheduling {
                node: node.0,
                scheduling: number::<_, wire::Scheduling>(*scheduling),
            }),
            Command::CommitPlan(plan) => Self::CommitPlan(plan.into()),
            Command::ReportAttempts(reports) => Self::ReportAttempts(reports.into()),
            Command::ReportMany(agents) => {
                Self::ReportMany(peer::ReportMany { agents: agents.iter().map(Into::into).collect() })
            }
            Command::Tick => Self::Tick(peer::Tick {}),
            Command::RaiseVersion { version } => Self::RaiseVersion(peer::RaiseVersion { version: version.0 }),
            Command::ForgetJobs { jobs } => {
                Self::ForgetJobs(peer::ForgetJobs { jobs: jobs.iter().map(|job| job.0).collect() })
            }
            Command::CreateToken(create) => Self::CreateToken(create.into()),
            Command::RevokeToken { token } => Self::RevokeToken(peer::RevokeToken { token: token.0 }),
            Command::UseToken { token, by, who } => {
                Self::UseToken(peer::UseToken { token: token.0, by: bytes_of(*by), who: Some(who.into()) })
            }
            Command::RevokeIdentity { identity, until, by } => Self::RevokeIdentity(peer::RevokeIdentity {
                identity: Some(identity.into()),
                until_ms: until.map(|until| until.0),
                by: by.clone(),
            }),
            Command::ChangeNode(change) => Self::ChangeNode(change.into()),
            Command::BeginEpoch { epoch } => Self::BeginEpoch(peer::BeginEpoch { epoch: epoch.0 }),
            Command::ArchiveJobs(archive) => Self::ArchiveJobs(archive.into()),
            Command::SealSegments(seal) => Self::SealSegments(seal.into()),
            Command::PutSecret(put) => Self::PutSecret(put.into()),
            Command::DropSecret { name } => Self::DropSecret(peer::DropSecret { name: name.to_string() }),
            Command::PutPolicy(policy) => Self::PutPolicy((&**policy).into()),
            Command::SetDevices(set) => Self::SetDevices(set.into()),
            Command::ChangeDevice(change) => Self::ChangeDevice(change.into()),
        }
    }
}

impl TryFrom<WireCommand> for Command {
    type Error = DecodeError;

    fn try_from(command: WireCommand) -> Decoded<Self> {
        Ok(match command {
            WireCommand::SubmitJob(submit) => Self::SubmitJob(submit.try_into().under("submit_job")?),
            WireCommand::CancelJob(cancel) => Self::CancelJob { job: JobId(cancel.job) },
            WireCommand::PutQueue(put) => {
                Self::PutQueue(Arc::new(decode::required("queue", put.queue).under("put_queue")?))
            }
            WireCommand::DropQueue(drop) => {
                Self::DropQueue { path: drop.path.parse().map_err(Problem::QueuePath).under("drop_queue.path")? }
            }
            WireCommand::RegisterNode(register) => Self::RegisterNode(register.try_into().under("register_node")?),
            WireCommand::SetNodeHealth(set) => Self::SetNodeHealth {
                node: NodeId(set.node),
                incarnation: Incarnation(set.incarnation),
                health: decode::closed("set_node_health.health", set.health)?,
            },
            WireCommand::SetNodeScheduling(set) => Self::SetNodeScheduling {
                node: NodeId(set.node),
                scheduling: decode::closed("set_node_scheduling.scheduling", set.scheduling)?,
            },
            WireCommand::CommitPlan(plan) => Self::CommitPlan(plan.try_into().under("commit_plan")?),
            WireCommand::ReportAttempts(report) => Self::ReportAttempts(report.try_into().under("report_attempts")?),
            WireCommand::ReportMany(many) => Self::ReportMany(reports_of_many(many).under("report_many")?),
            WireCommand::Tick(peer::Tick {}) => Self::Tick,
            WireCommand::RaiseVersion(raise) => Self::RaiseVersion { version: ClusterVersion(raise.version) },
            WireCommand::ForgetJobs(forget) => Self::ForgetJobs { jobs: forget.jobs.into_iter().map(JobId).collect() },
            WireCommand::CreateToken(create) => Self::CreateToken(create.try_into().under("create_token")?),
            WireCommand::RevokeToken(revoke) => Self::RevokeToken { token: TokenId(revoke.token) },
            WireCommand::UseToken(used) => Self::UseToken {
                token: TokenId(used.token),
                by: fingerprint("use_token.by", &used.by)?,
                who: decode::required("who", used.who).under("use_token")?,
            },
            WireCommand::RevokeIdentity(revoke) => Self::RevokeIdentity {
                identity: decode::required("identity", revoke.identity).under("revoke_identity")?,
                until: revoke.until_ms.map(TimeMs),
                by: revoke.by,
            },
            WireCommand::ChangeNode(change) => Self::ChangeNode(change.try_into().under("change_node")?),
            WireCommand::BeginEpoch(begin) => Self::BeginEpoch { epoch: Epoch(begin.epoch) },
            WireCommand::ArchiveJobs(archive) => Self::ArchiveJobs(archive.try_into().under("archive_jobs")?),
            WireCommand::SealSegments(seal) => Self::SealSegments(seal.try_into().under("seal_segments")?),
            WireCommand::PutSecret(put) => Self::PutSecret(put.try_into().under("put_secret")?),
            WireCommand::DropSecret(dropped) => {
                Self::DropSecret { name: decode::name("drop_secret.name", &dropped.name)? }
            }
            WireCommand::PutPolicy(policy) => Self::PutPolicy(Arc::new(policy.try_into().under("put_policy")?)),
            WireCommand::SetDevices(set) => Self::SetDevices(set.try_into().under("set_devices")?),
            WireCommand::ChangeDevice(change) => Self::ChangeDevice(change.into()),
        })
    }
}

impl From<&model::SubmitJob> for peer::SubmitJob {
    fn from(submit: &model::SubmitJob) -> Self {
        Self {
            spec: Some(submit.spec.as_ref().into()),
            spec_digest: Some(submit.spec_digest.into()),
            owner: submit.owner.clone(),
            key: submit.key.clone(),
        }
    }
}

impl TryFrom<peer::SubmitJob> for model::SubmitJob {
    type Error = DecodeError;

    fn try_from(submit: peer::SubmitJob) -> Decoded<Self> {
        Ok(Self {
            spec: Arc::new(decode::required("spec", submit.spec)?),
            spec_digest: decode::required("spec_digest", submit.spec_digest)?,
            owner: submit.owner,
            key: submit.key,
        })
    }
}

impl From<&model::RegisterNode> for peer::RegisterNode {
    fn from(register: &model::RegisterNode) -> Self {
        let (node, incarnation) = register.previous.unzip();
        Self {
            name: register.name.to_string(),
            inventory: Some(register.inventory.as_ref().into()),
            previous_node: node.map(|node| node.0),
            previous_incarnation: incarnation.map(|incarnation| incarnation.0),
        }
    }
}

impl TryFrom<peer::RegisterNode> for model::RegisterNode {
    type Error = DecodeError;

    fn try_from(register: peer::RegisterNode) -> Decoded<Self> {
        Ok(Self {
            name: decode::name("name", &register.name)?,
            inventory: Arc::new(decode::required("inventory", register.inventory)?),
            previous: previous(register.previous_node, register.previous_incarnation)?,
        })
    }
}

/// A former registration: both parts of it or none.
pub(crate) fn previous(node: Option<u64>, incarnation: Option<u64>) -> Decoded<Option<(NodeId, Incarnation)>> {
    match (node, incarnation) {
        (Some(node), Some(incarnation)) => Ok(Some((NodeId(node), Incarnation(incarnation)))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Problem::Missing).under("previous_incarnation"),
        (None, Some(_)) => Err(Problem::Missing).under("previous_node"),
    }
}

impl From<&model::Plan> for peer::Plan {
    fn from(plan: &model::Plan) -> Self {
        Self {
            based_on: plan.based_on.0,
            seed: plan.seed,
            budget: plan.budget,
            placer_version: plan.placer_version,
            accept_ms: plan.accept_ms,
            placements: plan.placements.iter().map(Into::into).collect(),
            claims: plan.claims.iter().map(Into::into).collect(),
            drops: plan.drops.iter().map(|task| (*task).into()).collect(),
            at_ms: plan.at.map(|time| time.0),
            made_from: plan.made_from.as_ref().map(Into::into),
            repairs: plan.repairs.iter().map(Into::into).collect(),
        }
    }
}

impl From<&model::MadeFrom> for peer::PlanMadeFrom {
    fn from(from: &model::MadeFrom) -> Self {
        let model::MadeFrom { number, part, tasks, under_way } = from.clone();
        Self { number, part, tasks, under_way }
    }
}

impl From<peer::PlanMadeFrom> for model::MadeFrom {
    fn from(from: peer::PlanMadeFrom) -> Self {
        let peer::PlanMadeFrom { number, part, tasks, under_way } = from;
        Self { number, part, tasks, under_way }
    }
}

impl TryFrom<peer::Plan> for model::Plan {
    type Error = DecodeError;

    fn try_from(plan: peer::Plan) -> Decoded<Self> {
        decode::at_most("placements", limits::PLACEMENTS_PER_PLAN, plan.placements.len())?;
        decode::at_most("claims", limits::CLAIMS, plan.claims.len())?;
        decode::at_most("drops", limits::CLAIMS, plan.drops.len())?;
        Ok(Self {
            based_on: Revision(plan.based_on),
            seed: plan.seed,
            budget: plan.budget,
            placer_version: plan.placer_version,
            accept_ms: plan.accept_ms,
            placements: decode::list("placements", plan.placements)?,
            claims: decode::list("claims", plan.claims)?,
            drops: plan.drops.into_iter().map(Into::into).collect(),
            at: plan.at_ms.map(TimeMs),
            made_from: plan.made_from.map(Into::into),
            repairs: decode::list("repairs", plan.repairs)?,
        })
    }
}

impl From<&model::Placement> for peer::Placement {
    fn from(placement: &model::Placement) -> Self {
        Self {
            job: placement.task.job.0,
            step: placement.task.step.0,
            task: placement.task.task.0,
            attempt: placement.attempt.0,
            members: placement.members.iter().map(Into::into).collect(),
        }
    }
}

impl From<peer::Placement> for model::Placement {
    fn from(placement: peer::Placement) -> Self {
        Self {
            task: TaskKey {
                job: JobId(placement.job),
                step: StepIndex(placement.step),
                task: TaskIndex(placement.task),
            },
            attempt: AttemptNumber(placement.attempt),
            members: placement.members.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<&model::Seat> for peer::Seat {
    fn from(seat: &model::Seat) -> Self {
        Self {
            node: seat.node.0,
            incarnation: seat.incarnation.0,
            gpus: seat.gpus.iter().map(|gpu| gpu.0).collect(),
            gpu_alternative: seat.gpu_alternative,
        }
    }
}

impl From<peer::Seat> for model::Seat {
    fn from(seat: peer::Seat) -> Self {
        Self {
            node: NodeId(seat.node),
            incarnation: Incarnation(seat.incarnation),
            gpus: seat.gpus.into_iter().map(GpuIndex).collect(),
            gpu_alternative: seat.gpu_alternative,
        }
    }
}

impl From<&model::ReportAttempts> for peer::ReportAttempts {
    fn from(report: &model::ReportAttempts) -> Self {
        Self {
            node: report.node.0,
            incarnation: report.incarnation.0,
            reports: report.reports.iter().map(Into::into).collect(),
        }
    }
}

fn reports_of_many(many: peer::ReportMany) -> Decoded<Vec<model::ReportAttempts>> {
    // Whoever says nothing counts, too.
    let all = many.agents.iter().map(|agent| agent.reports.len().max(1)).sum();
    decode::at_most("agents.reports", limits::REPORTS_PER_ENTRY, all)?;
    decode::list("agents", many.agents)
}

impl TryFrom<peer::ReportAttempts> for model::ReportAttempts {
    type Error = DecodeError;

    fn try_from(report: peer::ReportAttempts) -> Decoded<Self> {
        decode::at_most("reports", limits::REPORTS_PER_ENTRY, report.reports.len())?;
        Ok(Self {
            node: NodeId(report.node),
            incarnation: Incarnation(report.incarnation),
            reports: decode::list("reports", report.reports)?,
        })
    }
}

impl From<&model::AttemptReport> for wire::AttemptReport {
    fn from(report: &model::AttemptReport) -> Self {
        Self {
            member: Some(report.member.into()),
            phase: number::<_, wire::Phase>(report.phase),
            times: Some(report.times.into()),
            end: report.end.as_deref().map(Into::into),
            checkpoint: report.checkpoint.map(Into::into),
            stuck: stuck_number(report.stuck),
            saved_at_ms: report.saved_at.map(|time| time.0),
        }
    }
}

impl TryFrom<wire::AttemptReport> for model::AttemptReport {
    type Error = DecodeError;

    fn try_from(report: wire::AttemptReport) -> Decoded<Self> {
        let phase = decode::closed("phase", report.phase)?;
        let end: Option<model::End> = decode::optional("end", report.end)?;
        check_end(phase, end.as_ref())?;
        Ok(Self {
            member: decode::required("member", report.member)?,
            phase,
            times: decode::required("times", report.times)?,
            end: end.map(Arc::new),
            checkpoint: decode::optional("checkpoint", report.checkpoint)?,
            stuck: stuck_phase(report.stuck)?,
            saved_at: report.saved_at_ms.map(TimeMs),
        })
    }
}

/// A member has an end exactly when it has ended.
pub(super) fn check_end(phase: Phase, end: Option<&model::End>) -> Decoded<()> {
    match (phase == Phase::Ended, end) {
        (true, None) => Err(Problem::Missing).under("end"),
        (false, Some(_)) => Err(Problem::Contradiction("only a member that has ended has an end")).under("end"),
        _ => Ok(()),
    }
}

/// What decoding will ask of reports, asked before they are encoded.
pub(crate) fn check_reports(reports: &[model::AttemptReport]) -> Decoded<()> {
    decode::at_most("reports", limits::REPORTS_PER_ENTRY, reports.len())?;
    for (at, report) in reports.iter().enumerate() {
        let end = report.end.as_deref();
        check_end(report.phase, end).under_index("reports", at)?;
        let Some(end) = end else { continue };
        decode::within("end.message", limits::MESSAGE_BYTES, end.message.len()).under_index("reports", at)?;
        decode::at_most("end.outputs", limits::ARTIFACTS_PER_STEP, end.outputs.len()).under_index("reports", at)?;
    }
    Ok(())
}
