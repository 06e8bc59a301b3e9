//! Between the words of jobs and the numbers of the solver: a view becomes a problem, the solver's plan becomes a command.
//!
//! Pure, so that the simulator runs the same. It decides two things only: that work is served by priority, then age, over all
//! queues alike; and how much of it one round looks at, which depends on the room there is and never on how much waits.

use std::collections::BTreeMap;

use flowyard_model::{
    AttemptNumber, GpuIndex, Health, Incarnation, Inventory, Name, NodeId, Placement, QueuePath, Resources, Revision,
    Scheduling, Seat, Shape, StepSpec, TaskKey, limits,
};
use flowyard_placement::{self as placement, Amounts, Bits, Budget, Device, Explanation, Problem, Wish, bound};
use flowyard_state::{ReadyStep, State};

/// Groups of alike work that one round looks at.
pub const GROUPS_PER_ROUND: usize = 10_000;
/// Seats in one plan, so that its entry keeps within the limit; see also [`limits::PLACEMENTS_PER_PLAN`].
pub const SEATS_PER_PLAN: usize = 8_000;

/// What the positions of a problem stand for.
#[derive(Debug)]
pub struct Index {
    revision: Revision,
    nodes: Vec<(NodeId, Incarnation)>,
    /// For each shape the tasks that wait, in the order in which they are placed.
    tasks: Vec<Vec<(TaskKey, AttemptNumber)>>,
}

/// What to ask the solver about the state as it is now.
pub fn problem(state: &State) -> (Problem, Index) {
    let usable = |id: &NodeId| state.node(*id).is_some_and(|node| is_usable(node.health, node.scheduling));
    let nodes: Vec<_> = state.nodes().map(|(id, _)| id).filter(usable).collect();
    let mut question = Question::new(state, &nodes, Words::offered(state, &nodes));
    for group in groups(state) {
        question.add_group(state, &nodes, group);
    }
    (question.problem, question.index)
}

/// The plans that a solution amounts to, each small enough for one entry, most urgent first.
pub fn plans(index: &Index, solution: &placement::Plan, budget: Budget, seed: u64) -> Vec<flowyard_model::Plan> {
    let mut next: Vec<_> = index.tasks.iter().map(|tasks| tasks.iter()).collect();
    let mut plans: Vec<flowyard_model::Plan> = Vec::new();
    let mut seats = SEATS_PER_PLAN;
    for placed in &solution.placed {
        let (task, attempt) = *next[placed.shape].next().expect("a shape has as many tasks as its count");
        let members: Vec<_> = placed.seats.iter().map(|seat| named_seat(index, seat)).collect();
        let full = plans.last().is_none_or(|plan| plan.placements.len() >= limits::PLACEMENTS_PER_PLAN);
        if full || seats + members.len() > SEATS_PER_PLAN {
            seats = 0;
            plans.push(flowyard_model::Plan {
                based_on: index.revision,
                seed,
                budget: budget.steps,
                placer_version: placement::PLACER_VERSION,
                placements: Vec::new(),
                accept_ms: None,
            });
        }
        seats += members.len();
        plans.last_mut().expect("one was just made").placements.push(Placement { task, attempt, members });
    }
    plans
}

fn named_seat(index: &Index, seat: &placement::Seat) -> Seat {
    let (node, incarnation) = index.nodes[seat.node];
    let gpus = seat.devices.iter().map(|at| GpuIndex(*at)).collect();
    Seat { node, incarnation, gpus, gpu_alternative: seat.alternative }
}

/// Where one step stands on every node that takes work.
#[derive(Debug)]
pub struct StepExplanation {
    /// The lacks; nodes and tokens are positions in the lists beside.
    pub explanation: Explanation,
    /// Nodes that take work.
    pub nodes: Vec<NodeId>,
    /// Nodes that are silent, down or drained.
    pub unusable: Vec<NodeId>,
    /// Tokens by their position.
    pub tokens: Vec<Name>,
}

