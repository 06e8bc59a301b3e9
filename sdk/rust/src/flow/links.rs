//! Second phase: names of steps and outputs joined to the steps that bear them, and parameters to their declarations.

use std::collections::BTreeMap;

use flowyard_model::{Name, NeedKind};

use super::order;
use super::params::{substitute, unknown_param};
use super::problem::{FlowError, Problems};
use super::spec::{Flow, FlowStep, Foreach, ImageSource};
use super::walk::names_listed;
use crate::shown::{did_you_mean, listed, shown};

/// The graph of a flow: steps by their position in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Graph {
    /// In the order of the flow.
    pub(crate) links: Vec<Links>,
    /// Positions in an order in which every step comes after those it needs.
    pub(crate) order: Vec<usize>,
}

/// What one step is joined to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Links {
    pub(crate) inputs: BTreeMap<Name, InputLink>,
    pub(crate) foreach: Option<(usize, Name)>,
    pub(crate) each: Option<usize>,
    pub(crate) needs: BTreeMap<usize, NeedKind>,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InputLink {
    /// A path of the submitter's machine.
    Path,
    /// An output of a step.
    Output(usize, Name),
}

/// Why a text names no output.
struct BadLink {
    message: String,
    help: Option<String>,
}

/// Checks names and the graph.
pub(crate) fn check(flow: &Flow) -> Result<Graph, FlowError> {
    let mut problems = Problems::new(&flow.source);
    let steps: BTreeMap<&str, usize> =
        flow.steps.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    let known = Known { flow, steps };
    let links: Vec<_> = flow.steps.iter().map(|(name, step)| known.links_of(name, step, &mut problems)).collect();
    for (name, step) in &flow.steps {
        check_params(flow, name, step, &mut problems);
    }
    let order = order::order(flow, &links, &mut problems);
    problems.into_result(|| Graph { links, order })
}

/// The steps by name.
struct Known<'f> {
    flow: &'f Flow,
    steps: BTreeMap<&'f str, usize>,
}

impl Known<'_> {
    fn links_of(&self, name: &Name, step: &FlowStep, problems: &mut Problems<'_>) -> Links {
        let mut links = Links::default();
        let path = |field: &str| format!("steps.{name}.{field}");
        for (input, text) in &step.inputs {
            match self.input(text) {
                Ok(link) => drop(links.inputs.insert(input.clone(), link)),
                Err(bad) => bad.report(problems, &path(&format!("inputs.{input}"))),
            }
        }
        if let Some(Foreach::Output(text)) = &step.foreach {
            match self.output(text) {
                Ok(output) => links.foreach = Some(output),
                Err(bad) => bad.report(problems, &path("foreach")),
            }
        }
        if let Some(text) = &step.each {
            match self.step(text) {
                Ok(at) => links.each = Some(at),
                Err(bad) => bad.report(problems, &path("each")),
            }
        }
        if step.each.is_some() && step.foreach.is_some() {
            let help = "keep `foreach` for a list of its own, or `each` to follow the tasks of another step";
            problems.at_path(&path("each"), format!("step `{name}` has both `foreach` and `each`")).help(help);
        }
        self.needs(name, step, &mut links, problems);
        links
    }

    /// Everything a step waits for: what it names, and what its inputs and lists come from.
    fn needs(&self, name: &Name, step: &FlowStep, links: &mut Links, problems: &mut Problems<'_>) {
        let sources = links.inputs.values().filter_map(|link| match link {
            InputLink::Output(at, _) => Some(*at),
            InputLink::Path => None,
        });
        links.needs = sources.chain(links.foreach.iter().map(|(at, _)| *at)).map(|at| (at, NeedKind::All)).collect();
        if let Some(at) = links.each {
            links.needs.insert(at, NeedKind::Each);
        }
        for (index, text) in step.needs.iter().enumerate() {
            let path = format!("steps.{name}.needs.{index}");
            match self.step(text) {
                Ok(at) if links.each == Some(at) => {
                    let message = format!("`{text}` is already followed task by task, by `each`");
                    problems.at_path(&path, message).help("take it out of `needs`");
                }
                Ok(at) => drop(links.needs.insert(at, NeedKind::All)),
                Err(bad) => bad.report(problems, &path),
            }
        }
    }

    /// A path, or an output: what an input's text means by its form alone.
    fn input(&self, text: &str) -> Result<InputLink, BadLink> {
        if is_plainly_path(text) {
            return Ok(InputLink::Path);
        }
        if text.contains("://") {
            return Err(BadLink {
                message: format!("`{}`: inputs from a URL are reserved and not supported yet", shown(text)),
                help: Some("fetch it to a file first, and name the file".to_owned()),
            });
        }
        let parts: Vec<_> = text.split('/').collect();
        if self.steps.contains_key(parts[0]) {
            return self.output(text).map(|(step, output)| InputLink::Output(step, output));
        }
        if parts.len() >= 3 && !parts[0].is_empty() && parts[0].bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadLink {
                message: format!("`{}`: inputs from another job are reserved and not supported yet", shown(text)),
                help: Some(format!("fetch it with `fctl artifact get`, or write ./{} for a path", shown(text))),
            });
        }
        Ok(InputLink::Path)
    }

    /// `STEP/NAME`.
    fn output(&self, text: &str) -> Result<(usize, Name), BadLink> {
        let (step, output) = match text.split_once('/') {
            Some((step, output)) if !is_plainly_path(text) => (step, output),
            _ => return Err(self.not_an_output(text)),
        };
        let at = self.step(step)?;
        let (name, declared) = &self.flow.steps[at];
        match declared.outputs.keys().find(|known| known.as_str() == output) {
            Some(output) => Ok((at, output.clone())),
            None => Err(unknown_output(name, declared, output)),
        }
    }

    fn not_an_output(&self, text: &str) -> BadLink {
        let message = format!("`{}` is not STEP/NAME, an output of a step", shown(text));
        let help = self.steps.get(text).map(|at| {
            let (name, step) = &self.flow.steps[*at];
            let first = step.outputs.keys().next();
            let output = first.map_or_else(|| "which has no outputs yet".to_owned(), |first| format!("{name}/{first}"));
            format!("`{name}` is a step: write an output of it ({output}), or ./{name} for a path")
        });
        BadLink { message, help }
    }

    fn step(&self, text: &str) -> Result<usize, BadLink> {
        self.steps.get(text).copied().ok_or_else(|| {
            let names = || self.steps.keys().copied();
            let suggestion = did_you_mean(text, names());
            let help = suggestion.is_empty().then(|| format!("the steps are {}", listed(names())));
            BadLink { message: format!("there is no step `{}`{suggestion}", shown(text)), help }
        })
    }
}

