//! The project's chores: one gate that never writes, one command that fixes, and the runs of tests and benches.
//!
//! Owns how this repository is checked; nothing of the product. Each subcommand is one file. Everything here uses the
//! repository's own toolchain, so that a fresh machine needs no more than the README says.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks to its terminal")]

mod bench;
mod chaos;
mod check;
mod crash;
mod fix;
mod fuzz;
mod gates;
mod kill_loop;
mod mutate;
mod program;
mod sim;
mod storm;
mod tally;
mod test;
mod tidy;
mod tree;
mod upgrade;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check                    the gate: format, lints, sizes, words, dependencies, licences, documents; never writes
  fix                      format, and apply the lints that can be applied
  tidy                     only the sizes, words and names of `check`
  test [--no-install] [--no-check]
                           everything that can run on this machine; the rest is counted as skipped, with its reason
  sim [--raft] [--seed N] [--runs K]
                           the whole cluster in one thread, one history per seed; with --raft, the replicas under their own
                           simulated network and clock
  mutate [WORDS]           the product made wrong on purpose, which the simulator must notice
  kill-loop [ROUNDS]       kill -9 under the log, 200 rounds unless told otherwise
  chaos [--minutes N] [--seed N]
                           coordinators and agents on hosts of their own: killed, cut off, filled up, damaged
  crash [--seed N] [--runs K] [--engine NAME]
                           power cuts under the log, the snapshots and the blobs
  fuzz [TARGET] [--seconds N] [--seed N]
                           hostile bytes for everything that reads the network or a disk
  storm [CONNECTIONS]      ten thousand connections of strangers against one coordinator
  upgrade-test             a home of the release before taken over; a cluster upgraded to the release after, built for it
  bench NAME               measure; without a name, list what there is";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let done = Workspace::find().and_then(|workspace| dispatch(&workspace, command, rest));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("xtask {command}: {reason}");
            ExitCode::from(2)
        }
    }
}

/// Runs one subcommand; `false` means it ran and found something wrong.
fn dispatch(workspace: &Workspace, command: &str, rest: &[String]) -> Result<bool, String> {
    match command {
        "check" => check::run(workspace),
        "fuzz" => fuzz::run(workspace, rest),
        "fix" => fix::run(workspace),
        "tidy" => tidy::run(workspace),
        "test" => test::run(workspace, rest),
        "sim" => sim::run(workspace, rest),
        "mutate" => mutate::run(workspace, rest),
        "kill-loop" => kill_loop::run(workspace, rest),
        "storm" => storm::run(workspace, rest),
        "crash" => crash::run(workspace, rest),
        "chaos" => chaos::run(workspace, rest),
        "upgrade-test" => upgrade::run(workspace, rest),
        "bench" => bench::run(workspace, rest),
        _ => Err(format!("no such command\n\n{USAGE}")),
    }
}