/// Why tasks of this step are not placed now, as far as room goes. Its queue's bound is looked at, its own is not.
pub fn explain_step(state: &State, queue: &QueuePath, spec: &StepSpec) -> StepExplanation {
    let usable = |id: &NodeId| state.node(*id).is_some_and(|node| is_usable(node.health, node.scheduling));
    let (nodes, unusable): (Vec<_>, Vec<_>) = state.nodes().map(|(id, _)| id).partition(usable);
    let (problem, tokens) = single(state, &nodes, queue, spec);
    StepExplanation { explanation: placement::explain(&problem, 0), nodes, unusable, tokens }
}

/// Whether the nodes that are known, whatever their health and load, could ever run a task of this step.
pub fn could_ever_run(state: &State, queue: &QueuePath, spec: &StepSpec) -> bool {
    let nodes: Vec<_> = state.nodes().map(|(id, _)| id).collect();
    let (problem, _) = single(state, &nodes, queue, spec);
    placement::could_ever_fit(&problem, 0)
}

fn single(state: &State, nodes: &[NodeId], queue: &QueuePath, spec: &StepSpec) -> (Problem, Vec<Name>) {
    let mut words = Words::offered(state, nodes);
    words.learn(spec.resources.tokens.keys());
    let mut question = Question::new(state, nodes, words);
    question.add_shape(state, nodes, queue, spec, 1);
    (question.problem, question.words.tokens)
}

fn is_usable(health: Health, scheduling: Scheduling) -> bool {
    health == Health::Up && scheduling == Scheduling::Open
}

/// The groups of ready work, most urgent first, the oldest first among equals.
fn groups(state: &State) -> Vec<&ReadyStep> {
    let open = |group: &&ReadyStep| queue_left(state, &group.queue).is_none_or(|left| left > 0);
    let mut groups: Vec<_> = state.ready_groups().filter(open).collect();
    groups.sort_unstable_by_key(|group| (group.priority, group.job, group.step));
    groups.truncate(GROUPS_PER_ROUND);
    groups
}

/// How many more tasks of a queue may be active.
fn queue_left(state: &State, queue: &QueuePath) -> Option<u32> {
    let most = state.queue(queue)?.max_active?;
    Some(most.saturating_sub(state.load(queue).active))
}

/// The nodes on which constraints and abilities allow the step.
fn allowed(state: &State, nodes: &[NodeId], spec: &StepSpec) -> Bits {
    let mut bits = Bits::none(nodes.len());
    for (at, id) in nodes.iter().enumerate() {
        if state.node(*id).is_some_and(|node| spec.allows(&node.inventory) && spec.connects(&node.inventory)) {
            bits.insert(at);
        }
    }
    bits
}

/// Tokens that became numbers: their position.
struct Words {
    tokens: Vec<Name>,
}

impl Words {
    /// The tokens that these nodes offer.
    fn offered(state: &State, nodes: &[NodeId]) -> Self {
        let mut words = Self { tokens: Vec::new() };
        for node in nodes.iter().filter_map(|id| state.node(*id)) {
            words.learn(node.inventory.tokens.keys());
        }
        words
    }

    fn learn<'a>(&mut self, names: impl Iterator<Item = &'a Name>) {
        for name in names {
            if !self.tokens.contains(name) {
                self.tokens.push(name.clone());
            }
        }
    }

    /// Whether all tokens that are asked for are known.
    fn know(&self, resources: &Resources) -> bool {
        resources.tokens.keys().all(|name| self.tokens.contains(name))
    }

    fn amounts(&self, of: &Resources) -> Amounts {
        Amounts {
            cpu_milli: of.cpu_milli,
            memory_bytes: of.memory_bytes,
            disk_bytes: of.disk_bytes,
            tokens: self.tokens.iter().map(|name| of.tokens.get(name).copied().unwrap_or(0)).collect(),
        }
    }
}

