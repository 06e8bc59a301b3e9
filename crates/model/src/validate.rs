//! The rules a job spec keeps. Checked once, where a spec enters the coordinator; `apply` relies on them.

use std::collections::BTreeSet;

use crate::plausible::{plausible_blob, plausible_manifest};
use crate::{
    FanOut, GpuRequest, Growth, Input, JobSpec, Name, NeedKind, NetworkMode, Notice, Placing, Rejection, Replace,
    Resources, Retry, RetryRule, SecretPlace, SecretUse, SpecBlobs, StepIndex, StepSpec, limits,
};

type Checked = Result<(), Rejection>;

/// Checks every rule that can be seen from the spec alone.
///
/// # Errors
/// [`Rejection::Invalid`] naming the place in the spec, what is wrong and what would be accepted.
pub fn validate(spec: &JobSpec) -> Checked {
    at_most("steps", spec.steps.len(), limits::STEPS)?;
    require(!spec.steps.is_empty(), "steps", "a job has at least one step")?;
    at_most("tags", spec.tags.len(), limits::TAGS)?;
    for tag in &spec.tags {
        text("tags", tag)?;
        require(!tag.is_empty(), "tags", "a tag must not be empty")?;
    }
    at_most("after", spec.after.len(), limits::AFTER_JOBS)?;
    let SpecBlobs { manifests, lists } = spec.blobs();
    manifests.into_iter().try_for_each(|digest| plausible_manifest("blobs", digest))?;
    lists.into_iter().try_for_each(|digest| plausible_blob("blobs", digest))?;
    duration("retention", spec.retention_ms)?;
    for (path, value) in [("deadline", spec.deadline_ms), ("queue_ttl", spec.queue_ttl_ms)] {
        duration(path, value)?;
        require(value != Some(0), path, "must be longer than nothing")?;
    }
    let mut names = BTreeSet::new();
    for (at, step) in spec.steps.iter().enumerate() {
        let path = format!("steps.{}", step.name);
        require(names.insert(&step.name), &path, "two steps have this name")?;
        validate_step(spec, at, step).map_err(|rejection| below(&path, rejection))?;
    }
    Ok(())
}

fn validate_step(spec: &JobSpec, at: usize, step: &StepSpec) -> Checked {
    validate_command(step)?;
    validate_graph(spec, at, step)?;
    validate_artifacts(step)?;
    validate_env(step)?;
    validate_secrets(step)?;
    validate_resources(&step.resources).map_err(|rejection| below("resources", rejection))?;
    require(step.size >= 1, "gang.size", "a gang has at least one member")?;
    require(step.size <= limits::GANG, "gang.size", &format!("at most {}", limits::GANG))?;
    let apart = step.size > 1 && matches!(step.network, NetworkMode::Private | NetworkMode::None);
    require(!apart, "network", "members of a gang must reach each other: leave it out, or write \"host\"")?;
    let alone = step.size == 1 && step.placing.near.is_some();
    require(!alone, "gang.near", "only a gang has members that are near to each other: give it a size of 2 or more")?;
    validate_prefer(step)?;
    validate_replace(step)?;
    validate_beside(step)?;
    validate_min_size(step)?;
    validate_retry(&step.retry).map_err(|rejection| below("retry", rejection))?;
    duration("timeout", step.timeout_ms)?;
    require(step.timeout_ms != Some(0), "timeout", "must be longer than nothing")?;
    duration("expected", step.expected_ms)?;
    require(step.expected_ms != Some(0), "expected", "must be longer than nothing")?;
    duration("kill_grace", Some(step.kill_grace_ms))?;
    validate_notice(step)?;
    require(step.max_parallel != Some(0), "max_parallel", "must be at least 1")?;
    for mount in &step.mounts {
        let plain = mount.path.starts_with('/') && !mount.path.split('/').any(|part| part == "..");
        require(plain, "mounts", "a mount is an absolute path without `..`")?;
    }
    Ok(())
}

