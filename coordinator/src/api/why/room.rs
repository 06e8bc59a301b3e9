//! Why a ready task is not placed: limits of its step and queue, who goes first, and what each node lacks.

use std::collections::BTreeMap;

use flowyard_model::{Gpu, GpuRequest, Health, Image, Isolation, Job, JobId, Node, Scheduling, StepIndex, StepSpec};
use flowyard_proto::api::Finding;

use super::words::{Told, count, cpu, finding as found, size};
use super::{Scene, bounds};

/// Why the ready tasks of a step wait.
pub(super) fn finding(scene: Scene<'_>, id: JobId, job: &Job, index: StepIndex, subject: String) -> Finding {
    let Some((spec, step)) = job.spec.steps.get(index.0 as usize).zip(scene.view.step(id, index)) else {
        return found(subject, "ready", "its step is not known");
    };
    if let Some(most) = spec.max_parallel.filter(|most| step.counts.active >= *most) {
        let reason = format!("as many of its step are active as may be: `max_parallel` is {most}");
        return found(subject, "ready", reason);
    }
    if let Some(bound) = bounds::reached(scene.view, &job.spec.queue, spec) {
        let advice = format!("fctl queue show {}", job.spec.queue);
        return found(subject, "ready", bound).with_advice([advice]);
    }
    let mut nodes = 0;
    let mut fitting = 0;
    let mut shut = 0;
    let mut lacking: BTreeMap<&'static str, (u64, String)> = BTreeMap::new();
    for (_, node) in scene.view.nodes() {
        nodes += 1;
        shut += u64::from(node.scheduling != Scheduling::Open);
        let lacks = lacks(spec, node);
        fitting += u64::from(lacks.is_empty());
        for (kind, example) in lacks {
            lacking.entry(kind).or_insert_with(|| (0, format!("{}: {example}", node.name))).0 += 1;
        }
    }
    let details = lacking
        .into_iter()
        .map(|(kind, (number, example))| format!("{}: {kind}, such as {example}", count(number, "node")));
    let details: Vec<_> = details.chain(ahead(scene, id, index)).collect();
    let asks = asks(spec);
    let (reason, advice) = match (nodes, fitting) {
        (0, _) => ("no node has ever registered".to_owned(), vec!["start an agent, or `fctl dev`".to_owned()]),
        (nodes, 0) if shut == nodes => {
            let reason = match nodes {
                1 => "the only node takes no new work".to_owned(),
                _ => format!("none of {nodes} nodes takes new work"),
            };
            (reason, vec!["fctl nodes".to_owned(), "fctl node uncordon NODE".to_owned()])
        }
        (1, 0) => (format!("the only node has no room for it now; it asks for {asks}"), vec!["fctl nodes".to_owned()]),
        (_, 0) => {
            (format!("none of {nodes} nodes has room for it now; it asks for {asks}"), vec!["fctl nodes".to_owned()])
        }
        (_, fitting) => (
            format!(
                "{fitting} of {} has room; it is placed with the next plan, unless others go first",
                count(nodes, "node")
            ),
            Vec::new(),
        ),
    };
    found(subject, "ready", reason).with_details(details).with_advice(advice)
}

/// Ready work of the same queue that goes first.
fn ahead(scene: Scene<'_>, id: JobId, index: StepIndex) -> Option<String> {
    let own = scene.view.ready_steps().find(|ready| ready.job == id && ready.step == index)?;
    let before = scene.view.ready_steps().filter(|ready| ready.queue == own.queue && ready.priority < own.priority);
    let tasks =
        before.filter_map(|ready| scene.view.step(ready.job, ready.step)).map(|step| u64::from(step.counts.ready));
    let (steps, tasks) = tasks.fold((0_u64, 0_u64), |(steps, all), tasks| (steps + 1, all + tasks));
    let priority = own.priority.0;
    (steps > 0).then(|| {
        format!(
            "{} of {} with a priority above its {priority} go first",
            count(tasks, "ready task"),
            count(steps, "step")
        )
    })
}

/// What one member asks for.
fn asks(spec: &StepSpec) -> String {
    let wants = &spec.resources;
    let mut asks = vec![format!("cpu {}", cpu(wants.cpu_milli)), format!("memory {}", size(wants.memory_bytes))];
    if wants.disk_bytes > 0 {
        asks.push(format!("disk {}", size(wants.disk_bytes)));
    }
    asks.extend(wants.tokens.iter().map(|(name, count)| format!("{count} of {name}")));
    if !wants.gpus.is_empty() {
        asks.push(wants.gpus.iter().map(gpus).collect::<Vec<_>>().join(" or "));
    }
    asks.join(", ")
}

fn gpus(request: &GpuRequest) -> String {
    let model = request.model.as_ref().map_or_else(String::new, |model| format!(" of model {model}"));
    let memory = match request.min_memory_bytes {
        0 => String::new(),
        bytes => format!(" with at least {}", size(bytes)),
    };
    format!("{}{model}{memory}", count(request.count.into(), "GPU"))
}

