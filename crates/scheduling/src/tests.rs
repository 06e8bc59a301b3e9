//! What a round proposes for a state, and that what is remembered makes no difference.

mod beside;
mod counted;
mod devices;
mod discredit;
mod evictions;
mod mix;
mod near;
mod promises;
mod reservations;
mod shared;
mod starving;
mod surgery;

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::*;
use flowyard_state::{State, apply, check_all};

use crate::fixture::{self, step};
use crate::{Bound, Scheduler, could_ever_run};

const BOUND: Bound = Bound { tasks: 4_000, steps: 1_000_000 };

fn perform(state: &mut State, command: Command) -> Reply {
    let index = Revision(state.revision().0 + 1);
    apply(state, Entry { index, time: TimeMs(index.0), command }).reply
}

fn inventory(cpus: u64) -> Inventory {
    let abilities = Abilities {
        containers: true,
        process_isolation: true,
        host_image: true,
        private_networks: false,
        separation: String::new(),
        enforcement: String::new(),
        agent_version: String::new(),
        system: String::new(),
    };
    Inventory {
        cpu_milli: cpus * 1_000,
        memory_bytes: 1 << 30,
        disk_bytes: 0,
        gpus: vec![],
        tokens: BTreeMap::from([("licence".parse().unwrap(), 1)]),
        labels: BTreeMap::new(),
        abilities,
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
    }
}

