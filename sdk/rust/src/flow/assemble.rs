//! Last phase: a job spec of values, links and stored artifacts; defaults filled, steps in order, the model's rules kept.

use std::collections::BTreeMap;
use std::path::Path;

use flowyard_model::{
    Constraint, ConstraintOperator, FanOut, Input, Isolation, ItemList, JobSpec, Name, NetworkMode, OnDisconnect,
    OnFailure, Placing, Rejection, Resources, SecretPlace, SecretUse, StepIndex, StepSpec, limits, validate,
};

use super::artifacts::Artifacts;
use super::links::{Graph, Links, check};
use super::params::{ParamValue, put_in};
use super::problem::{FlowError, Problems};
use super::read_retry::no_retry;
use super::resolve::{Stored, Storing, choose_params};
use super::spec::{Flow, FlowStep, Foreach, fallback};

impl Flow {
    /// Chooses the values of parameters, stores paths below `base` through `artifacts`, and makes the job spec.
    ///
    /// # Errors
    /// Everything wrong that was found: parameters, paths, and rules of the model.
    pub fn resolve(
        &self,
        base: &Path,
        params: &[(String, String)],
        artifacts: &mut dyn Artifacts,
    ) -> Result<JobSpec, FlowError> {
        let graph = check(self)?;
        let mut problems = Problems::new(&self.source);
        let values = choose_params(self, params, &mut problems);
        problems.into_result(|| ())?;

        let mut problems = Problems::new(&self.source);
        let mut ranks = vec![StepIndex(0); self.steps.len()];
        for (rank, at) in graph.order.iter().enumerate() {
            ranks[*at] = StepIndex(u32::try_from(rank).unwrap_or(u32::MAX));
        }
        let mut storing = Storing { flow: self, base, artifacts, problems: &mut problems, done: BTreeMap::new() };
        let stored: Vec<_> = (0..self.steps.len()).map(|at| storing.step(&graph, at, &ranks)).collect();
        problems.into_result(|| ())?;

        let spec = self.assemble(&graph, &ranks, &values, stored);
        self.refuse_broken(&spec)?;
        Ok(spec)
    }

    fn assemble(
        &self,
        graph: &Graph,
        ranks: &[StepIndex],
        values: &BTreeMap<Name, ParamValue>,
        stored: Vec<Stored>,
    ) -> JobSpec {
        let mut stored: Vec<_> = stored.into_iter().map(Some).collect();
        let steps = graph.order.iter().filter_map(|at| {
            let (name, step) = &self.steps[*at];
            let text = |text: &String| match self.substitutes {
                true => put_in(text, &self.params, values).expect("the check phase knows every parameter"),
                false => text.clone(),
            };
            let command = step.run.iter().map(text).collect();
            let env = step.env.iter().map(|(name, value)| (name.clone(), text(value))).collect();
            Some(step_spec(name, step, command, env, &graph.links[*at], ranks, stored[*at].take()?))
        });
        JobSpec {
            name: self.name.clone(),
            queue: self.queue.clone(),
            priority: self.priority,
            tags: self.tags.clone(),
            params: values.iter().map(|(name, value)| (name.clone(), value.to_json())).collect(),
            steps: steps.collect(),
            after: self.after.clone(),
            retention_ms: self.retention_ms,
            deadline_ms: self.deadline_ms,
            queue_ttl_ms: self.queue_ttl_ms,
        }
    }

    /// The rules of the model, and the size of the whole; each said at its place in the flow.
    fn refuse_broken(&self, spec: &JobSpec) -> Result<(), FlowError> {
        let mut problems = Problems::new(&self.source);
        match validate(spec) {
            Ok(()) => {}
            Err(Rejection::Invalid { path, message }) => {
                let path = path.replace(".resources.", ".");
                let what = path.rsplit_once('.').map_or(path.as_str(), |(_, field)| field);
                problems.at_path(&path, format!("`{what}`: {message}"));
            }
            Err(other) => drop(problems.at_path("", other.to_string())),
        }
        let tasks = |step: &StepSpec| match &step.fan_out {
            FanOut::Range { count, .. } | FanOut::Items(ItemList { count, .. }) => u64::from(*count),
            _ => 1,
        };
        let tasks: u64 = spec.steps.iter().map(tasks).sum();
        if tasks > limits::TASKS_PER_JOB {
            problems.at_path("", format!("at most {} tasks in all steps, these are {tasks}", limits::TASKS_PER_JOB));
        }
        let weights: Vec<_> = spec.steps.iter().map(|step| (step_weight(step), &step.name)).collect();
        let total: usize = weights.iter().map(|(weight, _)| weight).sum();
        if total > limits::SPEC_BYTES
            && let Some((largest, name)) = weights.iter().max_by_key(|(weight, _)| *weight)
        {
            let message = format!(
                "the flow is too large: about {} KiB, at most {} KiB; the largest step is `{name}` with {} KiB",
                total / 1024,
                limits::SPEC_BYTES / 1024,
                largest / 1024
            );
            problems
                .at_path(&format!("steps.{name}"), message)
                .help("put long commands and values into files: `code` and `inputs`");
        }
        problems.into_result(|| ())
    }
}

