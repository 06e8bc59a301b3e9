//! Queue files: from the text an operator wrote to queues. Read as strictly as flow files, and in the same words.
//!
//! ```toml
//! [queue."research/vision"]
//! weight = 2
//! limit = { cpu = 200, gpu = { any = 16, h100 = 8 } }
//! reserve = { cpu = 100 }
//! ```
//!
//! A queue is put as a whole: what a file does not say of it has no bound and no promise.

use std::collections::BTreeMap;
use std::path::Path;

use flowyard_model::{Contract, GpuClass, Name, Queue, QueueAmounts, QueuePath, limits, queue_faults};
use toml::de::DeTable;

use crate::flow::FlowError;
use crate::flow::fields::{Field, Shape, field};
use crate::flow::load::{bytes_of, text_of};
use crate::flow::problem::Problems;
use crate::flow::read::tree;
use crate::flow::source::Source;
use crate::flow::walk::{At, KeyAt, Walk};
use crate::shown::shown;
use crate::units;

/// Bytes of a queue file.
const FILE_BYTES: u64 = 4 * 1024 * 1024;
const SIZE: &str = "a size with a unit, such as \"2TiB\"";
const TIME: &str = "a time with a unit, such as \"10m\"";
const CONTRACT_EXAMPLE: &str = "{ min_run = \"10m\", notice = \"30s\", kill_within = \"1m\" }";
const AMOUNTS_EXAMPLE: &str = "a table such as { cpu = 100, memory = \"2TiB\", gpu = 16 }";

/// Keys at the top of the file.
const FILE: &[Field] = &[field("queue", Shape::Any, "The queues, each as [queue.\"PATH\"].", "")];

/// Keys of a queue.
const QUEUE: &[Field] = &[
    field("weight", Shape::Integer(1, limits::QUEUE_WEIGHT as i64), "Share relative to its siblings.", "2").or("1"),
    field("max_active", Shape::Integer(1, u32::MAX as i64), "Most tasks active at one time.", "100").or("no bound"),
    field("limit", Shape::Any, "Most it may hold.", "{ cpu = 200 }").or("no bound"),
    field("reserve", Shape::Any, "What it is promised.", "{ cpu = 100 }").or("nothing"),
    field("borrow", Shape::Any, "Most it may hold beyond its reserve.", "{ cpu = 50 }").or("no bound"),
    field("lend", Shape::Any, "Most of its unused reserve that others may hold.", "{ cpu = 50 }").or("all of it"),
    field("contract", Shape::Any, "What its work is promised that may be evicted.", CONTRACT_EXAMPLE)
        .or("that of the queue above"),
    field("no_preempt", Shape::Any, "Most that work which must not be evicted may hold.", "{ cpu = 50 }").or("nothing"),
];

/// Keys of a contract.
const CONTRACT: &[Field] = &[
    field("min_run", Shape::Duration, "Time that it runs in any case.", "\"10m\"").or("\"5m\""),
    field("notice", Shape::Duration, "Longest time between a step's notice and the stop.", "\"1m\"").or("\"30s\""),
    field("kill_within", Shape::Duration, "Longest time between the stop and the kill.", "\"30s\"").or("\"1m\""),
];

/// Keys of an amount.
const AMOUNTS: &[Field] = &[
    field("cpu", Shape::Cpu, "CPUs.", "100"),
    field("memory", Shape::Bytes, "Memory.", "\"2TiB\""),
    field("disk", Shape::Bytes, "Scratch space.", "\"20TiB\""),
    field("gpu", Shape::Any, "GPUs: of any model, or by model.", "{ any = 16, h100 = 8 }"),
    field("tokens", Shape::Any, "Tokens, by name.", "{ matlab = 5 }"),
];

/// Reads and checks the queue file at `path`.
///
/// # Errors
/// The file cannot be read, or everything wrong that was found in it.
pub fn load(path: &Path) -> Result<Vec<Queue>, FlowError> {
    let file = path.display().to_string();
    let bytes = bytes_of(path, FILE_BYTES);
    let bytes =
        bytes.map_err(|error| FlowError::unreadable(&file, format!("cannot read the queue file: {error}"), None))?;
    let too_large = || FlowError::whole(&file, format!("the queue file is larger than {} MiB", FILE_BYTES >> 20), None);
    parse(&file, &bytes.ok_or_else(too_large)?)
}