/// A cluster with one node of these many CPUs.
fn cluster(cpus: u64) -> State {
    let mut state = State::new();
    perform(&mut state, Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let wish = RegisterNode { name: "n".parse().unwrap(), inventory: Arc::new(inventory(cpus)), previous: None };
    perform(&mut state, Command::RegisterNode(wish));
    state
}

fn submit(state: &mut State, queue: &str, step: StepSpec) {
    submit_for(state, queue, "me", step);
}

fn submit_for(state: &mut State, queue: &str, owner: &str, step: StepSpec) {
    let spec = fixture::spec(queue, step);
    let spec_digest = Digest { hash: [0; 32], length: 0 };
    let wish = SubmitJob { spec: Arc::new(spec), spec_digest, owner: owner.to_owned(), key: None };
    assert!(matches!(perform(state, Command::SubmitJob(wish)), Reply::Submitted { .. }));
}

fn put(state: &mut State, queue: Queue) {
    assert_eq!(perform(state, Command::PutQueue(queue.into())), Reply::Done);
}

fn queue(path: &str) -> Queue {
    Queue::new(path.parse().unwrap())
}

/// Plans and commits; the jobs of the tasks that were placed, in the order of the plans.
fn round(scheduler: &mut Scheduler, state: &mut State) -> Vec<u64> {
    let mut placed = Vec::new();
    for plan in scheduler.round(state, state.time(), BOUND).plans {
        placed.extend(plan.placements.iter().map(|placement| placement.task.job.0));
        let taken = Reply::PlanCommitted { refused: vec![], refused_claims: vec![] };
        assert_eq!(perform(state, Command::CommitPlan(plan)), taken);
    }
    placed
}

fn first_round(state: &mut State) -> Vec<u64> {
    round(&mut Scheduler::new(0), state)
}

#[test]
fn the_oldest_goes_first_and_what_has_no_room_waits() {
    let mut state = cluster(3);
    for _ in 0..500 {
        submit(&mut state, "default", step(1));
    }
    submit(&mut state, "default", step(1_000_000));
    let mut scheduler = Scheduler::new(0);
    assert_eq!(round(&mut scheduler, &mut state), [1, 2, 3], "the oldest first");
    assert!(round(&mut scheduler, &mut state).is_empty());
}

#[test]
fn urgent_work_of_a_queue_comes_first_whatever_its_shape() {
    let mut state = cluster(2);
    submit(&mut state, "default", step(5));
    submit(&mut state, "default", StepSpec { priority: 1, timeout_ms: Some(5), ..step(1) });
    assert_eq!(first_round(&mut state), [2, 1]);
}

#[test]
fn bounds_of_queues_and_steps_leave_room_to_others() {
    let mut state = cluster(9);
    put(&mut state, Queue { max_active: Some(2), ..queue("small") });
    submit(&mut state, "small", step(9));
    submit(&mut state, "default", StepSpec { max_parallel: Some(3), ..step(9) });
    submit(&mut state, "default", StepSpec { size: 2, ..step(9) });
    let mut placed = first_round(&mut state);
    placed.sort_unstable();
    assert_eq!(placed, [1, 1, 2, 2, 2, 3, 3]);
}

#[test]
fn a_limit_above_a_queue_holds_for_all_that_is_below_it() {
    let mut state = cluster(9);
    let limit = QueueAmounts { cpu_milli: Some(3_000), ..QueueAmounts::default() };
    put(&mut state, Queue { limit, ..queue("lab") });
    put(&mut state, queue("lab/one"));
    put(&mut state, queue("lab/two"));
    submit(&mut state, "lab/one", step(9));
    submit(&mut state, "lab/two", step(9));
    submit(&mut state, "default", step(2));
    let mut placed = first_round(&mut state);
    placed.sort_unstable();
    assert_eq!(placed.len(), 5, "three of the lab, two of the default queue: {placed:?}");
    assert_eq!(placed.iter().filter(|job| **job == 3).count(), 2);
    assert!(placed.contains(&1) && placed.contains(&2), "both queues of the lab get something: {placed:?}");
}

#[test]
fn queues_share_by_weight_and_people_of_one_queue_alike() {
    let mut state = cluster(12);
    put(&mut state, Queue { weight: 2, ..queue("heavy") });
    put(&mut state, queue("light"));
    submit_for(&mut state, "heavy", "ada", step(50));
    submit_for(&mut state, "heavy", "ada", step(50));
    submit_for(&mut state, "heavy", "bob", step(50));
    submit_for(&mut state, "light", "eve", step(50));
    let placed = first_round(&mut state);
    let of = |jobs: &[u64]| placed.iter().filter(|job| jobs.contains(job)).count();
    assert_eq!((of(&[1, 2, 3]), of(&[4])), (8, 4), "by weight: {placed:?}");
    assert_eq!((of(&[1, 2]), of(&[3])), (4, 4), "by person, however many jobs: {placed:?}");
}

#[test]
fn a_refused_plan_is_proposed_again() {
    let mut state = cluster(2);
    submit(&mut state, "default", step(2));
    let mut scheduler = Scheduler::new(0);
    let lost = scheduler.round(&state, state.time(), BOUND).plans;
    assert_eq!(lost[0].placements.len(), 2);
    assert_eq!(round(&mut scheduler, &mut state), [1, 1], "the first plan never came into the log");
}

#[test]
fn a_node_of_a_new_kind_is_found_by_what_waits_for_it() {
    let mut state = cluster(2);
    let constraint =
        Constraint { label: "rack".parse().unwrap(), operator: ConstraintOperator::Exists, values: vec![] };
    submit(&mut state, "default", StepSpec { constraints: vec![constraint], ..step(1) });
    let mut scheduler = Scheduler::new(0);
    assert!(round(&mut scheduler, &mut state).is_empty());
    let labelled = Inventory { labels: BTreeMap::from([("rack".parse().unwrap(), "1".to_owned())]), ..inventory(1) };
    let wish = RegisterNode { name: "m".parse().unwrap(), inventory: Arc::new(labelled), previous: None };
    perform(&mut state, Command::RegisterNode(wish));
    assert_eq!(round(&mut scheduler, &mut state), [1]);
}

#[test]
fn what_could_never_run_is_told_from_what_has_no_room_now() {
    let mut state = cluster(1);
    submit(&mut state, "default", step(1));
    first_round(&mut state);
    assert!(could_ever_run(&state, &step(1)), "there is only no room now");
    assert!(!could_ever_run(&state, &StepSpec { size: 2, ..step(1) }));
    let mut unknown = step(1);
    unknown.resources.tokens.insert("nobody-has-it".parse().unwrap(), 1);
    assert!(!could_ever_run(&state, &unknown));
    perform(&mut state, Command::SetNodeScheduling { node: NodeId(1), scheduling: Scheduling::Drained });
    assert!(could_ever_run(&state, &step(1)), "the drained node may open again");
}
