//! First phase: the text of a flow file into typed values. Sees one key at a time and joins nothing.

use std::collections::BTreeSet;
use std::str::FromStr;

use flowyard_model::{Name, QueuePath, limits};
use toml::Spanned;
use toml::de::DeTable;

use super::fields::{self, Field};
use super::params::{Param, ParamKind, ParamValue};
use super::problem::{FlowError, Problems};
use super::read_step::read_step;
use super::source::Source;
use super::spec::{Flow, FlowStep};
use super::walk::{At, KeyAt, Walk};
use crate::shown::shown;
use crate::units;

/// Syntax errors shown at most: the later ones are mostly echoes of the first.
const MOST_SYNTAX_ERRORS: usize = 3;

/// Reads a flow file.
pub(crate) fn read(file: &str, text: &str) -> Result<Flow, FlowError> {
    let source = Source::of_file(file, text);
    let tree = tree(&source, text)?;
    let mut walk = Walk::new(Problems::new(&source));
    let read = read_flow(&mut walk, tree.get_ref());
    let Walk { problems, spans } = walk;
    let mut flow = problems.into_result(|| read)?.expect("a flow that could not be read has a problem");
    flow.source = source;
    flow.source.set_spans(spans);
    Ok(flow)
}

/// The text as TOML, or what keeps it from being that.
pub(crate) fn tree<'t>(source: &Source, text: &'t str) -> Result<Spanned<DeTable<'t>>, FlowError> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let mut problems = Problems::new(source);
    let mut lines = BTreeSet::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        if lines.insert(source.spot(span.clone()).line) && lines.len() <= MOST_SYNTAX_ERRORS {
            problems.at_span(span, "", shown(error.message()));
        }
    }
    problems.into_result(|| tree)
}

/// What the top of the file said.
#[derive(Default)]
struct Top {
    name: Option<Name>,
    queue: Option<QueuePath>,
    priority: i32,
    tags: BTreeSet<String>,
    retention_ms: Option<u64>,
    deadline_ms: Option<u64>,
    queue_ttl_ms: Option<u64>,
    params: Vec<Param>,
    defaults: FlowStep,
    steps: Vec<(Name, FlowStep)>,
}

fn read_flow(walk: &mut Walk<'_>, tree: &DeTable<'_>) -> Option<Flow> {
    let entries = walk.entries(tree, "");
    let mut top = Top::default();
    let mut seen = BTreeSet::new();
    for entry in walk.fields(entries, fields::FLOW, "at the top of the file") {
        seen.insert(entry.key);
        read_top(walk, &entry, &mut top);
    }
    for (key, example) in [("name", "name = \"train\""), ("steps", "[steps.train] with a `run`")] {
        if !seen.contains(key) {
            walk.problems.at_span(0..0, "", format!("`{key}` is missing")).help(format!("add {example}"));
        }
    }
    if seen.contains("steps") && top.steps.is_empty() && walk.problems.is_empty() {
        walk.problems.at_span(0..0, "steps", "the flow has no step").help("add [steps.train] with a `run`");
    }
    let Top { name, queue, priority, tags, retention_ms, deadline_ms, queue_ttl_ms, params, defaults, mut steps } = top;
    for (_, step) in &mut steps {
        step.fill_from(&defaults);
    }
    let queue = queue.unwrap_or_else(QueuePath::fallback);
    Some(Flow {
        name: name?,
        queue,
        priority,
        tags,
        retention_ms,
        deadline_ms,
        queue_ttl_ms,
        after: Vec::new(),
        params,
        steps,
        substitutes: true,
        source: Source::default(),
    })
}

fn read_top(walk: &mut Walk<'_>, entry: &KeyAt<'_, '_>, top: &mut Top) {
    let at = &entry.at;
    match entry.key {
        "name" => top.name = walk.parsed(at, "a name in quotes", Name::from_str),
        "queue" => top.queue = walk.parsed(at, "a queue such as \"research/vision\"", QueuePath::from_str),
        "priority" => top.priority = priority(walk, at).unwrap_or(0),
        "tags" => top.tags = read_tags(walk, at),
        "retention" => top.retention_ms = walk.quantity(at, "a time such as \"30d\"", units::positive_duration_ms),
        "deadline" => top.deadline_ms = walk.quantity(at, "a time such as \"6h\"", units::positive_duration_ms),
        "queue_ttl" => top.queue_ttl_ms = walk.quantity(at, "a time such as \"1h\"", units::positive_duration_ms),
        "params" => top.params = read_params(walk, at),
        "defaults" => top.defaults = read_defaults(walk, at),
        _ => top.steps = read_steps(walk, at),
    }
}

