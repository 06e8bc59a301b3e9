//! Is there an order of these calls, each at some moment between its begin and its end, that gives the answers that were given?
//! The search of Wing and Gong (1993), with Lowe's memory of what was tried, one object at a time: a history of many objects is
//! linearizable exactly if the history of each is (Herlihy and Wing 1990).

use std::collections::HashSet;
use std::hash::Hash;

/// What an object may do.
pub(crate) trait Model {
    type State: Clone + Eq + Hash;
    type Call;

    /// Before the first call.
    fn start(&self) -> Self::State;

    /// The states a call with its answer may lead to; none if it cannot have been answered like that. What the object does by itself
    /// before the call is part of this.
    fn next(&self, state: &Self::State, call: &Self::Call) -> Vec<Self::State>;
}

/// A call and when it was under way. Without an end nobody knows whether it happened: it may have, at any time after its begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interval<C> {
    pub(crate) call: C,
    pub(crate) from_us: u64,
    pub(crate) until_us: Option<u64>,
}

/// Which calls are placed in the order so far.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Placed(Vec<u64>);

impl Placed {
    fn none(calls: usize) -> Self {
        Self(vec![0; calls.div_ceil(64)])
    }

    fn has(&self, call: usize) -> bool {
        self.0[call / 64] >> (call % 64) & 1 == 1
    }

    fn with(&self, call: usize) -> Self {
        let mut more = self.clone();
        more.0[call / 64] |= 1 << (call % 64);
        more
    }
}

/// Whether there is such an order.
pub(crate) fn linearizable<M: Model>(model: &M, mut calls: Vec<Interval<M::Call>>) -> bool {
    calls.sort_by_key(|call| call.from_us);
    let first = (Placed::none(calls.len()), model.start());
    let (mut tried, mut open) = (HashSet::from([first.clone()]), vec![first]);
    while let Some((placed, state)) = open.pop() {
        let (may_be_next, all_answered) = candidates(&calls, &placed);
        if all_answered {
            return true;
        }
        for call in may_be_next {
            for state in model.next(&state, &calls[call].call) {
                let step = (placed.with(call), state);
                if tried.insert(step.clone()) {
                    open.push(step);
                }
            }
        }
    }
    false
}

/// The calls that may come next: those that began before any call that is left has ended. And whether no answered one is left.
fn candidates<C>(calls: &[Interval<C>], placed: &Placed) -> (Vec<usize>, bool) {
    let (mut found, mut first_end, mut all_answered) = (Vec::new(), u64::MAX, true);
    for (at, call) in calls.iter().enumerate().filter(|(at, _)| !placed.has(*at)) {
        if call.from_us > first_end {
            return (found, false);
        }
        first_end = first_end.min(call.until_us.unwrap_or(u64::MAX));
        all_answered &= call.until_us.is_none();
        found.push(at);
    }
    (found, all_answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register of one number, which is 0 first.
    struct Register;

    #[derive(Debug, Clone, Copy)]
    enum Access {
        Write(u32),
        Read(u32),
    }
    use Access::{Read, Write};

    impl Model for Register {
        type State = u32;
        type Call = Access;

        fn start(&self) -> u32 {
            0
        }

        fn next(&self, state: &u32, call: &Access) -> Vec<u32> {
            match call {
                Write(value) => vec![*value],
                Read(value) => (value == state).then_some(*state).into_iter().collect(),
            }
        }
    }

    fn holds(calls: &[(Access, u64, u64)]) -> bool {
        // An end of 0 is none.
        let interval = |&(call, from_us, until): &(Access, u64, u64)| Interval {
            call,
            from_us,
            until_us: (until > 0).then_some(until),
        };
        linearizable(&Register, calls.iter().map(interval).collect())
    }

    #[test]
    fn a_read_during_a_write_may_see_either_value() {
        assert!(holds(&[(Write(1), 1, 5), (Read(0), 2, 3)]));
        assert!(holds(&[(Write(1), 1, 5), (Read(1), 2, 3)]));
    }

    #[test]
    fn a_read_after_a_write_that_does_not_see_it_is_found() {
        assert!(!holds(&[(Write(1), 1, 2), (Read(0), 3, 4)]));
    }

    #[test]
    fn two_reads_that_see_a_value_come_and_go_are_found() {
        assert!(!holds(&[(Write(1), 1, 9), (Read(1), 2, 3), (Read(0), 4, 5)]));
        assert!(holds(&[(Write(1), 1, 9), (Read(0), 2, 3), (Read(1), 4, 5)]));
    }

    #[test]
    fn a_call_without_an_answer_may_have_happened_late_or_never() {
        assert!(holds(&[(Write(1), 1, 0), (Read(0), 5, 6), (Read(1), 7, 8)]));
        assert!(holds(&[(Write(1), 1, 0), (Read(0), 5, 6), (Read(0), 7, 8)]));
        assert!(!holds(&[(Write(1), 1, 0), (Read(1), 5, 6), (Read(0), 7, 8)]));
    }

    #[test]
    fn writes_at_once_have_one_order_for_everybody() {
        let reads = |a, b| [(Write(1), 1, 4), (Write(2), 1, 4), (Read(a), 5, 6), (Read(b), 7, 8)];
        assert!(holds(&reads(1, 1)) && holds(&reads(2, 2)));
        assert!(!holds(&reads(1, 2)));
    }

    #[test]
    fn a_long_history_is_judged_at_once() {
        let mut calls: Vec<_> = (0..2_000_u64).map(|at| (Write(at as u32 + 1), 10 * at + 1, 10 * at + 14)).collect();
        calls.push((Read(2_000), 30_000, 30_001));
        assert!(holds(&calls));
        calls.push((Read(1_999), 30_002, 30_003));
        assert!(!holds(&calls));
    }
}
