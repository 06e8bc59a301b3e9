//! What the devices of a node are, apart from what is free of them. Nodes that are alike share one.

use std::collections::BTreeMap;

use super::device::{Device, Wish};
use super::link::Link;
use super::mask::DeviceMask;
use crate::bits::Bits;

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    model: u32,
    memory_bytes: u64,
    groups: [Option<u32>; Link::COUNT],
    part: bool,
}

/// The devices of a node by their position.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    kinds: Vec<Kind>,
    /// All of them.
    pub(crate) all: DeviceMask,
    /// By level the devices that are near to each other, by the number of their group.
    groups: [Vec<DeviceMask>; Link::COUNT],
    /// By level each device's position in `groups`.
    group_of: [Vec<Option<usize>>; Link::COUNT],
    /// Each device's place by memory, equal for equal memory.
    grades: Vec<u32>,
    nodes: u32,
}

/// All layouts by their number.
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    list: Vec<Layout>,
    numbers: BTreeMap<Vec<Kind>, u32>,
    /// Numbers that no node has.
    spare: Vec<u32>,
}

/// Which devices are acceptable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Filter {
    models: Models,
    min_memory_bytes: u64,
    /// Whether parts of devices will do.
    parts: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Models {
    Any,
    /// Ascending.
    Of(Vec<u32>),
}

impl Layout {
    /// The memory of a device.
    pub(crate) fn memory(&self, at: usize) -> u64 {
        self.kinds[at].memory_bytes
    }

    /// The model of a device.
    pub(crate) fn model(&self, at: usize) -> u32 {
        self.kinds[at].model
    }

    fn of(kinds: &[Kind]) -> Self {
        let parted = Link::ALL.map(|link| by_group(kinds, link));
        let mut memories: Vec<u64> = kinds.iter().map(|kind| kind.memory_bytes).collect();
        memories.sort_unstable();
        memories.dedup();
        Self {
            all: (0..kinds.len()).collect(),
            group_of: std::array::from_fn(|link| parted[link].1.clone()),
            groups: parted.map(|(groups, _)| groups),
            grades: kinds
                .iter()
                .map(|kind| memories.partition_point(|memory| *memory < kind.memory_bytes) as u32)
                .collect(),
            kinds: kinds.to_vec(),
            nodes: 0,
        }
    }

    /// The groups of a level.
    pub(crate) fn groups(&self, link: Link) -> &[DeviceMask] {
        &self.groups[link.position()]
    }

    /// The devices that are near to this one on a level, itself among them, and the position of their group.
    pub(crate) fn group_of(&self, device: usize, link: Link) -> Option<(usize, &DeviceMask)> {
        let group = self.group_of[link.position()].get(device).copied().flatten()?;
        Some((group, self.groups(link).get(group)?))
    }

    /// The level by which those are kept together that did not ask for one: that of links, or else the widest that the node has.
    pub(crate) fn usual(&self) -> Link {
        let levels = [Link::Nvlink, Link::Numa, Link::Pcie];
        levels.into_iter().find(|link| !self.groups(*link).is_empty()).unwrap_or(Link::Nvlink)
    }

    /// The device's place by memory.
    pub(crate) fn grade(&self, device: usize) -> u32 {
        self.grades[device]
    }

    /// Whether these are the devices.
    pub(crate) fn describes(&self, devices: &[Device]) -> bool {
        let same = |(kind, device): (&Kind, &Device)| {
            kind.model == device.model
                && kind.memory_bytes == device.memory_bytes
                && kind.groups == device.groups
                && kind.part == device.part
        };
        self.kinds.len() == devices.len() && self.kinds.iter().zip(devices).all(same)
    }
}

impl Layouts {
    /// The number of a node's layout; whether it is one that was not there.
    pub(crate) fn join(&mut self, devices: &[Device]) -> (u32, bool) {
        let kind = |device: &Device| Kind {
            model: device.model,
            memory_bytes: device.memory_bytes,
            groups: device.groups,
            part: device.part,
        };
        let kinds: Vec<_> = devices.iter().map(kind).collect();
        let known = self.numbers.get(&kinds).copied();
        let number = known.unwrap_or_else(|| self.add(kinds));
        self.list[number as usize].nodes += 1;
        (number, known.is_none())
    }

    fn add(&mut self, kinds: Vec<Kind>) -> u32 {
        let layout = Layout::of(&kinds);
        let number = self.spare.pop().unwrap_or(self.list.len() as u32);
        if number as usize == self.list.len() {
            self.list.push(layout);
        } else {
            self.list[number as usize] = layout;
        }
        self.numbers.insert(kinds, number);
        number
    }

    /// A node that had the layout has it no more.
    pub(crate) fn leave(&mut self, number: u32) {
        let layout = &mut self.list[number as usize];
        layout.nodes -= 1;
        if layout.nodes == 0 {
            let gone = std::mem::take(layout);
            self.numbers.remove(&gone.kinds);
            self.spare.push(number);
        }
    }

    pub(crate) fn get(&self, number: u32) -> &Layout {
        &self.list[number as usize]
    }

    /// Layouts by their number; those that no node has are empty.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Layout> {
        self.list.iter()
    }
}

impl Filter {
    /// What the wish accepts.
    pub(crate) fn of(wish: &Wish) -> Self {
        let models = wish.model.map_or(Models::Any, |model| Models::Of(vec![model]));
        Self { models, min_memory_bytes: wish.min_memory_bytes.max(wish.memory_bytes), parts: wish.takes_parts() }
    }

    /// What the wish accepts of these models, when `seen` are all there are; `None` if nothing.
    pub(crate) fn within(wish: &Wish, models: &Bits, seen: &[u32]) -> Option<Self> {
        let inside = |model: &u32| models.contains(*model as usize);
        if wish.model.as_ref().is_some_and(inside) || wish.model.is_none() && seen.iter().all(inside) {
            return Some(Self::of(wish));
        }
        let some: Vec<u32> = seen.iter().copied().filter(inside).collect();
        let none = wish.model.is_some() || some.is_empty();
        let min_memory_bytes = wish.min_memory_bytes.max(wish.memory_bytes);
        (!none).then_some(Self { models: Models::Of(some), min_memory_bytes, parts: wish.takes_parts() })
    }

    /// The acceptable devices of a layout, whatever is free of them.
    pub(crate) fn accepted(&self, layout: &Layout) -> DeviceMask {
        let models = |model: u32| match &self.models {
            Models::Any => true,
            Models::Of(models) => models.contains(&model),
        };
        let large = |kind: &Kind| kind.memory_bytes >= self.min_memory_bytes;
        let accepts = |kind: &Kind| models(kind.model) && large(kind) && (self.parts || !kind.part);
        (0..layout.kinds.len()).filter(|at| accepts(&layout.kinds[*at])).collect()
    }
}

/// The groups of a level by their number, and each device's position among them.
fn by_group(kinds: &[Kind], link: Link) -> (Vec<DeviceMask>, Vec<Option<usize>>) {
    let of = |kind: &Kind| kind.groups[link.position()];
    let mut numbers: Vec<u32> = kinds.iter().filter_map(of).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let members = |number: &u32| (0..kinds.len()).filter(|at| of(&kinds[*at]) == Some(*number)).collect();
    let position = |kind: &Kind| of(kind).and_then(|number| numbers.binary_search(&number).ok());
    (numbers.iter().map(members).collect(), kinds.iter().map(position).collect())
}
