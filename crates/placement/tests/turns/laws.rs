//! What holds for any tree, any work and any fleet.

use flowyard_placement::*;
use proptest::prelude::*;

use crate::facts::{COLUMNS, ENOUGH, Facts};
use crate::fleet::{Fleet, Seated};
use crate::histories::{problem, told};
use crate::reference::round_by_reference;

type Placed = Vec<(GroupKey, Seated)>;

/// That a task placed keeps to every bound on its way up.
fn check_bounds(before: &Facts, after: &Facts, key: &GroupKey, need: &Need) -> Result<(), TestCaseError> {
    for at in after.path(key.queue) {
        let facts = after.facts(at);
        prop_assert!(facts.most_active.is_none_or(|most| after.active(at) <= u64::from(most)));
        for column in COLUMNS {
            let held = after.held(at, column);
            if held == before.held(at, column) {
                continue;
            }
            prop_assert!(facts.limit.get(column).is_none_or(|limit| held <= limit), "{at:?} {column:?}");
            let most = facts.reserve.get(column).zip(facts.borrow.get(column));
            prop_assert!(most.is_none_or(|(reserve, borrow)| held <= reserve + borrow), "{at:?} {column:?}");
        }
    }
    for column in COLUMNS {
        let kept = before.room_for(key.queue, column, need.held.get(column)).is_empty();
        prop_assert!(kept, "{column:?} is kept for others");
    }
    Ok(())
}

/// Carries out what was placed, checking each task; what is so afterwards.
fn carry_out(facts: &Facts, fleet: &Fleet, placed: &Placed) -> Result<Facts, TestCaseError> {
    let mut facts = facts.clone();
    for (key, seated) in placed {
        let before = facts.clone();
        facts.placed(fleet, key, seated);
        check_bounds(&before, &facts, key, &before.groups[key].needs[seated.alternative as usize])?;
    }
    Ok(facts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A round is what it would be if each task had a turn of its own and nothing were kept in between.
    #[test]
    fn a_round_is_the_reference_s((fleet, facts) in problem()) {
        let by_reference = round_by_reference(&facts, &mut fleet.clone());
        prop_assert_eq!(facts.round(&mut fleet.clone()), by_reference);
    }

    /// What is told between rounds, in whatever order, leaves nothing behind.
    #[test]
    fn a_round_depends_on_what_is_so_and_not_on_what_was(
        (fleet, mut facts) in problem(),
        changes in prop::collection::vec((prop::collection::vec(told(), 0..6), 0u64..9), 1..6),
    ) {
        let (mut queues, mut free) = (facts.tell(), facts.free.clone());
        for (changes, tasks) in changes {
            for told in changes {
                facts.follow(&fleet, &told);
                facts.pass_on(&mut queues, &told);
            }
            queues.change_free(&free, &facts.free);
            free = facts.free.clone();
            let placed = round(&mut queues, &mut fleet.clone(), Bound { tasks, ..ENOUGH }).placed;
            let fresh = round(&mut facts.tell(), &mut fleet.clone(), Bound { tasks, ..ENOUGH }).placed;
            prop_assert_eq!(&placed, &fresh);
            for (at, (key, seated)) in placed.iter().enumerate() {
                if at % 3 != 0 {
                    facts.placed(&fleet, key, seated);
                }
            }
            for (key, _) in &placed {
                let at = (key.queue, key.user);
                queues.set_account(at.0, at.1, facts.accounts.get(&at).cloned().unwrap_or_default());
                match facts.groups.get(key) {
                    Some(group) => queues.put_group(*key, group),
                    None => queues.remove_group(*key),
                }
            }
        }
    }

    #[test]
    fn nothing_is_placed_beyond_a_bound((fleet, facts) in problem()) {
        let placed = facts.round(&mut fleet.clone());
        carry_out(&facts, &fleet, &placed)?;
    }

    /// Whoever still waits after a round has no room, or is not allowed any; if there is no less than what is held, and as
    /// much is told to be free as there is.
    #[test]
    fn whoever_waits_could_not_be_placed((fleet, mut facts) in problem()) {
        facts.free = fleet.capacity();
        facts.capacity = COLUMNS.into_iter().map(|at| (at, facts.free.get(at) + facts.held_by_all(at))).collect();
        let mut after = fleet.clone();
        let placed = facts.round(&mut after);
        let facts = carry_out(&facts, &fleet, &placed)?;
        for (key, group) in &facts.groups {
            for (alternative, need) in (0..).zip(group.needs.iter()) {
                let Ok(models) = facts.within(key.queue, need) else { continue };
                let ask = Ask { shape: key.shape, alternative, models: models.as_ref() };
                prop_assert_eq!(after.has_room(&ask, &mut 1_000), Ended::NoRoom, "{:?}", key);
            }
        }
    }

    /// A round that is cut is the beginning of the whole one.
    #[test]
    fn a_round_may_be_cut_anywhere((fleet, facts) in problem(), tasks in 0u64..9) {
        let whole = facts.round(&mut fleet.clone());
        let cut = round(&mut facts.tell(), &mut fleet.clone(), Bound { tasks, ..ENOUGH });
        prop_assert_eq!(&cut.placed[..], &whole[..whole.len().min(tasks as usize)]);
        prop_assert!(cut.complete || whole.len() >= tasks as usize);
    }

    /// However few steps there are, what is placed is within bounds, and it says whether that was all.
    #[test]
    fn a_round_keeps_to_its_steps((fleet, facts) in problem(), steps in 0u64..200) {
        let whole = facts.round(&mut fleet.clone());
        let cut = round(&mut facts.tell(), &mut fleet.clone(), Bound { steps, ..ENOUGH });
        prop_assert!(cut.steps <= steps);
        carry_out(&facts, &fleet, &cut.placed)?;
        prop_assert!(!cut.complete || steps < 100 || cut.placed == whole);
    }
}
