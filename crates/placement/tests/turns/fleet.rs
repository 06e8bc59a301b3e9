//! A fleet as simple as can be: each member goes to the first node that has room.

use std::sync::Arc;

use flowyard_placement::*;

use crate::facts::COLUMNS;

pub(crate) const GPU: u64 = 1_000;

/// Work: amounts of one member, how many members, and acceptable (count, model) of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
    pub(crate) members: u64,
    pub(crate) wishes: Vec<(u64, Option<u32>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
    /// Free devices by model.
    pub(crate) gpus: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Node>,
    pub(crate) work: Vec<Work>,
    /// How often it was asked for seats.
    pub(crate) asked: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seated {
    pub(crate) alternative: u32,
    /// Node and model of each member.
    seats: Vec<(usize, Option<u32>)>,
}

pub(crate) fn plain(cpu: u64, memory: u64) -> Work {
    Work { cpu, memory, members: 1, wishes: vec![] }
}

pub(crate) fn gpus(count: u64, model: Option<u32>) -> Work {
    Work { cpu: 1, memory: 0, members: 1, wishes: vec![(count, model)] }
}

impl Work {
    pub(crate) fn needs(&self) -> Arc<[Need]> {
        let amounts = [(Column::Cpu, self.cpu * self.members), (Column::Memory, self.memory * self.members)];
        let held: Held = amounts.into_iter().collect();
        if self.wishes.is_empty() {
            return [Need { held, any_model: false }].into();
        }
        let need = |(count, model): &(u64, Option<u32>)| {
            let milli = count * self.members * GPU;
            let all = held.clone().with(Column::Gpus, milli);
            let held = model.map_or(all.clone(), |model| all.with(Column::Gpu(model), milli));
            Need { held, any_model: model.is_none() }
        };
        self.wishes.iter().map(need).collect()
    }
}

impl Fleet {
    pub(crate) fn new(nodes: Vec<Node>, work: Vec<Work>) -> Self {
        Self { nodes, work, asked: 0 }
    }

    /// One node, with any number of devices.
    pub(crate) fn one(cpu: u64, memory: u64, gpus: &[u64], work: &[Work]) -> Self {
        Self::new(vec![Node { cpu, memory, gpus: gpus.to_vec() }], work.to_vec())
    }

    /// All that is free.
    pub(crate) fn capacity(&self) -> Held {
        let mut capacity = Held::NONE;
        let mut add = |column, amount| capacity = capacity.clone().with(column, capacity.get(column) + amount);
        for node in &self.nodes {
            add(Column::Cpu, node.cpu);
            add(Column::Memory, node.memory);
            for (model, count) in node.gpus.iter().enumerate() {
                add(Column::Gpus, count * GPU);
                add(Column::Gpu(model as u32), count * GPU);
            }
        }
        capacity
    }

    fn take(
        &mut self,
        work: &Work,
        wish: Option<(u64, Option<u32>)>,
        models: Option<&Bits>,
    ) -> Option<(usize, Option<u32>)> {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if node.cpu < work.cpu || node.memory < work.memory {
                continue;
            }
            let mut found = None;
            if let Some((count, model)) = wish {
                let may = |at: &usize| models.is_none_or(|models| models.contains(*at));
                let asked = |at: &usize| model.is_none_or(|model| model as usize == *at);
                let Some(of) = (0..node.gpus.len()).filter(may).filter(asked).find(|at| node.gpus[*at] >= count) else {
                    continue;
                };
                node.gpus[of] -= count;
                found = Some(of as u32);
            }
            node.cpu -= work.cpu;
            node.memory -= work.memory;
            return Some((at, found));
        }
        None
    }

    fn task(&mut self, ask: &Ask<'_>) -> Option<Seated> {
        let work = self.work[ask.shape.0 as usize].clone();
        let wish = work.wishes.get(ask.alternative as usize).copied();
        let mut seated = Seated { alternative: ask.alternative, seats: vec![] };
        for _ in 0..work.members {
            let Some(seat) = self.take(&work, wish, ask.models) else {
                self.give_back(ask.shape, &seated);
                return None;
            };
            seated.seats.push(seat);
        }
        Some(seated)
    }
}

/// A fleet with what runs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Busy {
    pub(crate) fleet: Fleet,
    pub(crate) running: Vec<(ShapeIndex, Seated)>,
}

