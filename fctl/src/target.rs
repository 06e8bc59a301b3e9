//! What a reference means in a job that exists: names become positions, and a task may be left out where there is only one.

use flowyard_model::{JobId, Reference};
use flowyard_proto::api;
use flowyard_sdk::client::{Client, ClientError};
use flowyard_sdk::shown::nearest;

use crate::failure::Failure;
use crate::text;

/// Steps that a message names at most.
const LISTED: usize = 12;

/// A reference with the job it belongs to.
pub(crate) struct Target {
    /// The job.
    pub job: api::Job,
    /// What the user wrote.
    pub reference: Reference,
    /// Position of the step.
    pub step: Option<u32>,
    /// The task.
    pub task: Option<u32>,
}

/// One task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OneTask {
    /// Position of the step.
    pub step: u32,
    /// The task in it.
    pub task: u32,
}

/// Looks a reference up.
///
/// # Errors
/// When the job or the step does not exist.
pub(crate) async fn find(client: &mut Client, reference: &Reference) -> Result<Target, Failure> {
    let job = client.get_job(api::GetJobRequest { job: reference.job.0 }).await?;
    resolve(job, reference)
}

/// Finds the step of a reference in its job.
fn resolve(job: api::Job, reference: &Reference) -> Result<Target, Failure> {
    let step = match &reference.step {
        None => None,
        Some(name) => {
            let at = job.steps.iter().position(|step| step.name == name.as_str());
            Some(at.ok_or_else(|| unknown_step(&job, reference.job, name.as_str()))? as u32)
        }
    };
    Ok(Target { job, reference: reference.clone(), step, task: reference.task.map(|task| task.0) })
}

impl Target {
    /// Number of the job.
    pub(crate) fn job_id(&self) -> JobId {
        self.reference.job
    }

    /// The task that is meant; a step or job with a single task means that.
    ///
    /// # Errors
    /// When there are several tasks, or none; the message says which there are.
    pub(crate) fn one_task(&self) -> Result<OneTask, Failure> {
        let step = match self.step {
            Some(step) => step,
            None if self.job.steps.len() == 1 => 0,
            None => return Err(self.name_a_task()),
        };
        match (self.task, self.job.steps[step as usize].count) {
            (Some(task), _) => Ok(OneTask { step, task }),
            (None, Some(1)) => Ok(OneTask { step, task: 0 }),
            (None, _) => Err(self.name_a_task()),
        }
    }

    fn name_a_task(&self) -> Failure {
        let steps =
            self.job.steps.iter().enumerate().filter(|(at, _)| self.step.is_none_or(|only| only as usize == *at));
        let all: Vec<_> = steps.map(|(_, step)| tasks_of(self.job_id(), step)).collect();
        let mut listed = all.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
        if all.len() > LISTED {
            listed.push_str(&format!(" and {} more steps", all.len() - LISTED));
        }
        Failure::Usage(format!("{} is not a single task; there is {listed}", self.reference))
    }

    /// A task as a person names it; without its number where it is the only one.
    pub(crate) fn task_reference(&self, at: OneTask) -> String {
        task_reference(&self.job, at.step, at.task)
    }
}

/// Name of the step at a position.
pub(crate) fn step_name(job: &api::Job, step: u32) -> &str {
    job.steps.get(step as usize).map_or("?", |step| step.name.as_str())
}

/// A task as a person names it: `17/train/3`.
pub(crate) fn task_reference(job: &api::Job, step: u32, task: u32) -> String {
    let id = job.row.as_ref().map_or(0, |row| row.job);
    format!("{id}/{}/{task}", step_name(job, step))
}

/// The references of a step's tasks, in words.
fn tasks_of(job: JobId, step: &api::Step) -> String {
    match step.count {
        None => format!("{job}/{} (its tasks are not known yet)", step.name),
        Some(0) => format!("{job}/{} (skipped, it has no task)", step.name),
        Some(1) => format!("{job}/{}", step.name),
        Some(count) => format!("{job}/{0}/0 to {job}/{0}/{1}", step.name, count - 1),
    }
}

fn unknown_step(job: &api::Job, id: JobId, name: &str) -> Failure {
    let names = || job.steps.iter().map(|step| step.name.as_str());
    let meant = nearest(name, names());
    let suggestion = meant.map_or_else(String::new, |meant| format!("; did you mean {id}/{meant}?"));
    let mut listed = names().take(LISTED).collect::<Vec<_>>().join(", ");
    if job.steps.len() > LISTED {
        listed.push_str(", ...");
    }
    let steps = text::count(job.steps.len() as u64, "step");
    ClientError::NotFound(format!("job {id} has no step `{name}`{suggestion}; its {steps}: {listed}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(steps: &[(&str, Option<u32>)]) -> api::Job {
        let step = |(name, count): &(&str, Option<u32>)| api::Step {
            name: (*name).to_owned(),
            count: *count,
            ..api::Step::default()
        };
        api::Job {
            row: Some(api::JobRow { job: 17, ..api::JobRow::default() }),
            steps: steps.iter().map(step).collect(),
            ..api::Job::default()
        }
    }

    fn target(job: api::Job, reference: &str) -> Result<Target, Failure> {
        resolve(job, &reference.parse().unwrap())
    }

    #[test]
    fn a_task_may_be_left_out_only_where_there_is_one() {
        let flow = job(&[("split", Some(1)), ("train", Some(4)), ("pick", None)]);
        let one = |reference| target(flow.clone(), reference).unwrap().one_task();
        assert_eq!(one("17/split").unwrap(), OneTask { step: 0, task: 0 });
        assert_eq!(one("17/train/3").unwrap(), OneTask { step: 1, task: 3 });
        let several = one("17/train").unwrap_err().to_string();
        assert!(several.contains("17/train/0 to 17/train/3"), "{several}");
        let whole = one("17").unwrap_err().to_string();
        assert!(whole.contains("17/split, 17/train/0 to") && whole.contains("not known yet"), "{whole}");
        assert_eq!(target(job(&[("only", Some(1))]), "17").unwrap().one_task().unwrap(), OneTask { step: 0, task: 0 });
    }

    #[test]
    fn an_unknown_step_is_answered_with_the_nearest_and_all() {
        let flow = job(&[("split", Some(1)), ("train", Some(4))]);
        let Err(error) = target(flow, "17/trian") else { panic!("a step that is not there was found") };
        let said = error.to_string();
        assert!(said.contains("did you mean 17/train?") && said.contains("its 2 steps: split, train"), "{said}");
        assert_eq!(error.code(), crate::failure::codes::NOT_FOUND);
    }
}
