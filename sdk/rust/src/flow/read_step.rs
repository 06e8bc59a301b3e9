//! The fields of a step, or of the defaults: each key one arm, each value one parser.

use std::collections::BTreeMap;

use flowyard_model::{Isolation, Name, NetworkMode, Notice, OnDisconnect, OnFailure, StopSignal, limits};

use super::constraints::constraint;
use super::fields;
use super::json::to_json;
use super::read::{is_tag, priority};
use super::read_beside::read_beside;
use super::read_gang::{read_gang, read_prefer};
use super::read_gpu::read_gpu;
use super::read_retry::read_retry;
use super::spec::{FlowStep, Foreach};
use super::walk::{At, KeyAt, Walk};
use crate::flags;
use crate::shown::shown;
use crate::units;

pub(super) const SIZE: &str = "a size with a unit, such as \"256MiB\"";
pub(super) const TIME: &str = "a time with a unit, such as \"10m\"";

/// Reads the known keys of a step.
pub(crate) fn read_step(walk: &mut Walk<'_>, entries: &[KeyAt<'_, '_>]) -> FlowStep {
    let mut step = FlowStep::default();
    for entry in entries {
        let at = &entry.at;
        match entry.key {
            "run" => step.run = read_run(walk, at),
            "code" => step.code = read_path(walk, at, "the path of a folder, such as \".\""),
            "inputs" => step.inputs = read_artifacts(walk, at, "an input", "{ data = \"./iris.csv\" }"),
            "outputs" => step.outputs = read_outputs(walk, at),
            "foreach" => step.foreach = read_foreach(walk, at),
            "each" => step.each = walk.text(at, "the name of a step, in quotes"),
            "needs" => step.needs = walk.texts(at, "a list of steps such as [\"split\"]"),
            "env" => (step.env, step.secret_env) = read_env(walk, at),
            "secret_files" => step.secret_files = read_secret_files(walk, at),
            "labels" => step.labels = read_labels(walk, at),
            "environment" => reserved(walk, entry),
            "gang" => read_gang(walk, at, &mut step),
            "prefer" => step.prefer = read_prefer(walk, at),
            _ if read_beside(walk, entry, &mut step) => {}
            _ => read_resource(walk, entry, &mut step),
        }
    }
    step
}

fn read_resource(walk: &mut Walk<'_>, entry: &KeyAt<'_, '_>, step: &mut FlowStep) {
    let at = &entry.at;
    match entry.key {
        "cpu" => step.cpu_milli = walk.quantity(at, "a number of CPUs such as 0.5", units::cpu_milli),
        "memory" => step.memory_bytes = walk.quantity(at, SIZE, units::bytes),
        "disk" => step.disk_bytes = walk.quantity(at, SIZE, units::bytes),
        "shm" => step.shm_bytes = walk.quantity(at, SIZE, units::bytes),
        "gpu" => step.gpus = read_gpu(walk, at),
        "tokens" => step.tokens = read_tokens(walk, at),
        "image" => step.image = walk.parsed(at, "\"host\" or a path such as \"./image.tar\"", flags::image),
        "isolation" => {
            let words = [("container", Isolation::Container), ("process", Isolation::Process)];
            step.isolation = walk.choice(at, &words);
        }
        "network" => step.network = read_network(walk, at),
        "mounts" => step.mounts = parsed_list(walk, at, "a list such as [\"/data:ro\"]", flags::mount),
        "constraints" => step.constraints = parsed_list(walk, at, "a list such as [\"rack == r1\"]", constraint),
        _ => read_policy(walk, entry, step),
    }
}

