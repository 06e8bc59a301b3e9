//! What holds for any sequence of commands: the invariants, the same result again, and a snapshot at any point changes
//! nothing later; what queues hold is what their live members hold, and no placement takes a queue over a bound; nobody is
//! evicted without a claim, and claims keep what they promise; and whoever follows
//! the differences misses nothing.

mod bounds;
mod claims;
mod discredit;
mod followed;
mod history;
mod joined;
mod used;

use std::cell::Cell;

use flowyard_model::{Effects, Entry, Revision};
use flowyard_state::{State, apply, check_all};
use history::{Act, History, act, crowded_act, losing_act, prelude};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// What came of a history.
struct Came {
    /// Claims that were made, those by which their task was placed, those of them that waited for others to end, and how many went before
    /// those.
    claims: [usize; 4],
    /// Members whose place others took.
    replaced: usize,
}

/// Applies what the acts say, and checks all of it.
fn run(acts: &[Act], cut: usize) -> Result<Came, TestCaseError> {
    let mut history = History { state: State::new(), time: 1_000 };
    let mut restored: Option<State> = None;
    let mut used = used::Reference::default();
    let mut claims = claims::Followed::default();
    let mut held_against = discredit::Reference::default();
    let (mut log, mut replaced): (Vec<(Entry, Effects)>, usize) = (Vec::new(), 0);
    for (at, act) in prelude().iter().chain(acts).enumerate() {
        let command = history.command(act);
        let index = Revision(history.state.revision().0 + 1);
        let entry = Entry { index, time: flowyard_model::TimeMs(history.time), command };
        let before = history.state.view();
        let effects = apply(&mut history.state, entry.clone());
        replaced += new_members(&before, &history.state);
        if let Err(violation) = check_all(&history.state) {
            panic!("after {act:?}: {violation}");
        }
        bounds::holds_what_lives(&history.state);
        bounds::nothing_was_raised_over_a_bound(&before, &history.state, &entry.command);
        followed::nothing_is_missed(&before, &history.state);
        joined::is_as_one_by_one(&before, &history.state, &entry);
        used.follow(&history.state);
        claims.follow(&before, &history.state, &entry.command);
        held_against.follow(&before, &history.state, &entry.command);
        let moved = before.next_deadline() != history.state.next_deadline();
        prop_assert_eq!(effects.changed.deadline, moved);
        let differ = history.state.differences(&before);
        let unnamed: Vec<_> = differ.nodes.difference(&effects.changed.nodes).collect();
        prop_assert!(unnamed.is_empty(), "{:?} changed by {:?} and are not named", unnamed, act);
        if let Some(restored) = &mut restored {
            prop_assert_eq!(&apply(restored, entry.clone()), &effects);
            prop_assert!(*restored == history.state, "a snapshot changes nothing later");
        } else if at == cut {
            restored = Some(State::from_records(history.state.records()).unwrap());
        }
        log.push((entry, effects));
    }
    used.agrees_with(&history.state);
    let mut again = State::new();
    for (entry, effects) in log {
        prop_assert_eq!(apply(&mut again, entry), effects);
    }
    prop_assert!(again.records().eq(history.state.records()), "a replay gives the same");
    Ok(Came { claims: [claims.made, claims.kept, claims.reserved, claims.filled], replaced })
}

/// How many members an entry put in the place of others, by how many there are of each attempt.
fn new_members(before: &State, now: &State) -> usize {
    let tasks = now.differences(before).tasks;
    let replaced = |state: &State, key| {
        let attempts = state.task(key).map(|task| task.attempts.clone()).unwrap_or_default();
        attempts.iter().filter_map(|it| Some(it.surgery.as_ref()?.replaced.len())).sum::<usize>()
    };
    tasks.into_iter().map(|key| replaced(now, key).saturating_sub(replaced(before, key))).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_commands_keeps_the_invariants(
        acts in prop::collection::vec(act(), 1..150),
        cut in 0usize..150,
    ) {
        run(&acts, cut)?;
    }
}

/// The same where gangs lose members: who does the proptest's work by hand can tell that they did, and that others came.
#[test]
fn whatever_gangs_lose_each_rank_lives_once() {
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let replaced = Cell::new(0);
    let acts = (prop::collection::vec(losing_act(), 60..180), 0usize..150);
    let all = TestRunner::new(config).run(&acts, |(acts, cut)| {
        replaced.set(replaced.get() + run(&acts, cut)?.replaced);
        Ok(())
    });
    all.unwrap();
    assert!(replaced.get() > 40, "only {} members were replaced", replaced.get());
}

/// The same where much is evicted: who does the proptest's work by hand can tell that it was.
#[test]
fn whatever_is_claimed_is_kept_and_nobody_leaves_for_nothing() {
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let sums = Cell::new([0; 4]);
    let acts = (prop::collection::vec(crowded_act(), 60..180), 0usize..150);
    let all = TestRunner::new(config).run(&acts, |(acts, cut)| {
        let (counts, all) = (run(&acts, cut)?.claims, sums.get());
        sums.set(std::array::from_fn(|at| all[at] + counts[at]));
        Ok(())
    });
    all.unwrap();
    let [made, kept, reserved, filled] = sums.get();
    assert!(made > 40 && kept > 10, "only {made} claims, {kept} of them taken");
    assert!(reserved > 20 && filled > 0, "only {reserved} wait for others, and {filled} went before them");
}
