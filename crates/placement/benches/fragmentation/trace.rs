//! A day of arrivals that is the same for each seed, and what they arrive at.
//!
//! How many GPUs are asked for follows what is published of production clusters, in round numbers: more than a third of tasks ask for a part of
//! a GPU, half for one, and the few that ask for eight take as much of the cluster's time as all those that ask for one. Lengths
//! have a median of minutes and a mean of hours.

use flowyard_placement::*;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) nodes: u32,
    pub(crate) hours: u64,
    /// What is asked for, in percent of what there is.
    pub(crate) load: u64,
}

pub(crate) const FULL: Size = Size { nodes: 200, hours: 24, load: 90 };

/// A task that comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) at_s: u64,
    pub(crate) shape: u32,
    pub(crate) runs_s: u64,
}

/// What arrives.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) shapes: Vec<ShapeFacts>,
    /// The kinds of work with how many of 10,000 tasks are of it.
    pub(crate) mix: Vec<(Wish, u64)>,
    pub(crate) arrivals: Vec<Arrival>,
}

/// Numbers that look random and are the same each time.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }

    /// One of the places, each as often as its weight says.
    fn weighted(&mut self, weights: impl Iterator<Item = u64> + Clone) -> usize {
        let mut left = self.below(weights.clone().sum());
        let passed = weights.take_while(|weight| left.checked_sub(*weight).map(|rest| left = rest).is_some());
        passed.count()
    }
}

/// GPUs, thousandths of each, tasks of 1,000 that ask for it, and how long those run.
type Demand = (u32, u32, u64, Lengths);

const DEMANDS: [Demand; 9] = [
    (1, 100, 60, PARTS),
    (1, 200, 90, PARTS),
    (1, 300, 60, PARTS),
    (1, 400, 40, PARTS),
    (1, 500, 130, PARTS),
    (1, 1_000, 480, ONE),
    (2, 1_000, 60, SOME),
    (4, 1_000, 40, SOME),
    (8, 1_000, 40, EIGHT),
];

/// Seconds that no task, a quarter, a half, three quarters, nine tenths and all of them take at most; evenly in between.
type Lengths = [u64; 6];
const OF_HUNDRED: [u64; 6] = [0, 25, 50, 75, 90, 100];
const PARTS: Lengths = [30, 300, 1_200, 3_600, 10_800, 43_200];
const ONE: Lengths = [60, 300, 900, 3_600, 14_400, 43_200];
const SOME: Lengths = [60, 600, 2_400, 10_800, 28_800, 86_400];
const EIGHT: Lengths = [60, 900, 3_600, 14_400, 43_200, 86_400];

/// The model asked for, and tasks of 10 that ask for it.
const MODELS: [(Option<u32>, u64); 3] = [(None, 7), (Some(0), 2), (Some(1), 1)];

const GIB: u64 = 1 << 30;

impl Trace {
    pub(crate) fn new(seed: u64, size: Size) -> Self {
        let kinds: Vec<_> = DEMANDS.iter().flat_map(|demand| MODELS.map(|model| (demand, model))).collect();
        let wish = |((count, share_milli, ..), (model, _)): &(&Demand, (Option<u32>, u64))| Wish {
            count: *count,
            model: *model,
            min_memory_bytes: 0,
            link: None,
            share_milli: *share_milli,
            memory_bytes: 0,
        };
        let weight = |((.., weight, _), (_, of_ten)): &(&Demand, (Option<u32>, u64))| weight * of_ten;
        let mut random = Random(seed);
        // Work of one task, in thousandths of a GPU for a second, times 10,000.
        let work: u64 = kinds.iter().map(|kind| weight(kind) * milli(&wish(kind)) * mean_s(&kind.0.3)).sum();
        let devices: u64 = (0..size.nodes).map(|at| node(at).devices.len() as u64).sum();
        let seconds = size.hours * 3_600;
        let count = devices * 1_000 * seconds * size.load / 100 * 10_000 / work;
        // A cluster is not empty in the morning: what came during the hour before comes at once.
        let early = count / size.hours.max(1);
        let mut arrivals: Vec<_> = (0..count + early)
            .map(|at| {
                let shape = random.weighted(kinds.iter().map(weight));
                let at_s = if at < early { 0 } else { random.below(seconds) };
                Arrival { at_s, shape: shape as u32, runs_s: length_s(&kinds[shape].0.3, random.below(10_000)) }
            })
            .collect();
        arrivals.sort_by_key(|arrival| arrival.at_s);
        let shapes = kinds.iter().map(|kind| shape(wish(kind))).collect();
        Self { shapes, mix: kinds.iter().map(|kind| (wish(kind), weight(kind))).collect(), arrivals }
    }
}

/// Thousandths of GPUs that it takes.
pub(crate) fn milli(wish: &Wish) -> u64 {
    u64::from(wish.count) * u64::from(wish.share_milli)
}

fn mean_s(lengths: &Lengths) -> u64 {
    let part = |at: usize| (lengths[at] + lengths[at + 1]) / 2 * (OF_HUNDRED[at + 1] - OF_HUNDRED[at]);
    (0..lengths.len() - 1).map(part).sum::<u64>() / 100
}

/// The length that so many of 10,000 tasks do not reach.
fn length_s(lengths: &Lengths, place: u64) -> u64 {
    let at = (0..lengths.len() - 1).rev().find(|at| OF_HUNDRED[*at] * 100 <= place).unwrap_or(0);
    let (from, to) = (OF_HUNDRED[at] * 100, OF_HUNDRED[at + 1] * 100);
    lengths[at] + (lengths[at + 1] - lengths[at]) * (place - from) / (to - from)
}

/// Of ten nodes six have eight GPUs of one model, two eight of another, and two four of a third.
pub(crate) fn node(at: u32) -> NodeFacts {
    let (model, count) =
        [(0, 8), (0, 8), (1, 8), (0, 8), (2, 4), (0, 8), (0, 8), (1, 8), (0, 8), (2, 4)][at as usize % 10];
    let device = Device {
        model,
        memory_bytes: 80 * GIB,
        groups: [Some(0), None, None],
        healthy: true,
        free_milli: 1_000,
        free_memory: None,
        part: false,
    };
    let all =
        Amounts { cpu_milli: 16_000 * count, memory_bytes: 128 * GIB * count, disk_bytes: 1_000 * GIB, tokens: vec![] };
    NodeFacts { class: 0, free: all.clone(), all, devices: vec![device; count as usize], avoided: false }
}

fn shape(wish: Wish) -> ShapeFacts {
    let needs = Amounts {
        cpu_milli: 1_000 + 10 * milli(&wish),
        memory_bytes: 64 * GIB * milli(&wish) / 1_000,
        disk_bytes: GIB,
        tokens: vec![],
    };
    ShapeFacts {
        needs,
        wishes: vec![wish],
        size: 1,
        eligible: Bits::all(1),
        near: Near::default(),
        prefer: vec![],
        beside: Beside::default(),
    }
}