/// A problem in the making.
struct Question {
    words: Words,
    /// Models of devices, compared without case.
    models: BTreeMap<String, u32>,
    queues: BTreeMap<QueuePath, usize>,
    left: BTreeMap<QueuePath, u32>,
    problem: Problem,
    index: Index,
}

impl Question {
    fn new(state: &State, nodes: &[NodeId], words: Words) -> Self {
        let left = state.queues().filter_map(|queue| Some((queue.path.clone(), queue_left(state, &queue.path)?)));
        let problem = Problem {
            nodes: Vec::with_capacity(nodes.len()),
            shapes: Vec::new(),
            eligible: Vec::new(),
            quotas: Vec::new(),
            costs: BTreeMap::new(),
        };
        let index = Index { revision: state.revision(), nodes: Vec::with_capacity(nodes.len()), tasks: Vec::new() };
        let (models, queues) = (BTreeMap::new(), BTreeMap::new());
        let mut question = Self { words, models, queues, left: left.collect(), problem, index };
        for id in nodes {
            question.add_node(state, *id);
        }
        question
    }

    fn model(&mut self, name: &str) -> u32 {
        let next = self.models.len() as u32;
        *self.models.entry(name.to_ascii_lowercase()).or_insert(next)
    }

    fn add_node(&mut self, state: &State, id: NodeId) {
        let node = state.node(id).expect("it was listed");
        let (inventory, used) = (&node.inventory, &node.used);
        let all = self.inventory_amounts(inventory);
        let held = |name: &Name| used.tokens.get(name).copied().unwrap_or(0);
        let tokens = self.words.tokens.iter().zip(&all.tokens).map(|(name, all)| all.saturating_sub(held(name)));
        let free = Amounts {
            cpu_milli: all.cpu_milli.saturating_sub(used.cpu_milli),
            memory_bytes: all.memory_bytes.saturating_sub(used.memory_bytes),
            disk_bytes: all.disk_bytes.saturating_sub(used.disk_bytes),
            tokens: tokens.collect(),
        };
        let devices = inventory.gpus.iter().zip(&used.gpu_milli).map(|(gpu, used)| Device {
            model: self.model(&gpu.model),
            memory_bytes: gpu.memory_bytes,
            link_group: gpu.link_group,
            healthy: gpu.healthy,
            free_milli: 1_000_u32.saturating_sub(*used),
        });
        let devices = devices.collect();
        self.problem.nodes.push(placement::Node { all, free, devices });
        self.index.nodes.push((id, node.incarnation));
    }

    fn inventory_amounts(&self, inventory: &Inventory) -> Amounts {
        let token = |name: &Name| inventory.tokens.get(name).copied().unwrap_or(0);
        Amounts {
            cpu_milli: inventory.cpu_milli,
            memory_bytes: inventory.memory_bytes,
            disk_bytes: inventory.disk_bytes,
            tokens: self.words.tokens.iter().map(token).collect(),
        }
    }

