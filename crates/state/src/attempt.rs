//! The end of members, of attempts, and of tasks.
//!
//! Invariant: what a member holds on its node is given back exactly when the member ends.

use std::sync::Arc;

use flowyard_model::{
    Attempt, AttemptDesired, AttemptOutcome, Blame, Changed, End, FanOut, Held, JobDesired, JobId, JobOutcome, Leaving,
    Logs, MemberKey, NodeId, OnFailure, Phase, Reason, Retry, StepIndex, Task, TaskKey, TaskOutcome, TaskState, limits,
};

use crate::graph::task_done;
use crate::job::{stop_job, stop_live_attempt};
use crate::node::{DEVICE_GONE, is_leaving};
use crate::plan::main_port_of;
use crate::retry::{Trial, Try, after_attempt, salt};
use crate::state::State;
use crate::task::{edit_attempt, move_task};
use crate::{beside, device, discredit, durations, evict, holding, reserve, room, starting, surgery};

/// A live member ended: its node has room again; the others of a gang stop if it did not succeed; when it was the last, the
/// attempt is over.
pub(crate) fn end_member(state: &mut State, changed: &mut Changed, node: NodeId, key: MemberKey, end: End) {
    assert!(state.indexes.live.remove(&(node, key)).is_some(), "only live members end");
    let attempt = state.attempt(key.task, key.attempt).expect("a live member has an attempt");
    let end = settled_end(state, attempt, key, end);
    let succeeded = end.outcome == AttemptOutcome::Succeeded;
    let opened = surgery::opens(state, key, &end);
    discredit::by_end(state, changed, node, key, &end);
    let held = free(state, changed, node, key, opened);
    let now = state.meta.time;
    let (over, stop_others) = edit_attempt(state, key, |attempt| {
        let member = &mut attempt.members[key.rank.0 as usize];
        member.phase = Phase::Ended;
        member.times.ended.get_or_insert(now);
        member.end = Some(Arc::new(end));
        let over = attempt.members.iter().all(|member| member.phase == Phase::Ended);
        // While somebody is missing, one that is done has not done it with all others.
        let broken = !opened && (!succeeded || attempt.repair().is_some());
        (over, !over && broken && attempt.desired == AttemptDesired::Run)
    });
    if opened {
        surgery::open(state, changed, key, held);
    }
    changed.jobs.insert(key.task.job);
    if stop_others {
        stop_live_attempt(state, changed, key.task);
    }
    if over && is_leaving(state, key) {
        evict::has_left(state, key.task);
    }
    if over {
        surgery::close(state, key.task);
        reserve::has_ended(state, changed, key.task);
    }
    if over {
        attempt_over(state, changed, key.task);
    }
}

/// Gives back what a member holds on its node, and to its queue and its owner unless its place is kept for another; that is what it
/// gives.
fn free(state: &mut State, changed: &mut Changed, node: NodeId, key: MemberKey, kept: bool) -> Held {
    let (held, leaves) = (holding::held_by_live(state, key), is_leaving(state, key));
    if !kept {
        holding::give_back(state, key.task, &held, leaves);
    }
    let spec = state.jobs.get(&key.task.job).expect("a live member has a job").spec.clone();
    let wanted = &spec.steps[key.task.step.0 as usize].resources;
    let before = state.attempt(key.task, key.attempt).map(|attempt| attempt.members[key.rank.0 as usize].phase);
    starting::moved(state, key.task, node, before, Phase::Ended);
    beside::left(&mut state.indexes, &spec.steps[key.task.step.0 as usize], key.task, node);
    let attempt = state.attempt(key.task, key.attempt).expect("a live member has an attempt");
    let member = &attempt.members[key.rank.0 as usize];
    let (gpus, share) = (member.gpus.clone(), room::share(wanted, member.gpu_alternative));
    let node_record = Arc::make_mut(state.nodes.get_mut(&node).expect("a live member has a node"));
    room::give_back(&mut node_record.used, wanted, &gpus, share);
    let all = node_record.used.gpu_milli.len();
    if leaves {
        room::change_used(&mut state.indexes.leaving, node, all, |used| room::give_back(used, wanted, &gpus, share));
    } else if reserve::is_awaited(state, key) {
        let mut used = room::unused(all);
        room::add(&mut used, wanted, &gpus, share);
        reserve::member_ends(state, node, key, &held, &used);
    }
    changed.nodes.insert(node);
    changed.placement = true;
    held
}

/// What is said of an attempt that no agent took.
const NOT_TAKEN: &str = "its agent did not take it in time, although the node is heard from; it is tried again";

