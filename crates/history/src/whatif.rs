//! What would have been: a workload once more, with what somebody would change.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{
    ChangeNode, ClusterVersion, Command, Inventory, JobId, Name, NodeChange, Queue, RegisterNode, Reply, Revision,
    StepSpec, TimeMs,
};
use flowyard_scheduling::could_ever_run;
use flowyard_state::{State, apply};

use crate::measures::Measures;
use crate::policy::Policy;
use crate::simulation::Simulation;
use crate::workload::{Happening, Workload};

/// What somebody would change. By default nothing is.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Machines there would be from the beginning.
    pub add: Vec<(Name, Arc<Inventory>)>,
    /// Machines that would take no work from the beginning, and be emptied.
    pub drain: BTreeSet<Name>,
    /// Queues as they would be from the beginning on; what the record says of them later is passed over.
    pub queues: Vec<Arc<Queue>>,
    /// Who would be next.
    pub policy: Policy,
    /// Orders what is equal otherwise.
    pub seed: u64,
}

/// Work that waits at the end, and that no machine could run that takes work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The job, as it was recorded.
    pub job: JobId,
    /// Its step.
    pub step: Name,
    /// Tasks of it that wait.
    pub tasks: u32,
}

/// What would have come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What was measured.
    pub measures: Measures,
    /// Attempts that were not recorded, and took as long as others of their task or step.
    pub guessed: u64,
    /// Attempts of which nothing is known; they ran to the end.
    pub unknown: u64,
    /// What was refused.
    pub refused: Vec<String>,
    /// What could not run at all.
    pub stuck: Vec<Stuck>,
}

/// Most lines of a kind that are kept.
const LINES: usize = 100;

/// Runs a workload with a change.
pub fn run(workload: &Workload, change: &Change) -> Run {
    run_seen(workload, change, &mut |_, _| {})
}

/// The same, and shows the state as it was until each time at which something happens.
pub fn run_seen(workload: &Workload, change: &Change, seen: &mut dyn FnMut(TimeMs, &State)) -> Run {
    let changed = changed(workload, change);
    let mut simulation = Simulation::new(&changed, change.policy, change.seed);
    let mut refused = begin(&mut simulation, &changed, change);
    let (measures, ended) = simulation.run(seen);
    refused.extend(ended.refused.iter().cloned());
    refused.truncate(LINES);
    Run { measures, guessed: ended.guessed, unknown: ended.unknown, refused, stuck: stuck(&ended, &change.drain) }
}

/// The workload without what the change takes the place of.
fn changed(workload: &Workload, change: &Change) -> Workload {
    let mine: BTreeSet<_> = change.queues.iter().map(|queue| &queue.path).collect();
    let drained = drained(workload, change);
    let stays = |what: &Happening| match what {
        Happening::Put(queue) => !mine.contains(&queue.path),
        Happening::Drop(path) => !mine.contains(path),
        Happening::Register(_, wish) => !change.drain.contains(&wish.name),
        Happening::Change(node, NodeChange::Uncordon) | Happening::Scheduling(node, _) => !drained.contains(node),
        _ => true,
    };
    Workload {
        base: workload.base.clone(),
        happenings: workload.happenings.iter().filter(|(_, what)| stays(what)).cloned().collect(),
        courses: workload.courses.clone(),
        until: workload.until,
    }
}

fn drained(workload: &Workload, change: &Change) -> BTreeSet<flowyard_model::NodeId> {
    let base = workload.base.nodes().filter(|(_, node)| change.drain.contains(&node.name)).map(|(id, _)| id);
    base.collect()
}

/// Makes the change; what of it was refused.
fn begin(simulation: &mut Simulation<'_>, workload: &Workload, change: &Change) -> Vec<String> {
    let mut refused = Vec::new();
    let mut perform = |what: String, command: Command| {
        if let Reply::Rejected(why) = simulation.change(command).reply {
            refused.push(format!("{what}: {why}"));
        }
    };
    // What is put now may need what the record comes to only later, or never: no cluster takes it at an older version.
    let raises =
        workload.happenings.iter().any(|(_, what)| matches!(what, Happening::Same(Command::RaiseVersion { .. })));
    let newer = change.queues.iter().any(|queue| queue.is_newer());
    if (raises || newer) && !change.queues.is_empty() && workload.base.version() < ClusterVersion::ACCESS {
        perform("version".to_owned(), Command::RaiseVersion { version: ClusterVersion::ACCESS });
    }
    let base = workload.base.queues().filter(|queue| change.policy.queue(queue) != **queue);
    let queues = base.map(|queue| change.policy.queue(queue));
    for queue in queues.chain(change.queues.iter().map(|queue| change.policy.queue(queue))) {
        perform(format!("queue {}", queue.path), Command::PutQueue(queue));
    }
    for (name, inventory) in &change.add {
        let wish = RegisterNode { name: name.clone(), inventory: inventory.clone(), previous: None };
        perform(format!("node {name}"), Command::RegisterNode(wish));
    }
    let deadline = Some(workload.base.time());
    for node in drained(workload, change) {
        let (by, reason) = ("what-if".to_owned(), String::new());
        let drain = ChangeNode { node, change: NodeChange::Drain { deadline }, by, reason };
        perform(format!("node {node}"), Command::ChangeNode(drain));
    }
    refused
}

/// What waits at the end and could run nowhere.
fn stuck(ended: &Simulation<'_>, drained: &BTreeSet<Name>) -> Vec<Stuck> {
    let open = open_only(ended.state(), drained);
    let spec = |job: JobId, step| -> Option<&StepSpec> { ended.state().step_spec(job, step) };
    let mut found: Vec<Stuck> = Vec::new();
    for group in ended.state().ready_groups() {
        let Some(example) = spec(group.job, group.step) else { continue };
        if could_ever_run(&open, example) {
            continue;
        }
        for ready in ended.state().ready_group(group).take(LINES) {
            let tasks = ended.state().step(ready.job, ready.step).map_or(0, |step| step.counts.ready);
            if let Some(spec) = spec(ready.job, ready.step) {
                found.push(Stuck { job: ended.recorded(ready.job), step: spec.name.clone(), tasks });
            }
        }
    }
    found.sort_by_key(|stuck| stuck.job);
    found.truncate(LINES);
    found
}

/// A state that has the machines that would take work, and nothing else.
fn open_only(state: &State, drained: &BTreeSet<Name>) -> State {
    let mut open = State::new();
    let before =
        [Command::RaiseVersion { version: state.version() }, Command::PutPolicy(state.policy().clone())].into_iter();
    let nodes = state.nodes().filter(|(_, node)| !drained.contains(&node.name));
    let registered = nodes.map(|(_, node)| {
        let (name, inventory) = (node.name.clone(), node.inventory.clone());
        Command::RegisterNode(RegisterNode { name, inventory, previous: None })
    });
    for (index, command) in (1..).zip(before.chain(registered)) {
        apply(&mut open, flowyard_model::Entry { index: Revision(index), time: TimeMs(0), command });
    }
    open
}
