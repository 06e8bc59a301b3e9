//! What is promised comes back within the contract, whoever borrowed it and since whenever, over random problems.

use proptest::prelude::*;

use super::evictions::World;
use super::*;

const BORROWERS: [&str; 3] = ["other", "heavy", "cpus"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    /// Tasks of one CPU, so that what is promised can be had on any node. Whoever is asked to leave takes all the time of the contract.
    #[test]
    fn a_promise_is_kept_within_the_contract_of_who_borrowed_it(
        nodes in prop::collection::vec(1..5_u64, 1..4),
        promised in 1..8_u64,
        borrowed in prop::collection::vec((0..BORROWERS.len(), 1..9_u32, 0..90_000_u64), 1..5),
        contracts in prop::collection::vec((0..60_000_u64, 0..20_000_u64, 0..20_000_u64), BORROWERS.len()),
        others in 0..3_u64,
    ) {
        let sizes: Vec<_> = nodes.iter().map(|cpus| (*cpus, 0)).collect();
        let mut world = World::new(&sizes);
        for (path, (min_run_ms, notice_ms, kill_within_ms)) in BORROWERS.iter().zip(&contracts) {
            let contract = Contract { min_run_ms: *min_run_ms, notice_ms: *notice_ms, kill_within_ms: *kill_within_ms };
            // They may be promised something themselves, as long as there is enough for all.
            let own = if nodes.iter().sum::<u64>() >= promised + 3 * others { others } else { 0 };
            let reserve = QueueAmounts { cpu_milli: Some(own * 1_000), ..QueueAmounts::default() };
            world.put(Queue { contract: Some(contract), reserve, ..queue(path) });
        }
        let promised = promised.min(nodes.iter().sum());
        world.promise("lab", promised);
        for (at, tasks, later) in &borrowed {
            world.now += later;
            world.submit(BORROWERS[*at], step(*tasks));
            world.rest();
        }
        let since = world.now;
        let job = world.submit("lab", step(promised as u32 + 2));
        let most = contracts.iter().map(|(min_run, notice, kill)| min_run + notice + kill).max().unwrap();
        let mut leaving: BTreeMap<MemberKey, u64> = BTreeMap::new();
        world.rest();
        while (world.running(job) as u64) < promised {
            world.now += 500;
            let (now, state) = (world.now, world.state.clone());
            for (id, _) in state.nodes() {
                for (key, attempt, _) in state.live_members(id).filter(|(_, attempt, _)| attempt.preempted.is_some()) {
                    let contract = state.contract(&state.job(key.task.job).unwrap().spec.queue);
                    let asked = attempt.preempted.unwrap().at.0;
                    leaving.insert(key, asked + contract.notice_ms + contract.kill_within_ms);
                }
            }
            let gone = leaving.clone();
            world.end_preempted(|key| gone.get(key).is_some_and(|at| *at <= now));
            world.rest();
            prop_assert!(world.now <= since + most + 2_000, "{} of {promised} after {} ms", world.running(job), world.now - since);
        }
    }
}