/// Reads and checks the text of a queue file; `file` is what messages call it. The queues come in the order of the file.
///
/// # Errors
/// Everything wrong that was found.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<Queue>, FlowError> {
    let text = text_of(file, bytes, "the queue file")?;
    let source = Source::of_file(file, text);
    let tree = tree(&source, text)?;
    let mut walk = Walk::new(Problems::new(&source));
    let queues = read_queues(&mut walk, tree.get_ref());
    walk.problems.into_result(|| queues)
}

fn read_queues(walk: &mut Walk<'_>, tree: &DeTable<'_>) -> Vec<Queue> {
    let entries = walk.entries(tree, "");
    let mut queues = Vec::new();
    for top in walk.fields(entries, FILE, "at the top of the file") {
        let entries = walk.table(&top.at, "a table of queues, [queue.\"research/vision\"]").unwrap_or_default();
        if let Some(first) = entries.get(limits::QUEUES_PER_CALL) {
            let message =
                format!("at most {} queues in one file, these are {}", limits::QUEUES_PER_CALL, entries.len());
            walk.problems.at_span(first.key_span.clone(), "queue", message);
        }
        queues.extend(entries.iter().filter_map(|entry| read_queue(walk, entry)));
    }
    if queues.is_empty() && walk.problems.is_empty() {
        let help = "add [queue.\"research/vision\"] and what it is allowed below that";
        walk.problems.at_span(0..0, "", "there is no queue in the file").help(help);
    }
    queues
}

fn read_queue(walk: &mut Walk<'_>, entry: &KeyAt<'_, '_>) -> Option<Queue> {
    let found_before = walk.problems.count();
    let path: Option<QueuePath> = match entry.key.parse() {
        Ok(path) => Some(path),
        Err(error) => {
            let message = format!("`{}` cannot be the path of a queue: {error}", shown(entry.key));
            walk.problems.at_span(entry.key_span.clone(), &entry.at.path, message);
            None
        }
    };
    let keys = walk.table(&entry.at, "a queue, [queue.\"research/vision\"]")?;
    let keys = without_queues_below(walk, entry.key, keys);
    let place = format!("in queue `{}`", shown(entry.key));
    let mut queue = Queue::new(path?);
    for key in walk.fields(keys, QUEUE, &place) {
        let at = &key.at;
        match key.key {
            "weight" => queue.weight = walk.integer(at, 1, i64::from(limits::QUEUE_WEIGHT)).unwrap_or(1),
            "max_active" => queue.max_active = walk.integer(at, 1, i64::from(u32::MAX)),
            "limit" => queue.limit = read_amounts(walk, at, key.key),
            "reserve" => queue.reserve = read_amounts(walk, at, key.key),
            "borrow" => queue.borrow = read_amounts(walk, at, key.key),
            "lend" => queue.lend = read_amounts(walk, at, key.key),
            "contract" => queue.contract = read_contract(walk, at),
            _ => queue.no_preempt = read_amounts(walk, at, key.key),
        }
    }
    // What could not be read would only echo here.
    if walk.problems.count() == found_before {
        check(walk, entry, &queue);
    }
    Some(queue)
}