pub(crate) fn priority(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<i32> {
    walk.integer(at, -1_000_000, 1_000_000)
}

fn read_tags(walk: &mut Walk<'_>, at: &At<'_, '_>) -> BTreeSet<String> {
    let items = walk.list(at, "a list of texts such as [\"nightly\"]").unwrap_or_default();
    if items.len() > limits::TAGS {
        walk.problem(at, format!("at most {} tags, these are {}", limits::TAGS, items.len()));
    }
    let mut tags = BTreeSet::new();
    for item in items {
        let Some(tag) = walk.text(&item, "a text in quotes") else { continue };
        if is_tag(&tag) {
            tags.insert(tag);
        } else {
            let message = format!("a tag has 1 to {} bytes and no control characters", limits::TEXT_BYTES);
            walk.problem(&item, message);
        }
    }
    tags
}

/// Whether a text can be a tag or a label's value.
pub(crate) fn is_tag(text: &str) -> bool {
    !text.is_empty() && text.len() <= limits::TEXT_BYTES && !text.chars().any(char::is_control)
}

fn read_params(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Vec<Param> {
    let entries = walk.table(at, "a table of parameters").unwrap_or_default();
    entries.iter().filter_map(|entry| read_param(walk, entry)).collect()
}

fn read_param(walk: &mut Walk<'_>, entry: &KeyAt<'_, '_>) -> Option<Param> {
    let name = walk.name_key(entry, "a parameter");
    if entry.at.as_table().is_none() {
        let reported = walk.wrong(&entry.at, "a table such as { type = \"int\", default = 5 }");
        if let Some(kind) = kind_of(&entry.at) {
            reported.help(format!("write {{ type = \"{kind}\", default = ... }}"));
        }
        return None;
    }
    let entries = walk.table(&entry.at, "a table")?;
    let place = format!("in parameter `{}`", shown(entry.key));
    let entries = walk.fields(entries, fields::PARAM, &place);
    let find = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.at);
    let Some(kind_at) = find("type") else {
        let message = format!("parameter `{}` has no type", shown(entry.key));
        let help = "add type = \"int\", \"float\", \"string\" or \"bool\"";
        walk.problems.at_span(entry.key_span.clone(), &entry.at.path, message).help(help);
        return None;
    };
    let kinds =
        [ParamKind::Int, ParamKind::Float, ParamKind::String, ParamKind::Bool].map(|kind| (kind.as_str(), kind));
    let kind = walk.choice(kind_at, &kinds)?;
    let default = find("default").and_then(|at| param_value(walk, at, kind));
    let description = find("description").and_then(|at| walk.text(at, "a text in quotes"));
    let choices = find("choices").and_then(|at| walk.list(at, "a list of values")).unwrap_or_default();
    let choices: Vec<_> = choices.iter().filter_map(|at| param_value(walk, at, kind)).collect();
    if let (Some(value), Some(at)) = (&default, find("default"))
        && !choices.is_empty()
        && !choices.contains(value)
    {
        walk.problem(at, "the default is not among the choices");
    }
    Some(Param { name: name?, kind, default, description, choices })
}

fn kind_of(at: &At<'_, '_>) -> Option<ParamKind> {
    let text = at.as_text().map(|_| ParamKind::String);
    let boolean = at.as_boolean().map(|_| ParamKind::Bool);
    let integer = at.as_integer().map(|_| ParamKind::Int);
    text.or(boolean).or(integer).or_else(|| at.as_number_text().map(|_| ParamKind::Float))
}

fn param_value(walk: &mut Walk<'_>, at: &At<'_, '_>, kind: ParamKind) -> Option<ParamValue> {
    let value = match kind {
        ParamKind::Int => at.as_integer().map(ParamValue::Int),
        ParamKind::Float => at.as_number_text().and_then(|text| kind.read(&text)),
        ParamKind::String => at.as_text().and_then(|text| kind.read(text)),
        ParamKind::Bool => at.as_boolean().map(ParamValue::Bool),
    };
    if value.is_none() {
        walk.wrong(at, &format!("{} (the parameter is of type {kind})", kind.expects()));
    }
    value
}

fn read_defaults(walk: &mut Walk<'_>, at: &At<'_, '_>) -> FlowStep {
    let Some(entries) = walk.table(at, "a table of step fields") else { return FlowStep::default() };
    let shared: Vec<Field> = fields::STEP.iter().filter(|field| field.in_defaults).copied().collect();
    let (of_steps, entries): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|entry| fields::STEP.iter().any(|field| field.name == entry.key && !field.in_defaults));
    for entry in of_steps {
        let message = format!("`{}` belongs to one step and cannot be a default", entry.key);
        walk.problems.at_span(entry.key_span, &entry.at.path, message).help("write it under [steps.NAME]");
    }
    let entries = walk.fields(entries, &shared, "in [defaults]");
    read_step(walk, &entries)
}

fn read_steps(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Vec<(Name, FlowStep)> {
    let Some(entries) = walk.table(at, "a table of steps, [steps.NAME]") else { return Vec::new() };
    if entries.len() > limits::STEPS {
        let message = format!("at most {} steps, these are {}", limits::STEPS, entries.len());
        walk.problems.at_span(entries[limits::STEPS].key_span.clone(), "steps", message);
    }
    let mut steps = Vec::new();
    for entry in &entries {
        let name = walk.name_key(entry, "a step");
        let Some(keys) = walk.table(&entry.at, "a step, [steps.NAME]") else { continue };
        let place = format!("in step `{}`", shown(entry.key));
        let keys = walk.fields(keys, fields::STEP, &place);
        let step = read_step(walk, &keys);
        if !keys.iter().any(|key| key.key == "run") {
            let message = format!("step `{}` has no `run`", shown(entry.key));
            let help = "add run = [\"PROGRAM\", \"ARGUMENT\", ...]";
            walk.problems.at_span(entry.key_span.clone(), &entry.at.path, message).help(help);
        }
        steps.extend(name.map(|name| (name, step)));
    }
    steps
}