fn validate_notice(step: &StepSpec) -> Checked {
    let Some(Notice { ms, .. }) = step.notice else { return Ok(()) };
    require((1..=limits::CONTRACT_MS).contains(&ms), "notice.time", "longer than nothing, and at most an hour")
}

fn validate_replace(step: &StepSpec) -> Checked {
    let Some(Replace { within_ms, .. }) = step.placing.replace else { return Ok(()) };
    require(step.size > 1, "gang.replace", "only a gang goes on without a member: give it a size of 2 or more")?;
    require(within_ms > 0, "gang.replace.within", "must be longer than nothing")?;
    duration("gang.replace.within", Some(within_ms))
}

fn validate_min_size(step: &StepSpec) -> Checked {
    let Some(least) = step.placing.min_size else { return Ok(()) };
    let within = step.size > 1 && (1..=step.size).contains(&least);
    require(within, "gang.min_size", "at least 1, and at most the `size`, of a gang whose size is 2 or more")
}

fn validate_prefer(step: &StepSpec) -> Checked {
    let prefer = &step.placing.prefer;
    at_most("prefer", prefer.len(), limits::PREFERENCES)?;
    let sound = prefer.iter().all(|preference| (1..=limits::PREFERENCE).contains(&preference.weight));
    require(sound, "prefer.weight", &format!("a whole number from 1 to {}", limits::PREFERENCE))
}

fn validate_beside(step: &StepSpec) -> Checked {
    let Placing { spread, apart, .. } = &step.placing;
    let some = spread.as_ref().is_none_or(|spread| spread.at_most != Some(0));
    require(some, "spread.at_most", "must be at least 1")?;
    at_most("apart", apart.len(), limits::APART)?;
    apart.iter().try_for_each(|tag| {
        text("apart", tag)?;
        require(!tag.is_empty(), "apart", "a tag must not be empty")
    })
}

fn validate_retry(retry: &Retry) -> Checked {
    require(retry.times <= limits::RETRIES, "times", &format!("at most {}", limits::RETRIES))?;
    validate_backoff(retry.backoff_ms, retry.growth)?;
    at_most("rules", retry.rules.len(), limits::RETRY_RULES)?;
    for (at, rule) in retry.rules.iter().enumerate() {
        validate_rule(retry, rule).map_err(|rejection| below(&format!("rules.{at}"), rejection))?;
    }
    Ok(())
}

fn validate_rule(retry: &Retry, rule: &RetryRule) -> Checked {
    let names = !rule.reasons.is_empty() || !rule.exit_codes.is_empty();
    require(names, "reason", "a rule names reasons or exit codes")?;
    at_most("exit_code", rule.exit_codes.len(), limits::RETRY_CODES)?;
    let codes = rule.exit_codes.iter().all(|code| (1..=255).contains(code));
    require(codes, "exit_code", "a whole number from 1 to 255")?;
    let most = format!("at most {}, the `times` of all ends together", retry.times);
    require(rule.times.is_none_or(|times| times <= retry.times), "times", &most)?;
    let users = rule.reasons.iter().all(|reason| RetryRule::REASONS.contains(reason));
    require(users, "reason", "only ends that can be the user's fault fall under a rule")?;
    rule.backoff.map_or(Ok(()), |backoff| validate_backoff(backoff.first_ms, backoff.growth))
}

fn validate_backoff(ms: u64, growth: Growth) -> Checked {
    duration("backoff", Some(ms))?;
    duration("backoff.max", growth.max_ms)?;
    require(growth.max_ms.is_none_or(|max| max >= ms), "backoff.max", "must not be shorter than the first wait")?;
    let factor = (1..=limits::RETRY_FACTOR).contains(&growth.factor);
    require(factor, "backoff.factor", &format!("between 1 and {}", limits::RETRY_FACTOR))
}

