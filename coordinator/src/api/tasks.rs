//! Tasks with their attempts, touched or not.

use flowyard_model::{JobId, StepIndex, TaskIndex, TaskKey, TaskState};
use flowyard_proto::api::{self, ListTasksRequest, ListTasksResponse};
use flowyard_proto::view;
use flowyard_state::View;
use tonic::Status;

use super::jobs::page;
use super::{alternatives, find_job};

/// A page of the tasks of a job, of a step, or one task.
pub(super) fn list(view: &View, request: &ListTasksRequest) -> Result<ListTasksResponse, Status> {
    let (job, found) = find_job(view, request.job)?;
    if let (Some(step), Some(task)) = (request.step, request.task) {
        let key = super::find_task(view, request.job, step, task)?;
        return Ok(ListTasksResponse { tasks: shown(view, key).into_iter().collect(), more: false });
    }
    if let Some(step) = request.step
        && step as usize >= found.spec.steps.len()
    {
        return Err(Status::not_found(format!("job {job} has no step at position {step}")));
    }
    let limit = page(request.limit);
    let mut tasks = Vec::new();
    let after = request.after.map(|after| (after.step, after.task));
    for (step, record) in view.steps(job) {
        let skipped = request.step.is_some_and(|only| only != step.0) || after.is_some_and(|(last, _)| step.0 < last);
        if skipped {
            continue;
        }
        let first = after.filter(|(last, _)| *last == step.0).map_or(0, |(_, task)| task.saturating_add(1));
        for task in first..record.count.unwrap_or(0) {
            let key = TaskKey { job, step, task: TaskIndex(task) };
            if !wanted(view, key, &request.states) {
                continue;
            }
            if tasks.len() == limit {
                return Ok(ListTasksResponse { tasks, more: true });
            }
            tasks.extend(shown(view, key));
        }
    }
    Ok(ListTasksResponse { tasks, more: false })
}

fn wanted(view: &View, key: TaskKey, states: &[i32]) -> bool {
    states.is_empty()
        || view.task_state(key).is_some_and(|state| states.contains(&i32::from(api::TaskState::from(state))))
}

/// One task as the API shows it.
pub(super) fn shown(view: &View, key: TaskKey) -> Option<api::Task> {
    let node = |id| view.node(id).map(|node| node.as_ref());
    match view.task(key) {
        Some(task) => {
            let mut shown = view::task(key.step, key.task, task, node);
            let spec = view.step_spec(key.job, key.step);
            spec.into_iter().for_each(|spec| alternatives::say(&mut shown, task, &spec.resources.gpus));
            Some(shown)
        }
        None => Some(view::untouched_task(key.step, key.task, view.task_state(key)?)),
    }
}

/// Some active tasks of every step, the first ones.
pub(super) fn some_active(view: &View, job: JobId, per_step: usize) -> Vec<api::Task> {
    let mut active = Vec::new();
    for (step, record) in view.steps(job) {
        if record.counts.active > 0 {
            active.extend(active_of(view, job, step).take(per_step).filter_map(|key| shown(view, key)));
        }
    }
    active
}

fn active_of(view: &View, job: JobId, step: StepIndex) -> impl Iterator<Item = TaskKey> {
    view.open_tasks(job, step).filter(|(_, task)| task.state == TaskState::Active).map(|(key, _)| key)
}
