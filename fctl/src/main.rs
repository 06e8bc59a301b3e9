//! `fctl`: client, coordinator, agent and launcher in one binary; one file per subcommand.
//!
//! Start here: [`cli`] has every flag, [`commands`] one file per subcommand, [`embedded`] the cluster of one machine, and
//! [`failure`] every way to end with its exit code.

mod asking;
mod attempt_lines;
mod checkout;
mod cli;
mod commands;
mod connect;
mod embedded;
mod ending;
mod failure;
mod fleet_settings;
mod follow;
mod home;
mod inside;
mod keeping_settings;
mod log_printer;
mod metrics_settings;
mod output;
mod policy;
mod progress;
mod record;
mod s3;
mod settings;
mod signals;
mod stuck_settings;
mod submission;
mod supervised;
mod table;
mod target;
mod terminal;
mod text;
mod traced;

use std::process::ExitCode;

/// A coordinator allocates for every message of every agent on all its threads: the C library's allocator took a tenth of its time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // These roles fork and enter namespaces, so they run before any thread exists.
    if let Some(code) = commands::single_threaded() {
        return code;
    }
    let cli = cli::parse();
    output::choose(cli.global.format);
    if let Err(failure) = inside::start(&cli.global) {
        return failure.report();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::Internal(format!("no threads: {error}")).report(),
    };
    let outcome = runtime.block_on(commands::run(cli));
    // A reader of standard input may still block its thread; nobody waits for it.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
