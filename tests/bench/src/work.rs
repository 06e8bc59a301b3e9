//! The jobs that are submitted.

use flowyard_model::JobSpec;
use flowyard_sdk::flow::{Flow, FlowStep, Foreach, Packing};

/// A job of one small task. It names no blob.
pub(crate) fn small(run: &[&str]) -> Result<JobSpec, String> {
    job(FlowStep { run: words(run), cpu_milli: Some(10), memory_bytes: Some(16 << 20), ..FlowStep::default() })
}

/// A job of many such tasks.
pub(crate) fn array(run: &[&str], count: u32) -> Result<JobSpec, String> {
    job(FlowStep {
        run: words(run),
        cpu_milli: Some(10),
        memory_bytes: Some(16 << 20),
        foreach: Some(Foreach::Range { start: 0, count }),
        ..FlowStep::default()
    })
}

fn words(run: &[&str]) -> Vec<String> {
    run.iter().map(|word| (*word).to_owned()).collect()
}

fn job(step: FlowStep) -> Result<JobSpec, String> {
    let name = "bench".parse().map_err(|error| format!("{error}"))?;
    let flow = Flow::one_step(name, step);
    flow.resolve(std::path::Path::new("/"), &[], &mut Packing::default()).map_err(|error| error.to_string())
}
