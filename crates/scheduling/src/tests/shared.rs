//! Tokens that all nodes share: licences.

use super::evictions::World;
use super::*;

fn name(token: &str) -> Name {
    token.parse().unwrap()
}

impl World {
    /// The cluster has so many of a licence.
    pub(super) fn license(&mut self, count: u64) {
        let tokens = [(name("matlab"), count)].into();
        let policy = Policy { tokens, ..Policy::clone(self.state.policy()) };
        assert_eq!(self.perform(Command::PutPolicy(policy.into())), Reply::Done);
    }
}

/// Tasks that hold so many licences each.
fn licensed(tasks: u32, each: u32) -> StepSpec {
    let mut step = step(tasks);
    step.resources.tokens = [(name("matlab"), each)].into();
    step
}

#[test]
fn a_licence_is_given_out_once_in_all_queues_and_on_all_nodes() {
    let mut world = World::new(&[(4, 0), (4, 0)]);
    world.license(3);
    let jobs = ["lab", "other"].map(|queue| world.submit(queue, licensed(4, 1)));
    let plain = world.submit("cpus", step(4));
    world.rest();
    let running = |world: &World| jobs.map(|job| world.running(job)).iter().sum::<usize>();
    assert_eq!((running(&world), world.running(plain)), (3, 4), "who needs none is not held up");
    world.finish(|_, at| at == 0);
    world.rest();
    assert_eq!(running(&world), 3);
    world.license(5);
    world.rest();
    assert_eq!(running(&world), 4, "as far as there is room");
}

#[test]
fn licences_are_promised_lent_and_come_back() {
    let mut world = World::new(&[(8, 0)]);
    world.license(2);
    let reserve = QueueAmounts { tokens: [(name("matlab"), 1)].into(), ..QueueAmounts::default() };
    world.put(Queue { reserve: reserve.clone(), ..queue("lab") });
    let contract = Some(Contract { min_run_ms: 0, ..Contract::DEFAULT });
    world.put(Queue { contract, ..queue("other") });
    let borrower = world.submit("other", licensed(4, 1));
    world.rest();
    assert_eq!(world.running(borrower), 2, "what is promised is lent");
    let owner = world.submit("lab", licensed(4, 1));
    let claims = world.rest();
    assert_eq!(World::victims(&claims), [borrower.0], "and comes back: one, as it is promised");
    world.leave();
    world.rest();
    assert_eq!((world.running(borrower), world.running(owner)), (1, 1));

    let lend = QueueAmounts { tokens: [(name("matlab"), 0)].into(), ..QueueAmounts::default() };
    world.put(Queue { reserve, lend, ..queue("lab") });
    world.perform(Command::CancelJob { job: owner });
    world.end_members(|key, _| key.task.job == owner);
    world.rest();
    assert_eq!(world.running(borrower), 1, "what is not lent stays free");
}

#[test]
fn who_waits_for_many_licences_gets_them_although_others_want_one_each() {
    let mut world = World::new(&[(8, 0)]);
    world.license(4);
    let stream = world.submit("other", StepSpec { timeout_ms: Some(10_000), ..licensed(500, 1) });
    world.rest();
    assert_eq!(world.running(stream), 4);
    let wide = world.submit("lab", StepSpec { size: 2, ..licensed(1, 2) });
    world.rest();
    for turn in 1..=4 {
        world.now += 1_000;
        world.finish(|_, at| at == 0);
        world.rest();
        let (stream, gang) = (world.running(stream), world.running(wide));
        assert_eq!((stream, gang), if turn < 4 { (4 - turn, 0) } else { (0, 2) }, "nobody takes their place");
    }
}

#[test]
fn a_name_that_is_counted_for_all_is_not_asked_of_nodes_and_the_other_way_round() {
    // Each of these nodes has one `licence` of its own.
    let mut world = World::new(&[(4, 0), (4, 0)]);
    let mut own = step(4);
    own.resources.tokens = [(name("licence"), 1)].into();
    let job = world.submit("lab", own);
    world.rest();
    assert_eq!(world.running(job), 2);
    let policy = Policy { tokens: [(name("licence"), 3)].into(), ..Policy::default() };
    world.perform(Command::PutPolicy(policy.into()));
    world.rest();
    assert_eq!(world.running(job), 3);
    world.perform(Command::PutPolicy(Policy::default().into()));
    world.rest();
    world.finish(|_, _| true);
    world.rest();
    assert_eq!(world.running(job), 1);
}