/// The end as it counts. What was asked to stop has stopped, however it says it ended, and publishes nothing; a success
/// without the list that another step fans out from is none.
fn settled_end(state: &State, attempt: &Attempt, key: MemberKey, mut end: End) -> End {
    let by_itself = matches!(end.outcome, AttemptOutcome::Succeeded | AttemptOutcome::Failed);
    // An agent is told to stop it, not why.
    let stopped = end.outcome == AttemptOutcome::Stopped;
    let leaving = attempt.members[key.rank.0 as usize].leaving;
    let asked = match attempt.desired {
        AttemptDesired::Run if by_itself || stopped => leaving.map(|leaving| match leaving {
            Leaving::Drained => (AttemptOutcome::Preempted, Reason::Preempted),
            Leaving::DeviceGone => (AttemptOutcome::Lost, Reason::Device),
        }),
        AttemptDesired::Stop if by_itself => Some((AttemptOutcome::Stopped, Reason::Cancelled)),
        AttemptDesired::Preempt if by_itself || stopped => Some((AttemptOutcome::Preempted, Reason::Preempted)),
        // Whatever it did meanwhile, it is not waited for any more.
        AttemptDesired::GiveUp if by_itself || stopped => Some((AttemptOutcome::Failed, Reason::Stuck)),
        _ => None,
    };
    if attempt.desired == AttemptDesired::GiveUp && stopped {
        end.message = NOT_TAKEN.to_owned();
    }
    if let Some((outcome, reason)) = asked {
        let device = reason == Reason::Device;
        let blame = if device { Blame::Hardware } else { Blame::Platform };
        (end.outcome, end.reason, end.blame) = (outcome, reason, blame);
        if device {
            let member = &attempt.members[key.rank.0 as usize];
            let fault = state.node(member.node).and_then(|node| device::fault(node, &member.gpus));
            end.message = fault.unwrap_or_else(|| DEVICE_GONE.to_owned());
        }
    }
    if end.outcome == AttemptOutcome::Stopped
        && let Some(message) = lost_device(state, attempt, key)
    {
        (end.outcome, end.reason, end.blame) = (AttemptOutcome::Lost, Reason::Device, Blame::Hardware);
        end.message = message;
    }
    if end.outcome == AttemptOutcome::Succeeded
        && key.rank.0 == 0
        && let Some(message) = unusable_list(state, key.task.job, key.task.step, &end)
    {
        (end.outcome, end.reason, end.blame) = (AttemptOutcome::Failed, Reason::Output, Blame::User);
        end.message = message;
    }
    if end.outcome != AttemptOutcome::Succeeded {
        end.outputs.clear();
    }
    end
}

/// What is wrong with a device that a member held, and why it was asked to stop, if it was for nothing else.
fn lost_device(state: &State, attempt: &Attempt, key: MemberKey) -> Option<String> {
    let job = state.outline(key.task.job).expect("a live member has a job");
    let member = &attempt.members[key.rank.0 as usize];
    let wanted = &job.spec.steps[key.task.step.0 as usize].resources;
    let granted = wanted.gpus.get(member.gpu_alternative as usize).map_or(0, |request| request.count as usize);
    if job.desired != JobDesired::Run || attempt.desired != AttemptDesired::Stop {
        return None;
    }
    let fault = state.node(member.node).and_then(|node| device::fault(node, &member.gpus));
    fault.or_else(|| (member.gpus.len() < granted).then(|| DEVICE_GONE.to_owned()))
}

/// What is wrong with the lists of this end that decide about tasks of other steps.
fn unusable_list(state: &State, job: JobId, step: StepIndex, end: &End) -> Option<String> {
    let spec = state.outline(job)?.spec;
    spec.steps.iter().find_map(|later| {
        let FanOut::Output { step: source, output } = &later.fan_out else { return None };
        if *source != step {
            return None;
        }
        match end.outputs.get(output).and_then(|output| output.list) {
            None => {
                Some(format!("output `{output}` is not a list, but step `{}` has a task per item of it", later.name))
            }
            Some(list) if list.count > limits::TASKS_PER_STEP => {
                let most = limits::TASKS_PER_STEP;
                Some(format!("output `{output}` has {} items; a step has at most {most} tasks", list.count))
            }
            Some(_) => None,
        }
    })
}

/// All members have ended: the task is done, or is tried again.
fn attempt_over(state: &mut State, changed: &mut Changed, key: TaskKey) {
    let task = state.task(key).expect("an attempt has a task");
    let attempt = task.attempts.last().expect("the attempt that is over is the last");
    let job = state.outline(key.job).expect("a task has a job");
    let spec = &job.spec.steps[key.step.0 as usize];
    let (end, now, port) = (decisive_end(attempt), state.time(), main_port_of(attempt));
    let stops = job.desired != JobDesired::Run;
    let before = Try { spent: task.spent, unblamed: task.unblamed };
    let (to, tried) = if stops {
        (TaskState::Done(TaskOutcome::Cancelled), before)
    } else {
        let alike = alike(&spec.retry, task, end);
        let salt = salt(state.revision(), now, key);
        after_attempt(&spec.retry, before, Trial { end, alike, salt }, now)
    };
    let fatal = to == TaskState::Done(TaskOutcome::Failed) && spec.on_failure == OnFailure::Stop;
    if to == TaskState::Done(TaskOutcome::Succeeded) {
        durations::learn(state, key);
    }
    port.map(|port| state.indexes.main_ports.remove(&port));
    move_task(state, key, to, |task| (task.spent, task.unblamed) = (tried.spent, tried.unblamed));
    if fatal {
        stop_job(state, changed, key.job, JobOutcome::Failed, TaskOutcome::Cancelled);
    } else if let TaskState::Done(outcome) = to {
        task_done(state, changed, key, outcome);
    }
}

/// Attempts that failed through the user's fault and fell under the same exception as the last; 0 if that fell under none.
fn alike(rule: &Retry, task: &Task, last: &End) -> u32 {
    let Some(exception) = rule.rule_for(last) else { return 0 };
    let failed = |end: &&End| end.outcome == AttemptOutcome::Failed && end.blame == Blame::User;
    let ends = task.attempts.iter().map(decisive_end).filter(failed);
    ends.filter(|end| rule.rule_for(end) == Some(exception)).count() as u32
}

/// The end that stands for the whole attempt.
fn decisive_end(attempt: &Attempt) -> &End {
    attempt.decisive().expect("an attempt that is over has members, and all have ended").2
}

/// The end of a member of which nothing will be heard any more.
pub(crate) fn lost(reason: Reason, blame: Blame, message: &str) -> End {
    End {
        outcome: AttemptOutcome::Lost,
        reason,
        blame,
        exit_code: None,
        signal: None,
        message: message.to_owned(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: Default::default(),
        logs: Logs::NONE,
    }
}
