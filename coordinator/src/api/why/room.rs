//! Why a ready task is not placed: limits of its step and queue, who goes first, and what each node lacks. What is so is found by
//! `scheduling::why`; here it is put into words, without names that the caller may not see.

use flowyard_model::{GpuRequest, Job, JobId, NodeId, QueuePath, StepIndex, StepSpec, TaskIndex, TaskKey, TimeMs};
use flowyard_proto::api::Finding;
use flowyard_scheduling::why::{
    BoundOn, BoundReached, Explanation, Gpus, KeptFree, Lack, Nearness, Question, Reasons, Rejection, Resource, Rule,
    Short, Throttled, Unable, explain, reasons,
};
use flowyard_state::State;

use super::words::{Told, count, cpu, duration, finding as found, size};
use super::{Scene, evictions, near, told};
use crate::api::alternatives;

/// Holders that are named of a bound.
pub(super) const HOLDERS: usize = 5;

/// What may be said to whom.
#[derive(Clone, Copy)]
pub(in crate::api) struct Sight<'a> {
    /// What is read.
    pub(in crate::api) state: &'a State,
    /// The queue of the task.
    pub(in crate::api) own: &'a QueuePath,
    /// Whether the caller may look at a queue.
    pub(in crate::api) looks: &'a dyn Fn(&QueuePath) -> bool,
}

impl Sight<'_> {
    /// Whether a queue may be named: those above the task's own are in its name.
    pub(super) fn names(self, queue: &QueuePath) -> bool {
        queue.covers(self.own) || (self.looks)(queue)
    }

    /// Whether somebody with work in a queue may be named.
    pub(super) fn names_owners(self, queue: &QueuePath) -> bool {
        (self.looks)(queue)
    }

    pub(super) fn node(self, id: NodeId) -> String {
        self.state.node(id).map_or_else(|| format!("node {id}"), |node| node.name.to_string())
    }
}

/// Why a ready task of a step waits: this one, or the first.
pub(super) fn finding(
    scene: Scene<'_>,
    (id, job): (JobId, &Job),
    index: StepIndex,
    task: Option<TaskIndex>,
    subject: String,
) -> Finding {
    let unclaimed = |task: &TaskIndex| scene.view.claim(&TaskKey { job: id, step: index, task: *task }).is_none();
    let ready = || scene.view.ready_tasks(id, index).map(|(task, _)| task);
    let asked = task;
    let task = task.or_else(|| ready().find(unclaimed)).or_else(|| ready().next());
    let Some((spec, task)) = job.spec.steps.get(index.0 as usize).zip(task) else {
        return found(subject, "ready", "its step is not known");
    };
    let key = TaskKey { job: id, step: index, task };
    let sight = Sight { state: scene.view, own: &job.spec.queue, looks: scene.looks };
    let mut told = of_task(scene, sight, spec, key, subject);
    told.details.extend(alternatives::lines(sight, scene.view, key));
    told.details.extend(evictions::of_step(scene, (id, index), asked));
    told.details.extend(evictions::to_come(scene, key));
    told
}

fn of_task(scene: Scene<'_>, sight: Sight<'_>, spec: &StepSpec, key: TaskKey, subject: String) -> Finding {
    let deep = scene.deep.take().then(|| explain(scene.view, &Question::Waiting(key), TimeMs(scene.now_ms))).flatten();
    if let Some(told) = &deep {
        let wire = told::explanation(sight, told, scene.now_ms);
        return Finding { explanation: Some(wire), ..of_reasons(sight, spec, &told.reasons, deep.as_ref(), subject) };
    }
    match reasons(scene.view, key) {
        Some(reasons) => of_reasons(sight, spec, &reasons, None, subject),
        None => found(subject, "ready", "it is ready"),
    }
}

