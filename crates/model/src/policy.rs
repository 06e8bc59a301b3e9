//! What an operator says of the cluster as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Inventory, Name, QueueFault, Rejection, limits};

/// What holds for all of the cluster. It is put as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The labels that say what is near to what, from the top: `block`, `rack`. Empty if nothing is said of that.
    pub topology: Vec<Name>,
    /// How much may be starting at one time.
    #[serde(default)]
    pub throttle: Throttle,
    /// Countable things that all nodes share, such as licences, and how many there are of each. A token of another name is a node's.
    #[serde(default)]
    pub tokens: BTreeMap<Name, u64>,
}

/// Most members that are placed and do not run yet, at one time; as many as there is room for where nothing is said. What goes as a whole is
/// not kept for ever: where nothing else is starting, a gang may be larger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// Of one job.
    pub per_job: Option<u32>,
    /// On one node.
    pub per_node: Option<u32>,
}

impl Throttle {
    /// Whether it bounds nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// How many more may be starting where so many are, of `most`.
    pub fn room(most: Option<u32>, starting: u32) -> u32 {
        most.filter(|_| starting > 0).map_or(u32::MAX, |most| most.saturating_sub(starting))
    }
}

impl Policy {
    /// The word that stands for a single node where a level is asked for, so that no level has it.
    pub const HOST: &str = "host";

    /// The depth of a level: 1 for the topmost; `None` if it is no level.
    pub fn depth(&self, level: &Name) -> Option<usize> {
        self.topology.iter().position(|name| name == level).map(|at| at + 1)
    }

    /// Whether a token is the cluster's and not a node's.
    pub fn is_shared(&self, token: &Name) -> bool {
        self.tokens.contains_key(token)
    }

    /// Where a node is: its labels of the levels from the top, as far as it has them. A node without the label of a level is
    /// near to nothing that is known there, whatever its labels below it say.
    pub fn domain<'a>(&self, inventory: &'a Inventory) -> Vec<&'a str> {
        self.topology.iter().map_while(|level| inventory.labels.get(level)).map(String::as_str).collect()
    }

    /// The levels as they are told to people.
    pub fn levels(&self) -> String {
        let names: Vec<&str> = self.topology.iter().map(Name::as_str).collect();
        if names.is_empty() { "none; `fctl policy put` declares them".to_owned() } else { names.join(", ") }
    }
}

/// Everything that is wrong with a policy.
pub fn policy_faults(policy: &Policy) -> Vec<QueueFault> {
    let mut faults = throttle_faults(policy.throttle);
    let mut fault = |message: String| faults.push(QueueFault { field: "topology".to_owned(), message });
    let levels = &policy.topology;
    if levels.len() > limits::TOPOLOGY_LEVELS {
        fault(format!("at most {} levels, these are {}", limits::TOPOLOGY_LEVELS, levels.len()));
    }
    for (at, level) in levels.iter().enumerate() {
        if levels[..at].contains(level) {
            fault(format!("`{level}` is named twice; each label is one level"));
        }
        if level.as_str() == Policy::HOST {
            fault(format!("`{level}` means a single node and cannot be a level"));
        }
    }
    faults.extend(token_faults(&policy.tokens));
    faults
}

fn token_faults(tokens: &BTreeMap<Name, u64>) -> Option<QueueFault> {
    let fault = |message: String| Some(QueueFault { field: "tokens".to_owned(), message });
    if tokens.len() > limits::QUEUE_COLUMNS {
        return fault(format!("at most {} tokens, these are {}", limits::QUEUE_COLUMNS, tokens.len()));
    }
    let too_many = tokens.iter().find(|(_, count)| **count > limits::QUEUE_TOKENS);
    too_many.and_then(|(name, _)| fault(format!("at most {} of `{name}`", limits::QUEUE_TOKENS)))
}

fn throttle_faults(throttle: Throttle) -> Vec<QueueFault> {
    let fields = [("throttle.per_job", throttle.per_job), ("throttle.per_node", throttle.per_node)];
    let nothing = fields.into_iter().filter(|(_, most)| *most == Some(0));
    let fault = |(field, _): (&str, _)| QueueFault {
        field: field.to_owned(),
        message: "nothing would ever start; leave it out, or let it be at least 1".to_owned(),
    };
    nothing.map(fault).collect()
}

/// Checks every rule that can be seen from the policy alone.
///
/// # Errors
/// [`Rejection::Invalid`] naming the first field that breaks one.
pub fn validate_policy(policy: &Policy) -> Result<(), Rejection> {
    match policy_faults(policy).into_iter().next() {
        None => Ok(()),
        Some(QueueFault { field, message }) => Err(Rejection::Invalid { path: format!("policy.{field}"), message }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(levels: &[&str]) -> Policy {
        Policy { topology: levels.iter().map(|level| level.parse().unwrap()).collect(), ..Policy::default() }
    }

    #[test]
    fn levels_are_few_and_each_once() {
        let faults = |levels: &[&str]| -> Vec<String> {
            policy_faults(&policy(levels)).into_iter().map(|fault| fault.message).collect()
        };
        assert_eq!(faults(&["block", "rack"]), Vec::<String>::new());
        assert_eq!(faults(&["rack", "block", "rack"]), ["`rack` is named twice; each label is one level"]);
        assert_eq!(faults(&["host"]).len(), 1);
        assert_eq!(faults(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]).len(), 1);
        let rejected = validate_policy(&policy(&["host"])).unwrap_err();
        assert!(rejected.to_string().starts_with("policy.topology: `host`"), "{rejected}");
    }

    #[test]
    fn tokens_are_few_kinds_and_not_more_than_a_queue_could_hold() {
        let of = |names: usize, count: u64| {
            let tokens = (0..names).map(|at| (format!("t{at}").parse().unwrap(), count)).collect();
            policy_faults(&Policy { tokens, ..Policy::default() }).len()
        };
        assert_eq!((of(64, 0), of(1, limits::QUEUE_TOKENS)), (0, 0));
        assert_eq!((of(65, 1), of(1, limits::QUEUE_TOKENS + 1)), (1, 1));
    }

    #[test]
    fn levels_count_from_the_top() {
        let policy = policy(&["block", "rack"]);
        let name = |text: &str| text.parse::<Name>().unwrap();
        assert_eq!((policy.depth(&name("block")), policy.depth(&name("rack"))), (Some(1), Some(2)));
        assert_eq!(policy.depth(&name("host")), None);
    }
}
