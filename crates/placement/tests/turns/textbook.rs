//! The policy, one sentence per test.

use flowyard_placement::*;

use crate::facts::{ENOUGH, Facts};
use crate::fleet::{Fleet, GPU, Node, Seated, Work, gpus, plain};

/// How many tasks of a queue were placed.
fn of_queue(placed: &[(GroupKey, Seated)], queue: u32) -> usize {
    placed.iter().filter(|(key, _)| key.queue == QueueIndex(queue)).count()
}

fn queues_of(placed: &[(GroupKey, Seated)]) -> Vec<u32> {
    placed.iter().map(|(key, _)| key.queue.0).collect()
}

fn users_of(placed: &[(GroupKey, Seated)]) -> Vec<u32> {
    placed.iter().map(|(key, _)| key.user.0 as u32).collect()
}

fn cpus(count: u64) -> Named {
    Named::default().with(Column::Cpu, count)
}

fn cpu(count: u64) -> Held {
    Held::NONE.with(Column::Cpu, count)
}

/// Ghodsi et al., NSDI'11, figure 1.
#[test]
fn two_with_different_needs_have_equal_dominant_shares() {
    let mut fleet = Fleet::one(9, 18, &[], &[plain(1, 4), plain(3, 1)]);
    let mut queues = Facts::of(&fleet);
    queues.wait(&fleet, (0, 0, 0), 9);
    queues.wait(&fleet, (1, 0, 1), 9);
    let placed = queues.round(&mut fleet.clone());
    assert_eq!((of_queue(&placed, 0), of_queue(&placed, 1)), (3, 2));
    assert_eq!(queues_of(&placed), [0, 1, 0, 1, 0], "in the order of figure 2, but for the first tie");

    let mut users = Facts::of(&fleet);
    users.wait(&fleet, (0, 0, 0), 9);
    users.wait(&fleet, (0, 1, 1), 9);
    assert_eq!(users_of(&users.round(&mut fleet)), [0, 1, 0, 1, 0]);
}

