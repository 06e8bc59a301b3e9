//! What every [`LogEngine`] must do, whatever it stands on.
//!
//! Each check is a function over a [`Make`], which opens the same log again and again. A log that forgets when it is closed
//! says so and is spared the checks of durability.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flowyard_coordinator::raft::engine::{
    Ballot, ENTRY_BYTES_MAX, EngineError, EngineState, LogEngine, LogPoint, Op, Record, VALUE_BYTES_MAX,
};

/// Opens one log, each time with what it held when it was closed.
pub trait Make {
    /// Opens the log. The one opened before is closed by then.
    fn open(&self) -> Arc<dyn LogEngine>;
    /// Whether a closed log comes back with what it held.
    fn durable(&self) -> bool;
}

/// Runs every check; `make` gives each its own, empty log.
pub fn log_engine<M: Make>(mut make: impl FnMut() -> M) {
    let checks: [fn(&M); 10] = [
        entries_are_readable_as_soon_as_they_are_submitted,
        callbacks_run_in_the_order_of_their_submits,
        a_submit_that_would_leave_a_hole_is_refused_whole,
        a_truncated_tail_is_gone_and_can_be_written_anew,
        a_purged_head_is_gone_and_the_log_goes_on,
        a_purge_beyond_the_end_moves_the_log_there,
        entries_of_every_size_come_back_and_giants_are_refused,
        a_read_stops_after_its_byte_limit_but_gives_at_least_one_entry,
        a_log_too_long_for_memory_is_read_in_any_part,
        a_closed_log_refuses_work,
    ];
    for check in checks {
        check(&make());
    }
    let durability: [fn(&M); 4] = [
        everything_acknowledged_is_there_after_reopening,
        vote_and_commit_mark_survive_reopening,
        a_truncation_survives_reopening,
        a_large_purge_survives_reopening_and_frees_the_entries,
    ];
    for check in durability {
        let make = make();
        if make.durable() {
            check(&make);
        }
    }
    against_the_model(&make());
}

fn entry(term: u64, index: u64, payload: impl Into<Bytes>) -> Record {
    Record { point: LogPoint { term, index }, payload: payload.into() }
}

fn entries(term: u64, range: Range<u64>) -> Vec<Record> {
    range.map(|index| entry(term, index, format!("entry {term}.{index}"))).collect()
}

fn submit(log: &dyn LogEngine, ops: Vec<Op>) -> Result<Receiver<Result<(), EngineError>>, EngineError> {
    let (sender, receiver) = sync_channel(1);
    log.submit(ops, Box::new(move |result| sender.send(result).unwrap_or_default()))?;
    Ok(receiver)
}

/// Submits and waits until it is durable.
fn settle(log: &dyn LogEngine, ops: Vec<Op>) {
    let done = submit(log, ops).expect("the submit is in order");
    done.recv_timeout(Duration::from_secs(60)).expect("the callback runs").expect("the write succeeds");
}

fn indexes(log: &dyn LogEngine) -> Vec<u64> {
    log.read(0..u64::MAX, usize::MAX).expect("a read").iter().map(|record| record.point.index).collect()
}

/// A vote for the highest term the checks write in, as the log demands of its entries.
fn vote() -> Op {
    Op::PutVote(Ballot { term: 9, candidate: 1, granted: true })
}

fn entries_are_readable_as_soon_as_they_are_submitted<M: Make>(make: &M) {
    let log = make.open();
    for index in 0..200 {
        let done = submit(&*log, vec![vote(), Op::Append(entries(1, index..index + 1))]).expect("in order");
        assert_eq!(log.read(index..index + 1, usize::MAX).expect("a read"), entries(1, index..index + 1));
        assert_eq!(log.read_recent(index..index + 1), Some(entries(1, index..index + 1)));
        drop(done);
    }
    assert_eq!(log.state().last, Some(LogPoint { term: 1, index: 199 }));
    assert_eq!(log.read(50..60, usize::MAX).expect("a read"), entries(1, 50..60));
    assert_eq!(log.read(190..300, usize::MAX).expect("a read"), entries(1, 190..200));
}

