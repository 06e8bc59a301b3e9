//! What a flow takes and does, for somebody who is about to submit it.

use std::fmt;

use flowyard_model::{Name, NeedKind};
use serde::Serialize;

use super::links::check;
use super::problem::FlowError;
use super::spec::{Flow, FlowStep, Foreach};
use super::{ParamKind, ParamValue};
use crate::shown::shown;

/// A flow in words. The fields are documented and stable: they are printed by `fctl validate -o json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// Name of the flow.
    pub name: Name,
    /// Parameters, in the order of the file.
    pub params: Vec<ParamDescription>,
    /// Steps, in an order in which every step comes after those it needs.
    pub steps: Vec<StepDescription>,
}

/// A parameter in words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParamDescription {
    /// Its name.
    pub name: Name,
    /// What values it takes.
    #[serde(rename = "type")]
    pub kind: ParamKind,
    /// Its value when none is given; without it, one must be.
    pub default: Option<ParamValue>,
    /// One line for people.
    pub description: Option<String>,
    /// The only values it takes; any if empty.
    pub choices: Vec<ParamValue>,
}

/// A step in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepDescription {
    /// Its name.
    pub name: Name,
    /// How many tasks it has, in words: `1 task`, `100 tasks`, `1 task per item of split/grid`.
    pub tasks: String,
    /// Steps it waits for.
    pub needs: Vec<Name>,
    /// The step it follows task by task.
    pub each: Option<Name>,
}

impl Flow {
    /// Parameters, steps and what they wait for.
    ///
    /// # Errors
    /// What is wrong with names and graph, for a flow that was changed after it was read.
    pub fn describe(&self) -> Result<Description, FlowError> {
        let graph = check(self)?;
        let params = self.params.iter().map(|param| ParamDescription {
            name: param.name.clone(),
            kind: param.kind,
            default: param.default.clone(),
            description: param.description.clone(),
            choices: param.choices.clone(),
        });
        let steps = graph.order.iter().map(|at| {
            let (name, step) = &self.steps[*at];
            let named = |kind| {
                let needs = graph.links[*at].needs.iter().filter(move |(_, known)| **known == kind);
                needs.map(|(at, _)| self.steps[*at].0.clone())
            };
            let needs = named(NeedKind::All).collect();
            StepDescription { name: name.clone(), tasks: tasks(step), needs, each: named(NeedKind::Each).next() }
        });
        Ok(Description { name: self.name.clone(), params: params.collect(), steps: steps.collect() })
    }
}

fn tasks(step: &FlowStep) -> String {
    let each = step.gang_size.filter(|size| *size > 1);
    let members = each.map_or_else(String::new, |size| match step.min_gang_size.filter(|least| *least < size) {
        Some(least) => format!(", each of {least} to {size} members"),
        None => format!(", each of {size} members"),
    });
    format!("{}{members}", counted_tasks(step))
}

fn counted_tasks(step: &FlowStep) -> String {
    let counted = |count: usize| if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") };
    match (&step.foreach, &step.each) {
        (_, Some(each)) => format!("1 task per task of {each}"),
        (Some(Foreach::Output(output)), _) => format!("1 task per item of {output}"),
        (Some(Foreach::Items(items)), _) => counted(items.len()),
        (Some(Foreach::Range { count, .. }), _) => counted(*count as usize),
        (None, None) => counted(1),
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "flow {}", self.name)?;
        if !self.params.is_empty() {
            writeln!(f, "parameters (give with -P NAME=VALUE)")?;
        }
        let width = self.params.iter().map(|param| param.name.as_str().len()).max().unwrap_or(0);
        for param in &self.params {
            let default = match &param.default {
                Some(value) => format!("default {}", shown(&value.to_json())),
                None => "required".to_owned(),
            };
            write!(f, "  {:width$}  {:6}  {default}", param.name, param.kind)?;
            match &param.description {
                Some(text) => writeln!(f, "  {}", shown(text))?,
                None => writeln!(f)?,
            }
        }
        writeln!(f, "steps")?;
        let width = self.steps.iter().map(|step| step.name.as_str().len()).max().unwrap_or(0);
        for step in &self.steps {
            write!(f, "  {:width$}  {}", step.name, step.tasks)?;
            let needs: Vec<_> = step.needs.iter().chain(&step.each).map(Name::as_str).collect();
            match needs.is_empty() {
                true => writeln!(f)?,
                false => writeln!(f, ", after {}", needs.join(", "))?,
            }
        }
        Ok(())
    }
}
