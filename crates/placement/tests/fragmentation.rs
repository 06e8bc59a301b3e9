//! The bench's day by each rule: what is free is of more use where nodes are chosen by that.

#[path = "../benches/fragmentation/day.rs"]
mod day;
#[path = "../benches/fragmentation/trace.rs"]
mod trace;

use day::{Mix, day};
use flowyard_placement::Fit;
use trace::{FULL, Trace};

#[test]
fn less_is_useless_after_a_day_than_by_best_fit_and_by_first_fit() {
    let trace = Trace::new(1, FULL);
    let ours = [Mix::Tasks, Mix::Devices].map(|mix| day(&trace, FULL, Fit::Fragmentation, mix));
    assert_eq!(ours[1], day(&trace, FULL, Fit::Fragmentation, Mix::Devices), "the same each time");
    for fit in [Fit::Best, Fit::First] {
        let other = day(&trace, FULL, fit, Mix::Untold);
        for ours in ours {
            assert!(ours.useless_at_end < other.useless_at_end, "{fit:?} at the end: {ours:?}, {other:?}");
            assert!(ours.useless_mean < other.useless_mean, "{fit:?} over the day: {ours:?}, {other:?}");
            assert_eq!(ours.arrived, other.arrived);
        }
    }
}