fn validate_command(step: &StepSpec) -> Checked {
    let program = step.command.first().map_or("", String::as_str);
    require(!program.is_empty(), "run", "name a program to run")?;
    at_most("run", step.command.len(), limits::ARGUMENTS)?;
    let whole = step.command.iter().all(|argument| !argument.contains('\0'));
    require(whole, "run", "an argument cannot contain a NUL byte")
}

/// Every step comes after all it depends on, so a cycle cannot be written.
fn validate_graph(spec: &JobSpec, at: usize, step: &StepSpec) -> Checked {
    for need in step.needs.keys() {
        require((need.0 as usize) < at, "needs", "a step depends only on steps before it in the list")?;
    }
    let produced = |path: &str, source: &StepIndex, output: Option<&Name>| {
        require(step.needs.contains_key(source), path, "the step it names is not among the step's needs")?;
        let known = output.is_none_or(|name| spec.steps[source.0 as usize].outputs.contains_key(name));
        require(known, path, "the step it names has no such output")
    };
    for (name, input) in &step.inputs {
        if let Input::Output { step: source, output } = input {
            produced(&format!("inputs.{name}"), source, Some(output))?;
        }
    }
    match &step.fan_out {
        FanOut::Single => {}
        FanOut::Range { count, start } => {
            fan_out(*count)?;
            let last = start.checked_add(i64::from(*count));
            require(last.is_some(), "foreach.range", "the numbers leave the 64-bit range")?;
        }
        FanOut::Items(list) => fan_out(list.count)?,
        FanOut::Output { step: source, output } => {
            produced("foreach", source, Some(output))?;
            let all = step.needs.get(source) == Some(&NeedKind::All);
            require(all, "foreach", "the step that writes the list is needed as a whole")?;
        }
        FanOut::Each { step: source } => produced("each", source, None)?,
    }
    let each = |source: &StepIndex| matches!(&step.fan_out, FanOut::Each { step } if step == source);
    let single_each = step.needs.iter().all(|(source, kind)| (*kind == NeedKind::Each) == each(source));
    require(single_each, "needs", "only the step named by `each` is followed task by task")
}

fn fan_out(count: u32) -> Checked {
    let message = format!("at most {} tasks", limits::TASKS_PER_STEP);
    require(count <= limits::TASKS_PER_STEP, "foreach", &message)
}

fn validate_artifacts(step: &StepSpec) -> Checked {
    at_most("inputs", step.inputs.len(), limits::ARTIFACTS_PER_STEP)?;
    at_most("outputs", step.outputs.len(), limits::ARTIFACTS_PER_STEP)?;
    for (kind, names) in
        [("inputs", step.inputs.keys().collect::<Vec<_>>()), ("outputs", step.outputs.keys().collect())]
    {
        let mut variables = BTreeSet::new();
        for name in names {
            let distinct = variables.insert(variable_part(name));
            require(distinct, &format!("{kind}.{name}"), "another one has the same environment variable")?;
        }
    }
    for (name, path) in &step.outputs {
        let inside = !path.is_empty() && !path.starts_with('/') && !path.split('/').any(|part| part == "..");
        let message = "an output is a path inside the working directory, without `..`";
        require(inside && !path.contains('\0'), &format!("outputs.{name}"), message)?;
        require(path.len() <= 4_096, &format!("outputs.{name}"), "a path has at most 4096 bytes")?;
    }
    Ok(())
}

