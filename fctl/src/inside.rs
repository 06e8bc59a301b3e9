//! The log of what goes on inside: on standard error, and the newest lines in memory, for a debug bundle.

use flowyard_telemetry::logs::Lines;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{Global, LogKind};
use crate::failure::Failure;

/// Libraries that say too much, or that say as a failure what is none here.
const QUIET: &str = "openraft=off,sled=off,h2=off";
/// What is kept in memory.
const KEPT: &str = "info,openraft=warn,sled=off,h2=off";

/// Starts it, once. `--log-level` (and so `FLOWYARD_LOG`) goes before the number of `-v`.
///
/// # Errors
/// When the level is none.
pub(crate) fn start(global: &Global) -> Result<(), Failure> {
    let usual = match (global.verbose, global.log_format) {
        // Programs are told what happens, not only what fails.
        (0, LogKind::Text) => "error",
        (0, LogKind::Json) | (1, _) => "info",
        _ => "debug",
    };
    let told = match &global.log_level {
        Some(text) => EnvFilter::try_new(text).map_err(|error| wrong(text, &error))?,
        None => EnvFilter::new(format!("{usual},{QUIET}")),
    };
    let text = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(global.verbose > 1);
    let (text, json) = match global.log_format {
        LogKind::Text => (Some(text.with_filter(told)), None),
        LogKind::Json => (None, Some(Lines::Told.with_filter(told))),
    };
    let kept = Lines::Kept.with_filter(EnvFilter::new(KEPT));
    tracing_subscriber::registry().with(text).with(json).with(kept).init();
    Ok(())
}

fn wrong(text: &str, error: &dyn std::fmt::Display) -> Failure {
    let text = crate::text::harmless(text);
    Failure::Usage(format!("--log-level (or FLOWYARD_LOG): `{text}`: {error}; write error, warn, info, debug or trace"))
}