/// Everything a node lacks for one member: what kind of lack, and the figures.
fn lacks(spec: &StepSpec, node: &Node) -> Vec<(&'static str, String)> {
    match (node.health, node.scheduling) {
        (Health::Down, _) => return vec![("down", "nothing was heard of it for long".to_owned())],
        (Health::Suspect, _) => return vec![("silent", "nothing was heard of it for seconds".to_owned())],
        (Health::Up, Scheduling::Drained) => return vec![closed(node)],
        (Health::Up, Scheduling::Open) => {}
    }
    if let Some(missing) = ability(spec, node) {
        return vec![("not able or not allowed", missing)];
    }
    if let Some(constraint) = spec.constraints.iter().find(|constraint| !constraint.holds(&node.inventory)) {
        let has = node.inventory.labels.get(&constraint.label).map_or_else(
            || format!("no label {}", constraint.label),
            |value| format!("{} = {value}", constraint.label),
        );
        return vec![("other labels", format!("`{constraint}` does not hold: {has}"))];
    }
    let mut lacks = Vec::new();
    amounts(spec, node, &mut lacks);
    devices(spec, node, &mut lacks);
    lacks
}

/// Who closed the node to new work, and why.
fn closed(node: &Node) -> (&'static str, String) {
    let Some(closure) = &node.closure else { return ("cordoned", "an operator closed it to new work".to_owned()) };
    let kind = match closure.drain {
        None => "cordoned",
        Some(_) if node.used.members == 0 => "drained",
        Some(_) => "draining",
    };
    let reason = if closure.reason.is_empty() { String::new() } else { format!(" ({})", closure.reason) };
    (kind, format!("{} closed it to new work{reason}", closure.by))
}

/// What the node's agent cannot or may not do.
fn ability(spec: &StepSpec, node: &Node) -> Option<String> {
    let able = &node.inventory.abilities;
    if able.suffice(spec.isolation, &spec.image) {
        let unconnected =
            || format!("it has no private networks ({}); network \"host\" needs none", able.unconnected());
        return (!able.connect(spec.isolation, spec.network)).then(unconnected);
    }
    Some(match (spec.isolation, &spec.image) {
        (Isolation::Process, _) => "isolation process is not allowed".to_owned(),
        (Isolation::Container, _) if !able.containers => format!("it cannot run containers ({})", able.enforcement),
        (Isolation::Container, Image::Host) => "image host is not allowed".to_owned(),
        (Isolation::Container, Image::Stored { .. }) => "it cannot run images".to_owned(),
    })
}

fn amounts(spec: &StepSpec, node: &Node, lacks: &mut Vec<(&'static str, String)>) {
    let (wants, has, used) = (&spec.resources, &node.inventory, &node.used);
    let mut compare =
        |small: &'static str, full: &'static str, wanted: u64, all: u64, used: u64, text: fn(u64) -> String| {
            let free = all.saturating_sub(used);
            if wanted > all {
                lacks.push((small, format!("it has {} in all", text(all))));
            } else if wanted > free {
                lacks.push((full, format!("{} of {} free", text(free), text(all))));
            }
        };
    compare("too few CPUs", "CPUs taken", wants.cpu_milli, has.cpu_milli, used.cpu_milli, cpu);
    compare("too little memory", "memory taken", wants.memory_bytes, has.memory_bytes, used.memory_bytes, size);
    compare("too little disk", "disk taken", wants.disk_bytes, has.disk_bytes, used.disk_bytes, size);
    for (name, wanted) in &wants.tokens {
        let (all, taken) = (has.tokens.get(name).copied().unwrap_or(0), used.tokens.get(name).copied().unwrap_or(0));
        if *wanted > all.saturating_sub(taken) {
            lacks.push(("tokens taken or missing", format!("{} of {all} {name} free", all.saturating_sub(taken))));
        }
    }
}

fn devices(spec: &StepSpec, node: &Node, lacks: &mut Vec<(&'static str, String)>) {
    let wants = &spec.resources.gpus;
    let devices = &node.inventory.gpus;
    if wants.is_empty() || wants.iter().any(|request| any_set(request, devices, |at| free(node, at, request))) {
        return;
    }
    if wants.iter().any(|request| any_set(request, devices, |_| true)) {
        let untouched = (0..devices.len()).filter(|at| devices[*at].healthy && held(node, *at) == 0).count();
        lacks.push(("GPUs taken or unhealthy", format!("{untouched} of {} free and healthy", devices.len())));
    } else {
        lacks.push(("no such GPUs", format!("it has {}", count(devices.len() as u64, "GPU"))));
    }
}

fn held(node: &Node, at: usize) -> u32 {
    node.used.gpu_milli.get(at).copied().unwrap_or(0)
}

fn free(node: &Node, at: usize, request: &GpuRequest) -> bool {
    node.inventory.gpus[at].healthy && held(node, at) + request.share_milli <= 1_000
}

/// Whether there are enough acceptable devices that may be taken, linked if they must be.
fn any_set(request: &GpuRequest, devices: &[Gpu], may_take: impl Fn(usize) -> bool) -> bool {
    let wanted = request.count as usize;
    let good: Vec<usize> = (0..devices.len()).filter(|at| request.accepts(&devices[*at]) && may_take(*at)).collect();
    if !request.same_link_group || wanted <= 1 {
        return good.len() >= wanted;
    }
    let linked = |first: &usize| {
        let group = devices[*first].link_group;
        group.is_some() && good.iter().filter(|at| devices[**at].link_group == group).count() >= wanted
    };
    good.iter().any(linked)
}
