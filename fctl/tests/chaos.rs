//! The chaos suite (`tests/chaos`) against this program: the short plan, or what `FLOWYARD_CHAOS_SEED` and `FLOWYARD_CHAOS_SECONDS`
//! ask for. `FLOWYARD_CHAOS_PROGRAM` names another program to run it against, `FLOWYARD_CHAOS_NEXT` the release that the cluster is
//! upgraded to meanwhile; without it, that is a copy of the same program.
#![allow(clippy::print_stdout, reason = "whoever looks for a fault wants to know what was done")]

use std::path::PathBuf;

use flowyard_chaos::{Wish, run};

/// Violations that are told; one often brings many.
const SHOWN: usize = 30;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, not `{text}`")))
}

#[test]
fn nothing_acknowledged_is_lost_whatever_is_killed_cut_off_filled_or_damaged() {
    let wish = match (number("FLOWYARD_CHAOS_SEED"), number("FLOWYARD_CHAOS_SECONDS")) {
        (None, None) => Wish::Short,
        (seed, seconds) => Wish::Seed { seed: seed.unwrap_or(1), seconds: seconds.unwrap_or(60) },
    };
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let program = named("FLOWYARD_CHAOS_PROGRAM").unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_fctl")));
    let ended = match run(&program, named("FLOWYARD_CHAOS_NEXT").as_deref(), wish) {
        Ok(ended) => ended,
        Err(reason) => return flowyard_skip::skip(&format!("no chaos here: {reason}")),
    };
    println!("{}", ended.summary);
    ended.left_out.iter().for_each(|what| flowyard_skip::skip(what));
    let shown: Vec<&str> = ended.violations.iter().take(SHOWN).map(String::as_str).collect();
    assert!(shown.is_empty(), "{} violations:\n{}", ended.violations.len(), shown.join("\n"));
}
