//! `fctl usage`: what was used over time, by user, queue or model of GPU.

use std::collections::BTreeMap;
use std::process::ExitCode;

use flowyard_proto::api::{self, GetUsageRequest, GetUsageResponse, UsageRow};
use serde_json::{Value, json};

use super::Outcome;
use crate::asking::asking_anybody;
use crate::cli::Global;
use crate::cli::usage::{By, Usage};
use crate::failure::Failure;
use crate::table::{Table, Tone, cell, toned};
use crate::{output, text};

/// Days for which it is known what was used.
const KNOWN_DAYS: u64 = flowyard_model::limits::LEDGER_DAYS;
const DAY_MS: u64 = 24 * 3_600_000;

pub(super) async fn run(global: &Global, usage: &Usage) -> Outcome {
    let now_ms = flowyard_clock::wall_ms();
    let from_ms = usage.since.at_ms(now_ms);
    let to_ms = usage.until.map(|until| until.at_ms(now_ms));
    if from_ms >= to_ms.unwrap_or(now_ms) {
        return Err(Failure::Usage("--since: it is not before --until, or before now if that is not given".to_owned()));
    }
    let request = GetUsageRequest { from_ms, to_ms };
    let ask = async |client: &mut flowyard_sdk::client::Client| Ok(client.get_usage(request).await?);
    let answer = asking_anybody(global, usage.stale, ask).await?;
    if output::is_json() {
        output::json(&as_json(&answer, usage.by));
        return Ok(ExitCode::SUCCESS);
    }
    if from_ms.saturating_add(KNOWN_DAYS * DAY_MS) < now_ms {
        output::note(format!("what was used is known for {KNOWN_DAYS} days"));
    }
    output::line(format!("{} to {}", minute(answer.from_ms), minute(answer.to_ms)));
    if !answer.counted {
        output::note(
            "this cluster does not count what is used yet: it does so from version 2 on, once all its coordinators are upgraded",
        );
    } else if answer.rows.is_empty() {
        output::note("nothing was used that you may look at");
    } else {
        print(&answer.rows, usage.by);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(rows: &[UsageRow], by: By) {
    match by {
        By::Gpu => print_gpus(&sum(rows)),
        by => print_rows(rows, by),
    }
}

/// A moment as far as it matters here.
fn minute(at_ms: u64) -> String {
    let moment = text::moment(at_ms);
    moment.get(..16).map_or(moment.clone(), |minute| format!("{}Z", minute.replace('T', " ")))
}

/// What several lines used together.
fn sum<'r>(rows: impl IntoIterator<Item = &'r UsageRow>) -> api::Usage {
    fn add(sums: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
        for (name, used) in more {
            let sum = sums.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*used);
        }
    }
    let mut sum = api::Usage::default();
    for used in rows.into_iter().filter_map(|row| row.used.as_ref()) {
        sum.cpu_milli_seconds = sum.cpu_milli_seconds.saturating_add(used.cpu_milli_seconds);
        sum.memory_mib_seconds = sum.memory_mib_seconds.saturating_add(used.memory_mib_seconds);
        sum.disk_mib_seconds = sum.disk_mib_seconds.saturating_add(used.disk_mib_seconds);
        add(&mut sum.gpu_milli_seconds, &used.gpu_milli_seconds);
        add(&mut sum.token_seconds, &used.token_seconds);
    }
    sum
}

/// The lines put together that have the same name, those first that used most: of GPUs, then of CPUs.
fn grouped(rows: &[UsageRow], by: By) -> Vec<(String, api::Usage)> {
    let mut groups: BTreeMap<&str, Vec<&UsageRow>> = BTreeMap::new();
    for row in rows {
        let name = if by == By::Queue { &row.queue } else { &row.owner };
        groups.entry(name).or_default().push(row);
    }
    let mut grouped: Vec<_> = groups.into_iter().map(|(name, rows)| (name.to_owned(), sum(rows))).collect();
    grouped.sort_by_key(|(_, used)| std::cmp::Reverse((gpus(used), used.cpu_milli_seconds)));
    grouped
}

/// Devices of all models.
fn gpus(used: &api::Usage) -> u64 {
    used.gpu_milli_seconds.values().fold(0, |sum, used| sum.saturating_add(*used))
}

fn print_rows(rows: &[UsageRow], by: By) {
    let heading = if by == By::Queue { "QUEUE" } else { "USER" };
    let mut table = Table::new([heading, "CPU-HOURS", "MEMORY GiB-HOURS", "GPU-HOURS", "OF WHICH"]);
    let grouped = grouped(rows, by);
    for (name, used) in &grouped {
        table.row(std::iter::once(cell(name)).chain(cells(used)));
    }
    if grouped.len() > 1 {
        table.row(std::iter::once(toned("all", Tone::Faint)).chain(cells(&sum(rows))));
    }
    table.print();
}

