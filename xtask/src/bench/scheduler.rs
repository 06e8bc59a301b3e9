//! `bench scheduler [--quick] [solver|fragmentation|optimum|fairness|pictures|fleet|pending|all]`: the solver alone, what becomes of free GPUs in a day, how
//! far it is from the optimum, policies compared on traces, everything from the submission of a task to its end, and the same beside tasks
//! that wait, with what others publish of theirs beside it.
//!
//! The solver is a bench of its crate. The fleet is what `fctl bench fleet` measures for any operator, with the release build.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::fctl::Fctl;
use crate::program::succeeds;
use crate::workspace::Workspace;

/// What others publish, with what it is a figure of: none of them was measured here.
const OTHERS: &[(&str, &str)] = &[
    ("HyperQueue 0.26", "about 21,000 tasks/s: one server, a journal without fsync, tasks of no length"),
    ("Nomad", "3,750 placements/s at best, on 5,000 hosts"),
    ("kube-scheduler", "680 to 810 pods/s; 180 where pods ask for what is like a GPU"),
];

/// A run of the fleet: what is said of it, and its flags.
struct Part {
    name: &'static str,
    flags: &'static [&'static str],
    quick: &'static [&'static str],
}

/// What is measured beside tasks that wait: how soon others are placed, and what each of those that wait costs.
const PENDING: &[Part] = &[
    Part {
        name: "500 tasks arriving per second, beside 100 that wait",
        flags: &["--nodes=1000", "--tasks=30000", "--rate=500", "--duration=100ms", "--backlog=100"],
        quick: &["--nodes=50", "--tasks=1000", "--rate=100", "--duration=100ms", "--backlog=100"],
    },
    Part {
        name: "the same, beside 1,000,000 that wait, as arrays",
        flags: &["--nodes=1000", "--tasks=30000", "--rate=500", "--duration=100ms", "--backlog=1000000"],
        quick: &["--nodes=50", "--tasks=1000", "--rate=100", "--duration=100ms", "--backlog=20000"],
    },
    Part {
        name: "the same, beside 1,000,000 that wait, each a job that differs in command and environment",
        flags: &[
            "--nodes=1000",
            "--tasks=30000",
            "--rate=500",
            "--duration=100ms",
            "--backlog=1000000",
            "--backlog-distinct",
        ],
        quick: &[
            "--nodes=50",
            "--tasks=1000",
            "--rate=100",
            "--duration=100ms",
            "--backlog=20000",
            "--backlog-distinct",
        ],
    },
];

const PARTS: &[Part] = &[
    Part {
        name: "10,000 nodes of 8 slots, 1,000,000 tasks of no length as arrays",
        flags: &["--nodes=10000", "--tasks=1000000"],
        quick: &["--nodes=500", "--tasks=50000"],
    },
    Part {
        name: "the same, with one slot for each node",
        flags: &["--nodes=10000", "--tasks=200000", "--slots=1"],
        quick: &["--nodes=500", "--tasks=10000", "--slots=1"],
    },
    Part {
        name: "100,000 jobs of one task that all differ",
        flags: &["--nodes=10000", "--tasks=100000", "--distinct"],
        quick: &["--nodes=500", "--tasks=10000", "--distinct"],
    },
    Part {
        name: "1,000 tasks arriving per second: how soon each is placed",
        flags: &["--nodes=10000", "--tasks=60000", "--rate=1000", "--duration=100ms"],
        quick: &["--nodes=500", "--tasks=5000", "--rate=500", "--duration=100ms"],
    },
];

/// Benches of crates, and whose they are.
const BENCHES: &[(&str, &str)] = &[
    ("solver", "flowyard-placement"),
    ("fragmentation", "flowyard-history"),
    ("optimum", "flowyard-optimum"),
    ("fairness", "flowyard-history"),
    ("pictures", "flowyard-history"),
];
/// Runs of the fleet, with what they are called.
const FLEETS: &[(&str, &[Part])] = &[("fleet", PARTS), ("pending", PENDING)];

