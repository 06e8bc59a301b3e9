//! `fctl validate`: everything a submit would refuse before it talks to a cluster, and what the flow takes.

use std::process::ExitCode;

use flowyard_sdk::flow::{Description, Flow, FlowError, Packing, base_of};
use serde_json::json;

use super::Outcome;
use crate::cli::Validate;
use crate::failure::codes;
use crate::{output, text};

pub(super) fn run(validate: &Validate) -> Outcome {
    match check(validate) {
        Ok(checked) => {
            tell(&checked);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if output::is_json() && !error.unreadable => {
            let answer = json!({ "valid": false, "problems": error.problems, "problems_left_out": error.left_out });
            output::json(&answer);
            Ok(ExitCode::from(codes::USAGE))
        }
        Err(error) => Err(error.into()),
    }
}

/// A flow without fault.
struct Checked {
    description: Description,
    packing: Packing,
    /// Parameters that must be given at submit; with any of them left, paths and commands could not be checked.
    required: Vec<String>,
}

fn check(validate: &Validate) -> Result<Checked, FlowError> {
    let flow = Flow::load(&validate.flow)?;
    let description = flow.describe()?;
    let given = |name: &str| validate.params.iter().any(|(given, _)| given == name);
    let open = flow.params.iter().filter(|param| param.default.is_none() && !given(param.name.as_str()));
    let required: Vec<_> = open.map(|param| param.name.to_string()).collect();
    let mut packing = Packing::default();
    // Whoever gives parameters asks whether a submit with these would be taken.
    if required.is_empty() || !validate.params.is_empty() {
        flow.resolve(base_of(&validate.flow), &validate.params, &mut packing)?;
    }
    Ok(Checked { description, packing, required })
}

fn tell(checked: &Checked) {
    if output::is_json() {
        let code = checked.packing.code.iter();
        let code =
            code.map(|(folder, summary)| json!({ "folder": folder, "files": summary.files, "bytes": summary.bytes }));
        output::json(&json!({
            "valid": true,
            "flow": checked.description,
            "code": code.collect::<Vec<_>>(),
            "required_params": checked.required,
        }));
        return;
    }
    output::line(checked.description.to_string().trim_end());
    for (folder, summary) in &checked.packing.code {
        let files = text::count(summary.files, "file");
        output::line(format!("code {}: {files}, {}", text::harmless(folder), text::size(summary.bytes)));
    }
    match checked.required.is_empty() {
        true => output::note("valid; nothing was submitted"),
        false => output::note(format!(
            "valid so far; its paths are checked once every required parameter is given: {}",
            checked.required.iter().map(|name| format!("-P {name}=VALUE")).collect::<Vec<_>>().join(" ")
        )),
    }
}
