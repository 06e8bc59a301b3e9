//! One file per subcommand.

mod agent;
mod artifact;
mod audit;
mod backup;
mod bench;
mod cancel;
mod cluster;
mod cluster_check;
mod completions;
mod coordinator;
mod debug;
mod dev;
mod dry_run;
mod exec;
mod gpu_groups;
mod install;
mod jobs;
mod log_segments;
mod login;
mod logs;
mod machines;
mod node;
mod nodes;
mod policy;
mod queue;
mod recorded;
mod replay;
mod restore;
mod schema;
mod secret;
mod show;
mod storage;
mod submit;
mod token;
mod usage;
mod validate;
mod wait;
mod watch;
mod whatif;
mod why;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

pub(crate) use login::token_file;

/// How a command ends.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// The roles that must run before any thread exists: the launcher, and what enters a container. `None` for all others.
pub(crate) fn single_threaded() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next()?.to_str()? {
        "launcher" => match (arguments.next()?.to_str()?, arguments.next()) {
            ("--folder", Some(folder)) => flowyard_agent::launcher::main(folder.as_ref()),
            _ => None,
        },
        "enter" => match (arguments.next()?.to_str()?, arguments.next()) {
            ("--order", Some(order)) => flowyard_agent::runtime::enter::main(order.as_ref()),
            _ => None,
        },
        _ => None,
    }
}

/// Runs a command.
pub(crate) async fn run(cli: Cli) -> Outcome {
    let global = &cli.global;
    match cli.command {
        Command::Submit(submit) => submit::run(global, *submit).await,
        Command::Validate(validate) => validate::run(&validate),
        Command::Schema => schema::run(),
        Command::Dev(dev) => dev::run(dev).await,
        Command::Jobs(jobs) => jobs::run(global, &jobs).await,
        Command::Show(show) => show::run(global, &show).await,
        Command::Watch(watch) => watch::run(global, watch.job).await,
        Command::Wait(wait) => wait::run(global, &wait).await,
        Command::Logs(logs) => logs::run(global, &logs).await,
        Command::Cancel(cancel) => cancel::run(global, cancel.job).await,
        Command::Why(why) => why::run(global, &why.reference).await,
        Command::Exec(exec) => exec::run(global, exec).await,
        Command::Node(node) => node::run(global, node).await,
        Command::Nodes => nodes::run(global).await,
        Command::Usage(usage) => usage::run(global, &usage).await,
        Command::Queue(queue) => queue::run(global, queue).await,
        Command::Policy(policy) => policy::run(global, policy).await,
        Command::Artifact(artifact) => artifact::run(global, artifact).await,
        Command::Storage(storage) => storage::run(global, &storage).await,
        Command::Coordinator(coordinator) => coordinator::run(coordinator).await,
        Command::Agent(agent) => agent::run(agent).await,
        Command::Token(token) => token::run(global, token).await,
        Command::Audit(audit) => audit::run(global, &audit).await,
        Command::Secret(secret) => secret::run(global, secret).await,
        Command::Cluster(cluster) => cluster::run(global, cluster).await,
        Command::Bench(bench) => bench::run(global, bench).await,
        Command::Replay(asked) => replay::run(&asked),
        Command::Whatif(asked) => whatif::run(&asked),
        Command::Debug(debug) => debug::run(global, debug).await,
        Command::Login(login) => login::run(&login).await,
        Command::Install(install) => install::run(&install),
        Command::Completions(completions) => completions::run(&completions),
    }
}
