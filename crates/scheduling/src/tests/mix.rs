//! Nodes for work with devices are chosen by what the fleet's work needs, as the state knows it.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::{Fit, fragments};

const MINUTE: u64 = 60_000;

/// A cluster whose entries have times.
struct Timed {
    state: State,
    now: u64,
}

impl Timed {
    /// Nodes with so many devices each, of one of two models.
    fn new(nodes: &[(u32, u8)]) -> Self {
        let mut this = Self { state: State::new(), now: 1_000 * MINUTE };
        this.perform(Command::RaiseVersion { version: ClusterVersion::ACCESS });
        for (at, (devices, model)) in nodes.iter().enumerate() {
            let gpus = (0..*devices).map(|gpu| gpu_of(gpu, ["a", "b"][*model as usize % 2])).collect();
            let inventory = Arc::new(Inventory { gpus, ..inventory(64) });
            let name = format!("n{at}").parse().unwrap();
            this.perform(Command::RegisterNode(RegisterNode { name, inventory, previous: None }));
        }
        this
    }

    fn perform(&mut self, command: Command) -> Reply {
        let index = Revision(self.state.revision().0 + 1);
        apply(&mut self.state, Entry { index, time: TimeMs(self.now), command }).reply
    }

    fn submit(&mut self, tasks: u32, count: u32, model: Option<&str>, share_milli: u32) {
        let mut step = step(tasks);
        let (model, same_link_group) = (model.map(str::to_owned), false);
        step.resources.gpus = vec![GpuRequest {
            count,
            model,
            min_memory_bytes: 0,
            same_link_group,
            link: None,
            share_milli,
            memory_bytes: 0,
        }];
        let spec_digest = Digest { hash: [0; 32], length: 0 };
        let spec = Arc::new(fixture::spec("default", step));
        let wish = SubmitJob { spec, spec_digest, owner: "me".to_owned(), key: None };
        assert!(matches!(self.perform(Command::SubmitJob(wish)), Reply::Submitted { .. }));
    }

    /// Time passes, and everybody notices each minute.
    fn pass(&mut self, minutes: u64) {
        for _ in 0..minutes {
            self.now += MINUTE;
            self.perform(Command::Tick);
        }
    }

    fn commit(&mut self, plans: Vec<Plan>) -> usize {
        let placed = plans.iter().map(|plan| plan.placements.len()).sum();
        plans.into_iter().for_each(|plan| drop(self.perform(Command::CommitPlan(plan))));
        placed
    }

    /// Plans and commits; how many tasks were placed.
    fn round(&mut self, scheduler: &mut Scheduler) -> usize {
        let plans = scheduler.round(&self.state, TimeMs(self.now), BOUND).plans;
        self.commit(plans)
    }

    /// What runs longest on some node ends.
    fn end(&mut self, node: NodeId) {
        let Some((member, ..)) = self.state.live_members(node).next() else { return };
        let end = End {
            outcome: AttemptOutcome::Succeeded,
            reason: Reason::Exit,
            blame: Blame::User,
            exit_code: Some(0),
            signal: None,
            message: String::new(),
            peak_memory_bytes: 0,
            cpu_us: 0,
            outputs: BTreeMap::new(),
            logs: Logs::NONE,
        };
        let (phase, times) = (Phase::Ended, PhaseTimes::NONE);
        let report = AttemptReport {
            member,
            phase,
            times,
            end: Some(Arc::new(end)),
            checkpoint: None,
            stuck: None,
            saved_at: None,
        };
        let incarnation = self.state.node(node).unwrap().incarnation;
        self.perform(Command::ReportAttempts(ReportAttempts { node, incarnation, reports: vec![report] }));
    }
}

fn gpu_of(at: u32, model: &str) -> Gpu {
    Gpu {
        id: format!("g{at}"),
        model: model.to_owned(),
        memory_bytes: 1 << 30,
        numa_node: None,
        pcie_group: None,
        link_group: None,
        healthy: true,
        fake: true,
        part: None,
    }
}

