//! A slow reference: nodes as they are told, every rule checked on its own, and room found by trying everything.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_placement::*;

/// What a fleet was told, and what was seated since.
#[derive(Debug, Default, Clone)]
pub(crate) struct Mirror {
    pub(crate) nodes: BTreeMap<u32, NodeFacts>,
    pub(crate) shapes: BTreeMap<u32, ShapeFacts>,
    /// The labels of each class from the top.
    pub(crate) classes: BTreeMap<u32, Vec<u32>>,
    /// By what nodes are chosen; the usual if `None`.
    pub(crate) fit: Option<Fit>,
    pub(crate) mix: Option<Vec<(Wish, u64)>>,
}

impl Mirror {
    /// A fleet that hears of all this for the first time.
    pub(crate) fn fresh(&self, seed: u64) -> Fleet {
        let mut fleet = self.fit.map_or_else(|| Fleet::new(seed), |fit| Fleet::with_fit(seed, fit));
        for (at, shape) in self.shapes.iter().rev() {
            fleet.put_shape(ShapeIndex(*at), shape.clone());
        }
        for (class, labels) in self.classes.iter().rev() {
            fleet.put_class(*class, labels);
        }
        for (at, node) in &self.nodes {
            fleet.put_node(NodeIndex(*at), node.clone());
        }
        if let Some(mix) = &self.mix {
            fleet.set_mix(mix);
        }
        fleet
    }

    /// Takes a task's room; what is wrong with it, if something is.
    pub(crate) fn take(&mut self, shape: &ShapeFacts, models: Option<&Bits>, seated: &Seated) -> Result<(), String> {
        check(seated.seats.len() == shape.size as usize, "a task is whole")?;
        let places: BTreeSet<_> = seated.seats.iter().map(|seat| self.place(shape, seat.node.0)).collect();
        check(shape.size == 1 || places.len() == 1, "its members are as near as they have to be")?;
        seated.seats.iter().try_for_each(|seat| self.take_seat(shape, models, seated.alternative, seat))
    }

    fn take_seat(
        &mut self,
        shape: &ShapeFacts,
        models: Option<&Bits>,
        alternative: u32,
        seat: &SeatAt,
    ) -> Result<(), String> {
        let node = self.nodes.get_mut(&seat.node.0).ok_or("the node is there")?;
        check(shape.eligible.contains(node.class as usize), "it may go there")?;
        node.free = less(&node.free, &shape.needs).ok_or("there is as much free")?;
        let Some(wish) = shape.wishes.get(alternative as usize) else {
            return check(
                shape.wishes.is_empty() && seat.devices.is_empty() && alternative == 0,
                "it needs no devices",
            );
        };
        let chosen: Vec<usize> = seat.devices.iter().collect();
        check(usable_sets(wish, models, &node.devices).contains(&chosen), "the devices are what is wished for")?;
        chosen.iter().for_each(|at| take_part(&mut node.devices[*at], wish));
        Ok(())
    }

    pub(crate) fn give_back(&mut self, shape: &ShapeFacts, seated: &Seated) {
        for seat in &seated.seats {
            let node = self.nodes.get_mut(&seat.node.0).expect("it was seated there");
            node.free = more(&node.free, &shape.needs);
            for at in seat.devices.iter() {
                let (wish, device) = (&shape.wishes[seated.alternative as usize], &mut node.devices[at]);
                device.free_memory = Some(free_memory(device) + memory_for(wish, device));
                device.free_milli += wish.share_milli;
            }
        }
    }

    /// What all members of a shape have to be in, as seen from a node: its labels down to that level, or itself.
    fn place(&self, shape: &ShapeFacts, at: u32) -> (Vec<u32>, Option<u32>) {
        let Near::Need(depth) = shape.near else { return (vec![], None) };
        let labels = self.nodes.get(&at).and_then(|node| self.classes.get(&node.class)).cloned().unwrap_or_default();
        match labels.get(..depth as usize) {
            Some(labels) => (labels.to_vec(), None),
            None => (labels, Some(at)),
        }
    }