fn step_spec(
    name: &Name,
    step: &FlowStep,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    links: &Links,
    ranks: &[StepIndex],
    stored: Stored,
) -> StepSpec {
    StepSpec {
        name: name.clone(),
        command,
        image: stored.image,
        isolation: step.isolation.unwrap_or(Isolation::Container),
        code: stored.code,
        inputs: stored.inputs,
        outputs: step.outputs.clone(),
        fan_out: match (&links.each, &links.foreach, stored.items, &step.foreach) {
            (Some(source), ..) => FanOut::Each { step: ranks[*source] },
            (_, Some((source, output)), ..) => FanOut::Output { step: ranks[*source], output: output.clone() },
            (_, _, Some(items), _) => FanOut::Items(items),
            (_, _, _, Some(Foreach::Range { start, count })) => FanOut::Range { start: *start, count: *count },
            _ => FanOut::Single,
        },
        needs: links.needs.iter().map(|(source, kind)| (ranks[*source], *kind)).collect(),
        env,
        resources: resources(step),
        size: step.gang_size.unwrap_or(1),
        retry: step.retry.clone().unwrap_or_else(no_retry),
        timeout_ms: step.timeout_ms,
        expected_ms: step.expected_ms,
        on_failure: step.on_failure.unwrap_or(OnFailure::Stop),
        max_parallel: step.max_parallel,
        constraints: constraints(step),
        network: step.network.unwrap_or(NetworkMode::Usual),
        mounts: step.mounts.clone().unwrap_or_default(),
        kill_grace_ms: step.kill_grace_ms.unwrap_or(fallback::KILL_GRACE_MS),
        stop_signal: step.stop_signal.unwrap_or_default(),
        on_disconnect: step.on_disconnect.unwrap_or(OnDisconnect::Keep),
        priority: step.priority.unwrap_or(0),
        secrets: secrets(step),
        preemptible: step.preemptible.unwrap_or(true),
        notice: step.notice,
        placing: placing(step),
    }
}

fn placing(step: &FlowStep) -> Placing {
    Placing {
        near: step.near.clone(),
        prefer: step.prefer.clone().unwrap_or_default(),
        min_size: step.min_gang_size.filter(|least| Some(*least) != step.gang_size),
        replace: step.replace,
        spread: step.spread.clone(),
        unique_host: step.unique_host.unwrap_or(false),
        apart: step.apart.clone().unwrap_or_default(),
        pack: step.pack.unwrap_or(false),
    }
}

fn secrets(step: &FlowStep) -> Vec<SecretUse> {
    let variable = |(name, secret): (&String, &Name)| SecretUse {
        place: SecretPlace::Variable(name.clone()),
        secret: secret.clone(),
    };
    let file =
        |(name, secret): (&String, &Name)| SecretUse { place: SecretPlace::File(name.clone()), secret: secret.clone() };
    step.secret_env.iter().map(variable).chain(step.secret_files.iter().map(file)).collect()
}

fn resources(step: &FlowStep) -> Resources {
    Resources {
        cpu_milli: step.cpu_milli.unwrap_or(fallback::CPU_MILLI),
        memory_bytes: step.memory_bytes.unwrap_or(fallback::MEMORY_BYTES),
        disk_bytes: step.disk_bytes.unwrap_or(0),
        shm_bytes: step.shm_bytes.unwrap_or(0),
        tokens: step.tokens.clone().unwrap_or_default(),
        gpus: step.gpus.clone().unwrap_or_default(),
    }
}

fn constraints(step: &FlowStep) -> Vec<Constraint> {
    let labels = step.labels.iter().map(|(label, value)| Constraint {
        label: label.clone(),
        operator: ConstraintOperator::In,
        values: vec![value.clone()],
    });
    labels.chain(step.constraints.iter().flatten().cloned()).collect()
}

/// About how many bytes a step takes in an encoded spec: its texts, and a little for each.
fn step_weight(step: &StepSpec) -> usize {
    const EACH: usize = 8;
    const DIGEST: usize = 44;
    let command: usize = step.command.iter().map(|text| text.len() + EACH).sum();
    let env: usize = step.env.iter().map(|(name, value)| name.len() + value.len() + EACH).sum();
    let outputs: usize = step.outputs.iter().map(|(name, path)| name.as_str().len() + path.len() + EACH).sum();
    let inputs = step.inputs.iter().map(|(name, input)| match input {
        Input::Stored { .. } => name.as_str().len() + DIGEST,
        Input::Output { output, .. } => name.as_str().len() + output.as_str().len() + EACH,
    });
    let constraints = step.constraints.iter().flat_map(|one| &one.values).map(|value| value.len() + 2 * EACH);
    let secrets = step.secrets.iter().map(|used| used.secret.as_str().len() + limits::NAME_BYTES + EACH);
    secrets.sum::<usize>()
        + command
        + env
        + outputs
        + inputs.sum::<usize>()
        + constraints.sum::<usize>()
        + step.needs.len() * EACH
        + 2 * DIGEST
}
