//! Which of several alternatives of GPUs a task has, and what keeps one that waits from each.

use flowyard_model::{GpuRequest, StepSpec, Task, TaskKey};
use flowyard_proto::api;
use flowyard_scheduling::why::by_alternative;
use flowyard_state::State;

use super::why::{Sight, bound, count, gpus, rejected};

/// Says of each member of a task that is shown by which alternative it has its devices, if there are several.
pub(super) fn say(shown: &mut api::Task, task: &Task, requests: &[GpuRequest]) {
    if requests.len() < 2 {
        return;
    }
    let say = |shown: &mut api::Member, member: &flowyard_model::Member| {
        let request = requests.get(member.gpu_alternative as usize).filter(|_| !member.gpus.is_empty());
        shown.gpu_alternative = request.map(|_| member.gpu_alternative);
        shown.gpu_request = request.map(gpus).unwrap_or_default();
    };
    for (shown, attempt) in shown.attempts.iter_mut().zip(&task.attempts) {
        shown.members.iter_mut().zip(&attempt.members).for_each(|(shown, member)| say(shown, member));
        let replaced = attempt.surgery.iter().flat_map(|surgery| &surgery.replaced);
        let shown = shown.replaced.iter_mut().filter_map(|it| it.member.as_mut());
        shown.zip(replaced).for_each(|(shown, replaced)| say(shown, &replaced.member));
    }
}

/// One of several alternatives, in words; nothing if there is only one.
pub(super) fn named(spec: &StepSpec, at: u32) -> Option<String> {
    let request = spec.resources.gpus.get(at as usize).filter(|_| spec.resources.gpus.len() > 1)?;
    Some(format!("alternative {}, {}", at + 1, gpus(request)))
}

/// What keeps a task that waits from each of its alternatives; nothing if there is only one.
pub(super) fn lines(sight: Sight<'_>, state: &State, task: TaskKey) -> Vec<String> {
    let Some(spec) = state.step_spec(task.job, task.step) else { return Vec::new() };
    let told = by_alternative(state, task).into_iter().filter_map(|it| {
        let nodes = match (it.nodes.all, it.nodes.fitting) {
            (0, _) => "there is no node".to_owned(),
            (_, 0) => {
                let lacks: Vec<_> = it.nodes.rejections.iter().map(|rejection| rejected(sight, rejection)).collect();
                lacks.join("; ")
            }
            (all, 1) => format!("1 of {} has room", count(all, "node")),
            (all, fitting) => format!("{fitting} of {} have room", count(all, "node")),
        };
        let reasons: Vec<_> = it.bounds.first().map(bound).into_iter().chain([nodes]).collect();
        Some(format!("{}: {}", named(spec, it.at)?, reasons.join("; ")))
    });
    told.collect()
}
