//! What `placement` makes of a problem.

use std::sync::Arc;

use flowyard_placement::*;

use crate::gang::OneGang;
use crate::problem::{Problem, Work};

/// In which order the work gets its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As the product does it: each kind of work is a person's, and who has the smallest share is next.
    Shares,
    /// One kind after the other, as they came.
    AsTheyCame,
    /// One task of each kind after the other.
    InTurns,
    /// The kind of the largest tasks first.
    LargestFirst,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Shares, Self::AsTheyCame, Self::InTurns, Self::LargestFirst];
}

const ENOUGH: Bound = Bound { tasks: u64::MAX, steps: u64::MAX };

/// How many tasks of each kind of work get a place.
pub fn ours(problem: &Problem, fit: Fit, order: Order) -> Vec<u32> {
    let mut fleet = fleet(problem, fit);
    let mut placed = vec![0; problem.work.len()];
    if order == Order::Shares {
        for (key, _) in round(&mut queues(problem), &mut fleet, ENOUGH).placed {
            placed[key.shape.0 as usize] += 1;
        }
        return placed;
    }
    let mut kinds: Vec<usize> = (0..problem.work.len()).collect();
    if order == Order::LargestFirst {
        kinds.sort_by_key(|at| {
            let work = &problem.work[*at];
            std::cmp::Reverse((work.milli() * work.size, work.cpus * work.size))
        });
    }
    let most = if order == Order::InTurns { 1 } else { u32::MAX };
    while !kinds.is_empty() {
        kinds.retain(|at| {
            let left = problem.work[*at].tasks - placed[*at];
            let mut out = Vec::new();
            let ended = fleet.seat(ShapeIndex(*at as u32), most.min(left), None, &mut { u64::MAX }, &mut out);
            placed[*at] += out.len() as u32;
            ended == Ended::Enough && placed[*at] < problem.work[*at].tasks
        });
    }
    placed
}

fn fleet(problem: &Problem, fit: Fit) -> Fleet {
    let mut fleet = Fleet::with_fit(0, fit);
    for (at, node) in (0..).zip(&problem.nodes) {
        fleet.put_node(NodeIndex(at), empty(node.cpus, node.gpus, node.model));
    }
    let mut mix = Vec::new();
    for (at, work) in (0..).zip(&problem.work) {
        let facts = shape(work);
        mix.extend(facts.wishes.iter().map(|wish| (wish.clone(), u64::from(work.tasks * work.size * work.milli()))));
        fleet.put_shape(ShapeIndex(at), facts);
    }
    fleet.set_mix(&mix);
    fleet
}

fn empty(cpus: u32, gpus: u32, model: u32) -> NodeFacts {
    let all = Amounts { cpu_milli: u64::from(cpus), ..Amounts::NONE };
    let device = Device {
        model,
        memory_bytes: 1,
        groups: [None; 3],
        healthy: true,
        free_milli: 1_000,
        free_memory: None,
        part: false,
    };
    NodeFacts { class: 0, free: all.clone(), all, devices: vec![device; gpus as usize], avoided: false }
}

fn shape(work: &Work) -> ShapeFacts {
    let Work { cpus, gpus, share_milli, model, size, .. } = *work;
    let wish = Wish { count: gpus, model, min_memory_bytes: 0, link: None, share_milli, memory_bytes: 0 };
    let needs = Amounts { cpu_milli: u64::from(cpus), ..Amounts::NONE };
    ShapeFacts {
        needs,
        wishes: if gpus > 0 { vec![wish] } else { vec![] },
        size,
        eligible: Bits::all(1),
        near: Near::default(),
        prefer: vec![],
        beside: Beside::default(),
    }
}

/// One queue, in which each kind of work is of a person of its own.
fn queues(problem: &Problem) -> Queues {
    let mut capacity = Held::NONE.with(Column::Cpu, problem.cpus().into()).with(Column::Gpus, problem.milli().into());
    for model in 0..2 {
        let gpus: u32 = problem.nodes.iter().filter(|node| node.model == model).map(|node| 1_000 * node.gpus).sum();
        capacity = capacity.with(Column::Gpu(model), gpus.into());
    }
    let mut queues = Queues::new(capacity.clone());
    queues.change_free(&Held::NONE, &capacity);
    queues.put_queue(QueueIndex(0), QueueFacts::below(None));
    for (at, work) in (0..).zip(&problem.work) {
        let milli = u64::from(work.milli() * work.size);
        let mut held = Held::NONE.with(Column::Cpu, u64::from(work.cpus * work.size));
        if milli > 0 {
            held = held.with(Column::Gpus, milli);
        }
        if let Some(model) = work.model.filter(|_| milli > 0) {
            held = held.with(Column::Gpu(model), milli);
        }
        let needs: Arc<[Need]> = [Need { held, any_model: milli > 0 && work.model.is_none() }].into();
        let key = GroupKey { queue: QueueIndex(0), priority: 0, user: UserIndex(at.into()), shape: ShapeIndex(at) };
        queues.put_group(key, &GroupFacts { oldest: (at.into(), 0), count: work.tasks, more: false, needs });
    }
    queues
}

/// On how many nodes a gang is seated; `None` if it is not.
pub(crate) fn nodes_of(gang: &OneGang) -> Option<u32> {
    let mut fleet = Fleet::new(0);
    for (at, (cpus, gpus)) in (0..).zip(&gang.nodes) {
        let mut facts = empty(32, 8, 0);
        facts.free.cpu_milli = u64::from(*cpus);
        facts.devices.iter_mut().skip(*gpus as usize).for_each(|device| device.free_milli = 0);
        fleet.put_node(NodeIndex(at), facts);
    }
    let OneGang { cpus, gpus, size, .. } = *gang;
    fleet.put_shape(ShapeIndex(0), shape(&Work { cpus, gpus, share_milli: 1_000, model: None, size, tasks: 1 }));
    let mut out = Vec::new();
    fleet.seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut out);
    out.first().map(|seated| {
        let mut nodes: Vec<_> = seated.seats.iter().map(|seat| seat.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.len() as u32
    })
}

impl OneGang {
    /// On how many nodes `placement` seats it.
    pub fn nodes_of_ours(&self) -> Option<u32> {
        nodes_of(self)
    }
}