/// `{ matlab = 1 }`
fn read_tokens(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<BTreeMap<Name, u32>> {
    let mut tokens = BTreeMap::new();
    for entry in walk.table(at, "a table such as { matlab = 1 }")? {
        let name = walk.name_key(&entry, "a token");
        tokens.extend(name.zip(walk.integer(&entry.at, 1, limits::QUEUE_TOKENS as i64)));
    }
    if tokens.len() > limits::QUEUE_COLUMNS {
        walk.problem(at, format!("a step asks for at most {} kinds of tokens", limits::QUEUE_COLUMNS));
    }
    Some(tokens)
}

fn read_policy(walk: &mut Walk<'_>, entry: &KeyAt<'_, '_>, step: &mut FlowStep) {
    let at = &entry.at;
    match entry.key {
        "retry" => step.retry = read_retry(walk, at),
        "timeout" => step.timeout_ms = walk.quantity(at, TIME, units::positive_duration_ms),
        "expected" => step.expected_ms = walk.quantity(at, TIME, units::positive_duration_ms),
        "kill_grace" => step.kill_grace_ms = walk.quantity(at, TIME, units::duration_ms),
        "stop_signal" => step.stop_signal = walk.parsed(at, "a signal such as \"SIGINT\"", flags::stop_signal),
        "preemptible" => step.preemptible = walk.boolean(at),
        "notice" => step.notice = read_notice(walk, at),
        "max_parallel" => step.max_parallel = walk.integer(at, 1, i64::from(limits::TASKS_PER_STEP)),
        "priority" => step.priority = priority(walk, at),
        "on_failure" => {
            let words = [("stop", OnFailure::Stop), ("continue", OnFailure::Continue)];
            step.on_failure = walk.choice(at, &words);
        }
        "on_disconnect" => {
            let words = [("keep", OnDisconnect::Keep), ("stop", OnDisconnect::Stop)];
            step.on_disconnect = walk.choice(at, &words);
        }
        other => unreachable!("`{other}` is in the table of fields and has no reader"),
    }
}

fn read_notice(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Notice> {
    let entries = walk.table(at, "a table such as { signal = \"SIGUSR1\", time = \"20s\" }")?;
    let (mut signal, mut time) = (StopSignal::Term, None);
    for entry in walk.fields(entries, fields::NOTICE, "in `notice`") {
        match entry.key {
            "signal" => signal = walk.parsed(&entry.at, "a signal such as \"SIGUSR1\"", flags::stop_signal)?,
            _ => time = Some(walk.quantity(&entry.at, TIME, units::positive_duration_ms)?),
        }
    }
    let Some(ms) = time else {
        walk.problem(at, "`notice` does not say how long before").help("add time = \"20s\"");
        return None;
    };
    if ms > limits::CONTRACT_MS {
        walk.problem(at, "a notice is at most an hour long");
    }
    Some(Notice { signal, ms })
}

fn reserved(walk: &mut Walk<'_>, entry: &KeyAt<'_, '_>) {
    let message = format!("`{}` is reserved and not supported yet", entry.key);
    let help = "put the dependencies into the image, or run the python of a virtual environment";
    walk.problems.at_span(entry.key_span.clone(), &entry.at.path, message).help(help);
}

fn read_run(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Vec<String> {
    let expected = "a list of program and arguments, such as [\"python3\", \"train.py\"]";
    if let Some(line) = at.as_text() {
        let words: Vec<_> = line.split_whitespace().map(|word| format!("\"{}\"", shown(word))).collect();
        let help = format!("no shell is involved: write run = [{}]", shown(&words.join(", ")));
        walk.wrong(at, expected).help(help);
        return Vec::new();
    }
    let Some(items) = walk.list(at, expected) else { return Vec::new() };
    let run: Vec<_> = items.iter().filter_map(|item| walk.item_text(item)).collect();
    if items.is_empty() || run.first().is_some_and(String::is_empty) {
        walk.problem(at, "`run` names no program").help("write run = [\"PROGRAM\", \"ARGUMENT\", ...]");
    }
    if items.len() > limits::ARGUMENTS {
        walk.problem(at, format!("at most {} arguments, these are {}", limits::ARGUMENTS, items.len()));
    }
    if run.iter().any(|argument| argument.contains('\0')) {
        walk.problem(at, "an argument cannot contain a NUL character");
    }
    run
}

fn read_path(walk: &mut Walk<'_>, at: &At<'_, '_>, expected: &str) -> Option<String> {
    let text = walk.text(at, expected)?;
    if text.is_empty() || text.contains('\0') {
        walk.problem(at, "a path is not empty and has no NUL character");
        return None;
    }
    Some(text)
}

fn read_artifacts(walk: &mut Walk<'_>, at: &At<'_, '_>, what: &str, example: &str) -> BTreeMap<Name, String> {
    let entries = walk.table(at, &format!("a table such as {example}")).unwrap_or_default();
    if entries.len() > limits::ARTIFACTS_PER_STEP {
        walk.problem(at, format!("at most {}, these are {}", limits::ARTIFACTS_PER_STEP, entries.len()));
    }
    let mut artifacts = BTreeMap::new();
    for entry in &entries {
        let name = walk.name_key(entry, what);
        let path = read_path(walk, &entry.at, "a path in quotes");
        if let (Some(name), Some(path)) = (name, path) {
            same_variable(walk, entry, &name, &artifacts, what);
            artifacts.insert(name, path);
        }
    }
    artifacts
}

/// Two names that differ only in case or punctuation would share an environment variable.
fn same_variable(walk: &mut Walk<'_>, entry: &KeyAt<'_, '_>, name: &Name, others: &BTreeMap<Name, String>, what: &str) {
    let variable = flowyard_model::variable_part(name);
    let Some(other) = others.keys().find(|other| flowyard_model::variable_part(other) == variable) else { return };
    let direction = if what == "an input" { "INPUT" } else { "OUTPUT" };
    let message = format!("`{other}` and `{name}` would both be $FLOWYARD_{direction}_{variable}; rename one");
    walk.problems.at_span(entry.key_span.clone(), &entry.at.path, message);
}

fn read_outputs(walk: &mut Walk<'_>, at: &At<'_, '_>) -> BTreeMap<Name, String> {
    let outputs = read_artifacts(walk, at, "an output", "{ model = \"model.json\" }");
    for (name, path) in &outputs {
        if let Err(error) = flags::output_path(path) {
            let path = format!("{}.{name}", at.path);
            let span = walk.spans.get(&path).cloned().unwrap_or_else(|| at.value.span());
            walk.problems.at_span(span, &path, error.to_string());
        }
    }
    outputs
}

fn read_foreach(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Foreach> {
    let expected = "\"STEP/NAME\", a list, or { range = [0, 100] }";
    if let Some(text) = at.as_text() {
        return Some(Foreach::Output(text.to_owned()));
    }
    if at.is_list() {
        return read_items(walk, at);
    }
    let entries = walk.table(at, expected)?;
    if entries.is_empty() {
        walk.wrong(at, expected);
    }
    let entries = walk.fields(entries, fields::RANGE, "in `foreach`");
    read_range(walk, &entries.first()?.at)
}

fn read_items(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Foreach> {
    let items = walk.list(at, "a list")?;
    if items.len() > limits::TASKS_PER_STEP as usize {
        walk.problem(at, format!("at most {} items, these are {}", limits::TASKS_PER_STEP, items.len()));
        return None;
    }
    let mut texts = Vec::with_capacity(items.len());
    for item in &items {
        match to_json(item.value.get_ref()) {
            Ok(json) => texts.push(json.to_string()),
            Err(error) => drop(walk.problem(item, error.to_string())),
        }
    }
    Some(Foreach::Items(texts))
}

fn read_range(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Foreach> {
    let expected = "two whole numbers, such as [0, 100]";
    let items = walk.list(at, expected)?;
    let numbers: Vec<i64> = items.iter().filter_map(At::as_integer).collect();
    let (&[start, end], 2) = (numbers.as_slice(), items.len()) else {
        walk.wrong(at, expected);
        return None;
    };
    if end <= start {
        let message = format!("the range from {start} up to, but not including, {end} is empty");
        walk.problem(at, message).help("the second number must be larger than the first");
        return None;
    }
    let count = i128::from(end) - i128::from(start);
    match u32::try_from(count).ok().filter(|count| *count <= limits::TASKS_PER_STEP) {
        Some(count) => Some(Foreach::Range { start, count }),
        None => {
            walk.problem(at, format!("at most {} tasks, these are {count}", limits::TASKS_PER_STEP));
            None
        }
    }
}

/// Variables as they are written, and those that hold a secret.
fn read_env(walk: &mut Walk<'_>, at: &At<'_, '_>) -> (BTreeMap<String, String>, BTreeMap<String, Name>) {
    let entries = walk.table(at, "a table such as { LEVEL = \"3\" }").unwrap_or_default();
    if entries.len() > limits::ENV_VARIABLES {
        walk.problem(at, format!("at most {} variables, these are {}", limits::ENV_VARIABLES, entries.len()));
    }
    let (mut env, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    for entry in &entries {
        if let Err(error) = flags::variable_name(entry.key) {
            walk.problems.at_span(entry.key_span.clone(), &entry.at.path, error.to_string());
        }
        if entry.at.as_table().is_some() {
            secrets.extend(read_secret(walk, &entry.at).map(|secret| (entry.key.to_owned(), secret)));
            continue;
        }
        let Some(value) = walk.text(&entry.at, "a text in quotes") else { continue };
        if value.contains('\0') {
            walk.problem(&entry.at, "a value cannot contain a NUL character");
        }
        env.insert(entry.key.to_owned(), value);
    }
    (env, secrets)
}

/// `{ secret = "NAME" }`
fn read_secret(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Name> {
    let entries = walk.table(at, "a text in quotes, or { secret = \"NAME\" }")?;
    let fields = walk.fields(entries, fields::SECRET, "of a variable");
    let Some(entry) = fields.first() else {
        walk.wrong(at, "{ secret = \"NAME\" }");
        return None;
    };
    walk.parsed(&entry.at, "the name of a secret in quotes", |text| text.parse::<Name>())
}

fn read_secret_files(walk: &mut Walk<'_>, at: &At<'_, '_>) -> BTreeMap<String, Name> {
    let entries = walk.table(at, "a table such as { \"key.pem\" = \"NAME\" }").unwrap_or_default();
    let mut files = BTreeMap::new();
    for entry in &entries {
        let file = walk.name_key(entry, "a file in `$FLOWYARD_SECRETS`");
        let secret = walk.parsed(&entry.at, "the name of a secret in quotes", |text| text.parse::<Name>());
        files.extend(file.zip(secret).map(|(file, secret)| (file.to_string(), secret)));
    }
    files
}

fn read_labels(walk: &mut Walk<'_>, at: &At<'_, '_>) -> BTreeMap<Name, String> {
    let entries = walk.table(at, "a table such as { rack = \"r1\" }").unwrap_or_default();
    let mut labels = BTreeMap::new();
    for entry in &entries {
        let name = walk.name_key(entry, "a label");
        let Some(value) = walk.text(&entry.at, "a text in quotes") else { continue };
        if is_tag(&value) {
            labels.extend(name.map(|name| (name, value)));
        } else {
            let message = format!("a label's value has 1 to {} bytes and no control characters", limits::TEXT_BYTES);
            walk.problem(&entry.at, message);
        }
    }
    labels
}

fn parsed_list<T, E: std::fmt::Display>(
    walk: &mut Walk<'_>,
    at: &At<'_, '_>,
    expected: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Option<Vec<T>> {
    let items = walk.list(at, expected)?;
    Some(items.iter().filter_map(|item| walk.parsed(item, "a text in quotes", &parse)).collect())
}

fn read_network(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<NetworkMode> {
    let choices = [("private", NetworkMode::Private), ("host", NetworkMode::Host), ("none", NetworkMode::None)];
    walk.choice(at, &choices)
}
