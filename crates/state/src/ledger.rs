//! The ledger: what each owner uses in each queue, over time.
//!
//! An account is brought up to state time whenever what it holds changes, and at no other moment: what was used since then
//! follows from what it holds. Hours become parts of their days once they are old, and days are dropped. An account that holds
//! nothing is forgotten when its last day is.
//!
//! Invariant: an account holds what the live members of its owner's jobs in its queue hold.

use std::sync::Arc;

use flowyard_model::limits::{LEDGER_DAYS, LEDGER_HOURS};
use flowyard_model::{Account, AccountKey, ClusterVersion, Held, JobId, MemberKey, TimeMs, Usage, UsageBucket};

use crate::decay;
use crate::holding::held_by_live;
use crate::reading::Outline;
use crate::state::State;

/// Milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;
/// Milliseconds of a day.
const DAY_MS: u64 = 24 * HOUR_MS;
/// Accounts that are forgotten when one is made, so that there are never many that nobody uses.
const FORGOTTEN_FOR_ONE: usize = 2;

/// The job's owner holds this as well.
pub(crate) fn take(state: &mut State, job: JobId, held: &Held) {
    touch(state, job, |account| account.held.add(held));
}

/// The job's owner holds this no more.
pub(crate) fn give_back(state: &mut State, job: JobId, held: &Held) {
    touch(state, job, |account| account.held.subtract(held));
}

/// So many tasks of a step of this job were active, and so many are now.
pub(crate) fn active_changed(state: &mut State, job: JobId, from: u32, to: u32) {
    touch(state, job, |account| account.active = account.active + to - from);
}

/// From now on there are accounts: those of all that lives.
pub(crate) fn open(state: &mut State) {
    let live: Vec<MemberKey> = state.indexes.live.iter().map(|(_, key)| *key).collect();
    for key in live {
        let held = held_by_live(state, key);
        take(state, key.task.job, &held);
    }
    let active = state.steps.iter().filter(|(_, step)| step.counts.active > 0);
    let active: Vec<_> = active.map(|((job, _), step)| (*job, step.counts.active)).collect();
    for (job, count) in active {
        active_changed(state, job, 0, count);
    }
}

fn touch(state: &mut State, job: JobId, change: impl FnOnce(&mut Account)) {
    if state.version() < ClusterVersion::ACCESS {
        return;
    }
    let now = state.meta.time;
    let key = key_of(state.outline(job).expect("who uses something has a job"));
    if !state.accounts.contains_key(&key) {
        for _ in 0..FORGOTTEN_FOR_ONE {
            forget_lapsed(state);
        }
        state.accounts.insert(key.clone(), Arc::new(Account::new(now)));
        state.indexes.idle.insert((lapse(now), key.clone()));
    }
    let account = Arc::make_mut(state.accounts.get_mut(&key).expect("it is there or was just made"));
    let before = lapses_at(account);
    advance(account, now);
    change(account);
    let after = lapses_at(account);
    if before != after {
        before.map(|at| state.indexes.idle.remove(&(at, key.clone())));
        after.map(|at| state.indexes.idle.insert((at, key)));
    }
}

pub(crate) fn key_of(job: Outline<'_>) -> AccountKey {
    AccountKey { queue: job.spec.queue.clone(), owner: job.owner.to_owned() }
}

/// When an account is forgotten that nobody uses meanwhile; never while it is used.
pub(crate) fn lapses_at(account: &Account) -> Option<TimeMs> {
    let idle = account.active == 0 && account.held.is_none();
    idle.then(|| lapse(account.at))
}

/// When the day of this moment is kept no longer.
fn lapse(at: TimeMs) -> TimeMs {
    at.after((LEDGER_DAYS + 1) * DAY_MS)
}

/// Forgets the account whose time was up first; whether there was one.
pub(crate) fn forget_lapsed(state: &mut State) -> bool {
    let now = state.meta.time;
    let Some(due) = state.indexes.idle.get_min().filter(|(at, _)| *at <= now).cloned() else { return false };
    state.indexes.idle.remove(&due);
    state.accounts.remove(&due.1);
    true
}

/// Brings an account from the time as of which it is to a later one, over which it held what it holds.
pub(crate) fn advance(account: &mut Account, now: TimeMs) {
    let Some(span) = now.0.checked_sub(account.at.0).filter(|span| *span > 0) else { return };
    fade(&mut account.decayed, &account.held, span);
    let (hour, last) = (account.at.0 / HOUR_MS, now.0 / HOUR_MS);
    if hour == last {
        accrue(account, span);
    } else {
        accrue(account, HOUR_MS - account.at.0 % HOUR_MS);
        close_hours(account, hour, last);
        accrue(account, now.0 % HOUR_MS);
    }
    account.at = now;
}

/// Past use after a span of time over which this was held.
fn fade(decayed: &mut Usage, held: &Held, span_ms: u64) {
    let left = decay::left(span_ms);
    decayed.change_each(|used| decay::of(used, left));
    let worth = decay::worth(left);
    // From parts of 2^31 to those that are kept.
    decayed.add_held(held, |amount| (u128::from(amount) * u128::from(worth)) >> 15);
}

