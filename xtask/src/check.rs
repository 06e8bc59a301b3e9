//! `cargo xtask check`: the gate. It reads and judges; it never changes a file of the repository.

use crate::gates::GATES;
use crate::tally::Tally;
use crate::workspace::Workspace;

/// Runs every gate; `true` when none failed.
pub(crate) fn run(workspace: &Workspace) -> Result<bool, String> {
    let (tally, skipped) = run_gates(workspace);
    if !skipped.is_empty() {
        println!("`cargo xtask test` builds the tools that are missing, where it may");
    }
    println!("{tally}");
    Ok(tally.failed == 0)
}

/// Runs every gate, even after one failed, so that one run shows everything. Also returns why gates were skipped.
pub(crate) fn run_gates(workspace: &Workspace) -> (Tally, Vec<String>) {
    let (mut tally, mut skipped) = (Tally::default(), Vec::new());
    for gate in GATES {
        let start = flowyard_clock::monotonic();
        let verdict = (gate.judge)(workspace);
        tally.record(gate.name, &verdict, flowyard_clock::elapsed(start));
        if let crate::tally::Verdict::Skipped(reason) = &verdict {
            skipped.push(format!("skipped: check {}: {reason}", gate.name));
        }
    }
    (tally, skipped)
}
