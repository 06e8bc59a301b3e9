//! What was used over time, of the ledger: line by line, as far as the caller may look at it.

use flowyard_model::limits::LEDGER_DAYS;
use flowyard_model::{ClusterVersion, Column, GpuClass, QueuePath, TimeMs, Usage};
use flowyard_proto::api::{self, GetUsageRequest, GetUsageResponse, UsageRow};
use flowyard_state::{UsedSpan, View};
use tonic::Status;

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3_600_000;

/// What was used in the span of time that is asked for, as it is known at `now`.
pub(super) fn get(
    view: &View,
    asked: &GetUsageRequest,
    now: TimeMs,
    looks: impl Fn(&QueuePath) -> bool,
) -> Result<GetUsageResponse, Status> {
    // What is to come was not used yet.
    let to = asked.to_ms.map_or(now, TimeMs).min(now);
    let from = TimeMs(asked.from_ms);
    if from >= to {
        return Err(Status::invalid_argument(format!("from_ms: {from} is not before the end, {to}, or before now")));
    }
    // What lies further back is not known, and nobody should take it for nothing.
    let known = TimeMs(now.0.saturating_sub(LEDGER_DAYS * DAY_MS));
    if known >= to {
        let message =
            format!("to_ms: {to} is before {known}: what was used more than {LEDGER_DAYS} days ago is not known");
        return Err(Status::invalid_argument(message));
    }
    let UsedSpan { from, to, rows } = view.usage(from.max(known), to, now);
    let rows = rows.into_iter().filter(|(key, _)| looks(&key.queue));
    let rows =
        rows.map(|(key, used)| UsageRow { queue: key.queue.to_string(), owner: key.owner, used: Some(shown(&used)) });
    let counted = view.version() >= ClusterVersion::ACCESS;
    Ok(GetUsageResponse { from_ms: from.0, to_ms: to.0, counted, rows: rows.collect() })
}

/// In units that a number of the wire holds, whatever a cluster uses in two months.
fn shown(used: &Usage) -> api::Usage {
    const MIB: u128 = 1 << 20;
    let whole = |number: u128, unit: u128| u64::try_from(number / (unit * 1_000)).unwrap_or(u64::MAX);
    let mut shown = api::Usage::default();
    for (column, number) in used.columns() {
        match column {
            Column::Cpu => shown.cpu_milli_seconds = whole(number, 1),
            Column::Memory => shown.memory_mib_seconds = whole(number, MIB),
            Column::Disk => shown.disk_mib_seconds = whole(number, MIB),
            Column::Gpu(GpuClass::Any) => {}
            Column::Gpu(GpuClass::Model(model)) => {
                shown.gpu_milli_seconds.insert(model.clone(), whole(number, 1));
            }
            Column::Token(name) => {
                shown.token_seconds.insert(name.to_string(), whole(number, 1));
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_whole_seconds_of_each_resource_and_never_wraps() {
        let model = GpuClass::model("H100");
        let used = Usage {
            cpu_milli_ms: 2_500 * 3_999,
            memory_byte_ms: (3_u128 << 20) * 10_500,
            disk_byte_ms: u128::MAX,
            gpu_milli_ms: [(model, 500 * 7_200_000)].into(),
            token_ms: [("matlab".parse().unwrap(), 999)].into(),
        };
        let shown = shown(&used);
        assert_eq!((shown.cpu_milli_seconds, shown.memory_mib_seconds), (9_997, 31));
        assert_eq!(shown.disk_mib_seconds, u64::MAX);
        assert_eq!(shown.gpu_milli_seconds, [("h100".to_owned(), 3_600_000)].into());
        assert_eq!(shown.token_seconds, [("matlab".to_owned(), 0)].into());
    }
}
