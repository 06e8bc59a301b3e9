//! Random trees, accounts, work and fleets, and what happens to them.

use flowyard_placement::*;
use proptest::prelude::*;

use crate::facts::{COLUMNS, Facts};
use crate::fleet::{Fleet, GPU, Node, Work};

const QUEUES: u32 = 6;

/// Something that is told.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    Capacity(Held),
    Free(Held),
    Queue(QueueIndex, QueueFacts),
    NoQueue(QueueIndex),
    Account(QueueIndex, UserIndex, Account),
    Group(GroupKey, (u64, u32), u32),
}

fn amount(column: Column) -> impl Strategy<Value = u64> {
    let unit = if matches!(column, Column::Gpus | Column::Gpu(_)) { GPU } else { 1 };
    (0u64..9).prop_map(move |count| count * unit)
}

fn column() -> impl Strategy<Value = Column> {
    prop::sample::select(COLUMNS.to_vec())
}

fn named(most: usize) -> impl Strategy<Value = Named> {
    let entry = column().prop_flat_map(|column| (Just(column), amount(column)));
    prop_oneof![2 => Just(Named::default()), 1 => prop::collection::vec(entry, 0..=most).prop_map(Named::from_iter)]
}

pub(crate) fn facts(queue: QueueIndex) -> impl Strategy<Value = QueueFacts> {
    let parent = prop::option::of((0..QUEUES).prop_map(QueueIndex));
    let most_active = prop::option::weighted(0.2, 0u32..6);
    (parent, 0u32..4, most_active, named(2), named(3), named(2), named(3)).prop_map(
        move |(parent, weight, most_active, limit, reserve, borrow, lend)| {
            // Below a queue are only those after it: so there is no circle.
            let parent = parent.filter(|parent| *parent < queue);
            QueueFacts { parent, weight: weight.max(1), most_active, limit, reserve, borrow, lend }
        },
    )
}

fn queue() -> impl Strategy<Value = QueueIndex> {
    (0..QUEUES).prop_map(QueueIndex)
}

fn held() -> impl Strategy<Value = Held> {
    (0u64..3, 0u64..3, 0u64..2, 0u64..2).prop_map(|(cpu, memory, one, other)| {
        let gpus = [(Column::Gpus, (one + other) * GPU), (Column::Gpu(0), one * GPU), (Column::Gpu(1), other * GPU)];
        [(Column::Cpu, cpu), (Column::Memory, memory)].into_iter().chain(gpus).collect()
    })
}

fn account() -> impl Strategy<Value = Account> {
    (held(), 0u32..3, held()).prop_map(|(held, active, decayed)| Account { held, active, decayed })
}

pub(crate) fn told() -> impl Strategy<Value = Told> {
    let put_queue = queue().prop_flat_map(|queue| (Just(queue), facts(queue)));
    let user = || (0u64..3).prop_map(UserIndex);
    let group = (queue(), 0i64..2, user(), 0u32..4, (0u64..5, 0u32..2), 0u32..9);
    prop_oneof![
        1 => held().prop_map(Told::Capacity),
        1 => held().prop_map(Told::Free),
        6 => put_queue.prop_map(|(queue, facts)| Told::Queue(queue, facts)),
        1 => queue().prop_map(Told::NoQueue),
        3 => (queue(), user(), account()).prop_map(|(queue, user, account)| Told::Account(queue, user, account)),
        9 => group.prop_map(|(queue, priority, user, shape, oldest, count)| {
            Told::Group(GroupKey { queue, priority, user, shape: ShapeIndex(shape) }, oldest, count)
        }),
    ]
}

pub(crate) fn work() -> impl Strategy<Value = Work> {
    let wish = (1u64..3, prop::option::of(0u32..2));
    (0u64..3, 0u64..3, 1u64..3, prop::collection::vec(wish, 0..3)).prop_map(|(cpu, memory, members, wishes)| Work {
        cpu: if wishes.is_empty() { cpu.max(1) } else { cpu },
        memory,
        members,
        wishes,
    })
}

pub(crate) fn fleet() -> impl Strategy<Value = Fleet> {
    let node = (0u64..9, 0u64..9, prop::collection::vec(0u64..4, 0..=2));
    let nodes = prop::collection::vec(node.prop_map(|(cpu, memory, gpus)| Node { cpu, memory, gpus }), 0..4);
    (nodes, prop::collection::vec(work(), 4)).prop_map(|(nodes, work)| Fleet::new(nodes, work))
}

/// A fleet, and facts about what is to be done with it. Something may be held already by what is not on the fleet's
/// free room.
pub(crate) fn problem() -> impl Strategy<Value = (Fleet, Facts)> {
    let history = prop_oneof![Just(History::default()), Just(History { weight: 1 << 33, span: 3 })];
    (fleet(), prop::collection::vec(told(), 5..30), history).prop_map(|(fleet, told, history)| {
        let mut facts = Facts { history, ..Facts::of(&fleet) };
        told.iter().for_each(|told| facts.follow(&fleet, told));
        (fleet, facts)
    })
}

impl Facts {
    pub(crate) fn follow(&mut self, fleet: &Fleet, told: &Told) {
        match told.clone() {
            Told::Capacity(more) => {
                let free = fleet.capacity();
                let sum = |column: Column| (column, free.get(column) + more.get(column));
                self.capacity = COLUMNS.into_iter().map(sum).collect();
            }
            Told::Free(free) => self.free = free,
            Told::Queue(queue, facts) => drop(self.queues.insert(queue, facts)),
            Told::NoQueue(queue) => drop(self.queues.remove(&queue)),
            Told::Account(queue, user, account) => drop(self.accounts.insert((queue, user), account)),
            Told::Group(key, _, 0) => drop(self.groups.remove(&key)),
            Told::Group(key, oldest, count) => {
                let needs = fleet.work[key.shape.0 as usize].needs();
                self.groups.insert(key, GroupFacts { oldest, count, more: false, needs });
            }
        }
    }

    /// Tells a change that the facts have followed, but not what is free.
    pub(crate) fn pass_on(&self, queues: &mut Queues, told: &Told) {
        match told.clone() {
            Told::Capacity(_) => queues.set_capacity(self.capacity.clone()),
            Told::Free(_) => {}
            Told::Queue(queue, facts) => queues.put_queue(queue, facts),
            Told::NoQueue(queue) => queues.remove_queue(queue),
            Told::Account(queue, user, account) => queues.set_account(queue, user, account),
            Told::Group(key, _, 0) => queues.remove_group(key),
            Told::Group(key, ..) => queues.put_group(key, &self.groups[&key]),
        }
    }
}
