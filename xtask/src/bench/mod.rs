//! `cargo xtask bench NAME`: measurements, always beside a floor taken in the same run.
//!
//! Machines are shared and noisy, so only ratios of one run count; a wall figure is information. A bench is a file here
//! and a line in [`BENCHES`].

mod cluster;
mod crun;
mod fctl;
mod figures;
mod floors;
mod local;
mod scheduler;
mod spawn;

use crate::workspace::Workspace;

struct Bench {
    name: &'static str,
    says: &'static str,
    /// With the words that follow its name.
    run: fn(&Workspace, &[String]) -> Result<(), String>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "floors",
        says: "what this machine can do at most: spawned processes, crun containers",
        run: |workspace, _| floors::run(workspace),
    },
    Bench {
        name: "local",
        says: "the embedded cluster: tasks, containers, latency, memory",
        run: |workspace, _| local::run(workspace),
    },
    Bench {
        name: "cluster",
        says: "three coordinators beside etcd: submit|failover|soak|..., --quick, --minutes N",
        run: cluster::run,
    },
    Bench {
        name: "scheduler",
        says: "the solver, and 10,000 hollow nodes: [--quick] solver|fragmentation|optimum|fairness|pictures|fleet|pending|all",
        run: scheduler::run,
    },
    Bench {
        name: "command-line",
        says: "how long fctl itself takes to start and end",
        run: |workspace, _| fctl::run(workspace),
    },
];

/// Runs the bench that is named, or lists them.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let Some(name) = arguments.first() else {
        BENCHES.iter().for_each(|bench| println!("{:<14} {}", bench.name, bench.says));
        return Ok(true);
    };
    if name == crun::INSIDE {
        crun::inside(&arguments[1..])?;
        return Ok(true);
    }
    let bench =
        BENCHES.iter().find(|bench| bench.name == name).ok_or_else(|| format!("no bench is called `{name}`"))?;
    (bench.run)(workspace, &arguments[1..])?;
    Ok(true)
}
