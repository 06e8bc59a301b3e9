//! What is told to be borrowed is what others are promised, lend and do not hold, as far as it is not free: counted again from what lives,
//! by what the pages for operators say of promises.

use flowyard_model::*;
use flowyard_scheduling::why::Resource;
use flowyard_scheduling::{Borrowed, borrowed, first_return};
use proptest::prelude::*;

use crate::random::{QUEUES, recipes};
use crate::slow;
use crate::world::{World, asking, gpus, machine, queue, step};

/// How much is held beyond what is promised, how much of it may be wanted back, and by whom.
type Counted = (u64, u64, Vec<(&'static str, u64)>);

/// What is promised of one resource.
struct Promises<'a> {
    world: &'a World,
    column: Column<'a>,
}

impl Promises<'_> {
    fn paths(&self, above: Option<&str>) -> Vec<&'static str> {
        let is_below = |path: &&str| path.rsplit_once('/').map(|(above, _)| above) == above;
        QUEUES.iter().copied().filter(is_below).collect()
    }

    fn record(&self, path: &str) -> Option<&Queue> {
        self.world.state.queue(&path.parse().unwrap()).map(|queue| &**queue)
    }

    fn named(&self, path: &str) -> u64 {
        self.record(path).map_or(0, |queue| queue.reserve.promised(self.column))
    }

    fn held(&self, path: &str) -> u64 {
        slow::held_of(&self.world.state, &path.parse().unwrap(), self.column)
    }

    /// What it names, or what is promised below it.
    fn passed_on(&self, path: &str) -> u64 {
        let below = || self.paths(Some(path)).into_iter().map(|below| self.passed_on(below)).sum();
        let promised = Some(self.named(path)).filter(|named| *named > 0).unwrap_or_else(below);
        let limit = self.record(path).and_then(|queue| queue.limit.get(self.column));
        promised.min(limit.unwrap_or(promised))
    }

    /// Less where more is promised than there is.
    fn part(&self, path: &str) -> u64 {
        let above = path.rsplit_once('/').map(|(above, _)| above);
        let all_of = |(_, node): (NodeId, &std::sync::Arc<Node>)| match self.column {
            Column::Cpu => node.inventory.cpu_milli,
            _ => 1_000 * node.inventory.gpus.len() as u64,
        };
        let there_is = match above.filter(|above| self.passed_on(above) > 0) {
            Some(above) => self.part(above),
            None => self.world.state.nodes().map(all_of).sum(),
        };
        let all: u64 = self.paths(above).into_iter().map(|beside| self.passed_on(beside)).sum();
        let own = self.passed_on(path);
        if all > there_is { own * there_is / all } else { own }
    }

    fn promised(&self, path: &str) -> u64 {
        if self.named(path) > 0 { self.part(path) } else { 0 }
    }

    fn kept(&self, path: &str) -> u64 {
        let lend = self.record(path).and_then(|queue| queue.lend.get(self.column));
        match lend.filter(|_| self.promised(path) > 0) {
            Some(lend) => self.promised(path).saturating_sub(lend).saturating_sub(self.held(path)),
            None => self.paths(Some(path)).into_iter().map(|below| self.kept(below)).sum(),
        }
    }

    fn lenders(&self, path: &'static str) -> Vec<(&'static str, u64)> {
        let own = self.promised(path).saturating_sub(self.held(path)).saturating_sub(self.kept(path));
        let below: Vec<_> = self.paths(Some(path)).into_iter().flat_map(|below| self.lenders(below)).collect();
        let all: u64 = below.iter().map(|(_, lent)| lent).sum();
        if own > 0 && own >= all { vec![(path, own)] } else { below }
    }

    /// These trees have two levels.
    fn borrowed(&self, path: &str) -> Option<Counted> {
        let levels: Vec<&str> = match path.split_once('/') {
            Some((top, _)) => vec![path, top],
            None => vec![path],
        };
        let (mut most, mut forks) = (u64::MAX, Vec::new());
        for level in levels {
            most = most.min(self.held(level).saturating_sub(self.promised(level)));
            let above = level.rsplit_once('/').map(|(above, _)| above);
            let beside = self.paths(above).into_iter().filter(|beside| *beside != level);
            let lenders: Vec<_> = beside.flat_map(|beside| self.lenders(beside)).collect();
            if most > 0 {
                forks.push((most, lenders));
            }
        }
        let all: Vec<_> = forks.iter().flat_map(|(_, lenders)| lenders.clone()).collect();
        let lent: u64 = all.iter().map(|(_, lent)| lent).sum();
        let kept: u64 = self.paths(None).into_iter().map(|top| self.kept(top)).sum();
        let free = slow::free(&self.world.state, self.column).saturating_sub(kept);
        // From the top: what is beyond there, those may take that are beside it there.
        let wanted = forks
            .iter()
            .rev()
            .fold(0, |sum, (most, lenders)| (*most).min(sum + lenders.iter().map(|(_, lent)| lent).sum::<u64>()));
        let wanted = wanted.min(lent.saturating_sub(free));
        let beyond = forks.iter().find(|(_, lenders)| !lenders.is_empty())?.0;
        (wanted > 0).then_some((beyond, wanted, all))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever holds what others are promised is told who they are, and how much that is; nobody else is.
    #[test]
    fn what_is_borrowed_is_what_others_are_promised_and_is_not_free(recipe in recipes()) {
        let Some((world, _)) = recipe.cook() else { return Ok(()) };
        if world.state.claims().next().is_some() {
            return Ok(());
        }
        for path in QUEUES {
            let told = borrowed(&world.state, &path.parse().unwrap());
            for column in [Column::Cpu, Column::GPUS] {
                let it = told.iter().find(|it| it.resource.column() == column);
                let it = it.map(|it| (it.beyond, it.wanted, it.lenders.clone()));
                let counted = Promises { world: &world, column }.borrowed(path);
                let counted = counted.map(|(beyond, wanted, lenders)| {
                    let lenders: Vec<_> = lenders.into_iter().map(|(path, lent)| (path.parse().unwrap(), lent)).collect();
                    (beyond, wanted, lenders)
                });
                prop_assert_eq!(it, counted, "{} {}", path, column);
            }
        }
    }
}

