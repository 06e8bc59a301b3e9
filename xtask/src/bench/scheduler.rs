//! `bench scheduler [--quick] [solver|fleet|all]`: the solver alone, and everything from the submission of a task to its end, with what others
//! publish of theirs beside it.
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

/// Measures, and prints.
pub(super) fn run(workspace: &Workspace, words: &[String]) -> Result<(), String> {
    let (mut quick, mut wanted) = (false, None);
    for word in words {
        match word.as_str() {
            "--quick" => quick = true,
            "solver" | "fleet" | "all" if wanted.is_none() => wanted = Some(word.as_str()),
            other => return Err(format!("`{other}` is no part of it; write [--quick] [solver|fleet|all]")),
        }
    }
    let wanted = wanted.unwrap_or("all");
    if wanted != "fleet" {
        println!("== solver");
        let bench = ["bench", "--quiet", "--locked", "--package", "flowyard-placement", "--bench", "solver"];
        let mut bench = workspace.cargo(&bench);
        succeeds(if quick { bench.args(["--", "--quick"]) } else { &mut bench })?;
    }
    if wanted != "solver" {
        fleet(workspace, quick)?;
    }
    println!("\nwhat others publish of theirs, on machines of their own; not measured here:");
    OTHERS.iter().for_each(|(name, figure)| println!("  {name:<16} {figure}"));
    Ok(())
}

fn fleet(workspace: &Workspace, quick: bool) -> Result<(), String> {
    let fctl = Fctl::build(workspace)?;
    for Part { name, flags, quick: small } in PARTS {
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
    let mib = |value: &Value| value["peak_rss_bytes"].as_u64().unwrap_or_default() >> 20;
    println!(
        "   peak memory of a coordinator     {:>9} MiB; of all hollow agents {} MiB",
        mib(told),
        mib(&told["agents"])
    );
    println!("   TLS {}, fsync {} ({})", told["tls"], told["fsync"], told["disk"]);
}