    /// How much better a node is to a shape: whether it is not avoided, then what it prefers.
    fn score(shape: &ShapeFacts, node: &NodeFacts) -> (bool, u32) {
        (!node.avoided, shape.prefer.get(node.class as usize).copied().unwrap_or(0))
    }

    /// Whether a task is on avoided nodes only if it does not fit on the others by that alternative.
    pub(crate) fn avoids(&self, shape: &ShapeFacts, models: Option<&Bits>, seated: &Seated) -> bool {
        let avoided = |seat: &SeatAt| self.nodes.get(&seat.node.0).is_some_and(|node| node.avoided);
        let mut trusted = self.clone();
        trusted.nodes.retain(|_, node| !node.avoided);
        let wishes = shape.wishes.get(seated.alternative as usize).cloned().into_iter().collect();
        let shape = ShapeFacts { wishes, ..shape.clone() };
        !seated.seats.iter().any(avoided) || !trusted.fits(&shape, models)
    }

    /// Whether a task is on the best nodes on which it fits: no others would hold it of which the worst is better.
    pub(crate) fn is_on_the_best(&self, shape: &ShapeFacts, models: Option<&Bits>, seated: &Seated) -> bool {
        if shape.size > 1 {
            return self.has_no_better(shape, models, seated);
        }
        let wish = shape.wishes.get(seated.alternative as usize);
        let fits = |node: &&NodeFacts| {
            let may = shape.eligible.contains(node.class as usize);
            may && members_fit(&mut vec![(*node).clone()], shape, wish, models, 1)
        };
        let best = self.nodes.values().filter(fits).map(|node| Self::score(shape, node)).max();
        best == self.nodes.get(&seated.seats[0].node.0).map(|node| Self::score(shape, node))
    }

    fn has_no_better(&self, shape: &ShapeFacts, models: Option<&Bits>, seated: &Seated) -> bool {
        let score = |class: u32| shape.prefer.get(class as usize).copied().unwrap_or(0);
        let worst = seated.seats.iter().map(|seat| score(self.nodes[&seat.node.0].class)).min().unwrap();
        let mut better = shape.clone();
        // Nodes that are avoided come after all others, whatever is preferred.
        let mut others = self.clone();
        if seated.seats.iter().all(|seat| !self.nodes[&seat.node.0].avoided) {
            others.nodes.retain(|_, node| !node.avoided);
        }
        better.eligible = Bits::none(0);
        let classes = shape.eligible.iter().filter(|class| score(*class as u32) > worst);
        classes.for_each(|class| better.eligible.put(class));
        better.wishes = shape.wishes.get(seated.alternative as usize).cloned().into_iter().collect();
        !others.fits(&better, models)
    }

    /// Whether one more task fits by any alternative.
    pub(crate) fn fits(&self, shape: &ShapeFacts, models: Option<&Bits>) -> bool {
        let mut places: BTreeMap<_, Vec<NodeFacts>> = BTreeMap::new();
        for (at, node) in self.nodes.iter().filter(|(_, node)| shape.eligible.contains(node.class as usize)) {
            places.entry(self.place(shape, *at)).or_default().push(node.clone());
        }
        let by = |wish: Option<&Wish>| {
            places.values().any(|nodes| members_fit(&mut nodes.clone(), shape, wish, models, shape.size))
        };
        if shape.wishes.is_empty() { by(None) } else { shape.wishes.iter().any(|wish| by(Some(wish))) }
    }

    /// The same with nothing running and all devices well.
    pub(crate) fn emptied(&self) -> Self {
        let mut empty = self.clone();
        for node in empty.nodes.values_mut() {
            node.free = node.all.clone();
            for device in &mut node.devices {
                (device.healthy, device.free_milli, device.free_memory) = (true, 1_000, None);
            }
        }
        empty
    }
}

fn check(holds: bool, rule: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(rule.to_string()) }
}