/// An account's decayed use as it is at a later time if nothing changes until then; as it is, at an earlier one.
pub fn decayed_at(account: &Account, now: TimeMs) -> Usage {
    let mut decayed = account.decayed.clone();
    if let Some(span) = now.0.checked_sub(account.at.0).filter(|span| *span > 0) {
        fade(&mut decayed, &account.held, span);
    }
    decayed
}

fn accrue(account: &mut Account, span_ms: u64) {
    let Account { held, current, .. } = account;
    current.add_held(held, |amount| u128::from(amount) * u128::from(span_ms));
}

/// The hour that was current is over, and so are those between it and the last one.
fn close_hours(account: &mut Account, hour: u64, last: u64) {
    let mut closed = Vec::new();
    let bucket = |hour: u64, used: Usage| UsageBucket { start: TimeMs(hour * HOUR_MS), used };
    let current = std::mem::take(&mut account.current);
    closed.extend((!current.is_none()).then(|| bucket(hour, current)));
    if !account.held.is_none() {
        let mut whole = Usage::default();
        whole.add_held(&account.held, |amount| u128::from(amount) * u128::from(HOUR_MS));
        // What lies further back is dropped at once.
        let from = (hour + 1).max(last.saturating_sub((LEDGER_DAYS + 1) * 24));
        closed.extend((from..last).map(|hour| bucket(hour, whole.clone())));
    }
    let today = last / 24 * DAY_MS;
    let first_hour = TimeMs(last.saturating_sub(LEDGER_HOURS) * HOUR_MS);
    let first_day = TimeMs(today.saturating_sub(LEDGER_DAYS * DAY_MS));
    let stale = |buckets: &[UsageBucket], first: TimeMs| buckets.first().is_some_and(|bucket| bucket.start < first);
    if !closed.is_empty() {
        Arc::make_mut(&mut account.hours).extend(closed);
    }
    if stale(&account.hours, first_hour) {
        let hours = Arc::make_mut(&mut account.hours);
        let old = hours.partition_point(|bucket| bucket.start < first_hour);
        let days = Arc::make_mut(&mut account.days);
        hours.drain(..old).for_each(|bucket| add_to_day(days, &bucket));
    }
    if stale(&account.days, first_day) {
        Arc::make_mut(&mut account.days).retain(|bucket| bucket.start >= first_day);
    }
}

fn add_to_day(days: &mut Vec<UsageBucket>, hour: &UsageBucket) {
    let start = TimeMs(hour.start.0 / DAY_MS * DAY_MS);
    match days.last_mut() {
        Some(day) if day.start == start => day.used.add(&hour.used),
        _ => days.push(UsageBucket { start, used: hour.used.clone() }),
    }
}

/// An account as it is at a later time if nothing changes until then; as it is, at an earlier one.
pub fn as_of(account: &Account, now: TimeMs) -> Account {
    let mut then = account.clone();
    advance(&mut then, now);
    then
}

/// What was used in a span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedSpan {
    /// When it begins: the hour or the day in which the asked for begins.
    pub from: TimeMs,
    /// When it ends, likewise; not after the present hour.
    pub to: TimeMs,
    /// What was used in it, by queue and owner. Who used nothing is left out.
    pub rows: Vec<(AccountKey, Usage)>,
}

impl State {
    /// What owners use in queues, by queue and owner. Each is as of the time when it was changed last; see [`as_of`].
    pub fn accounts(&self) -> impl Iterator<Item = (&AccountKey, &Account)> {
        self.accounts.iter().map(|(key, account)| (key, &**account))
    }

    /// What one owner uses in one queue.
    pub fn account(&self, key: &AccountKey) -> Option<&Account> {
        self.accounts.get(key).map(|account| &**account)
    }

    /// What was used from one time to another, as it is known at the present. Of the last [`LEDGER_HOURS`] it is told by whole
    /// hours, of what was before by whole days, of which [`LEDGER_DAYS`] are known.
    pub fn usage(&self, from: TimeMs, to: TimeMs, now: TimeMs) -> UsedSpan {
        let now = now.max(self.meta.time);
        let fine = (now.0 / HOUR_MS).saturating_sub(LEDGER_HOURS) * HOUR_MS;
        let unit = |at: TimeMs, by_hours: bool| if by_hours { (at.0, HOUR_MS) } else { (at.0, DAY_MS) };
        let (start, start_unit) = unit(from, from.0 >= fine);
        let (end, end_unit) = unit(to.min(TimeMs(now.0 / HOUR_MS * HOUR_MS).after(HOUR_MS)), to.0 > fine);
        let from = TimeMs(start / start_unit * start_unit);
        let to = TimeMs(end.div_ceil(end_unit).saturating_mul(end_unit));
        let rows = self.accounts.iter().filter_map(|(key, account)| {
            let used = used_between(&as_of(account, now), from, to);
            (!used.is_none()).then(|| (key.clone(), used))
        });
        UsedSpan { from, to, rows: rows.collect() }
    }
}

