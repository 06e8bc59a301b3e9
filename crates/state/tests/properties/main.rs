//! What holds for any sequence of commands: the invariants, the same result again, and a snapshot at any point changes
//! nothing later; what queues hold is what their live members hold, and no placement takes a queue over a bound; nobody is
//! evicted without a claim, and claims keep what they promise; and whoever follows
//! the differences misses nothing.

mod bounds;
mod claims;
mod followed;
mod history;
mod used;

use std::cell::Cell;

use flowyard_model::{Effects, Entry, Revision};
use flowyard_state::{State, apply, check_all};
use history::{Act, History, act, crowded_act, prelude};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Applies what the acts say, and checks all of it; how many claims were made, and how many their task was placed by.
fn run(acts: &[Act], cut: usize) -> Result<(usize, usize), TestCaseError> {
    let mut history = History { state: State::new(), time: 1_000 };
    let mut restored: Option<State> = None;
    let mut used = used::Reference::default();
    let mut claims = claims::Followed::default();
    let mut log: Vec<(Entry, Effects)> = Vec::new();
    for (at, act) in prelude().iter().chain(acts).enumerate() {
        let command = history.command(act);
        let index = Revision(history.state.revision().0 + 1);
        let entry = Entry { index, time: flowyard_model::TimeMs(history.time), command };
        let before = history.state.view();
        let effects = apply(&mut history.state, entry.clone());
        if let Err(violation) = check_all(&history.state) {
            panic!("after {act:?}: {violation}");
        }
        bounds::holds_what_lives(&history.state);
        bounds::nothing_was_raised_over_a_bound(&before, &history.state, &entry.command);
        followed::nothing_is_missed(&before, &history.state);
        used.follow(&history.state);
        claims.follow(&before, &history.state, &entry.command);
        let moved = before.next_deadline() != history.state.next_deadline();
        prop_assert_eq!(effects.changed.deadline, moved);
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
    Ok((claims.made, claims.kept))
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

/// The same where much is evicted: who does the proptest's work by hand can tell that it was.
#[test]
fn whatever_is_claimed_is_kept_and_nobody_leaves_for_nothing() {
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let sums = Cell::new((0, 0));
    let acts = (prop::collection::vec(crowded_act(), 60..180), 0usize..150);
    let all = TestRunner::new(config).run(&acts, |(acts, cut)| {
        let ((made, kept), (all_made, all_kept)) = (run(&acts, cut)?, sums.get());
        sums.set((all_made + made, all_kept + kept));
        Ok(())
    });
    all.unwrap();
    let (made, kept) = sums.get();
    assert!(made > 40 && kept > 10, "only {made} claims, {kept} of them taken");
}