/// Why a task waits, in words.
pub(in crate::api) fn of_reasons(
    sight: Sight<'_>,
    spec: &StepSpec,
    reasons: &Reasons,
    deep: Option<&Explanation>,
    subject: String,
) -> Finding {
    if let Some(parallel) = reasons.parallel {
        let most = parallel.most;
        let reason = match parallel.active < most {
            true => format!(
                "{} of its step go before it, and `max_parallel` is {most}",
                count(parallel.before.into(), "task")
            ),
            false => format!("as many of its step are active as may be: `max_parallel` is {most}"),
        };
        return found(subject, "ready", reason);
    }
    if let Some(Throttled { starting, most }) = reasons.throttled {
        let verbs = if starting == 1 { "is placed and does" } else { "are placed and do" };
        let reason = format!(
            "{} of its job {verbs} not run yet, and the policy lets {most} do so at a time: the next goes on as soon as one runs",
            count(starting.into(), "member")
        );
        return found(subject, "ready", reason).with_advice(["fctl policy show".to_owned()]);
    }
    let lacks = || reasons.nodes.rejections.iter().map(move |rejection| rejected(sight, rejection));
    if let Some(first) = reasons.bounds.first().filter(|_| reasons.rule == Some(Rule::Bounds)) {
        let more = reasons.bounds.iter().skip(1).filter(|other| (&other.queue, &other.on) != (&first.queue, &first.on));
        let held = reasons.bounds.iter().filter(|other| other.alternative == first.alternative);
        let held = held.flat_map(|bound| holders(sight, bound).into_iter().chain(kept_for(sight, bound)));
        let other =
            reasons.within_bounds.then(|| "by what is within all bounds no node has room for it now".to_owned());
        let no_room = (reasons.nodes.fitting == 0).then(|| "and no node has room for it now".to_owned());
        let no_room = no_room.into_iter().flat_map(|said| std::iter::once(said).chain(lacks()));
        let details: Vec<_> = more.map(bound).chain(held).chain(other).chain(no_room).collect();
        let advice = match &first.on {
            BoundOn::Cluster(_) => "fctl policy show".to_owned(),
            _ => format!("fctl queue show {}", sight.own),
        };
        return found(subject, "ready", bound(first)).with_details(details).with_advice([advice]);
    }
    if let Some(first) = reasons.kept.first().filter(|_| reasons.rule == Some(Rule::Kept)) {
        return found(subject, "ready", kept(sight, first)).with_advice([format!("fctl queue show {}", sight.own)]);
    }
    let near = reasons.near.as_ref();
    if let Some(short) = near.and_then(|near| near::short(sight.state.policy(), spec, near)) {
        let advice = ["fctl policy show".to_owned(), "fctl nodes".to_owned()];
        return found(subject, "ready", short).with_advice(advice);
    }
    let (reason, mut advice) = of_nodes(spec, reasons, deep);
    let forgive = reasons.nodes.fitting == 0 && reasons.nodes.shunned() > 0;
    advice.extend(forgive.then(|| "fctl node forgive NODE".to_owned()));
    found(subject, "ready", reason).with_details(lacks()).with_advice(advice)
}

fn of_nodes(spec: &StepSpec, reasons: &Reasons, deep: Option<&Explanation>) -> (String, Vec<String>) {
    let (asks, nodes) = (asks(spec), &reasons.nodes);
    match (nodes.all, nodes.fitting) {
        (0, _) => ("no node has ever registered".to_owned(), vec!["start an agent, or `fctl dev`".to_owned()]),
        (all, 0) if nodes.closed == all => {
            let reason = match all {
                1 => "the only node takes no new work".to_owned(),
                _ => format!("none of {all} nodes takes new work"),
            };
            (reason, vec!["fctl nodes".to_owned(), "fctl node uncordon NODE".to_owned()])
        }
        (1, 0) => (format!("the only node has no room for it now; it asks for {asks}"), vec!["fctl nodes".to_owned()]),
        (all, 0) => {
            (format!("none of {all} nodes has room for it now; it asks for {asks}"), vec!["fctl nodes".to_owned()])
        }
        _ if reasons.seats < u64::from(spec.least_size()) => {
            let reason = format!(
                "only {} of its {} members find room now; each asks for {asks}",
                reasons.seats,
                spec.least_size()
            );
            (reason, vec!["fctl nodes".to_owned()])
        }
        (all, fitting) => {
            let then = match deep {
                Some(deep) if deep.placed.is_some() => "it is placed with the next plan",
                Some(deep) if !deep.cut => "others go first and take it",
                _ => "it is placed with the next plan, unless others go first",
            };
            (format!("{fitting} of {} has room; {then}", count(all, "node")), Vec::new())
        }
    }
}