fn callbacks_run_in_the_order_of_their_submits<M: Make>(make: &M) {
    let log = make.open();
    let order = Arc::new(Mutex::new(Vec::new()));
    for index in 0..500 {
        let order = order.clone();
        let done = move |result: Result<(), EngineError>| {
            result.expect("the write succeeds");
            order.lock().expect("no panic").push(index);
        };
        log.submit(vec![vote(), Op::Append(entries(1, index..index + 1))], Box::new(done)).expect("in order");
    }
    log.close();
    assert_eq!(*order.lock().expect("no panic"), (0..500).collect::<Vec<_>>());
}

fn a_submit_that_would_leave_a_hole_is_refused_whole<M: Make>(make: &M) {
    let log = make.open();
    settle(&*log, vec![vote(), Op::Append(entries(2, 0..5))]);
    let before = log.state();
    let hole = vec![Op::Append(entries(2, 5..7)), Op::Append(entries(2, 8..9))];
    assert!(matches!(submit(&*log, hole), Err(EngineError::Gap { expected: 7, found: 8 })));
    assert!(matches!(submit(&*log, vec![Op::Append(entries(2, 4..5))]), Err(EngineError::Gap { .. })));
    assert!(matches!(submit(&*log, vec![Op::Append(entries(1, 5..6))]), Err(EngineError::TermReversed { .. })));
    assert_eq!(log.state(), before);
    settle(&*log, vec![Op::Append(entries(2, 5..6))]);
    assert_eq!(indexes(&*log), (0..6).collect::<Vec<_>>());
}

fn a_truncated_tail_is_gone_and_can_be_written_anew<M: Make>(make: &M) {
    let log = make.open();
    settle(&*log, vec![vote(), Op::Append(entries(1, 0..10))]);
    settle(&*log, vec![Op::TruncateAfter(Some(3)), Op::Append(entries(2, 4..6)), Op::TruncateAfter(Some(4))]);
    assert_eq!(log.state().last, Some(LogPoint { term: 2, index: 4 }));
    assert_eq!(log.term_ends(), [LogPoint { term: 1, index: 3 }, LogPoint { term: 2, index: 4 }]);
    assert_eq!(log.read(3..9, usize::MAX).expect("a read"), [entries(1, 3..4), entries(2, 4..5)].concat());
    settle(&*log, vec![Op::TruncateAfter(None)]);
    assert_eq!((log.state().last, indexes(&*log)), (None, vec![]));
    settle(&*log, vec![Op::Append(entries(3, 0..2))]);
    assert_eq!(indexes(&*log), [0, 1]);
}

fn a_purged_head_is_gone_and_the_log_goes_on<M: Make>(make: &M) {
    let log = make.open();
    settle(&*log, vec![vote(), Op::Append(entries(1, 0..10))]);
    settle(&*log, vec![Op::PurgeTo(LogPoint { term: 1, index: 6 })]);
    assert_eq!(indexes(&*log), [7, 8, 9]);
    assert_eq!(log.state().purged, Some(LogPoint { term: 1, index: 6 }));
    assert!(matches!(
        submit(&*log, vec![Op::TruncateAfter(Some(4))]),
        Err(EngineError::TruncatesPurged { index: 4, purged: 6 })
    ));
    settle(&*log, vec![Op::TruncateAfter(None)]);
    assert_eq!(log.state().last, Some(LogPoint { term: 1, index: 6 }));
    settle(&*log, vec![Op::Append(entries(2, 7..9))]);
    assert_eq!(indexes(&*log), [7, 8]);
}

fn a_purge_beyond_the_end_moves_the_log_there<M: Make>(make: &M) {
    let log = make.open();
    settle(&*log, vec![vote(), Op::Append(entries(5, 0..10))]);
    settle(&*log, vec![Op::PurgeTo(LogPoint { term: 4, index: 20 })]);
    let end = Some(LogPoint { term: 4, index: 20 });
    assert_eq!((log.state().purged, log.state().last, indexes(&*log)), (end, end, vec![]));
    assert!(matches!(submit(&*log, vec![Op::Append(entries(5, 10..11))]), Err(EngineError::Gap { .. })));
    settle(&*log, vec![Op::Append(entries(5, 21..23))]);
    assert_eq!(indexes(&*reopened(make, log)), if make.durable() { vec![21, 22] } else { vec![] });
}