/// `[queue.research.vision]` is TOML for a field `vision` of `research`, and its writer means a queue.
fn without_queues_below<'t, 'i>(walk: &mut Walk<'_>, queue: &str, keys: Vec<KeyAt<'t, 'i>>) -> Vec<KeyAt<'t, 'i>> {
    let is_queue = |key: &KeyAt<'_, '_>| {
        let named = |fields: &[Field]| fields.iter().any(|field| field.name == key.key);
        key.at.as_table().is_some_and(|table| {
            !named(QUEUE) && table.iter().all(|(key, _)| QUEUE.iter().any(|field| field.name == key.get_ref().as_ref()))
        })
    };
    let (below, keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(is_queue);
    for key in below {
        let message = format!("`{}` is no field of queue `{}`", shown(key.key), shown(queue));
        let help = format!("write [queue.\"{}/{}\"] for a queue below it", shown(queue), shown(key.key));
        walk.problems.at_span(key.key_span, &key.at.path, message).help(help);
    }
    keys
}

/// Reports the rules that the queue breaks as a whole, each where it was written.
fn check(walk: &mut Walk<'_>, entry: &KeyAt<'_, '_>, queue: &Queue) {
    for fault in queue_faults(queue) {
        let path = format!("{}.{}", entry.at.path, fault.field);
        let mut place = path.as_str();
        let span = loop {
            match (walk.spans.get(place), place.rsplit_once('.')) {
                (Some(span), _) => break span.clone(),
                (None, Some((around, _))) => place = around,
                (None, None) => break entry.key_span.clone(),
            }
        };
        walk.problems.at_span(span, &path, fault.message);
    }
}

/// What is not written of it is as in the contract that holds where no queue says otherwise.
fn read_contract(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Contract> {
    let entries = walk.table(at, &format!("a table such as {CONTRACT_EXAMPLE}"))?;
    let mut contract = Contract::DEFAULT;
    for entry in walk.fields(entries, CONTRACT, "in `contract`") {
        let time = match entry.key {
            "min_run" => &mut contract.min_run_ms,
            "notice" => &mut contract.notice_ms,
            _ => &mut contract.kill_within_ms,
        };
        *time = walk.quantity(&entry.at, TIME, units::duration_ms)?;
    }
    Some(contract)
}

fn read_amounts(walk: &mut Walk<'_>, at: &At<'_, '_>, field: &str) -> QueueAmounts {
    let mut amounts = QueueAmounts::default();
    let Some(entries) = walk.table(at, AMOUNTS_EXAMPLE) else { return amounts };
    for entry in walk.fields(entries, AMOUNTS, &format!("in `{field}`")) {
        let at = &entry.at;
        match entry.key {
            "cpu" => amounts.cpu_milli = walk.quantity(at, "a number of CPUs such as 100", units::queue_cpu_milli),
            "memory" => amounts.memory_bytes = walk.quantity(at, SIZE, units::queue_bytes),
            "disk" => amounts.disk_bytes = walk.quantity(at, SIZE, units::queue_bytes),
            "gpu" => amounts.gpu_milli = read_gpus(walk, at),
            _ => amounts.tokens = read_tokens(walk, at),
        }
    }
    amounts
}

fn read_gpus(walk: &mut Walk<'_>, at: &At<'_, '_>) -> BTreeMap<GpuClass, u64> {
    const EXPECTED: &str = "a number of GPUs such as 16, or a table such as { any = 16, h100 = 8 }";
    let mut gpus = BTreeMap::new();
    if at.as_table().is_none() {
        gpus.extend(walk.quantity(at, EXPECTED, units::queue_gpu_milli).map(|milli| (GpuClass::Any, milli)));
        return gpus;
    }
    for entry in walk.table(at, EXPECTED).unwrap_or_default() {
        let milli = walk.quantity(&entry.at, "a number of GPUs such as 8", units::queue_gpu_milli);
        let class = match entry.key.eq_ignore_ascii_case("any") {
            true => GpuClass::Any,
            false => GpuClass::model(entry.key),
        };
        walk.spans.insert(format!("{}.{class}", at.path), entry.at.value.span());
        if gpus.contains_key(&class) {
            let message = format!("`{}` is given twice: models are compared without case", shown(entry.key));
            walk.problems.at_span(entry.key_span, &entry.at.path, message);
        }
        gpus.insert(class, milli.unwrap_or_default());
    }
    gpus
}

fn read_tokens(walk: &mut Walk<'_>, at: &At<'_, '_>) -> BTreeMap<Name, u64> {
    let mut tokens = BTreeMap::new();
    for entry in walk.table(at, "a table such as { matlab = 5 }").unwrap_or_default() {
        let name = walk.name_key(&entry, "a token");
        let count = walk.integer(&entry.at, 0, i64::try_from(limits::QUEUE_TOKENS).unwrap_or(i64::MAX));
        tokens.extend(name.zip(count));
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(text: &str) -> Vec<Queue> {
        parse("queues.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn said(text: &str) -> String {
        parse("queues.toml", text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn what_a_person_writes_is_read_exactly() {
        let read = queues(
            r#"
[queue.research]
weight = 3

[queue."research/vision"]
max_active = 40
limit = { cpu = 200.5, memory = "2TiB", disk = "20TB", gpu = { any = 16, H100 = 8.125 }, tokens = { matlab = 5 } }
reserve = { cpu = "100", gpu = 4 }
borrow = { cpu = 0 }

[queue."research/vision".lend]
cpu = 50

[queue.urgent]
contract = { min_run = "0s", kill_within = "90s" }
reserve = { cpu = 8, memory = "64GiB" }
no_preempt = { cpu = 4, memory = "64GiB" }
"#,
        );
        let [research, vision, urgent] = &read[..] else { panic!("{read:?}") };
        assert_eq!(*research, Queue { weight: 3, ..Queue::new("research".parse().unwrap()) });
        let h100 = GpuClass::model("h100");
        let limit = QueueAmounts {
            cpu_milli: Some(200_500),
            memory_bytes: Some(2 << 40),
            disk_bytes: Some(20_000_000_000_000),
            gpu_milli: [(GpuClass::Any, 16_000), (h100, 8_125)].into(),
            tokens: [("matlab".parse().unwrap(), 5)].into(),
        };
        let gpus = [(GpuClass::Any, 4_000)].into();
        let reserve = QueueAmounts { cpu_milli: Some(100_000), gpu_milli: gpus, ..QueueAmounts::default() };
        let cpus = |milli| QueueAmounts { cpu_milli: Some(milli), ..QueueAmounts::default() };
        let (borrow, lend) = (cpus(0), cpus(50_000));
        assert_eq!(urgent.contract, Some(Contract { min_run_ms: 0, kill_within_ms: 90_000, ..Contract::DEFAULT }));
        let kept = (urgent.no_preempt.cpu_milli, urgent.no_preempt.memory_bytes, urgent.no_preempt.disk_bytes);
        assert_eq!((kept, vision.contract), ((Some(4_000), Some(64 << 30), None), None));
        let path = "research/vision".parse().unwrap();
        assert_eq!(*vision, Queue { max_active: Some(40), limit, reserve, borrow, lend, ..Queue::new(path) });
    }

    /// Files that are wrong, and what is said of each.
    const WRONG: &[(&str, &[&str])] = &[
        ("", &["there is no queue in the file", "add [queue.\"research/vision\"]"]),
        ("[queue]\n", &["there is no queue in the file"]),
        ("queue = 3\n", &["queues.toml:1:9: expected a table of queues", "found the number 3"]),
        ("[queues.a]\n", &["queues.toml:1:2: unknown key `queues`", "did you mean `queue`?"]),
        ("[[queue]]\npath = \"a\"\n", &["expected a table of queues", "found a list"]),
        ("[queue.a\n", &["queues.toml:1:"]),
        ("[queue.a]\n[queue.a]\n", &["queues.toml:2:8: duplicate key"]),
        ("[queue.a]\nweight = 1\nweight = 2\n", &["queues.toml:3:1: duplicate key"]),
        ("[queue.\"a//b\"]\n", &["queues.toml:1:8", "cannot be the path of a queue", "a name must not be empty"]),
        ("[queue.\"a\\u001b[31m\"]\n", &["cannot be the path of a queue", "a\\u{1b}[31m"]),
        ("[queue.a.b]\nweight = 2\n", &["`b` is no field of queue `a`", "write [queue.\"a/b\"]"]),
        ("[queue.a]\nwieght = 2\n", &["queues.toml:2:1: unknown key `wieght` in queue `a`; did you mean `weight`?"]),
        ("[queue.a]\nguaranteed = { cpu = 1 }\n", &["did you mean `reserve`?"]),
        ("[queue.a]\nweight = 0\n", &["queues.toml:2:10: expected a whole number from 1 to 1000000"]),
        ("[queue.a]\nmax_active = -1\n", &["expected a whole number from 1 to"]),
        ("[queue.a]\nlimit = 5\n", &["expected a table such as { cpu = 100", "found the number 5"]),
        ("[queue.a]\nlimit = { cpus = 5 }\n", &["unknown key `cpus` in `limit`; did you mean `cpu`?"]),
        ("[queue.a]\nlimit = { memory = 5 }\n", &["queues.toml:2:20: `5` has no unit: write \"5GiB\""]),
        ("[queue.a]\nlimit = { memory = \"5G\" }\n", &["unknown unit `G` (did you mean `GiB`?)"]),
        ("[queue.a]\nlimit = { cpu = -5 }\n", &["`-5` is negative"]),
        ("[queue.a]\nlimit = { cpu = 0.0001 }\n", &["not a whole number of thousandths"]),
        ("[queue.a]\nlimit = { cpu = 1e400 }\n", &["`1e400` is not a quantity"]),
        ("[queue.a]\nlimit = { cpu = nan }\n", &["`nan` is not a quantity"]),
        ("[queue.a]\nlimit = { gpu = true }\n", &["expected a number of GPUs such as 16", "found true"]),
        ("[queue.a]\nlimit = { gpu = { h100 = \"8GiB\" } }\n", &["`8GiB` is not a quantity; a number of GPUs"]),
        ("[queue.a]\nlimit = { gpu = { h100 = 1, H100 = 2 } }\n", &["`H100` is given twice", "without case"]),
        ("[queue.a]\nlimit = { tokens = { matlab = 0.5 } }\n", &["expected a whole number from 0"]),
        ("[queue.a]\nlimit = { tokens = { \"a b\" = 1 } }\n", &["cannot be the name of a token"]),
        ("[queue.a]\ncontract = \"5m\"\n", &["expected a table such as { min_run = \"10m\"", "found the text"]),
        ("[queue.a]\ncontract = { min_run = 300 }\n", &["queues.toml:2:24: `300` has no unit"]),
        (
            "[queue.a]\ncontract = { min_runs = \"5m\" }\n",
            &["unknown key `min_runs` in `contract`; did you mean `min_run`?"],
        ),
        (
            "[queue.a]\ncontract = { min_run = \"50m\", notice = \"10m\" }\n",
            &["queues.toml:2:1: `min_run`, `notice` and `kill_within` together are at most an hour"],
        ),
        (
            "[queue.a]\nreserve = { cpu = 2 }\nno_preempt = { cpu = 4 }\n",
            &["queues.toml:3:22: what cannot be evicted must not borrow, and 4 is above the reserve of 2"],
        ),
        (
            "[queue.a]\nlimit = { gpu = { h100 = 8 } }\nreserve = { gpu = { H100 = 9 } }\n",
            &["queues.toml:3:28: the reserve of 9 is above the limit of 8", "raise `limit`", "^"],
        ),
        (
            "[queue.a]\nreserve = { memory = \"1GiB\" }\nlend = { memory = \"2GiB\", cpu = 1 }\n",
            &[
                "queues.toml:3:19: only what is reserved is lent, and 2GiB is above the reserve of 1GiB",
                "queues.toml:3:33",
            ],
        ),
    ];

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_what_to_do() {
        for (text, words) in WRONG {
            let said = said(text);
            for word in *words {
                assert!(said.contains(word), "{text}\nsays\n{said}\nand lacks\n{word}");
            }
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once_and_nothing_twice() {
        let text =
            "[queue.a]\nreserve = { cpu = \"x\" }\nlend = { cpu = 5 }\n[queue.b]\nweigth = 1\nlimit = { gpu = -1 }\n";
        let error = parse("queues.toml", text.as_bytes()).unwrap_err();
        let lines: Vec<_> = error.problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [Some(2), Some(5), Some(6)], "{error}");
        let many: String = (0..=limits::QUEUES_PER_CALL).map(|at| format!("[queue.q{at}]\n")).collect();
        assert!(said(&many).contains("at most 1000 queues in one file, these are 1001"));
    }
}
