//! The gates of `check`, cheap ones first. A gate judges and never writes.
//!
//! Adding one is adding a line to [`GATES`]. Its function says what is wrong and where; the caller prints and counts.

mod cargo;
mod claims;
mod fences;
mod layers;
mod ledger;
mod purity;

use crate::tally::Verdict;
use crate::tidy;
use crate::workspace::Workspace;

/// One judgement over the repository.
pub(crate) struct Gate {
    pub(crate) name: &'static str,
    pub(crate) judge: fn(&Workspace) -> Verdict,
}

/// Every gate, in the order they run.
pub(crate) const GATES: &[Gate] = &[
    Gate { name: "tidy", judge: |workspace| of(tidy::problems(workspace)) },
    Gate { name: "fences", judge: |workspace| of(fences::problems(workspace)) },
    Gate { name: "layers", judge: |workspace| of(layers::problems(workspace)) },
    Gate { name: "purity", judge: |workspace| of(purity::problems(workspace)) },
    Gate { name: "claims", judge: |workspace| of(claims::problems(workspace)) },
    Gate { name: "ledger", judge: |workspace| of(ledger::problems(workspace)) },
    Gate { name: "format", judge: cargo::format },
    Gate { name: "machete", judge: cargo::machete },
    Gate { name: "deny", judge: cargo::deny },
    Gate { name: "clippy", judge: cargo::clippy },
    Gate { name: "docs", judge: cargo::docs },
];

/// A gate that cannot even look has failed: a gate that silently sees nothing is worse than none.
fn of(problems: Result<Vec<String>, String>) -> Verdict {
    problems.map_or_else(|reason| Verdict::Failed(vec![reason]), Verdict::of)
}
