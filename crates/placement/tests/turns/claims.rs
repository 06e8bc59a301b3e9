//! Several that wait have others evicted at once: in whose order, and that each claim leaves the others theirs.

use flowyard_placement::*;
use proptest::prelude::*;

use crate::evictions::{Case, RULES, case, cpus};
use crate::facts::COLUMNS;
use crate::fleet::{Fleet, Node, Seated, plain};

const MANY: (usize, u64) = (100, 1_000_000);

impl Case {
    fn lowest(&self, queue: QueueIndex) -> Option<i64> {
        self.running.iter().filter(|running| running.queue == queue).map(|running| running.priority).min()
    }

    /// What is claimed after a round that places nothing more. All is as before afterwards, but that what is claimed is held.
    fn claim(&self, up_to: (usize, u64)) -> Claims<Seated> {
        let (mut queues, mut busy) = (self.facts.tell(), self.busy.clone());
        let rights = queues.rights(|queue| self.lowest(queue));
        let found = claims(&mut queues, &mut busy, &rights, &self.running, &RULES, up_to);
        assert_eq!(busy.fleet.nodes, self.busy.fleet.nodes);
        let mut after = self.facts.clone();
        found.found.iter().for_each(|(key, found)| after.placed(&self.busy.fleet, key, &found.seated));
        for queue in self.facts.all() {
            let held: Held = COLUMNS.into_iter().map(|column| (column, after.held(queue, column))).collect();
            assert_eq!(queues.held(queue), held);
        }
        found
    }

    fn victims(&self, up_to: (usize, u64)) -> Vec<(u32, Vec<usize>)> {
        let of = |(key, found): &(GroupKey, Evictions<Seated>)| {
            (key.queue.0, found.victims.iter().map(|(at, _)| *at).collect())
        };
        self.claim(up_to).found.iter().map(of).collect()
    }

    fn wait_more(&mut self, key: &GroupKey, count: u32) {
        self.facts.groups.get_mut(key).expect("it waits").count = count;
    }
}

/// Two queues are promised three each, and a third one has all six.
fn lent() -> Case {
    let mut case = Case::idle(Fleet::one(6, 0, &[], &[plain(1, 0)]));
    case.facts.queue(0, None, |facts| facts.reserve = cpus(3));
    case.facts.queue(1, None, |facts| facts.reserve = cpus(3));
    [60, 50, 40, 30, 20, 10].into_iter().for_each(|lost| case.start(2, 0, 0, lost));
    for queue in [0, 1] {
        let key = case.waits(queue, 0, 0);
        case.wait_more(&key, 9);
    }
    case
}

#[test]
fn each_gets_all_it_is_promised_and_no_more_by_turns() {
    let expected = [(0, vec![5]), (1, vec![4]), (0, vec![3]), (1, vec![2]), (0, vec![1]), (1, vec![0])];
    assert_eq!(lent().victims(MANY), expected);
    assert_eq!(lent().victims((2, 1_000_000)), expected[..2]);
    assert_eq!(lent().victims((100, 0)), []);
}

#[test]
fn who_is_urgent_goes_first_and_nobody_is_evicted_twice() {
    let mut case = Case::idle(Fleet::one(2, 0, &[], &[plain(1, 0)]));
    [(0, 7), (0, 9)].into_iter().for_each(|(priority, lost)| case.start(0, 0, priority, lost));
    let key = case.waits(0, 0, 1);
    case.wait_more(&key, 2);
    case.waits(0, 0, 3);
    assert_eq!(case.claim(MANY).found.iter().map(|(key, _)| key.priority).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(case.victims(MANY), [(0, vec![0]), (0, vec![1])]);
}

#[test]
fn the_time_is_told_at_which_somebody_may_be_evicted() {
    let mut case = lent();
    assert_eq!(case.claim(MANY).wake_at_ms, None, "all that may be evicted are");
    for (at, running) in case.running.iter_mut().enumerate() {
        running.protected_until_ms = 2_000 + at as u64;
    }
    case.running[0].preemptible = false;
    case.running[1].relocations = RULES.most_relocations;
    let found = case.claim(MANY);
    assert_eq!((found.found.len(), found.wake_at_ms), (0, Some(2_002)));
    case.running[5].protected_until_ms = 0;
    let found = case.claim(MANY);
    assert_eq!((found.found.len(), found.wake_at_ms), (1, Some(2_002)));
}

#[test]
fn where_nobody_has_a_right_nothing_is_looked_at() {
    let mut case = Case::idle(Fleet::one(2, 0, &[], &[plain(1, 0)]));
    case.facts.queue(0, None, |facts| facts.weight = 100);
    (0..2).for_each(|_| case.start(1, 0, 0, 1));
    case.waits(0, 0, 9);
    case.waits(1, 0, 0);
    let rights = case.facts.tell().rights(|queue| case.lowest(queue));
    assert!(rights.is_empty(), "weights and priorities of other queues give none: {rights:?}");
    case.waits(1, 0, 1);
    assert!(!case.facts.tell().rights(|queue| case.lowest(queue)).is_empty());
}

/// One searches in vain among many and is more urgent; the other still finds what it needs.
#[test]
fn a_search_in_vain_leaves_steps_to_the_next() {
    let node = Node { cpu: 1, memory: 0, gpus: vec![] };
    let mut case = Case::idle(Fleet::new(vec![node; 60], vec![plain(1, 0), plain(9, 0)]));
    (0..60).for_each(|at| case.start(0, 0, 0, 100 + at));
    case.waits(0, 1, 9);
    case.waits(0, 0, 1);
    assert_eq!(case.victims((100, 2_000)), [(0, vec![0])]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// With all victims gone all of them start where it is said, in any order, within all bounds.
    #[test]
    fn whoever_claims_can_start(case in case()) {
        let found = case.claim(MANY).found;
        let gone: Vec<_> = found.iter().flat_map(|(_, found)| found.victims.iter().map(|(at, _)| *at)).collect();
        let mut once = gone.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), gone.len(), "somebody is evicted twice");
        let mut after = case.without(&gone);
        for (key, found) in &found {
            let need = after.facts.groups[key].needs[found.alternative as usize].clone();
            prop_assert!(after.facts.within(key.queue, &need).is_ok(), "{key:?}");
            after.busy.running.push((key.shape, found.seated.clone()));
            // It would fail for want of room.
            after.busy.put_back(after.busy.running.len() - 1);
            let fleet = after.busy.fleet.clone();
            after.facts.placed(&fleet, key, &found.seated);
        }
    }

    /// Who could have somebody evicted is found without looking at what runs, and so are those who may have to go.
    #[test]
    fn no_right_is_overlooked(case in case()) {
        let mut queues = case.facts.tell();
        let rights = queues.rights(|queue| case.lowest(queue));
        for key in case.facts.groups.keys() {
            let Some(found) = case.evict(key, &RULES) else { continue };
            for (at, reason) in found.victims {
                let seen = match reason {
                    Reason::Priority => rights.by_priority.contains(&key.queue),
                    Reason::Reclaim => {
                        rights.by_promise.contains(&key.queue) && queues.may_lose(case.running[at].queue, &rights)
                    }
                };
                prop_assert!(seen, "{key:?} {reason:?}");
            }
        }
        prop_assert_eq!(case.claim(MANY).found.is_empty(), case.facts.groups.keys().all(|key| case.evict(key, &RULES).is_none()));
    }
}