fn cells(used: &api::Usage) -> [crate::table::Cell; 4] {
    let models = used.gpu_milli_seconds.iter().map(|(model, milli)| format!("{model} {}", hours(*milli, 1_000)));
    let tokens = used.token_seconds.iter().map(|(name, count)| format!("{name} {}", hours(*count, 1)));
    [
        cell(hours(used.cpu_milli_seconds, 1_000)),
        cell(hours(used.memory_mib_seconds, 1_024)),
        cell(hours(gpus(used), 1_000)),
        cell(models.chain(tokens).collect::<Vec<_>>().join(", ")),
    ]
}

fn print_gpus(used: &api::Usage) {
    let mut table = Table::new(["MODEL", "GPU-HOURS"]);
    for (model, milli) in by_model(used) {
        table.row([cell(model), cell(hours(milli, 1_000))]);
    }
    table.row([toned("all", Tone::Faint), cell(hours(gpus(used), 1_000))]);
    table.print();
}

/// Models, the most used first.
fn by_model(used: &api::Usage) -> Vec<(&str, u64)> {
    let mut models: Vec<_> = used.gpu_milli_seconds.iter().map(|(model, milli)| (model.as_str(), *milli)).collect();
    models.sort_by_key(|(_, milli)| std::cmp::Reverse(*milli));
    models
}

/// Seconds of some unit, of which so many are one, as hours with two decimals; what was used is never shown as nothing.
fn hours(seconds: u64, unit: u64) -> String {
    let hundredths = u128::from(seconds) * 100 / (u128::from(unit) * 3_600);
    match (hundredths, seconds) {
        (0, 0) => "0".to_owned(),
        (0, _) => "<0.01".to_owned(),
        _ => format!("{}.{:02}", hundredths / 100, hundredths % 100),
    }
}

fn as_json(answer: &GetUsageResponse, by: By) -> Value {
    let name = match by {
        By::User => "user",
        By::Queue => "queue",
        By::Gpu => "gpu",
    };
    let all = sum(&answer.rows);
    let row = |used: &api::Usage| {
        json!({
            "cpu_milli_seconds": used.cpu_milli_seconds,
            "memory_mib_seconds": used.memory_mib_seconds,
            "disk_mib_seconds": used.disk_mib_seconds,
            "gpu_milli_seconds": used.gpu_milli_seconds,
            "token_seconds": used.token_seconds,
        })
    };
    let rows: Vec<Value> = match by {
        By::Gpu => {
            by_model(&all).iter().map(|(model, milli)| json!({ "gpu": model, "gpu_milli_seconds": milli })).collect()
        }
        _ => {
            let named = |(it, used): &(String, api::Usage)| {
                let mut line = row(used);
                line[name] = it.as_str().into();
                line
            };
            grouped(&answer.rows, by).iter().map(named).collect()
        }
    };
    json!({ "from_ms": answer.from_ms, "to_ms": answer.to_ms, "counted": answer.counted, "by": name, "rows": rows, "all": row(&all) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(queue: &str, owner: &str, cpu: u64, gpus: &[(&str, u64)]) -> UsageRow {
        let gpu_milli_seconds = gpus.iter().map(|(model, milli)| ((*model).to_owned(), *milli)).collect();
        let used = api::Usage { cpu_milli_seconds: cpu, gpu_milli_seconds, ..api::Usage::default() };
        UsageRow { queue: queue.to_owned(), owner: owner.to_owned(), used: Some(used) }
    }

    #[test]
    fn lines_of_the_same_name_are_one_and_who_used_most_comes_first() {
        let rows = [
            row("a", "ann", 5, &[("h100", 1)]),
            row("b", "bob", 9, &[]),
            row("b", "ann", 1, &[("h100", 2), ("l4", 3)]),
        ];
        let names = |by: By| {
            let cpus = |(name, used): (String, api::Usage)| (name, used.cpu_milli_seconds, gpus(&used));
            grouped(&rows, by).into_iter().map(cpus).collect::<Vec<_>>()
        };
        assert_eq!(names(By::User), [("ann".to_owned(), 6, 6), ("bob".to_owned(), 9, 0)]);
        assert_eq!(names(By::Queue), [("b".to_owned(), 10, 5), ("a".to_owned(), 5, 1)]);
        assert_eq!(by_model(&sum(&rows)), [("h100", 3), ("l4", 3)]);
    }

    #[test]
    fn hours_are_rounded_down_and_little_is_not_nothing() {
        assert_eq!(hours(0, 1_000), "0");
        assert_eq!(hours(1, 1_000), "<0.01");
        assert_eq!(hours(3_600_000, 1_000), "1.00");
        assert_eq!(hours(9_035_999, 1_000), "2.50");
        assert_eq!(hours(u64::MAX, 1), "5124095576030431.00");
        assert_eq!(minute(0), "1970-01-01 00:00Z");
    }
}