/// Whether `left` members can be seated with this alternative, by trying everything.
fn members_fit(
    nodes: &mut Vec<NodeFacts>,
    shape: &ShapeFacts,
    wish: Option<&Wish>,
    models: Option<&Bits>,
    left: u32,
) -> bool {
    left == 0
        || (0..nodes.len()).any(|at| {
            let Some(free) = less(&nodes[at].free, &shape.needs) else { return false };
            let sets = wish.map_or(vec![vec![]], |wish| usable_sets(wish, models, &nodes[at].devices));
            sets.into_iter().any(|devices| {
                let before = nodes[at].clone();
                nodes[at].free = free.clone();
                for device in devices {
                    wish.iter().for_each(|wish| take_part(&mut nodes[at].devices[device], wish));
                }
                let fits = members_fit(nodes, shape, wish, models, left - 1);
                nodes[at] = before;
                fits
            })
        })
}

/// In thousandths of a byte.
fn free_memory(device: &Device) -> u128 {
    device.free_memory.unwrap_or(u128::from(device.free_milli) * u128::from(device.memory_bytes))
}

/// What goes with a share of a device.
fn memory_for(wish: &Wish, device: &Device) -> u128 {
    match wish.memory_bytes {
        0 => u128::from(wish.share_milli) * u128::from(device.memory_bytes),
        declared => u128::from(declared) * 1_000,
    }
}

fn take_part(device: &mut Device, wish: &Wish) {
    device.free_memory = Some(free_memory(device) - memory_for(wish, device));
    device.free_milli -= wish.share_milli;
}

/// All sets of devices that satisfy the wish.
pub(crate) fn usable_sets(wish: &Wish, models: Option<&Bits>, devices: &[Device]) -> Vec<Vec<usize>> {
    let usable = |device: &Device| {
        let of_model = wish.model.is_none_or(|model| model == device.model);
        let allowed = models.is_none_or(|models| models.contains(device.model as usize));
        let large = device.memory_bytes >= wish.min_memory_bytes;
        let memory = free_memory(device) >= memory_for(wish, device) && device.memory_bytes >= wish.memory_bytes;
        let whole = !device.part || wish.model.is_some() || wish.min_memory_bytes > 0 || wish.memory_bytes > 0;
        of_model && allowed && large && memory && whole && device.healthy && device.free_milli >= wish.share_milli
    };
    let usable: Vec<usize> = (0..devices.len()).filter(|at| usable(&devices[*at])).collect();
    let sets = (0u32..1 << usable.len()).filter(|set| set.count_ones() == wish.count);
    let members = |set: u32| (0..usable.len()).filter(|at| set & (1 << at) != 0).map(|at| usable[at]).collect();
    let near = |set: &Vec<usize>| {
        let Some(link) = wish.link.filter(|_| wish.count > 1) else { return true };
        let group = |at: &usize| devices[*at].groups[link as usize];
        group(&set[0]).is_some() && set.iter().all(|at| group(at) == group(&set[0]))
    };
    sets.map(members).filter(near).collect()
}

fn less(free: &Amounts, needs: &Amounts) -> Option<Amounts> {
    let token = |at: usize| free.token(at).checked_sub(needs.token(at));
    Some(Amounts {
        cpu_milli: free.cpu_milli.checked_sub(needs.cpu_milli)?,
        memory_bytes: free.memory_bytes.checked_sub(needs.memory_bytes)?,
        disk_bytes: free.disk_bytes.checked_sub(needs.disk_bytes)?,
        tokens: (0..free.tokens.len().max(needs.tokens.len())).map(token).collect::<Option<_>>()?,
    })
}

fn more(free: &Amounts, needs: &Amounts) -> Amounts {
    Amounts {
        cpu_milli: free.cpu_milli + needs.cpu_milli,
        memory_bytes: free.memory_bytes + needs.memory_bytes,
        disk_bytes: free.disk_bytes + needs.disk_bytes,
        tokens: (0..free.tokens.len()).map(|at| free.token(at) + needs.token(at)).collect(),
    }
}

/// Of each the smaller amount.
pub(crate) fn least(one: &Amounts, other: &Amounts) -> Amounts {
    Amounts {
        cpu_milli: one.cpu_milli.min(other.cpu_milli),
        memory_bytes: one.memory_bytes.min(other.memory_bytes),
        disk_bytes: one.disk_bytes.min(other.disk_bytes),
        tokens: (0..other.tokens.len()).map(|at| one.token(at).min(other.token(at))).collect(),
    }
}