/// A bound with its numbers.
pub(in crate::api) fn bound(reached: &BoundReached) -> String {
    let BoundReached { queue, on, held, kept, need, most, .. } = reached;
    if let BoundOn::Tasks = on {
        return match kept {
            0 => format!("queue {queue} has as many active tasks as it may: {held} of {most}"),
            kept => format!(
                "queue {queue} may have {most} active tasks: {held} are, and {kept} more will be that have their place already"
            ),
        };
    }
    let Some(column) = resource_of(on).map(Resource::column) else { return String::new() };
    let [held, need, most, later] = [held, need, most, kept].map(|amount| column.amount(*amount));
    let field = column.field();
    let kept = match kept {
        0 => String::new(),
        _ => format!(", {later} more are kept for who has a place already"),
    };
    match on {
        BoundOn::Tasks | BoundOn::Limit(_) => {
            format!("queue {queue} holds {held} of its limit of {most} {field}{kept}, and a task needs {need}")
        }
        BoundOn::Cluster(_) => {
            format!("{held} of the {most} {field} that the cluster has are held{kept}, and a task needs {need}")
        }
        BoundOn::NoPreempt(_) => format!(
            "queue {queue} keeps {held} of {most} {field} from eviction{kept}, and a task that must not be evicted needs {need}"
        ),
        BoundOn::NoQuota(_) => format!(
            "it must not be evicted and needs {need} {field}, of which neither queue {queue} nor one above it keeps any from eviction: \
             it is never placed so"
        ),
        BoundOn::Borrow(_) => format!(
            "queue {queue} holds {held} {field}{kept}, a task needs {need}, and with what it may borrow beyond its reserve it may \
             hold {most}"
        ),
    }
}

/// What a bound is on, but for one on tasks.
pub(super) fn resource_of(on: &BoundOn) -> Option<&Resource> {
    match on {
        BoundOn::Tasks => None,
        BoundOn::Limit(resource)
        | BoundOn::Borrow(resource)
        | BoundOn::NoPreempt(resource)
        | BoundOn::NoQuota(resource)
        | BoundOn::Cluster(resource) => Some(resource),
    }
}

/// So much of what a bound counts.
fn amount(on: &BoundOn, held: u64) -> String {
    resource_of(on).map_or_else(|| count(held, "task"), |resource| resource.column().amount(held))
}

/// Where a bound counts.
fn place(bound: &BoundReached) -> String {
    match &bound.on {
        BoundOn::Cluster(_) => "the cluster".to_owned(),
        _ => bound.queue.to_string(),
    }
}

/// For whom a bound keeps something.
fn kept_for(sight: Sight<'_>, bound: &BoundReached) -> Option<String> {
    if bound.kept == 0 {
        return None;
    }
    let named = bound.kept_for.iter().filter(|holder| sight.names_owners(&holder.queue)).take(HOLDERS);
    let mut parts: Vec<_> =
        named.clone().map(|it| format!("{} {} in {}", it.owner, amount(&bound.on, it.held), it.queue)).collect();
    let (all, shown) = (bound.kept_for.iter().map(|it| it.held).sum::<u64>(), named.map(|it| it.held).sum());
    let rest = all.saturating_sub(shown);
    parts.extend((rest > 0).then(|| format!("others {}", amount(&bound.on, rest))));
    Some(format!("have their place in {}: {}", place(bound), parts.join(", ")))
}

/// Who holds what a bound counts.
fn holders(sight: Sight<'_>, bound: &BoundReached) -> Option<String> {
    let named = bound.holders.iter().filter(|holder| sight.names_owners(&holder.queue)).take(HOLDERS);
    let mut parts: Vec<_> =
        named.clone().map(|it| format!("{} {} in {}", it.owner, amount(&bound.on, it.held), it.queue)).collect();
    let rest = bound.held.saturating_sub(named.map(|holder| holder.held).sum());
    parts.extend((rest > 0).then(|| format!("others {}", amount(&bound.on, rest))));
    (!parts.is_empty()).then(|| format!("held in {}: {}", place(bound), parts.join(", ")))
}

