//! Policy files: what an operator says of the cluster as a whole. Read as strictly as flow files, and in the same words.
//!
//! ```toml
//! topology = ["block", "rack"]
//! throttle = { per_job = 500, per_node = 8 }
//! tokens = { matlab = 5 }
//! ```
//!
//! A policy is put as a whole: what a file does not say is not said any more.

use std::collections::BTreeMap;
use std::path::Path;

use flowyard_model::{Name, Policy, Throttle, limits, policy_faults};

use crate::flow::FlowError;
use crate::flow::fields::{Field, Shape, field};
use crate::flow::load::{bytes_of, text_of};
use crate::flow::problem::Problems;
use crate::flow::read::tree;
use crate::flow::source::Source;
use crate::flow::walk::{At, Walk};

/// Bytes of a policy file.
const FILE_BYTES: u64 = 1024 * 1024;
const LEVELS: &str = "a list of labels from the top, such as [\"block\", \"rack\"]";

/// Keys at the top of the file.
const FILE: &[Field] = &[
    field("topology", Shape::Texts, "Labels that say what is near to what, from the top.", "[\"block\", \"rack\"]"),
    field(
        "throttle",
        Shape::Any,
        "Most members that are placed and do not run yet.",
        "{ per_job = 500, per_node = 8 }",
    ),
    field("tokens", Shape::Counts, "Countable things that all nodes share, such as licences.", "{ matlab = 5 }"),
];

/// Keys of `throttle`.
const THROTTLE: &[Field] = &[
    field("per_job", Shape::Integer(1, u32::MAX as i64), "Of one job.", "500"),
    field("per_node", Shape::Integer(1, u32::MAX as i64), "On one node.", "8"),
];

/// Reads and checks the policy file at `path`.
///
/// # Errors
/// The file cannot be read, or everything wrong that was found in it.
pub fn load(path: &Path) -> Result<Policy, FlowError> {
    let file = path.display().to_string();
    let bytes = bytes_of(path, FILE_BYTES);
    let bytes =
        bytes.map_err(|error| FlowError::unreadable(&file, format!("cannot read the policy file: {error}"), None))?;
    let too_large =
        || FlowError::whole(&file, format!("the policy file is larger than {} MiB", FILE_BYTES >> 20), None);
    parse(&file, &bytes.ok_or_else(too_large)?)
}

/// Reads and checks the text of a policy file; `file` is what messages call it.
///
/// # Errors
/// Everything wrong that was found.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Policy, FlowError> {
    let text = text_of(file, bytes, "the policy file")?;
    let source = Source::of_file(file, text);
    let tree = tree(&source, text)?;
    let mut walk = Walk::new(Problems::new(&source));
    let entries = walk.entries(tree.get_ref(), "");
    let mut policy = Policy::default();
    for top in walk.fields(entries, FILE, "at the top of the file") {
        match top.key {
            "topology" => policy.topology = read_levels(&mut walk, &top.at),
            "tokens" => policy.tokens = read_tokens(&mut walk, &top.at),
            _ => policy.throttle = read_throttle(&mut walk, &top.at),
        }
        if walk.problems.is_empty() {
            for fault in policy_faults(&policy) {
                walk.problem(&top.at, fault.message);
            }
        }
    }
    walk.problems.into_result(|| policy)
}

fn read_levels(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Vec<Name> {
    let items = walk.list(at, LEVELS).unwrap_or_default();
    items.iter().filter_map(|item| walk.parsed(item, "a label in quotes", str::parse)).collect()
}

fn read_tokens(walk: &mut Walk<'_>, at: &At<'_, '_>) -> BTreeMap<Name, u64> {
    let mut tokens = BTreeMap::new();
    for entry in walk.table(at, "a table such as { matlab = 5 }").unwrap_or_default() {
        let name = walk.name_key(&entry, "a token");
        tokens.extend(name.zip(walk.integer(&entry.at, 0, limits::QUEUE_TOKENS as i64)));
    }
    tokens
}

fn read_throttle(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Throttle {
    let entries = walk.table(at, "a table such as { per_job = 500, per_node = 8 }").unwrap_or_default();
    let mut throttle = Throttle::default();
    for entry in walk.fields(entries, THROTTLE, "in `throttle`") {
        let most = walk.integer(&entry.at, 1, i64::from(u32::MAX));
        match entry.key {
            "per_job" => throttle.per_job = most,
            _ => throttle.per_node = most,
        }
    }
    throttle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        parse("policy.toml", text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn levels_are_read_from_the_top() {
        let policy = |text: &str| parse("policy.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let levels = policy("topology = [\"block\", \"rack\"]\n").topology;
        assert_eq!(levels.iter().map(Name::as_str).collect::<Vec<_>>(), ["block", "rack"]);
        assert_eq!(policy(""), Policy::default(), "an empty file takes the topology back");
        assert_eq!(policy("topology = []"), Policy::default());
    }

    #[test]
    fn a_throttle_is_read_in_part_or_whole() {
        let throttle =
            |text: &str| parse("policy.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{error}")).throttle;
        let both = throttle("throttle = { per_job = 500, per_node = 8 }\n");
        assert_eq!((both.per_job, both.per_node), (Some(500), Some(8)));
        assert_eq!(throttle("[throttle]\nper_node = 8\n"), Throttle { per_job: None, per_node: Some(8) });
        assert!(throttle("topology = [\"rack\"]\n").is_none());
    }

    #[test]
    fn tokens_are_counts_by_name() {
        let policy =
            parse("policy.toml", b"tokens = { matlab = 5, ansys = 0 }\n").unwrap_or_else(|error| panic!("{error}"));
        let tokens: Vec<_> = policy.tokens.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(tokens, [("ansys", 0), ("matlab", 5)]);
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        let expected = [
            ("topolgy = []", "policy.toml:1:1: unknown key `topolgy` at the top of the file; did you mean `topology`?"),
            ("topology = \"rack\"", "policy.toml:1:12: expected a list of labels from the top"),
            ("topology = [\"a b\"]", "policy.toml:1:13: a name consists of letters"),
            ("topology = [1]", "policy.toml:1:13: expected a label in quotes, found the number 1"),
            ("topology = [\"rack\", \"rack\"]", "policy.toml:1:12: `rack` is named twice"),
            ("throttle = 3", "policy.toml:1:12: expected a table such as { per_job = 500, per_node = 8 }"),
            ("throttle = { per_job = 0 }", "policy.toml:1:24: expected a whole number from 1 to 4294967295"),
            ("tokens = { \"a b\" = 1 }", "`a b` cannot be the name of a token"),
            ("tokens = { x = -1 }", "policy.toml:1:16: expected a whole number from 0 to 1000000000"),
            ("throttle = { per_host = 1 }", "unknown key `per_host` in `throttle`"),
            ("topology = [\"host\"]", "policy.toml:1:12: `host` means a single node"),
        ];
        for (text, expected) in expected {
            let said = said(text);
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
