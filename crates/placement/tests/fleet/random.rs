//! Random fleets, small enough that everything can be tried, and random histories of them.

use flowyard_placement::*;
use proptest::prelude::*;

/// Something that happens to a fleet.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    PutNode(u32, NodeFacts),
    /// The nodes of a class are here in the topology.
    PutClass(u32, Vec<u32>),
    RemoveNode(u32),
    /// Only so much is free of the node from now on.
    Free(u32, Amounts),
    /// The node is put as it is.
    Repeat(u32),
    PutShape(u32, ShapeFacts),
    DropShape(u32),
    /// Seats tasks: the shape, how many, of which models, and how many steps a call may take.
    Seat(u32, u32, Option<Bits>, u64),
    /// The kinds of work are as common as this says.
    Mix(Vec<(Wish, u64)>),
    /// One of the tasks that run ends.
    End(usize),
}

fn device() -> impl Strategy<Value = Device> {
    let free = prop_oneof![4 => Just(1_000u32), 2 => Just(500u32), 1 => Just(250u32), 1 => Just(0u32)];
    // Of one that somebody holds a part of, another part of the memory may be free.
    let memory = prop::option::weighted(0.3, 0u128..=4);
    let kind = (0u32..3, prop::bool::weighted(0.2));
    let groups = prop::array::uniform3(prop::option::of(0u32..2));
    (kind, 1u64..3, groups, prop::bool::weighted(0.9), free, memory).prop_map(
        |((model, part), memory_bytes, groups, healthy, free_milli, memory)| Device {
            part,
            model,
            memory_bytes,
            groups,
            healthy,
            free_milli,
            free_memory: memory
                .filter(|_| free_milli < 1_000)
                .map(|quarters| quarters * 250 * u128::from(memory_bytes)),
        },
    )
}

fn amounts(most: u64) -> impl Strategy<Value = Amounts> {
    (0..=most, 0..=most, 0..=most, prop::collection::vec(0..=most as u32, 1..3)).prop_map(
        |(cpu_milli, memory_bytes, disk_bytes, tokens)| Amounts { cpu_milli, memory_bytes, disk_bytes, tokens },
    )
}

pub(crate) fn node() -> impl Strategy<Value = NodeFacts> {
    let used = Device {
        model: 0,
        memory_bytes: 2,
        groups: [Some(0), None, Some(0)],
        healthy: true,
        free_milli: 0,
        free_memory: None,
        part: false,
    };
    let before = prop_oneof![9 => Just(0usize), 1 => Just(62usize)];
    let devices = prop::collection::vec(device(), 0..5);
    (amounts(9), amounts(3), before, devices, 0u32..3, prop::bool::weighted(0.2)).prop_map(
        move |(free, used_up, before, devices, class, avoided)| {
            let token = |at: usize| free.token(at) + used_up.token(at);
            let all = Amounts {
                cpu_milli: free.cpu_milli + used_up.cpu_milli,
                memory_bytes: free.memory_bytes + used_up.memory_bytes,
                disk_bytes: free.disk_bytes + used_up.disk_bytes,
                tokens: (0..free.tokens.len()).map(token).collect(),
            };
            let before = if devices.is_empty() { 0 } else { before };
            let devices = std::iter::repeat_n(used.clone(), before).chain(devices).collect();
            NodeFacts { class, all, free, devices, avoided }
        },
    )
}

pub(crate) fn wish() -> impl Strategy<Value = Wish> {
    let share = prop_oneof![3 => Just(1_000u32), 2 => Just(500u32), 1 => Just(250u32)];
    let link = prop::option::weighted(0.6, prop::sample::select(Link::ALL.to_vec()));
    (1u32..4, prop::option::of(0u32..3), 0u64..3, link, share, prop_oneof![2 => Just(0u64), 1 => 1u64..3]).prop_map(
        |(count, model, min_memory_bytes, link, share_milli, memory_bytes)| Wish {
            count,
            model,
            min_memory_bytes,
            link,
            share_milli,
            memory_bytes: if share_milli < 1_000 { memory_bytes } else { 0 },
        },
    )
}

fn bits(length: usize) -> impl Strategy<Value = Bits> {
    (0..=length, prop::collection::vec(prop::bool::weighted(0.8), length)).prop_map(|(length, inside)| {
        let mut bits = Bits::none(length);
        (0..length).filter(|at| inside[*at]).for_each(|at| bits.insert(at));
        bits
    })
}

pub(crate) fn shape() -> impl Strategy<Value = ShapeFacts> {
    let size = prop_oneof![3 => Just(1u32), 2 => 2u32..4];
    let prefer = prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(0u32..3, 0..4)];
    (amounts(2), prop::collection::vec(wish(), 0..3), size, bits(3), near(), prefer).prop_map(
        |(mut needs, wishes, size, eligible, near, prefer)| {
            needs.cpu_milli = needs.cpu_milli.max(1);
            ShapeFacts { needs, wishes, size, eligible, near, prefer, beside: Beside::default() }
        },
    )
}

pub(crate) fn near() -> impl Strategy<Value = Near> {
    prop_oneof![Just(Near::Lowest), (1u32..3).prop_map(Near::Prefer), (1u32..3).prop_map(Near::Need)]
}

/// Where the nodes of a class are: in no domain, in a block, in a rack of one.
pub(crate) fn labels() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0u32..2, 0..3)
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let steps = prop_oneof![2 => Just(u64::MAX), 1 => 4u64..20];
    prop_oneof![
        4 => (0u32..6, node()).prop_map(|(at, facts)| Event::PutNode(at, facts)),
        1 => (0u32..3, labels()).prop_map(|(class, labels)| Event::PutClass(class, labels)),
        1 => (0u32..6).prop_map(Event::RemoveNode),
        2 => (0u32..6, amounts(9)).prop_map(|(at, free)| Event::Free(at, free)),
        1 => (0u32..6).prop_map(Event::Repeat),
        2 => (0u32..4, shape()).prop_map(|(at, facts)| Event::PutShape(at, facts)),
        1 => (0u32..4).prop_map(Event::DropShape),
        8 => (0u32..4, 1u32..6, prop::option::weighted(0.3, bits(3)), steps)
            .prop_map(|(shape, most, models, steps)| Event::Seat(shape, most, models, steps)),
        1 => prop::collection::vec((wish(), 0u64..9), 0..4).prop_map(Event::Mix),
        3 => any::<usize>().prop_map(Event::End),
    ]
}

/// A fleet's beginning and what happens to it.
pub(crate) fn history() -> impl Strategy<Value = Vec<Event>> {
    let nodes = prop::collection::vec(node(), 1..5);
    let shapes = prop::collection::vec(shape(), 4);
    let classes = prop::collection::vec(labels(), 0..4);
    (classes, nodes, shapes, prop::collection::vec(event(), 1..40)).prop_map(|(classes, nodes, shapes, events)| {
        let classes = (0..).zip(classes).map(|(class, labels)| Event::PutClass(class, labels));
        let nodes = (0..).zip(nodes).map(|(at, node)| Event::PutNode(at, node));
        let shapes = (0..).zip(shapes).map(|(at, shape)| Event::PutShape(at, shape));
        classes.chain(nodes).chain(shapes).chain(events).collect()
    })
}