impl BadLink {
    fn report(self, problems: &mut Problems<'_>, path: &str) {
        let reported = problems.at_path(path, self.message);
        if let Some(help) = self.help {
            reported.help(help);
        }
    }
}

fn unknown_output(step: &Name, declared: &FlowStep, output: &str) -> BadLink {
    let suggestion = did_you_mean(output, declared.outputs.keys().map(Name::as_str));
    let known = match declared.outputs.is_empty() {
        true => format!("step `{step}` declares no outputs; write ./{step}/{} for a path", shown(output)),
        false => format!("its outputs are {}", names_listed(declared.outputs.keys())),
    };
    BadLink { message: format!("step `{step}` has no output `{}`{suggestion}", shown(output)), help: Some(known) }
}

/// Whether the form of a text says that it is a path, whatever steps there are.
pub(crate) fn is_plainly_path(text: &str) -> bool {
    text.starts_with("./") || text.starts_with("../") || text.starts_with('/') || text == "." || text == ".."
}

/// Every `${params.NAME}` names a parameter, and none stands where nothing is put in.
fn check_params(flow: &Flow, name: &Name, step: &FlowStep, problems: &mut Problems<'_>) {
    if !flow.substitutes {
        return;
    }
    let run = step.run.iter().enumerate().map(|(index, text)| (format!("run.{index}"), text));
    let env = step.env.iter().map(|(variable, text)| (format!("env.{variable}"), text));
    for (field, text) in run.chain(env) {
        let declared = |name: &str| flow.params.iter().any(|param| param.name.as_str() == name);
        let result = substitute(text, |name| match declared(name) {
            true => Ok(String::new()),
            false => Err(unknown_param(name, &flow.params)),
        });
        if let Err(error) = result {
            problems.at_path(&format!("steps.{name}.{field}"), error.to_string());
        }
    }
    for (field, text) in fixed_texts(step) {
        if text.contains("${params.") {
            let message = "parameters are put into `run` and `env` only";
            problems.at_path(&format!("steps.{name}.{field}"), message);
        }
    }
}

fn fixed_texts(step: &FlowStep) -> impl Iterator<Item = (String, &String)> {
    let inputs = step.inputs.iter().map(|(name, text)| (format!("inputs.{name}"), text));
    let outputs = step.outputs.iter().map(|(name, text)| (format!("outputs.{name}"), text));
    let code = step.code.iter().map(|text| ("code".to_owned(), text));
    let items = match &step.foreach {
        Some(Foreach::Output(text)) => std::slice::from_ref(text),
        Some(Foreach::Items(items)) => items.as_slice(),
        _ => &[],
    };
    let image = match &step.image {
        Some(ImageSource::Path(text)) => Some(text),
        _ => None,
    };
    let items = items.iter().map(|text| ("foreach".to_owned(), text));
    inputs.chain(outputs).chain(code).chain(items).chain(image.map(|text| ("image".to_owned(), text)))
}