fn kept(sight: Sight<'_>, kept: &KeptFree) -> String {
    let column = kept.resource.column();
    let named = kept.keepers.iter().find(|(queue, _)| sight.names(queue));
    let such_as = named.map_or_else(String::new, |(queue, _)| format!(", such as {queue}"));
    format!(
        "{} of the {} {} that are free are kept for queues that do not lend them{such_as}, and a task needs {}",
        column.amount(kept.kept.min(kept.free)),
        column.amount(kept.free),
        column.field(),
        column.amount(kept.need)
    )
}

pub(in crate::api) fn rejected(sight: Sight<'_>, rejection: &Rejection) -> String {
    let (nodes, kind) = (count(rejection.nodes, "node"), kind(rejection.kind));
    format!("{nodes}: {kind}, such as {}: {}", sight.node(rejection.example), lack(sight, rejection))
}

/// A kind of lack, for people.
fn kind(kind: &str) -> &str {
    match kind {
        "shunned" => "out, because too much failed there",
        "unable" => "not able or not allowed",
        "labels" => "other labels",
        "too_few_cpus" => "too few CPUs",
        "cpus_taken" => "CPUs taken",
        "too_little_memory" => "too little memory",
        "memory_taken" => "memory taken",
        "too_little_disk" => "too little disk",
        "disk_taken" => "disk taken",
        "tokens" => "tokens taken or missing",
        "gpus_taken" => "GPUs taken or unhealthy",
        "no_such_gpus" => "no such GPUs",
        "no_such_link" => "no GPUs so near to each other",
        "link_taken" => "free GPUs too far from each other",
        "apart" => "kept apart from what is there",
        "starting" => "as many starting there as may be",
        "spread" => "as many of this step there as may be",
        other => other,
    }
}

/// What the example of a kind lacks.
pub(super) fn lack(sight: Sight<'_>, rejection: &Rejection) -> String {
    let short = |short: &Short, text: fn(u64) -> String| match short.never {
        true => format!("it has {} in all", text(short.all)),
        false => format!("{} of {} free", text(short.free), text(short.all)),
    };
    match &rejection.lack {
        Lack::Down => "nothing was heard of it for long".to_owned(),
        Lack::Silent => "nothing was heard of it for seconds".to_owned(),
        Lack::Closed(_) => closed(sight, rejection.example),
        Lack::Shunned => shunned(sight, rejection.example),
        Lack::Unable(unable) => self::unable(sight, rejection.example, *unable),
        Lack::Label { constraint, has } => {
            let label = &constraint.label;
            let has = has.as_ref().map_or_else(|| format!("no label {label}"), |value| format!("{label} = {value}"));
            format!("`{constraint}` does not hold: {has}")
        }
        Lack::Cpu(cpus) => short(cpus, cpu),
        Lack::Memory(bytes) | Lack::Disk(bytes) => short(bytes, size),
        Lack::Token(name, Short { free, all, .. }) => format!("{free} of {all} {name} free"),
        Lack::Devices(gpus) => no_such(gpus),
        Lack::Apart { tag, job, there } => {
            let record = sight.state.job(*job);
            let named = record.is_some_and(|record| sight.names(&record.spec.queue));
            let whose =
                if named { format!("job {job}") } else { "a job of a queue that is not shown to you".to_owned() };
            match there {
                true => format!("{whose}, which has the tag {tag}, is there"),
                false => format!("{whose}, which keeps apart from the tag {tag}, is there"),
            }
        }
        Lack::Starting { held, most } => format!("{held} of at most {most} are placed there and do not run yet"),
        Lack::Full { over, held, most } => format!("{held} of at most {most} in its {over}"),
        Lack::FreeDevices(gpus) => taken(gpus),
        Lack::Near(near) => nearness(near, "GPU that would do", "GPUs that would do"),
        Lack::FreeNear(near) => nearness(near, "free and healthy GPU", "free and healthy GPUs"),
    }
}