fn reopened<M: Make>(make: &M, log: Arc<dyn LogEngine>) -> Opened {
    log.close();
    drop(log);
    Opened(make.open())
}

/// A log that may be used where a plain reference is wanted.
struct Opened(Arc<dyn LogEngine>);

impl std::ops::Deref for Opened {
    type Target = dyn LogEngine;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

fn entries_of_every_size_come_back_and_giants_are_refused<M: Make>(make: &M) {
    let log = make.open();
    let sizes = [0, 1, VALUE_BYTES_MAX - 1, VALUE_BYTES_MAX, VALUE_BYTES_MAX + 1, 3 * VALUE_BYTES_MAX, ENTRY_BYTES_MAX];
    let written: Vec<Record> = (0..).zip(sizes).map(|(index, bytes)| entry(1, index, noise(index, bytes))).collect();
    settle(&*log, vec![vote(), Op::Append(written.clone())]);
    // A shorter entry in the place of a longer one must not keep the longer one's last pieces.
    settle(&*log, vec![Op::TruncateAfter(Some(5)), Op::Append(vec![entry(2, 6, noise(9, VALUE_BYTES_MAX + 7))])]);
    let expected = [&written[..6], &[entry(2, 6, noise(9, VALUE_BYTES_MAX + 7))]].concat();
    assert_eq!(log.read(0..10, usize::MAX).expect("a read"), expected);
    let giant = vec![Op::Append(vec![entry(2, 7, noise(7, ENTRY_BYTES_MAX + 1))])];
    assert!(matches!(submit(&*log, giant), Err(EngineError::EntryTooLarge { .. })));
    if make.durable() {
        assert_eq!(reopened(make, log).read(0..10, usize::MAX).expect("a read"), expected);
    }
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn a_read_stops_after_its_byte_limit_but_gives_at_least_one_entry<M: Make>(make: &M) {
    let log = make.open();
    let written = (0..50).map(|index| entry(1, index, noise(index, 1000))).collect();
    settle(&*log, vec![vote(), Op::Append(written)]);
    assert_eq!(log.read(10..40, 0).expect("a read").len(), 1);
    assert_eq!(log.read(10..40, 2500).expect("a read").len(), 3);
    assert_eq!(log.read(10..40, usize::MAX).expect("a read").len(), 30);
    let reopened = if make.durable() { reopened(make, log) } else { Opened(log) };
    assert_eq!(reopened.read(10..40, 2500).expect("a read").len(), 3);
}

/// 40 MiB, more than any engine keeps in memory: parts on disk, parts in memory, and across the border.
fn a_log_too_long_for_memory_is_read_in_any_part<M: Make>(make: &M) {
    let log = make.open();
    settle(&*log, vec![vote()]);
    let written: Vec<Record> = (0..50).map(|index| entry(1, index, noise(index, 800 * 1024))).collect();
    for record in &written {
        settle(&*log, vec![Op::Append(vec![record.clone()])]);
    }
    let check = |log: &dyn LogEngine| {
        for (from, to) in [(0, 1), (3, 9), (0, 50), (20, 45), (49, 50), (10, 11)] {
            let read = log.read(from..to, usize::MAX).expect("a read");
            assert!(read == written[from as usize..to as usize], "entries {from} to {to} differ");
            let recent = log.read_recent(from..to);
            assert!(recent.is_none_or(|recent| recent == read), "entries {from} to {to} differ in memory");
        }
        assert_eq!(log.read(5..30, 2_000_000).expect("a read").len(), 3);
    };
    check(&*log);
    if make.durable() {
        assert_eq!(log.read_recent(0..1), None, "nothing was let go of");
        check(&*reopened(make, log));
    }
}

fn a_closed_log_refuses_work<M: Make>(make: &M) {
    let log = make.open();
    settle(&*log, vec![vote(), Op::Append(entries(1, 0..1))]);
    log.close();
    log.close();
    assert!(matches!(submit(&*log, vec![Op::Append(entries(1, 1..2))]), Err(EngineError::Closed)));
}

fn everything_acknowledged_is_there_after_reopening<M: Make>(make: &M) {
    let mut log = Opened(make.open());
    settle(&*log, vec![vote()]);
    for round in 0..5 {
        for index in round * 100..round * 100 + 100 {
            settle(&*log, vec![Op::Append(entries(1 + round, index..index + 1))]);
        }
        log = reopened(make, log.0);
        assert_eq!(indexes(&*log), (0..round * 100 + 100).collect::<Vec<_>>());
        assert_eq!(log.term_ends().len() as u64, round + 1);
    }
    assert_eq!(log.read(150..160, usize::MAX).expect("a read"), entries(2, 150..160));
}

fn vote_and_commit_mark_survive_reopening<M: Make>(make: &M) {
    let log = make.open();
    let cast = Ballot { term: 7, candidate: 3, granted: false };
    settle(&*log, vec![Op::PutVote(cast), Op::Append(entries(2, 0..4))]);
    settle(&*log, vec![Op::PutCommitted(Some(LogPoint { term: 2, index: 2 }))]);
    let expected = EngineState {
        vote: Some(cast),
        committed: Some(LogPoint { term: 2, index: 2 }),
        purged: None,
        last: Some(LogPoint { term: 2, index: 3 }),
    };
    assert_eq!(log.state(), expected);
    assert_eq!(reopened(make, log).state(), expected);
}

fn a_truncation_survives_reopening<M: Make>(make: &M) {
    let log = make.open();
    settle(&*log, vec![vote(), Op::Append(entries(1, 0..300))]);
    settle(&*log, vec![Op::TruncateAfter(Some(99))]);
    let log = reopened(make, log);
    assert_eq!(indexes(&*log), (0..100).collect::<Vec<_>>());
    settle(&*log, vec![Op::TruncateAfter(None)]);
    let log = reopened(make, log.0);
    assert_eq!(log.state().last, None);
    // An empty log may start anywhere, once.
    settle(&*log, vec![Op::Append(entries(3, 5..8))]);
    assert_eq!(indexes(&*reopened(make, log.0)), [5, 6, 7]);
}

fn a_large_purge_survives_reopening_and_frees_the_entries<M: Make>(make: &M) {
    let log = make.open();
    settle(&*log, vec![vote()]);
    for start in (0..3000).step_by(500) {
        settle(&*log, vec![Op::Append(entries(1, start..start + 500))]);
    }
    settle(&*log, vec![Op::PurgeTo(LogPoint { term: 1, index: 2899 })]);
    let log = reopened(make, log);
    assert_eq!(indexes(&*log), (2900..3000).collect::<Vec<_>>());
    assert_eq!((log.stats().live_entries, log.state().purged), (100, Some(LogPoint { term: 1, index: 2899 })));
    let log = reopened(make, log.0);
    assert_eq!(indexes(&*log), (2900..3000).collect::<Vec<_>>());
}

/// Random operations, on the log and on a plain vector beside it, with reopening in between.
fn against_the_model<M: Make>(make: &M) {
    let mut log = Opened(make.open());
    settle(&*log, vec![vote()]);
    let mut model: Vec<Record> = Vec::new();
    let (mut first, mut term, mut waiting) = (0_u64, 1, Vec::new());
    let dice = noise(42, 4000);
    for (step, roll) in dice.chunks(2).enumerate() {
        let next = first + model.len() as u64;
        let op = match roll[0] % 16 {
            0 if !model.is_empty() => {
                let keep = usize::from(roll[1]) % model.len();
                model.truncate(keep);
                term = (term + 1).min(9);
                Op::TruncateAfter((first + keep as u64).checked_sub(1))
            }
            1 if model.len() > 1 => {
                let purged = model.drain(..1 + usize::from(roll[1]) % (model.len() - 1)).next_back().expect("some");
                first = purged.point.index + 1;
                Op::PurgeTo(purged.point)
            }
            2 if make.durable() => {
                log = reopened(make, log.0);
                continue;
            }
            _ => {
                let bytes = if step % 50 == 0 { VALUE_BYTES_MAX + step } else { usize::from(roll[1]) };
                let record = entry(term, next, noise(step as u64, bytes));
                model.push(record.clone());
                Op::Append(vec![record])
            }
        };
        waiting.push(submit(&*log, vec![op]).expect("in order"));
        assert_eq!(log.read(first..u64::MAX, usize::MAX).expect("a read"), model, "step {step}");
    }
    for done in waiting {
        done.recv_timeout(Duration::from_secs(60)).expect("the callback runs").expect("the write succeeds");
    }
}