/// The part of `FLOWYARD_INPUT_<NAME>` that stands for an artifact: upper case, everything but letters and digits as `_`.
pub fn variable_part(name: &Name) -> String {
    name.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn validate_env(step: &StepSpec) -> Checked {
    at_most("env", step.env.len(), limits::ENV_VARIABLES)?;
    for (name, value) in &step.env {
        let path = format!("env.{}", name.escape_debug());
        variable(&path, name)?;
        require(!value.contains('\0'), &path, "a value cannot contain a NUL byte")?;
    }
    Ok(())
}

fn variable(path: &str, name: &str) -> Checked {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let plain = starts && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    require(plain, path, "a variable's name consists of letters, digits and `_`, not starting with a digit")?;
    require(!name.starts_with("FLOWYARD_"), path, "variables starting with FLOWYARD_ are set by Flowyard")
}

fn validate_secrets(step: &StepSpec) -> Checked {
    at_most("secrets", step.secrets.len(), limits::SECRETS_PER_STEP)?;
    let mut places = BTreeSet::new();
    for SecretUse { place, .. } in &step.secrets {
        match place {
            SecretPlace::Variable(name) => {
                let path = format!("env.{}", name.escape_debug());
                variable(&path, name)?;
                require(!step.env.contains_key(name), &path, "it has a value already")?;
                require(places.insert(place), &path, "it is given twice")?;
            }
            SecretPlace::File(name) => {
                let path = format!("secret_files.{}", name.escape_debug());
                require(name.parse::<Name>().is_ok(), &path, "a file of a secret has a plain name, without a folder")?;
                require(places.insert(place), &path, "it is given twice")?;
            }
        }
    }
    Ok(())
}

fn validate_resources(resources: &Resources) -> Checked {
    let cpu = (1..=limits::CPU_MILLI).contains(&resources.cpu_milli);
    require(cpu, "cpu", &format!("between 0.001 and {}", limits::CPU_MILLI / 1_000))?;
    let memory = (1..=limits::RESOURCE_BYTES).contains(&resources.memory_bytes);
    require(memory, "memory", "between 1B and 1PiB")?;
    require(resources.disk_bytes <= limits::RESOURCE_BYTES, "disk", "at most 1PiB")?;
    require(resources.shm_bytes <= resources.memory_bytes, "shm", "is part of the memory and cannot be larger")?;
    at_most("gpu", resources.gpus.len(), limits::GPU_ALTERNATIVES)?;
    require(GpuRequest::repeated(&resources.gpus).is_none(), "gpu", "two of its alternatives are the same")?;
    for request in &resources.gpus {
        let count = (1..=limits::GPUS).contains(&request.count);
        require(count, "gpu.count", &format!("between 1 and {}", limits::GPUS))?;
        require((1..=1_000).contains(&request.share_milli), "gpu.share", "between 0.001 and 1")?;
        let divided = request.memory_bytes == 0 || request.share_milli < 1_000;
        require(divided, "gpu.memory", "a whole device comes with all its memory; only a `share` declares its own")?;
        require(request.memory_bytes <= limits::NODE_BYTES, "gpu.memory", "at most 1EiB")?;
        let once = request.link.is_none() || !request.same_link_group;
        require(once, "gpu.link", "say `link` or `same_link_group`, which is the same as link = \"nvlink\", not both")?;
    }
    Ok(())
}

fn duration(path: &str, value: Option<u64>) -> Checked {
    require(value.is_none_or(|ms| ms <= limits::DURATION_MS), path, "at most ten years")
}

fn text(path: &str, value: &str) -> Checked {
    let message = format!("at most {} bytes without control characters", limits::TEXT_BYTES);
    require(value.len() <= limits::TEXT_BYTES && !value.chars().any(char::is_control), path, &message)
}

fn at_most(path: &str, count: usize, most: usize) -> Checked {
    require(count <= most, path, &format!("at most {most}, these are {count}"))
}

fn require(holds: bool, path: &str, message: &str) -> Checked {
    if holds { Ok(()) } else { Err(Rejection::Invalid { path: path.to_owned(), message: message.to_owned() }) }
}

fn below(parent: &str, rejection: Rejection) -> Rejection {
    match rejection {
        Rejection::Invalid { path, message } => Rejection::Invalid { path: format!("{parent}.{path}"), message },
        other => other,
    }
}
