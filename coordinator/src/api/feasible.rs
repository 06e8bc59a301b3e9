//! Whether a step could ever be placed, told at submit: a job that no node could run is refused, not left to wait.

use flowyard_model::{Gpu, GpuRequest, JobSpec, NetworkMode, Rejection, Resources, StepSpec};
use flowyard_scheduling::could_ever_run;
use flowyard_state::State;

/// Refuses a step that needs a level of the topology that is not declared, and one that no known node could ever run. Without any node everything is taken: the first may be on its way.
pub(super) fn check(state: &State, spec: &JobSpec) -> Result<(), Rejection> {
    spec.steps.iter().try_for_each(|step| state.knows_level(step))?;
    if state.nodes().next().is_none() {
        return Ok(());
    }
    match spec.steps.iter().find(|step| !could_ever_run(state, step)) {
        None => Ok(()),
        Some(step) => {
            Err(Rejection::Infeasible { step: step.name.clone(), asked: asked(step), exists: exists(state, step) })
        }
    }
}

fn asked(step: &StepSpec) -> String {
    let Resources { cpu_milli, memory_bytes, disk_bytes, gpus, .. } = &step.resources;
    let mut parts = vec![format!("{} CPU", cpu(*cpu_milli)), format!("{} of memory", bytes(*memory_bytes))];
    if *disk_bytes > 0 {
        parts.push(format!("{} of disk", bytes(*disk_bytes)));
    }
    parts.extend(step.resources.tokens.iter().map(|(name, count)| format!("{count} of the token `{name}`")));
    parts.extend((!gpus.is_empty()).then(|| gpus.iter().map(gpu).collect::<Vec<_>>().join(" or ")));
    parts.extend((step.size > 1).then(|| format!("and that {} times at once, for a gang", step.least_size())));
    parts.extend((step.network == NetworkMode::Private).then(|| "a private network".to_owned()));
    let near = step.placing.near.as_ref().filter(|near| near.need);
    parts.extend(near.map(|near| format!("{} members {near}", step.least_size())));
    let spread = step.placing.spread.as_ref().filter(|spread| step.size > 1 && spread.at_most.is_some());
    parts.extend(spread.map(|spread| format!("{} members spread {spread}", step.least_size())));
    let unique = step.size > 1 && step.placing.unique_host;
    parts.extend(unique.then(|| format!("{} members on as many nodes", step.least_size())));
    parts.extend(step.constraints.iter().map(|constraint| format!("labels with `{constraint}`")));
    parts.join(", ")
}

fn gpu(request: &GpuRequest) -> String {
    let model = request.model.as_ref().map_or_else(String::new, |model| format!(" of model {model}"));
    let near = request.near().map_or_else(String::new, |link| format!(" in one {}", link.group()));
    if request.share_milli == 1_000 {
        return format!("{} GPU{model}{near}", request.count);
    }
    let memory = match request.memory_bytes {
        0 => String::new(),
        declared => format!(" with {} of its memory", bytes(declared)),
    };
    format!("{} of {} GPU{model}{memory}{near}", cpu(request.share_milli.into()), request.count)
}

/// How many GPUs are in one group at most, on the level that is asked for.
fn nearest(step: &StepSpec, gpus: &[Gpu]) -> String {
    let Some(link) = step.resources.gpus.iter().find_map(GpuRequest::near) else { return String::new() };
    let groups: Vec<_> = gpus.iter().filter_map(|gpu| gpu.group(link)).collect();
    let of = |group: &u32| groups.iter().filter(|other| *other == group).count();
    let most = groups.iter().map(of).max().unwrap_or(0);
    format!(", at most {most} in one {}", link.group())
}

/// The largest of what there is, node by node, at most five of them, with the labels that `step` asks about.
fn exists(state: &State, step: &StepSpec) -> String {
    const SHOWN: usize = 5;
    let nodes = state.nodes().take(SHOWN).map(|(_, node)| {
        let offer = &node.inventory;
        let gpus = match offer.gpus.first() {
            None => "no GPU".to_owned(),
            Some(first) => format!("{} GPU ({}{})", offer.gpus.len(), first.model, nearest(step, &offer.gpus)),
        };
        let asked = step.constraints.iter().map(|constraint| &constraint.label);
        let asked = asked.chain(step.placing.near.iter().map(|near| &near.level));
        let over = step.placing.spread.iter().filter(|spread| !spread.is_by_host()).map(|spread| &spread.over);
        let asked = asked.chain(over);
        let labels = asked.map(|label| match offer.labels.get(label) {
            Some(value) => format!(", label {label} = {value}"),
            None => format!(", no label {label}"),
        });
        let tokens = step.resources.tokens.keys().filter(|name| !state.policy().is_shared(name));
        let tokens = tokens.map(|name| format!(", {} of `{name}`", offer.tokens.get(name).copied().unwrap_or(0)));
        let tokens = tokens.collect::<String>();
        let network = match (step.connects(offer), &offer.rendezvous) {
            (true, _) => String::new(),
            (false, None) if step.size > 1 => ", an agent of a release without gangs".to_owned(),
            (false, _) => format!(", no private networks ({})", offer.abilities.unconnected()),
        };
        let (cpus, memory) = (cpu(offer.cpu_milli), bytes(offer.memory_bytes));
        format!(
            "node {} has {cpus} CPU, {memory} of memory, {gpus}{tokens}{network}{}",
            node.name,
            labels.collect::<String>()
        )
    });
    let mut text = nodes.collect::<Vec<_>>().join("; ");
    if step.resources.tokens.keys().any(|name| !state.policy().is_shared(name)) {
        let shared: Vec<_> = state.policy().tokens.iter().map(|(name, count)| format!("{count} of `{name}`")).collect();
        let shared = if shared.is_empty() { "none".to_owned() } else { shared.join(", ") };
        text = format!("{text}; tokens that the policy gives to all nodes: {shared}");
    }
    let all = state.node_count();
    if all > SHOWN {
        text = format!("{text}; and {} more nodes", all - SHOWN);
    }
    text
}

fn cpu(milli: u64) -> String {
    format!("{}.{:03}", milli / 1_000, milli % 1_000).trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(scale, _)| bytes >= *scale);
    unit.map_or_else(
        || format!("{bytes}B"),
        |(scale, unit)| match (bytes / scale, bytes % scale * 10 / scale) {
            (whole, 0) => format!("{whole}{unit}"),
            (whole, tenth) => format!("{whole}.{tenth}{unit}"),
        },
    )
}