    /// Adds the tasks of a group, no more than there can be room for.
    fn add_group(&mut self, state: &State, nodes: &[NodeId], first: &ReadyStep) {
        /// A shape of the group, the most tasks of it there can be room for, and its position.
        struct Part<'a> {
            shape: Shape<'a>,
            most: usize,
            at: usize,
        }
        let mut parts: Vec<Part<'_>> = Vec::new();
        for step in state.ready_group(first) {
            let spec = state.step_spec(step.job, step.step).expect("a ready step has a spec");
            // More than one shape in a group only if their fingerprints collide.
            let known = parts.iter().position(|part| part.shape == spec.shape());
            let part = known.unwrap_or_else(|| {
                let (at, most) = self.add_shape(state, nodes, &step.queue, spec, limits::PLACEMENTS_PER_PLAN as u32);
                self.problem.shapes[at].count = 0;
                parts.push(Part { shape: spec.shape(), most, at });
                parts.len() - 1
            });
            let Part { most, at, .. } = parts[part];
            self.add_tasks(state, step, spec, at, most);
            if parts.iter().all(|part| self.index.tasks[part.at].len() >= part.most) {
                break;
            }
        }
    }

    fn add_tasks(&mut self, state: &State, step: &ReadyStep, spec: &StepSpec, at: usize, most: usize) {
        let tasks = &mut self.index.tasks[at];
        let active = state.step(step.job, step.step).map_or(0, |step| step.counts.active);
        let parallel = spec.max_parallel.map_or(usize::MAX, |most| most.saturating_sub(active) as usize);
        let room = most.saturating_sub(tasks.len());
        let ready = state.ready_tasks(step.job, step.step).take(room.min(parallel));
        tasks.extend(ready.map(|(task, attempt)| (TaskKey { job: step.job, step: step.step, task }, attempt)));
        self.problem.shapes[at].count = tasks.len() as u32;
    }

    /// Adds the shape of a step; its position, and how many of `count` tasks there can be room for.
    fn add_shape(
        &mut self,
        state: &State,
        nodes: &[NodeId],
        queue: &QueuePath,
        spec: &StepSpec,
        count: u32,
    ) -> (usize, usize) {
        let wishes = spec.resources.gpus.iter().map(|request| Wish {
            count: request.count,
            model: request.model.as_ref().map(|model| self.model(model)),
            min_memory_bytes: request.min_memory_bytes,
            same_link_group: request.same_link_group,
            share_milli: request.share_milli,
        });
        let wishes = wishes.collect();
        // A token that no node offers has no number: then no node will do.
        let known = self.words.know(&spec.resources);
        let allowed = if known { allowed(state, nodes, spec) } else { Bits::none(nodes.len()) };
        let eligible = self.problem.eligible.iter().position(|bits| *bits == allowed).unwrap_or_else(|| {
            self.problem.eligible.push(allowed);
            self.problem.eligible.len() - 1
        });
        let (needs, quota) = (self.words.amounts(&spec.resources), self.quota(queue));
        let shape = placement::Shape { needs, wishes, size: spec.size, eligible, quota, count };
        let most = bound(&self.problem, &shape) as usize;
        self.problem.shapes.push(shape);
        self.index.tasks.push(Vec::new());
        (self.problem.shapes.len() - 1, most)
    }

    fn quota(&mut self, queue: &QueuePath) -> Option<usize> {
        let left = *self.left.get(queue)?;
        Some(*self.queues.entry(queue.clone()).or_insert_with(|| {
            self.problem.quotas.push(left);
            self.problem.quotas.len() - 1
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flowyard_model::*;
    use flowyard_placement::{Lack, solve};
    use flowyard_state::apply;

    use super::*;
    use crate::fixture;
    use crate::fixture::step;

    const BUDGET: Budget = Budget { steps: 1_000_000 };

    fn perform(state: &mut State, command: Command) -> Reply {
        let index = Revision(state.revision().0 + 1);
        apply(state, Entry { index, time: TimeMs(index.0), command }).reply
    }

    /// A cluster with one node of these many CPUs.
    fn cluster(cpus: u64) -> State {
        let abilities = Abilities {
            containers: true,
            process_isolation: true,
            host_image: true,
            private_networks: false,
            separation: String::new(),
            enforcement: String::new(),
            agent_version: String::new(),
            system: String::new(),
        };
        let inventory = Inventory {
            cpu_milli: cpus * 1_000,
            memory_bytes: 1 << 30,
            disk_bytes: 0,
            gpus: vec![],
            tokens: BTreeMap::from([("licence".parse().unwrap(), 1)]),
            labels: BTreeMap::new(),
            abilities,
        };
        let mut state = State::new();
        let wish = RegisterNode { name: "n".parse().unwrap(), inventory: Arc::new(inventory), previous: None };
        perform(&mut state, Command::RegisterNode(wish));
        state
    }

    fn submit(state: &mut State, queue: &str, step: StepSpec) {
        let spec = fixture::spec(queue, step);
        let spec_digest = Digest { hash: [0; 32], length: 0 };
        let wish = SubmitJob { spec: Arc::new(spec), spec_digest, owner: "me".to_owned(), key: None };
        assert!(matches!(perform(state, Command::SubmitJob(wish)), Reply::Submitted { .. }));
    }

    /// Solves and commits; the jobs of the tasks that were placed.
    fn round(state: &mut State) -> Vec<u64> {
        let (problem, index) = problem(state);
        let solution = solve(&problem, BUDGET, 0);
        let mut placed = Vec::new();
        for plan in plans(&index, &solution, BUDGET, 0) {
            placed.extend(plan.placements.iter().map(|placement| placement.task.job.0));
            assert_eq!(perform(state, Command::CommitPlan(plan)), Reply::PlanCommitted { refused: vec![] });
        }
        placed
    }

    #[test]
    fn a_round_asks_for_what_there_is_room_for_however_much_waits() {
        let mut state = cluster(3);
        for _ in 0..500 {
            submit(&mut state, "default", step(1));
        }
        submit(&mut state, "default", step(1_000_000));
        let (problem, index) = problem(&state);
        assert_eq!(problem.shapes.len(), 1, "alike work is one shape");
        assert_eq!(index.tasks[0].len(), 3);
        assert_eq!(round(&mut state), [1, 2, 3], "the oldest first");
        assert!(round(&mut state).is_empty());
    }

    #[test]
    fn urgent_work_comes_first_whatever_its_shape_and_queue() {
        let mut state = cluster(2);
        perform(&mut state, Command::PutQueue(Queue::new("z".parse().unwrap())));
        submit(&mut state, "default", step(5));
        submit(&mut state, "z", StepSpec { priority: 1, ..step(1) });
        assert_eq!(round(&mut state), [2, 1]);
    }

    #[test]
    fn bounds_of_queues_and_steps_leave_room_to_others() {
        let mut state = cluster(9);
        perform(&mut state, Command::PutQueue(Queue { max_active: Some(2), ..Queue::new("small".parse().unwrap()) }));
        submit(&mut state, "small", step(9));
        submit(&mut state, "default", StepSpec { max_parallel: Some(3), ..step(9) });
        submit(&mut state, "default", StepSpec { size: 2, ..step(9) });
        assert_eq!(round(&mut state), [1, 1, 2, 2, 2, 3, 3]);
    }

    #[test]
    fn what_could_never_run_is_told_from_what_has_no_room_now() {
        let mut state = cluster(1);
        let queue = QueuePath::fallback();
        submit(&mut state, "default", step(1));
        round(&mut state);
        let lacks =
            |step: &StepSpec| explain_step(&state, &queue, step).explanation.lacks.into_keys().collect::<Vec<_>>();
        assert_eq!(lacks(&step(1)), [Lack::Cpu]);
        assert!(could_ever_run(&state, &queue, &step(1)));
        assert!(!could_ever_run(&state, &queue, &StepSpec { size: 2, ..step(1) }));
        let mut unknown = step(1);
        unknown.resources.tokens.insert("nobody-has-it".parse().unwrap(), 1);
        assert!(lacks(&unknown).contains(&Lack::Token(1)));
        assert!(!could_ever_run(&state, &queue, &unknown));
        let node = NodeId(1);
        perform(&mut state, Command::SetNodeScheduling { node, scheduling: Scheduling::Drained });
        let told = explain_step(&state, &queue, &step(1));
        assert_eq!((told.nodes, told.unusable), (vec![], vec![node]));
        assert!(could_ever_run(&state, &queue, &step(1)), "the drained node may open again");
    }
}