impl Fleet {
    /// What a task holds on each node.
    pub(crate) fn seats(&self, shape: ShapeIndex, seated: &Seated) -> Vec<(NodeIndex, Held)> {
        let work = &self.work[shape.0 as usize];
        let milli = work.wishes.get(seated.alternative as usize).map_or(0, |wish| wish.0 * GPU);
        let amounts = Held::NONE.with(Column::Cpu, work.cpu).with(Column::Memory, work.memory);
        let held = |model: &Option<u32>| match model {
            None => amounts.clone(),
            Some(model) => amounts.clone().with(Column::Gpus, milli).with(Column::Gpu(*model), milli),
        };
        seated.seats.iter().map(|(node, model)| (NodeIndex(*node as u32), held(model))).collect()
    }

    /// What a task holds in all.
    pub(crate) fn held(&self, shape: ShapeIndex, seated: &Seated) -> Held {
        let seats = self.seats(shape, seated);
        let of = |column: Column| (column, seats.iter().map(|(_, held)| held.get(column)).sum());
        COLUMNS.into_iter().map(of).collect()
    }
}

impl Room for Busy {
    type Seated = Seated;

    fn seat(&mut self, ask: &Ask<'_>, most: u32, steps: &mut u64, out: &mut Vec<Seated>) -> Ended {
        self.fleet.seat(ask, most, steps, out)
    }

    fn give_back(&mut self, shape: ShapeIndex, seated: &Seated) {
        self.fleet.give_back(shape, seated);
    }

    fn models_of(&self, shape: ShapeIndex, seated: &Seated) -> Vec<(u32, u64)> {
        self.fleet.models_of(shape, seated)
    }
}

impl Scratch for Busy {
    fn take_out(&mut self, running: usize) {
        let (shape, seated) = &self.running[running];
        self.fleet.give_back(*shape, seated);
    }

    fn put_back(&mut self, running: usize) {
        let (shape, seated) = &self.running[running];
        let work = &self.fleet.work[shape.0 as usize];
        let count = work.wishes.get(seated.alternative as usize).map_or(0, |wish| wish.0);
        for (node, model) in &seated.seats {
            let node = &mut self.fleet.nodes[*node];
            node.cpu -= work.cpu;
            node.memory -= work.memory;
            if let Some(model) = model {
                node.gpus[*model as usize] -= count;
            }
        }
    }

    fn members_on(&mut self, ask: &Ask<'_>, node: NodeIndex, most: u32) -> u32 {
        let mut alone = Fleet::new(vec![self.fleet.nodes[node.0 as usize].clone()], self.fleet.work.clone());
        let work = alone.work[ask.shape.0 as usize].clone();
        let wish = work.wishes.get(ask.alternative as usize).copied();
        (0..most).take_while(|_| alone.take(&work, wish, ask.models).is_some()).count() as u32
    }

    fn members(&self, shape: ShapeIndex) -> u32 {
        self.fleet.work[shape.0 as usize].members as u32
    }
}

impl Room for Fleet {
    type Seated = Seated;

    fn seat(&mut self, ask: &Ask<'_>, most: u32, steps: &mut u64, out: &mut Vec<Seated>) -> Ended {
        self.asked += 1;
        for _ in 0..most {
            let Some(left) = steps.checked_sub(1) else { return Ended::Budget };
            let Some(seated) = self.task(ask) else { return Ended::NoRoom };
            *steps = left;
            out.push(seated);
        }
        Ended::Enough
    }

    fn give_back(&mut self, shape: ShapeIndex, seated: &Seated) {
        let work = &self.work[shape.0 as usize];
        let count = work.wishes.get(seated.alternative as usize).map_or(0, |wish| wish.0);
        for (node, model) in &seated.seats {
            self.nodes[*node].cpu += work.cpu;
            self.nodes[*node].memory += work.memory;
            if let Some(model) = model {
                self.nodes[*node].gpus[*model as usize] += count;
            }
        }
    }

    fn models_of(&self, shape: ShapeIndex, seated: &Seated) -> Vec<(u32, u64)> {
        let wish = self.work[shape.0 as usize].wishes.get(seated.alternative as usize);
        let milli = wish.map_or(0, |wish| wish.0 * GPU);
        seated.seats.iter().filter_map(|(_, model)| Some(((*model)?, milli))).collect()
    }
}