/// Measures, and prints.
pub(super) fn run(workspace: &Workspace, words: &[String]) -> Result<(), String> {
    let known: Vec<_> = BENCHES.iter().map(|(name, _)| *name).chain(FLEETS.iter().map(|(name, _)| *name)).collect();
    let (mut quick, mut wanted) = (false, None);
    for word in words {
        match word.as_str() {
            "--quick" => quick = true,
            word if wanted.is_none() && (word == "all" || known.contains(&word)) => wanted = Some(word),
            other => {
                return Err(format!("`{other}` is no part of it; write [--quick] [{}|all]", known.join("|")));
            }
        }
    }
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted == "all" || wanted == name);
    for (name, package) in BENCHES.iter().filter(|(name, _)| is_wanted(name)) {
        println!("== {name}");
        let mut bench = workspace.cargo(&["bench", "--quiet", "--locked", "--package", package, "--bench", name, "--"]);
        if quick {
            bench.arg("--quick");
        } else if ["fairness", "pictures"].contains(name) {
            // Pictures are of whole runs only.
            bench.arg("--svg").arg(workspace.root.join("docs/images"));
        }
        succeeds(&mut bench)?;
    }
    for (_, parts) in FLEETS.iter().filter(|(name, _)| is_wanted(name)) {
        fleet(workspace, parts, quick)?;
    }
    println!("\nwhat others publish of theirs, on machines of their own; not measured here:");
    OTHERS.iter().for_each(|(name, figure)| println!("  {name:<16} {figure}"));
    Ok(())
}

fn fleet(workspace: &Workspace, parts: &[Part], quick: bool) -> Result<(), String> {
    let fctl = Fctl::build(workspace)?;
    for Part { name, flags, quick: small } in parts {
        let flags = if quick { small } else { flags };
        println!("\n== fleet: {name}{}", if quick { ", in small" } else { "" });
        println!("   fctl bench fleet {}", flags.join(" "));
        let mut command = fctl.command(&["-o", "json", "bench", "fleet"]);
        command.args(*flags).arg("--folder").arg(fctl.home());
        print(&measured(&mut command)?);
    }
    Ok(())
}

/// The figures that a bench wrote; what it says while it runs is for whoever looks on.
fn measured(command: &mut Command) -> Result<Value, String> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let output = child.and_then(std::process::Child::wait_with_output).map_err(|error| format!("fctl: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let told: Value =
        serde_json::from_str(text.trim()).map_err(|_| format!("fctl bench fleet ended: {}", output.status))?;
    match output.status.success() {
        true => Ok(told),
        false => Err(format!("fctl bench fleet found what is wrong: {}", told["problems"])),
    }
}

fn print(told: &Value) {
    let number = |name: &str| told[name].as_u64().unwrap_or_default();
    println!("   tasks per second                 {:>9}", number("tasks_per_second"));
    let placed = ["placed_p50_ms", "placed_p99_ms"].map(number);
    println!("   startable to placed, p50 / p99   {:>9} / {} ms", placed[0], placed[1]);
    println!("   CPU of all coordinators per task {:>9} us", number("cpu_us_per_task"));
    println!("   elections, sessions lost         {:>9}, {}", number("elections"), number("sessions_lost"));
    if let Some(bytes) = told["backlog"]["bytes_per_task"].as_u64() {
        println!("   memory of each task that waits   {bytes:>9} bytes");
    }
    let mib = |value: &Value| value["peak_rss_bytes"].as_u64().unwrap_or_default() >> 20;
    println!(
        "   peak memory of a coordinator     {:>9} MiB; of all hollow agents {} MiB",
        mib(told),
        mib(&told["agents"])
    );
    println!("   TLS {}, fsync {} ({})", told["tls"], told["fsync"], told["disk"]);
}