/// How many GPUs there are, and how many of them are such as are asked for.
fn no_such(gpus: &Gpus) -> String {
    let has = format!("it has {}", count(gpus.all, "GPU"));
    match (gpus.all == gpus.suiting, &gpus.model) {
        (true, _) => has,
        (false, Some(model)) => format!("{has}, of which {} would do (model {model})", gpus.suiting),
        (false, None) => format!("{has}, of which {} would do", gpus.suiting),
    }
}

/// How many are free of those that would do.
fn taken(gpus: &Gpus) -> String {
    let would_do = match (gpus.all == gpus.suiting, &gpus.model) {
        (true, _) => String::new(),
        (false, Some(model)) => format!(" that would do (model {model})"),
        (false, None) => " that would do".to_owned(),
    };
    let (free, all) = (gpus.free, gpus.suiting);
    match gpus.share_milli {
        1_000.. => format!("{free} of {all}{would_do} free and healthy"),
        share => {
            let memory = match gpus.memory_bytes {
                0 => String::new(),
                bytes => format!(" and {} of its memory", size(bytes)),
            };
            format!("{free} of {all}{would_do} healthy with {} of one{memory} free", cpu(share.into()))
        }
    }
}

/// How many are near to each other at most, of how many have to be.
fn nearness(near: &Nearness, one: &str, many: &str) -> String {
    let Nearness { link, wanted, most } = *near;
    let group = link.group();
    match most {
        0 => format!("no {one} is in any {group}, and {wanted} have to be in one"),
        most => {
            format!("at most {most} {} in one {group}, and {wanted} have to be", if most == 1 { one } else { many })
        }
    }
}

/// Who closed the node to new work, and why.
fn closed(sight: Sight<'_>, node: NodeId) -> String {
    let closure = sight.state.node(node).and_then(|node| node.closure.as_ref());
    let Some(closure) = closure else { return "an operator closed it to new work".to_owned() };
    let reason = if closure.reason.is_empty() { String::new() } else { format!(" ({})", closure.reason) };
    format!("{} closed it to new work{reason}", closure.by)
}

/// What is held against the node, and for how long.
fn shunned(sight: Sight<'_>, node: NodeId) -> String {
    let discredit = sight.state.node(node).and_then(|node| node.discredit.as_deref());
    let Some(discredit) = discredit else { return "too much failed there".to_owned() };
    let left = discredit.until.0.saturating_sub(sight.state.time().0);
    let last = discredit.recent.last().map_or_else(String::new, |charge| super::ended::reason(charge.reason));
    format!("too much failed there, {last} last; it is given work again in {} at most", duration(left))
}

/// What the node's agent cannot or may not do.
fn unable(sight: Sight<'_>, node: NodeId, unable: Unable) -> String {
    let abilities = sight.state.node(node).map(|node| &node.inventory.abilities);
    match unable {
        Unable::Process => "isolation process is not allowed".to_owned(),
        Unable::Containers => {
            format!("it cannot run containers ({})", abilities.map_or("", |able| able.enforcement.as_str()))
        }
        Unable::HostImage => "image host is not allowed".to_owned(),
        Unable::Gangs => "its agent is of a release without gangs".to_owned(),
        Unable::Images => "it cannot run images".to_owned(),
        Unable::Network => {
            let why = abilities.map_or("", |able| able.unconnected());
            format!("it has no private networks ({why}); network \"host\" needs none")
        }
    }
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

pub(in crate::api) fn gpus(request: &GpuRequest) -> String {
    let near = request.near().map_or_else(String::new, |link| format!(" in one {}", link.group()));
    let model = request.model.as_ref().map_or_else(String::new, |model| format!(" of model {model}"));
    let memory = match request.min_memory_bytes {
        0 => String::new(),
        bytes => format!(" with at least {}", size(bytes)),
    };
    if request.share_milli < 1_000 {
        let memory = match request.memory_bytes {
            0 => String::new(),
            bytes => format!(" and {} of its memory", size(bytes)),
        };
        let each = if request.count == 1 { "a GPU".to_owned() } else { format!("each of {} GPUs", request.count) };
        return format!("{} of {each}{model}{memory}{near}", cpu(request.share_milli.into()));
    }
    format!("{}{model}{memory}{near}", count(request.count.into(), "GPU"))
}