/// The sum of what began in a span of time.
fn used_between(account: &Account, from: TimeMs, to: TimeMs) -> Usage {
    let within = |start: TimeMs| from <= start && start < to;
    let mut sum = Usage::default();
    let closed = account.days.iter().chain(account.hours.iter());
    closed.filter(|bucket| within(bucket.start)).for_each(|bucket| sum.add(&bucket.used));
    if within(TimeMs(account.at.0 / HOUR_MS * HOUR_MS)) {
        sum.add(&account.current);
    }
    sum
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Column, limits::HALF_LIFE_MS};
    use proptest::prelude::*;

    use super::*;
    use crate::decay::tests::reference;

    fn cpu(milli: u64) -> Held {
        Held { cpu_milli: milli, ..Held::NONE }
    }

    /// An account that held so much for so long, one after the other.
    fn after(steps: &[(u64, u64)], begin: u64) -> Account {
        let mut account = Account::new(TimeMs(begin));
        for (milli, span) in steps {
            account.held = cpu(*milli);
            let now = account.at.after(*span);
            advance(&mut account, now);
        }
        account
    }

    /// What it held when, as spans of time.
    fn spans(steps: &[(u64, u64)], begin: u64) -> Vec<(u64, u64, u64)> {
        let mut at = begin;
        let spans = steps.iter().map(|(milli, span)| {
            let from = at;
            at += span;
            (*milli, from, at)
        });
        spans.collect()
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let span = prop_oneof![0..5u64, 0..2 * HOUR_MS, 0..9 * DAY_MS];
        prop::collection::vec((prop_oneof![Just(0), 1..100_000u64], span), 1..40)
    }

    proptest! {
        #[test]
        fn decayed_use_is_the_integral_of_what_was_held(steps in steps(), begin in 0..3 * DAY_MS) {
            let account = after(&steps, begin);
            // What each span is worth now, in 2^-62: what is left of it, in 2^-60, by 1 / ln 2, in 2^-32.
            let sum: u128 = spans(&steps, begin).iter().map(|(milli, from, to)| {
                let left = reference(account.at.0 - to) - reference(account.at.0 - from);
                u128::from(*milli) * ((left * u128::from(HALF_LIFE_MS)) >> 30) * 6_196_328_019
            }).sum();
            let decayed = account.decayed.get(Column::Cpu) << 46;
            let most = (decayed.max(sum) >> 20) + ((2 + 2 * steps.len() as u128) << 46);
            prop_assert!(decayed.abs_diff(sum) <= most, "{decayed} {sum}");
        }

        #[test]
        fn hours_and_days_have_all_that_was_used_in_them(steps in steps(), begin in 0..3 * DAY_MS) {
            let account = after(&steps, begin);
            let used = |from: u64, to: u64| -> u128 {
                let spans = spans(&steps, begin).into_iter();
                spans.map(|(milli, a, b)| u128::from(milli) * u128::from(b.min(to).saturating_sub(a.max(from)))).sum()
            };
            let hour = account.at.0 / HOUR_MS * HOUR_MS;
            prop_assert_eq!(account.current.get(Column::Cpu), used(hour, u64::MAX));
            let first_hour = hour.saturating_sub(LEDGER_HOURS * HOUR_MS);
            for bucket in account.hours.iter() {
                prop_assert!(bucket.start.0 >= first_hour && bucket.start.0 < hour);
                prop_assert_eq!(bucket.used.get(Column::Cpu), used(bucket.start.0, bucket.start.0 + HOUR_MS));
            }
            let first_day = (hour / DAY_MS * DAY_MS).saturating_sub(LEDGER_DAYS * DAY_MS);
            for bucket in account.days.iter() {
                prop_assert!(bucket.start.0 >= first_day && bucket.start.0 < first_hour);
                let end = (bucket.start.0 + DAY_MS).min(first_hour);
                prop_assert_eq!(bucket.used.get(Column::Cpu), used(bucket.start.0, end));
            }
            let closed = account.hours.iter().chain(account.days.iter()).map(|bucket| bucket.used.get(Column::Cpu));
            prop_assert_eq!(closed.sum::<u128>(), used(first_day, hour));
        }

        #[test]
        fn it_does_not_matter_when_it_is_looked_at(steps in steps(), looks in prop::collection::vec(0..DAY_MS, 0..9)) {
            let account = after(&steps, 0);
            let last = looks.iter().sum();
            let mut often = account.clone();
            looks.iter().for_each(|look| { let now = often.at.after(*look); advance(&mut often, now) });
            let once = as_of(&account, account.at.after(last));
            prop_assert_eq!((&once.current, &once.hours, &once.days), (&often.current, &often.hours, &often.days));
            let (one, other) = (once.decayed.get(Column::Cpu), often.decayed.get(Column::Cpu));
            prop_assert!(one.abs_diff(other) <= (one >> 20) + (1 << 20), "{one} {other}");
        }
    }
}
