//! A day's work that is the same each time: a fleet, shapes of work in queues, and rounds that seat them.

use flowyard_placement::*;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) nodes: u32,
    pub(crate) shapes: u32,
    pub(crate) queues: u32,
    pub(crate) tasks: u32,
    /// Tasks that end before the second round.
    pub(crate) ends: u32,
    /// Tasks of a shape that are seated before the next queue has its turn.
    pub(crate) batch: u32,
}

pub(crate) const FULL: Size = Size { nodes: 10_000, shapes: 200, queues: 50, tasks: 100_000, ends: 10_000, batch: 64 };
pub(crate) const SMALL: Size = Size { nodes: 100, shapes: 20, queues: 5, tasks: 1_000, ends: 100, batch: 8 };

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Work without devices.
    Plain,
    /// Work with devices, of which a little more is asked for than there are.
    Gpu,
    /// The same as gangs of 2 to 32 members.
    Gang,
}

/// A fleet with work that waits, and what runs on it.
#[derive(Debug)]
pub(crate) struct Day {
    size: Size,
    random: Random,
    fleet: Fleet,
    /// By shape: tasks that wait.
    waiting: Vec<u32>,
    running: Vec<(u32, Seated)>,
    /// Steps taken in all.
    pub(crate) steps: u64,
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
}

const GIB: u64 = 1 << 30;
/// Memory of the devices by model.
const MODELS: [u64; 3] = [80, 40, 24];
/// Classes of nodes.
const CLASSES: u32 = 10;

impl Day {
    /// With `told`, the fleet knows how common each kind of work with devices is.
    pub(crate) fn new(kind: Kind, size: Size, told: bool) -> Self {
        let (mut random, mut fleet) = (Random(1), Fleet::new(7));
        (0..size.nodes).for_each(|at| fleet.put_node(NodeIndex(at), node(at, &mut random)));
        let mut mix = Vec::new();
        for at in 0..size.shapes {
            let facts = shape(kind, at * 100 / size.shapes, &mut random);
            mix.extend(facts.wishes.iter().map(|wish| (wish.clone(), u64::from(wish.count * wish.share_milli))));
            fleet.put_shape(ShapeIndex(at), facts);
        }
        if told {
            fleet.set_mix(&mix);
        }
        let waiting = vec![size.tasks / size.shapes; size.shapes as usize];
        Self { size, random, fleet, waiting, running: Vec::new(), steps: 0 }
    }

    /// Queues have their turns until nothing that waits fits; how many tasks were seated.
    pub(crate) fn round(&mut self) -> u32 {
        let before = self.running.len();
        let mut open: Vec<u32> = (0..self.size.shapes).collect();
        let mut out = Vec::new();
        while !open.is_empty() {
            // Shapes belong to queues in turn, so that this order is that of turns of the queues.
            open.retain(|shape| {
                let most = self.waiting[*shape as usize].min(self.size.batch);
                let mut left = u64::MAX;
                let ended = self.fleet.seat(ShapeIndex(*shape), most, None, &mut left, &mut out);
                self.steps += u64::MAX - left;
                self.waiting[*shape as usize] -= out.len() as u32;
                self.running.extend(out.drain(..).map(|task| (*shape, task)));
                ended == Ended::Enough && self.waiting[*shape as usize] > 0
            });
        }
        (self.running.len() - before) as u32
    }

    /// Some tasks end, and as many alike wait anew.
    pub(crate) fn tasks_end(&mut self) {
        for _ in 0..self.size.ends.min(self.running.len() as u32) {
            let which = self.random.below(self.running.len() as u64) as usize;
            let (shape, task) = self.running.swap_remove(which);
            self.fleet.give_back(ShapeIndex(shape), &task);
            self.waiting[shape as usize] += 1;
        }
    }

    /// Tasks that wait.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.iter().sum()
    }

    /// A number that differs if any seat does.
    pub(crate) fn digest(&self) -> u64 {
        let seats = self.running.iter().flat_map(|(shape, task)| task.seats.iter().map(move |seat| (shape, seat)));
        seats.fold(0, |digest: u64, (shape, seat)| {
            let devices = seat.devices.iter().fold(0u64, |sum, at| sum * 31 + at as u64 + 1);
            (digest ^ u64::from(*shape) << 40 ^ u64::from(seat.node.0) << 8 ^ devices).wrapping_mul(0x100_0000_01b3)
        })
    }
}

fn node(at: u32, random: &mut Random) -> NodeFacts {
    let model = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2][random.below(10) as usize];
    let all = Amounts { cpu_milli: 128_000, memory_bytes: 1_024 * GIB, disk_bytes: 4_096 * GIB, tokens: vec![] };
    let device = |at: u32| Device {
        model,
        memory_bytes: MODELS[model as usize] * GIB,
        groups: [Some(at / 4), None, None],
        healthy: true,
        free_milli: 1_000,
        free_memory: None,
        part: false,
    };
    NodeFacts { class: at % CLASSES, free: all.clone(), all, devices: (0..8).map(device).collect(), avoided: false }
}

/// The shape at a place in the hundred.
fn shape(kind: Kind, place: u32, random: &mut Random) -> ShapeFacts {
    let mut eligible = Bits::none(CLASSES as usize);
    let classes = if random.below(10) < 7 { CLASSES } else { CLASSES / 2 };
    (0..classes as usize).for_each(|at| eligible.insert(at));
    let wish = match place {
        0..40 => wish(1, 500, random),
        40..88 => wish(1, 1_000, random),
        88..96 => wish(2, 1_000, random),
        96..99 => wish(4, 1_000, random),
        _ => wish(8, 1_000, random),
    };
    let (cpus, gib) = (1 + random.below(8), 1 + random.below(32));
    let devices = u64::from(if kind == Kind::Plain { 1 } else { wish.count });
    let needs = Amounts {
        cpu_milli: cpus * 1_000 * devices,
        memory_bytes: gib * GIB * devices,
        disk_bytes: GIB,
        tokens: vec![],
    };
    let wishes = if kind == Kind::Plain { vec![] } else { vec![wish] };
    ShapeFacts {
        needs,
        wishes,
        size: if kind == Kind::Gang { 2 << random.below(5) } else { 1 },
        eligible,
        near: Near::Lowest,
        prefer: vec![],
        beside: Beside::default(),
    }
}

fn wish(count: u32, share_milli: u32, random: &mut Random) -> Wish {
    let model = [None, None, Some(0), Some(1)][random.below(4) as usize];
    let min_memory_bytes = if model.is_none() { [0, 40 * GIB][random.below(2) as usize] } else { 0 };
    let link = (count == 4).then_some(Link::Nvlink);
    Wish { count, model, min_memory_bytes, link, share_milli, memory_bytes: 0 }
}
