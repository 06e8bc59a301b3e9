//! The bench's day in small, by each rule: what is free is of more use where nodes are chosen as this release does.

#[path = "../benches/fragmentation/day.rs"]
#[allow(dead_code, reason = "the bench uses the rest")]
mod day;
#[path = "../../placement/benches/fragmentation/trace.rs"]
#[allow(dead_code, reason = "the solver's bench uses the rest")]
mod trace;

use day::{RULES, day};
use trace::{FULL, Size};

const SMALL: Size = Size { nodes: 60, load: 80, ..FULL };

#[test]
fn less_is_useless_after_a_day_than_by_best_fit_and_by_first_fit() {
    let [ours, others @ ..] = RULES.map(|policy| (policy, day(1, SMALL, policy)));
    let (fragmented, jobs) = (ours.1.fragmented.unwrap(), ours.1.jobs);
    assert!(jobs > 1_000 && fragmented.useless_milli > 0, "{ours:?}");
    for (policy, other) in others {
        assert_eq!(other.jobs, jobs);
        let other = other.fragmented.unwrap();
        assert!(fragmented.useless_milli < other.useless_milli, "{policy} over the day: {fragmented:?}, {other:?}");
        let (ours, other) = (fragmented.useless_at_end_milli, other.useless_at_end_milli);
        assert!(ours < other, "{policy} at the end: {ours}, {other}");
    }
}