#[test]
fn weights_are_proportions() {
    let mut fleet = Fleet::one(600, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    for (queue, weight) in [(0, 1), (1, 2), (2, 3)] {
        facts.queue(queue, None, |facts| facts.weight = weight);
        facts.wait(&fleet, (queue, 0, 0), 1_000);
    }
    let placed = facts.round(&mut fleet);
    assert_eq!([0, 1, 2].map(|queue| of_queue(&placed, queue)), [100, 200, 300]);
}

/// Jain's index, 1 if all have the same: `(sum x)^2 / (n * sum x^2)`, here in thousandths.
#[test]
fn equal_demands_get_equal_shares() {
    for (queues, users, room) in [(2, 1, 101), (5, 3, 157), (50, 4, 4_321)] {
        let mut fleet = Fleet::one(room, room, &[], &[plain(1, 1)]);
        let mut facts = Facts::of(&fleet);
        (0..queues * users).for_each(|at| {
            facts.wait(&fleet, (at % queues, at / queues, 0), 1_000);
        });
        let placed = facts.round(&mut fleet);
        assert_eq!(placed.len() as u64, room);
        let jain = |counts: Vec<usize>| {
            let sum: usize = counts.iter().sum();
            1_000 * sum * sum / (counts.len() * counts.iter().map(|count| count * count).sum::<usize>())
        };
        assert!(jain((0..queues).map(|queue| of_queue(&placed, queue)).collect()) >= 990);
        let of = |at: u32| {
            placed.iter().filter(move |(key, _)| (key.queue.0, key.user.0 as u32) == (at % queues, at / queues))
        };
        assert!(jain((0..queues * users).map(|at| of(at).count()).collect()) >= 990);
    }
}

/// A parent whose share is large by what one child of it holds and cannot get more of does not keep the other child
/// from what everybody can get: H-DRF (Bhattacharya et al., SoCC'13).
#[test]
fn a_blocked_queue_does_not_starve_those_beside_it() {
    let mut fleet = Fleet::one(10, 0, &[0], &[gpus(1, Some(0)), plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.capacity = facts.capacity.with(Column::Gpus, 8 * GPU).with(Column::Gpu(0), 8 * GPU);
    facts.queue(1, Some(0), |_| {});
    facts.queue(2, Some(0), |_| {});
    facts.hold(1, 0, Held::NONE.with(Column::Gpus, 8 * GPU).with(Column::Gpu(0), 8 * GPU), 8);
    facts.wait(&fleet, (1, 0, 0), 5);
    facts.wait(&fleet, (2, 0, 1), 100);
    facts.wait(&fleet, (3, 0, 1), 100);
    let placed = facts.round(&mut fleet);
    assert_eq!((of_queue(&placed, 2), of_queue(&placed, 3)), (5, 5));
}

/// The same, where it is a limit that blocks.
#[test]
fn a_queue_at_its_limit_does_not_starve_those_beside_it() {
    let mut fleet = Fleet::one(10, 0, &[8], &[gpus(1, Some(0)), plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |facts| facts.limit = Named::default().with(Column::Gpus, 8 * GPU));
    facts.queue(1, Some(0), |_| {});
    facts.queue(2, Some(0), |_| {});
    facts.hold(1, 0, Held::NONE.with(Column::Gpus, 8 * GPU).with(Column::Gpu(0), 8 * GPU), 8);
    facts.wait(&fleet, (1, 0, 0), 5);
    facts.wait(&fleet, (2, 0, 1), 100);
    facts.wait(&fleet, (3, 0, 1), 100);
    let placed = facts.round(&mut fleet);
    assert_eq!([1, 2, 3].map(|queue| of_queue(&placed, queue)), [0, 5, 5]);
}

/// The same, where another one reaches the limit in the same round; it may be its own limit as well.
#[test]
fn what_reaches_a_limit_blocks_all_that_it_bounds_at_once() {
    for own_limit in [None, Some(GPU)] {
        let work = [Work { cpu: 0, ..gpus(1, Some(0)) }, plain(1, 0)];
        let mut fleet = Fleet::one(4, 0, &[2], &work);
        let mut facts = Facts::of(&fleet);
        facts.capacity = Held::NONE.with(Column::Cpu, 8).with(Column::Gpus, 4 * GPU).with(Column::Gpu(0), 4 * GPU);
        facts.queue(0, None, |facts| facts.limit = Named::default().with(Column::Gpus, 3 * GPU));
        (1..4).for_each(|queue| facts.queue(queue, Some(0), |_| {}));
        let own = own_limit.map(|most| (Column::Gpus, most)).into_iter().collect();
        facts.queue(2, Some(0), |facts| facts.limit = own);
        facts.hold(1, 0, Held::NONE.with(Column::Gpus, 2 * GPU).with(Column::Gpu(0), 2 * GPU), 2);
        facts.hold(4, 0, cpu(4), 4);
        [(1, 0, 0), (2, 0, 0), (3, 0, 1), (4, 0, 1)].into_iter().for_each(|group| {
            facts.wait(&fleet, group, 9);
        });
        assert_eq!(queues_of(&facts.round(&mut fleet)), [2, 3, 3, 3, 3]);
    }
}

/// The same, where it is not the alternative that is being seated: several at once would go too far.
#[test]
fn an_alternative_that_reaches_a_limit_blocks_what_it_bounds_at_once() {
    let of = |count| Work { cpu: 0, ..gpus(count, Some(0)) };
    let mut either = of(1);
    either.wishes.push((3, Some(0)));
    let mut fleet = Fleet::one(9, 0, &[8], &[of(3), plain(1, 0), either]);
    let mut facts = Facts::of(&fleet);
    facts.capacity = Held::NONE.with(Column::Cpu, 9).with(Column::Gpus, 16 * GPU).with(Column::Gpu(0), 16 * GPU);
    facts.queue(0, None, |facts| facts.limit = Named::default().with(Column::Gpus, 13 * GPU));
    (1..3).for_each(|queue| facts.queue(queue, Some(0), |_| {}));
    facts.hold(2, 0, Held::NONE.with(Column::Gpus, 8 * GPU).with(Column::Gpu(0), 8 * GPU), 8);
    [((2, 0, 0), 1), ((2, 0, 1), 2), ((1, 0, 2), 9)].into_iter().for_each(|(group, count)| {
        facts.wait(&fleet, group, count);
    });
    assert_eq!(queues_of(&facts.round(&mut fleet)), [1, 1, 1, 2, 2, 1, 1]);
}

#[test]
fn who_is_below_a_reserve_goes_before_who_borrows() {
    let mut fleet = Fleet::one(6, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.capacity = cpu(16);
    facts.queue(0, None, |facts| facts.weight = 100);
    facts.queue(1, None, |facts| facts.reserve = cpus(8));
    facts.queue(2, None, |facts| facts.reserve = cpus(4));
    facts.hold(1, 0, cpu(6), 6);
    facts.hold(2, 0, cpu(2), 2);
    (0..3).for_each(|queue| {
        facts.wait(&fleet, (queue, 0, 0), 10);
    });
    let placed = facts.round(&mut fleet);
    assert_eq!(queues_of(&placed)[..4], [2, 1, 2, 1], "by how much of the reserve is held");
    assert_eq!(queues_of(&placed)[4..], [0, 0], "then by share for the weight");
}

/// A queue is below its reserve if that holds for what is promised: other resources do not matter, nor what nobody
/// asks for.
#[test]
fn only_what_is_promised_and_asked_for_counts_as_a_reserve() {
    let mut fleet = Fleet::one(20, 0, &[1], &[gpus(1, Some(0)), plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |_| {});
    facts.queue(1, None, |facts| facts.reserve = Named::default().with(Column::Gpu(0), GPU));
    facts.hold(1, 0, cpu(9), 9);
    facts.wait(&fleet, (0, 0, 0), 1);
    facts.wait(&fleet, (1, 0, 0), 1);
    assert_eq!(queues_of(&facts.round(&mut fleet.clone())), [1]);
    facts.groups.clear();
    facts.wait(&fleet, (0, 0, 1), 1);
    facts.wait(&fleet, (1, 0, 1), 1);
    assert_eq!(queues_of(&facts.round(&mut fleet)), [0, 1]);
}

/// What is promised of one thing is no first place for work that asks for another, however long that waits.
#[test]
fn a_reserve_goes_first_only_with_what_it_is_for() {
    let mut fleet = Fleet::one(8, 0, &[4], &[gpus(1, Some(0)), plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    let reserve = Named::default().with(Column::Gpu(0), 4 * GPU);
    facts.queue(0, None, |facts| facts.reserve = reserve);
    facts.queue(1, Some(0), |_| {});
    facts.hold(1, 0, cpu(1), 1);
    for (queue, user, shape) in [(1, 0, 1), (1, 1, 1), (2, 0, 1)] {
        facts.wait(&fleet, (queue, user, shape), 100);
    }
    let last = facts.wait(&fleet, (1, 2, 0), 1);
    facts.groups.get_mut(&last).expect("it waits").oldest = (9, 0);
    let placed = facts.round(&mut fleet);
    assert_eq!(placed[0].0, last);
    assert_eq!(queues_of(&placed)[1..], [2, 2, 1, 2, 1, 2, 1]);
}

/// Nor is it on the way down: of those below who is promised something, it is who asks for that.
#[test]
fn a_reserve_goes_first_with_those_below_that_ask_for_it() {
    let mut fleet = Fleet::one(8, 9, &[2], &[gpus(1, Some(0)), plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |facts| facts.reserve = Named::default().with(Column::Gpu(0), 2 * GPU));
    facts.queue(1, Some(0), |facts| facts.reserve = Named::default().with(Column::Memory, 8));
    facts.queue(2, Some(0), |_| {});
    facts.hold(2, 0, cpu(3), 3);
    [(1, 0, 1), (2, 0, 0), (3, 0, 1)].into_iter().for_each(|group| {
        facts.wait(&fleet, group, 2);
    });
    let placed = facts.round(&mut fleet);
    assert_eq!(queues_of(&placed), [2, 2, 3, 3, 1, 1]);
}

/// Once the promise is met, the work of the queue is in its own order again.
#[test]
fn a_reserve_that_is_met_leaves_the_queue_its_order() {
    let mut fleet = Fleet::one(8, 0, &[6], &[gpus(1, Some(0)), plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |facts| facts.reserve = Named::default().with(Column::Gpu(0), 3 * GPU));
    facts.wait(&fleet, (0, 0, 1), 2);
    let later = facts.wait(&fleet, (0, 0, 0), 6);
    facts.groups.get_mut(&later).expect("it waits").oldest = (9, 0);
    let shapes: Vec<_> = facts.round(&mut fleet).iter().map(|(key, _)| key.shape.0).collect();
    assert_eq!(shapes, [0, 0, 0, 1, 1, 0, 0, 0]);
}

/// What a promise is for may be one of several that will do; then it is taken first.
#[test]
fn a_reserve_goes_first_by_the_alternative_that_it_is_for() {
    let mut either = gpus(1, Some(0));
    either.wishes.push((1, Some(1)));
    let mut fleet = Fleet::one(9, 0, &[9, 9], &[either, plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |facts| facts.reserve = Named::default().with(Column::Gpu(1), 2 * GPU));
    facts.hold(0, 0, cpu(4), 4);
    facts.capacity = facts.capacity.with(Column::Cpu, 13);
    facts.wait(&fleet, (0, 0, 0), 4);
    facts.wait(&fleet, (1, 0, 1), 2);
    let placed = facts.round(&mut fleet);
    let ways: Vec<_> = placed.iter().map(|(key, seated)| (key.queue.0, seated.alternative)).collect();
    assert_eq!(ways, [(0, 1), (0, 1), (1, 0), (1, 0), (0, 0), (0, 0)]);
}

/// A model of which there is none at the moment, whoever holds or used it.
#[test]
fn what_there_is_none_of_is_nobody_s_share() {
    let mut fleet = Fleet::one(9, 0, &[0, 9], &[gpus(1, Some(1)), plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    let gone = Held::NONE.with(Column::Gpu(0), GPU);
    facts.hold(0, 0, gone.clone(), 1);
    facts.accounts.insert((QueueIndex(0), UserIndex(1)), Account { decayed: gone, ..Account::default() });
    facts.hold(1, 0, cpu(1), 1);
    facts.wait(&fleet, (0, 0, 1), 1);
    facts.wait(&fleet, (0, 1, 1), 1);
    facts.wait(&fleet, (0, 2, 1), 9);
    facts.wait(&fleet, (1, 0, 1), 9);
    let placed = facts.round(&mut fleet);
    let whose: Vec<_> = placed.iter().map(|(key, _)| (key.queue.0, key.user.0)).collect();
    assert_eq!(whose[..4], [(0, 0), (0, 1), (1, 0), (0, 2)]);
}

/// Nor does it make turns shorter: devices of any model are those of a model of which there are some.
#[test]
fn what_there_is_none_of_does_not_shorten_turns() {
    let mut fleet = Fleet::one(64, 0, &[0, 64], &[gpus(1, None)]);
    let mut facts = Facts::of(&fleet);
    (0..2).for_each(|user| facts.hold(0, user, cpu(user.into()), 1));
    for user in 0..2 {
        facts.wait(&fleet, (0, user, 0), 32);
    }
    facts.hold(0, 1, Held::NONE.with(Column::Gpus, 31 * GPU).with(Column::Gpu(1), 31 * GPU), 32);
    assert_eq!(facts.round(&mut fleet).len(), 64);
    assert!(fleet.asked < 16, "{} questions", fleet.asked);
}

/// Of several kinds of work, the one that has least of its promise counts.
#[test]
fn a_queue_is_as_far_below_its_reserve_as_the_neediest_of_its_work() {
    let mut fleet = Fleet::one(9, 0, &[4, 4], &[gpus(1, Some(0)), gpus(1, Some(1))]);
    let mut facts = Facts::of(&fleet);
    let all = [(Column::Gpu(0), 4 * GPU), (Column::Gpu(1), 4 * GPU)];
    facts.queue(0, None, |facts| facts.reserve = Named::default().with(Column::Gpu(0), 2 * GPU));
    facts.queue(1, None, |facts| facts.reserve = Named::from_iter(all));
    facts.hold(1, 0, Held::NONE.with(Column::Gpu(0), 2 * GPU), 2);
    facts.hold(0, 0, Held::NONE.with(Column::Gpu(0), GPU / 2), 1);
    facts.wait(&fleet, (0, 0, 0), 1);
    facts.wait(&fleet, (1, 0, 0), 1);
    assert_eq!(queues_of(&facts.round(&mut fleet.clone())), [0, 1]);
    facts.wait(&fleet, (1, 0, 1), 1);
    assert_eq!(queues_of(&facts.round(&mut fleet))[0], 1);
}

#[test]
fn promises_of_more_than_there_is_are_scaled() {
    let mut fleet = Fleet::one(12, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |facts| facts.reserve = cpus(24));
    facts.queue(1, None, |facts| facts.reserve = cpus(12));
    (0..2).for_each(|queue| {
        facts.wait(&fleet, (queue, 0, 0), 20);
    });
    let placed = facts.round(&mut fleet);
    assert_eq!((of_queue(&placed, 0), of_queue(&placed, 1)), (8, 4));
}

/// The other tenant has the smaller share, and the queue between names no reserve.
#[test]
fn a_reserve_below_a_queue_that_names_none_goes_before_other_tenants() {
    let mut fleet = Fleet::one(40, 0, &[4], &[gpus(1, Some(0)), plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |_| {});
    facts.queue(1, Some(0), |facts| facts.reserve = Named::default().with(Column::Gpu(0), 2 * GPU));
    facts.queue(2, Some(0), |_| {});
    facts.hold(2, 0, cpu(30), 30);
    facts.queue(3, None, |facts| facts.weight = 9);
    for queue in 1..=3 {
        facts.wait(&fleet, (queue, 0, 0), 9);
    }
    assert_eq!(queues_of(&facts.round(&mut fleet)), [1, 1, 3, 3]);
}

#[test]
fn what_is_not_lent_below_a_queue_that_says_nothing_stays_free() {
    for reserve in [Named::default(), cpus(8)] {
        let mut fleet = Fleet::one(10, 0, &[], &[plain(1, 0)]);
        let mut facts = Facts::of(&fleet);
        facts.queue(0, None, |facts| facts.reserve = reserve.clone());
        facts.queue(1, Some(0), |facts| (facts.reserve, facts.lend) = (cpus(6), cpus(1)));
        facts.wait(&fleet, (2, 0, 0), 20);
        assert_eq!(facts.round(&mut fleet.clone()).len(), 5, "{reserve:?}");
        let mut queues = facts.tell();
        facts.wait(&fleet, (1, 0, 0), 2);
        assert_eq!(of_queue(&facts.round(&mut fleet), 1), 2);
        let kept = queues.kept_from(QueueIndex(2), Column::Cpu, 6).expect("it is kept");
        assert_eq!(kept.keepers, [(QueueIndex(1), 5)], "by whom it was said");
    }
}

/// Who is promised it takes it, also where the queue above is promised less than is held in it.
#[test]
fn what_is_kept_for_others_is_not_kept_from_who_is_promised_it_below() {
    let mut fleet = Fleet::one(6, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.capacity = cpu(20);
    facts.queue(0, None, |_| {});
    facts.queue(1, Some(0), |facts| facts.reserve = cpus(3));
    facts.hold(2, 0, cpu(9), 9);
    facts.queue(2, Some(0), |_| {});
    facts.queue(3, None, |facts| (facts.reserve, facts.lend) = (cpus(6), cpus(0)));
    facts.wait(&fleet, (1, 0, 0), 9);
    assert_eq!(facts.round(&mut fleet).len(), 3);
}

/// What is free, what its lenders do not lend, and what it is promised itself, nobody can want back.
#[test]
fn borrowed_is_what_could_be_taken_back() {
    let fleet = Fleet::one(10, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    let lent = |facts: &Facts| facts.tell().lent_to(QueueIndex(3), Column::Cpu);
    facts.queue(0, None, |_| {});
    facts.queue(1, Some(0), |facts| facts.reserve = cpus(4));
    facts.queue(3, None, |facts| facts.reserve = cpus(1));
    facts.hold(3, 0, cpu(6), 6);
    facts.free = cpu(4);
    assert_eq!(lent(&facts), None, "as much is free");
    facts.hold(2, 0, cpu(3), 3);
    facts.free = cpu(1);
    let told = Lent { beyond: 5, wanted: 3, lenders: vec![(QueueIndex(1), 4)] };
    assert_eq!(lent(&facts), Some(told));
    facts.queue(1, Some(0), |facts| (facts.reserve, facts.lend) = (cpus(4), cpus(2)));
    let told = Lent { beyond: 5, wanted: 2, lenders: vec![(QueueIndex(1), 2)] };
    assert_eq!(lent(&facts), Some(told), "what is free is kept");
    facts.queue(1, Some(0), |facts| (facts.reserve, facts.lend) = (cpus(4), cpus(0)));
    assert_eq!(lent(&facts), None, "nothing is lent");
    facts.queue(1, Some(0), |facts| facts.reserve = cpus(4));
    facts.hold(1, 0, cpu(4), 4);
    assert_eq!(lent(&facts), None, "it holds all that it is promised");
}

#[test]
fn what_is_not_lent_stays_free() {
    let mut fleet = Fleet::one(10, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |facts| (facts.reserve, facts.lend) = (cpus(6), cpus(1)));
    facts.wait(&fleet, (1, 0, 0), 20);
    assert_eq!(facts.round(&mut fleet.clone()).len(), 5);
    facts.wait(&fleet, (0, 0, 0), 2);
    let placed = facts.round(&mut fleet);
    assert_eq!((of_queue(&placed, 0), of_queue(&placed, 1)), (2, 5), "3 are kept, of which none is the others'");
}

/// What is free on nodes that take no new work is free for nobody.
#[test]
fn what_is_not_lent_stays_free_where_work_may_go() {
    let mut fleet = Fleet::one(5, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.capacity = cpu(10);
    facts.queue(0, None, |facts| (facts.reserve, facts.lend) = (cpus(4), cpus(0)));
    facts.wait(&fleet, (1, 0, 0), 20);
    let mut queues = facts.tell();
    assert_eq!(round(&mut queues.clone(), &mut fleet.clone(), ENOUGH).placed.len(), 1);
    queues.change_free(&cpu(5), &cpu(4));
    assert_eq!(round(&mut queues, &mut fleet.clone(), ENOUGH).placed.len(), 0);
    facts.wait(&fleet, (0, 0, 0), 9);
    assert_eq!(queues_of(&facts.round(&mut fleet)), [0, 0, 0, 0, 1]);
}

/// Otherwise two with promises could keep each other from what is left.
#[test]
fn what_is_kept_for_others_is_not_kept_from_who_is_promised_it() {
    let mut fleet = Fleet::one(6, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.capacity = cpu(10);
    (0..2).for_each(|queue| facts.queue(queue, None, |facts| (facts.reserve, facts.lend) = (cpus(5), cpus(0))));
    facts.hold(2, 0, cpu(4), 4);
    facts.wait(&fleet, (0, 0, 0), 9);
    assert_eq!(facts.round(&mut fleet).len(), 5);
}

#[test]
fn who_borrows_keeps_to_what_it_may_borrow() {
    let mut fleet = Fleet::one(10, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |facts| (facts.reserve, facts.borrow) = (cpus(2), cpus(3)));
    facts.queue(1, Some(0), |_| {});
    facts.wait(&fleet, (1, 0, 0), 20);
    assert_eq!(facts.round(&mut fleet).len(), 5);
}

#[test]
fn no_more_are_active_than_may_be() {
    let mut fleet = Fleet::one(10, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |facts| facts.most_active = Some(4));
    facts.queue(1, Some(0), |_| {});
    facts.hold(0, 0, Held::NONE, 1);
    facts.wait(&fleet, (1, 0, 0), 20);
    assert_eq!(facts.round(&mut fleet).len(), 3);
}

/// Work for which any model will do takes those that the queue may have more of.
#[test]
fn a_limit_of_one_model_leaves_the_others() {
    let mut fleet = Fleet::one(20, 0, &[4, 4], &[gpus(1, None)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |facts| facts.limit = Named::default().with(Column::Gpu(0), 2 * GPU));
    let key = facts.wait(&fleet, (0, 0, 0), 20);
    let placed = facts.round(&mut fleet);
    let models: Vec<_> = placed.iter().flat_map(|(_, seated)| fleet.models_of(key.shape, seated)).collect();
    assert_eq!(models.iter().map(|(model, _)| *model).collect::<Vec<_>>(), [0, 0, 1, 1, 1, 1]);
}

#[test]
fn an_alternative_beyond_a_bound_makes_room_for_the_next() {
    let mut work = gpus(3, Some(0));
    work.wishes.push((1, Some(0)));
    let mut fleet = Fleet::one(20, 0, &[9], &[work]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |facts| facts.limit = Named::default().with(Column::Gpus, 5 * GPU));
    facts.wait(&fleet, (0, 0, 0), 20);
    let placed = facts.round(&mut fleet);
    assert_eq!(placed.iter().map(|(_, seated)| seated.alternative).collect::<Vec<_>>(), [0, 1, 1]);
}

#[test]
fn who_used_more_before_comes_later() {
    let mut fleet = Fleet::one(9, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.accounts.insert((QueueIndex(0), UserIndex(0)), Account { decayed: cpu(3), ..Account::default() });
    (0..2).for_each(|queue| {
        facts.wait(&fleet, (queue, 0, 0), 20);
    });
    facts.wait(&fleet, (0, 1, 0), 20);
    let placed = facts.round(&mut fleet.clone());
    assert_eq!((of_queue(&placed, 0), of_queue(&placed, 1)), (3, 6));
    assert!(users_of(&placed).iter().zip(queues_of(&placed)).all(|(user, queue)| queue == 1 || *user == 1));
    facts.history = History { weight: 0, span: 1 };
    assert_eq!(of_queue(&facts.round(&mut fleet), 0), 5, "unless the past is worth nothing");
}

/// Who has more depends on how much there is.
#[test]
fn shares_follow_what_there_is() {
    let fleet = Fleet::one(1, 1, &[], &[plain(1, 1)]);
    let mut facts = Facts::of(&fleet);
    facts.capacity = cpu(10).with(Column::Memory, 10);
    facts.hold(0, 0, cpu(4), 1);
    facts.hold(0, 1, Held::NONE.with(Column::Memory, 3), 1);
    (0..2).for_each(|user| {
        facts.wait(&fleet, (0, user, 0), 1);
    });
    let mut queues = facts.tell();
    assert_eq!(users_of(&round(&mut queues.clone(), &mut fleet.clone(), ENOUGH).placed), [1]);
    queues.set_capacity(cpu(10).with(Column::Memory, 5));
    assert_eq!(users_of(&round(&mut queues, &mut fleet.clone(), ENOUGH).placed), [0]);
}

#[test]
fn in_a_queue_priority_goes_first_then_the_user_with_less_then_who_waited_longer() {
    let mut fleet = Fleet::one(20, 20, &[], &[plain(1, 0), plain(1, 1)]);
    let mut facts = Facts::of(&fleet);
    facts.wait(&fleet, (0, 0, 0), 2);
    let older = facts.wait(&fleet, (0, 1, 1), 1);
    facts.wait(&fleet, (0, 1, 0), 2);
    facts.groups.get_mut(&older).expect("it waits").oldest = (0, 0);
    let younger = GroupKey { shape: ShapeIndex(0), ..older };
    facts.groups.get_mut(&younger).expect("it waits").oldest = (1, 0);
    let urgent = GroupKey { priority: 5, ..facts.wait(&fleet, (0, 0, 1), 2) };
    let moved = facts.groups.remove(&GroupKey { priority: 0, ..urgent }).expect("it waits");
    facts.groups.insert(urgent, moved);
    let placed = facts.round(&mut fleet);
    assert_eq!(users_of(&placed), [0, 0, 1, 1, 0, 1, 0]);
    assert_eq!(placed[2].0, older);
    assert!(placed[..2].iter().all(|(key, _)| *key == urgent));
}

#[test]
fn the_own_work_of_a_queue_is_like_one_more_below_it() {
    let mut fleet = Fleet::one(12, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.queue(0, None, |_| {});
    facts.queue(1, Some(0), |facts| facts.weight = 2);
    (0..2).for_each(|queue| {
        facts.wait(&fleet, (queue, 0, 0), 20);
    });
    facts.wait(&fleet, (2, 0, 0), 20);
    let placed = facts.round(&mut fleet);
    assert_eq!([0, 1, 2].map(|queue| of_queue(&placed, queue)), [2, 4, 6]);
}

/// Who meets a bound makes nobody be looked at who does not ask for what it bounds, or is not below it: a limit, and
/// what is kept for another.
#[test]
fn who_meets_a_bound_costs_those_nothing_whom_it_does_not_bound() {
    let gpu = |count: u64| Named::default().with(Column::Gpu(0), count * GPU);
    let steps = |is_limit: bool, bystanders: u32| {
        let mut fleet = Fleet::one(500, 0, &[30], &[Work { cpu: 0, ..gpus(1, Some(0)) }, plain(1, 0)]);
        let mut facts = Facts::of(&fleet);
        facts.capacity = facts.capacity.with(Column::Cpu, 2_000);
        let above = is_limit.then_some(1);
        facts.queue(0, None, |facts| (facts.reserve, facts.lend) = (gpu(10), gpu(if is_limit { 10 } else { 0 })));
        facts.queue(1, None, |facts| facts.limit = if is_limit { gpu(20) } else { gpu(30) });
        (2..22).for_each(|queue| facts.queue(queue, above, |_| {}));
        for queue in 2..22 {
            facts.wait(&fleet, (queue, 0, 0), 5);
        }
        for queue in 100..100 + bystanders {
            facts.queue(queue, above, |_| {});
            facts.hold(queue, 0, cpu(1_900), 1);
            facts.wait(&fleet, (queue, 0, 1), 1);
        }
        let round = round(&mut facts.tell(), &mut fleet, ENOUGH);
        assert!(round.complete);
        (queues_of(&round.placed)[..20].iter().all(|queue| *queue < 22), round.steps)
    };
    for is_limit in [true, false] {
        let (none, many) = (steps(is_limit, 0), steps(is_limit, 80));
        assert!(none.0 && many.0, "devices are given out first");
        assert!(many.1 < none.1 + 4 * 80 + 40, "{} steps without bystanders, {} with them", none.1, many.1);
    }
}

/// Forty users with the same shape that does not fit cost one question.
#[test]
fn what_does_not_fit_is_asked_for_once() {
    let mut fleet = Fleet::new(vec![Node { cpu: 3, memory: 0, gpus: vec![] }; 2], vec![plain(4, 0), plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    (0..40).for_each(|user| {
        facts.wait(&fleet, (user % 7, user, 0), 5);
    });
    facts.wait(&fleet, (0, 0, 1), 100);
    let mut queues = facts.tell();
    let first = round(&mut queues, &mut fleet, ENOUGH);
    assert_eq!((first.placed.len(), fleet.asked), (6, 3), "once each, and once for the seats");
}

/// A tree that turns back on itself is cut open rather than followed for ever.
#[test]
fn a_circle_of_parents_is_no_tree() {
    let mut fleet = Fleet::one(4, 0, &[], &[plain(1, 0)]);
    let mut facts = Facts::of(&fleet);
    facts.wait(&fleet, (0, 0, 0), 2);
    let mut queues = facts.tell();
    queues.put_queue(QueueIndex(0), QueueFacts::below(Some(QueueIndex(1))));
    queues.put_queue(QueueIndex(1), QueueFacts::below(Some(QueueIndex(0))));
    queues.put_queue(QueueIndex(2), QueueFacts::below(Some(QueueIndex(2))));
    assert_eq!(round(&mut queues, &mut fleet, ENOUGH).placed.len(), 2);
    assert_eq!(queues.held(QueueIndex(1)), cpu(2));
}