/// Work of eight devices ran for hours; then four small tasks come, and then three of eight devices. How many of those start
/// at once.
fn wide_that_start(mut scheduler: Scheduler, hours: u64) -> usize {
    let mut cluster = Timed::new(&[(8, 0), (8, 0), (12, 0)]);
    if hours > 0 {
        cluster.submit(1, 8, None, 1_000);
        assert_eq!(cluster.round(&mut scheduler), 1);
        cluster.pass(60 * hours);
        cluster.end(NodeId(1));
    }
    for _ in 0..4 {
        cluster.submit(1, 1, None, 1_000);
        assert_eq!(cluster.round(&mut scheduler), 1);
    }
    cluster.submit(3, 8, None, 1_000);
    cluster.round(&mut scheduler)
}

#[test]
fn whole_nodes_stay_whole_where_the_fleet_runs_work_that_needs_them() {
    assert_eq!(wide_that_start(Scheduler::new(0), 3), 3, "the small tasks went where eight are left beside them");
    assert_eq!(wide_that_start(Scheduler::with_fit(0, Fit::Best), 3), 2, "by best fit they break up a node of eight");
    assert_eq!(wide_that_start(Scheduler::new(0), 0), 2, "and so they do where nothing is known of such work");
}

#[test]
fn what_is_of_no_use_is_told_by_the_work_of_the_last_hours() {
    let (mut cluster, mut scheduler) = (Timed::new(&[(8, 0), (4, 0)]), Scheduler::new(0));
    assert_eq!((fragments(&cluster.state).free_milli, fragments(&cluster.state).useless_milli), (12_000, 0));
    cluster.submit(1, 8, None, 1_000);
    cluster.round(&mut scheduler);
    cluster.pass(10);
    let now = fragments(&cluster.state);
    assert_eq!((now.free_milli, now.useless_milli), (4_000, 4_000), "nobody asks for four");
    cluster.submit(1, 4, None, 1_000);
    cluster.pass(600);
    assert!(fragments(&cluster.state).useless_milli < 3_500, "somebody does: {:?}", fragments(&cluster.state));
}

/// Something that happens: what, and how.
type Act = (u8, u8, u8);

fn act(cluster: &mut Timed, nodes: u64, (what, how, much): Act) {
    match what % 8 {
        0..3 => {
            let (count, share) = [(1, 1_000), (1, 250), (1, 500), (2, 1_000), (4, 1_000), (8, 1_000)][how as usize % 6];
            let model = [None, None, Some("a"), Some("B")][much as usize % 4];
            cluster.submit(1 + u32::from(much) % 3, count, model, share);
        }
        3..6 => (0..=how % 4).for_each(|more| cluster.end(NodeId(1 + (u64::from(much) + u64::from(more)) % nodes))),
        _ => {
            cluster.now += (1 + u64::from(how) * u64::from(much) % 200) * MINUTE;
            cluster.perform(Command::Tick);
        }
    }
}

#[test]
fn whatever_the_mix_was_before_a_scheduler_proposes_what_a_new_one_would() {
    let pictures = Cell::new(0);
    let acts = prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 10..40);
    let nodes = prop::collection::vec((1u32..10, 0u8..2), 2..7);
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    let all = TestRunner::new(config).run(&(nodes, acts, any::<u64>()), |(nodes, acts, seed)| {
        let (mut cluster, mut scheduler) = (Timed::new(&nodes), Scheduler::new(seed));
        for it in acts {
            let before = cluster.state.clone();
            act(&mut cluster, nodes.len() as u64, it);
            let differ = cluster.state.differences(&before);
            pictures.set(pictures.get() + usize::from(differ.mix));
            let proposed = scheduler.round(&cluster.state, TimeMs(cluster.now), BOUND);
            let anew = Scheduler::new(seed).round(&cluster.state, TimeMs(cluster.now), BOUND);
            prop_assert_eq!(&proposed, &anew);
            cluster.commit(proposed.plans);
        }
        check_all(&cluster.state).unwrap();
        Ok(())
    });
    all.unwrap();
    assert!(pictures.get() > 100, "only {} pictures were told", pictures.get());
}
