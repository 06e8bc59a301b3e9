//! The bench's day on a small scale: it is the same each time, and nothing that fits is left waiting.
#![allow(dead_code, reason = "the bench uses the rest")]

#[path = "../benches/solver/day.rs"]
mod day;

use day::{Day, Kind, SMALL};

#[test]
fn a_day_is_the_same_each_time() {
    for (kind, told) in [(Kind::Plain, false), (Kind::Gpu, false), (Kind::Gpu, true), (Kind::Gang, false)] {
        let run = || {
            let mut day = Day::new(kind, SMALL, told);
            let first = day.round();
            day.tasks_end();
            let second = day.round();
            (first, second, day.waiting(), day.steps, day.digest())
        };
        let (first, second, waiting, ..) = run();
        assert_eq!(run(), run());
        assert_eq!(first + second + waiting, SMALL.tasks + SMALL.ends.min(first));
        assert!(second >= SMALL.ends.min(first) * 9 / 10, "{second} of {} that ended were seated anew", SMALL.ends);
        assert!(kind != Kind::Plain || waiting == 0);
    }
}
