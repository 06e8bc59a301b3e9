//! `fctl schema`.

use std::process::ExitCode;

use super::Outcome;
use crate::output;

pub(super) fn run() -> Outcome {
    output::line(flowyard_sdk::flow::json_schema().trim_end());
    Ok(ExitCode::SUCCESS)
}