/// Sixteen CPUs and four devices. A queue below the lab is promised some of them; the other tenant has a contract of a minute.
fn cluster(reserve: QueueAmounts, lend: QueueAmounts) -> World {
    let mut world = World::new();
    let inventory = Inventory { gpus: gpus("h100", 4), ..machine(16, 64) };
    world.node("n", inventory);
    let contract = Some(Contract { min_run_ms: 60_000, ..Contract::DEFAULT });
    world.put(Queue { reserve, lend, ..queue("lab/one") });
    world.put(Queue { contract, ..queue("ops") });
    world
}

fn cpus(cpus: u64) -> QueueAmounts {
    QueueAmounts { cpu_milli: Some(cpus * 1_000), ..QueueAmounts::default() }
}

/// Tasks of the other tenant, of so many CPUs and devices each.
fn run(world: &mut World, tasks: u32, cpus: u64, devices: u32) {
    let mut step = step(tasks);
    step.resources.cpu_milli = cpus * 1_000;
    step.resources.gpus = (devices > 0).then(|| asking(None, devices)).into_iter().collect();
    world.submit("ops", "ada", 0, step);
    world.settle();
}

fn told(world: &World) -> Vec<Borrowed> {
    borrowed(&world.state, &"ops".parse().unwrap())
}

#[test]
fn nothing_is_borrowed_as_long_as_what_others_are_promised_is_free() {
    let mut world = cluster(cpus(4), QueueAmounts::default());
    run(&mut world, 4, 3, 0);
    assert_eq!(told(&world), [], "four are free");
    run(&mut world, 1, 3, 0);
    let lenders = vec![("lab/one".parse().unwrap(), 4_000)];
    assert_eq!(told(&world), [Borrowed { resource: Resource::Cpu, beyond: 15_000, wanted: 3_000, lenders }]);
}

#[test]
fn nothing_is_borrowed_of_who_lends_nothing() {
    let mut world = cluster(cpus(4), cpus(0));
    run(&mut world, 5, 3, 0);
    assert_eq!(told(&world), [], "its room was kept free");
}

/// What was started first holds nothing of it.
#[test]
fn the_first_return_is_of_who_holds_what_was_borrowed() {
    let reserve = QueueAmounts { gpu_milli: [(GpuClass::Any, 2_000)].into(), ..QueueAmounts::default() };
    let mut world = cluster(reserve, QueueAmounts::default());
    run(&mut world, 1, 3, 0);
    world.now += 500_000;
    run(&mut world, 1, 1, 3);
    // It is taken to be fetched for as long as its contract lets it.
    let placed = world.now;
    let told = told(&world);
    let resources: Vec<_> = told.iter().map(|it| (it.resource.clone(), it.wanted)).collect();
    assert_eq!(resources, [(Resource::Gpu(GpuClass::Any), 1_000)]);
    let first = first_return(&world.state, &"ops".parse().unwrap(), &told).expect("it may be asked");
    assert!((placed + 119_000..=placed + 120_000).contains(&first.0), "{first:?} after {placed}");
}
