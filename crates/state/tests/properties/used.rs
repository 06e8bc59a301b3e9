//! What was used, counted hour by hour beside the state, from what runs on the nodes.

use std::collections::BTreeMap;

use flowyard_model::limits::{LEDGER_DAYS, LEDGER_HOURS};
use flowyard_model::{AccountKey, TimeMs, Usage};
use flowyard_state::State;

use crate::bounds::{Sums, by_owner};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Amounts times milliseconds, by the words of their columns.
type Used = BTreeMap<String, u128>;

/// The reference.
#[derive(Default)]
pub(crate) struct Reference {
    at: u64,
    live: BTreeMap<AccountKey, Sums>,
    /// By the beginning of the hour.
    hours: BTreeMap<u64, BTreeMap<AccountKey, Used>>,
}

impl Reference {
    /// An entry was applied: what held something until then held it until the entry's time.
    pub(crate) fn follow(&mut self, state: &State) {
        let now = state.time().0;
        let mut from = self.at;
        while from < now && !self.live.is_empty() {
            let hour = from / HOUR_MS * HOUR_MS;
            let to = now.min(hour + HOUR_MS);
            for (key, sums) in &self.live {
                let used = self.hours.entry(hour).or_default().entry(key.clone()).or_default();
                for (column, amount) in sums {
                    *used.entry(column.clone()).or_default() += u128::from(*amount) * u128::from(to - from);
                }
            }
            from = to;
        }
        (self.at, self.live) = (now, by_owner(state));
    }

    /// The state says the same of several spans of time.
    pub(crate) fn agrees_with(&self, state: &State) {
        let now = state.time().0;
        let ago = |span: u64| now.saturating_sub(span);
        let known = (now / DAY_MS * DAY_MS).saturating_sub(LEDGER_DAYS * DAY_MS);
        for (from, to) in [
            (known, now),
            (ago(LEDGER_HOURS * HOUR_MS), now),
            (ago(5 * HOUR_MS), ago(2 * HOUR_MS)),
            (ago(20 * DAY_MS), ago(3 * DAY_MS)),
            (ago(4 * DAY_MS), ago(HOUR_MS)),
        ] {
            let told = state.usage(TimeMs(from), TimeMs(to), TimeMs(now));
            assert!(told.from.0 <= from && told.to.0 >= to && told.from.0 + DAY_MS > from && to + DAY_MS > told.to.0);
            let rows: BTreeMap<_, _> = told.rows.iter().map(|(key, used)| (key.clone(), words(used))).collect();
            assert_eq!(rows, self.between(told.from.0.max(known), told.to.0), "{from} to {to}");
        }
    }

    fn between(&self, from: u64, to: u64) -> BTreeMap<AccountKey, Used> {
        let mut sums: BTreeMap<AccountKey, Used> = BTreeMap::new();
        for (key, used) in self.hours.range(from..to).flat_map(|(_, accounts)| accounts) {
            let sum = sums.entry(key.clone()).or_default();
            used.iter().for_each(|(column, amount)| *sum.entry(column.clone()).or_default() += amount);
        }
        sums
    }
}

fn words(used: &Usage) -> Used {
    used.columns().filter(|(_, used)| *used > 0).map(|(column, used)| (column.to_string(), used)).collect()
}
