//! Where the members and tasks of a step go in relation to each other and to others.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Constraint, Inventory, Name, NodeId, Policy, Replace};

/// Where the tasks of a step go beside where they may: which nodes are preferred, and how members go in relation to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Placing {
    /// How near to each other the members of a gang are; as near as there is room if `None`.
    pub near: Option<Near>,
    /// Conditions on a node's labels that are good to have.
    pub prefer: Vec<Preference>,
    /// The fewest members that a gang starts with, and goes on with; as many as its size if `None`.
    #[serde(default)]
    pub min_size: Option<u32>,
    /// Whether a gang goes on when it loses members; it fails as a whole if `None`.
    #[serde(default)]
    pub replace: Option<Replace>,
    /// Over what the members of all its tasks are spread; as it comes if `None`.
    pub spread: Option<Spread>,
    /// Whether a node has at most one member of all its tasks at a time.
    pub unique_host: bool,
    /// It is on no node together with attempts of jobs that have one of these tags.
    pub apart: BTreeSet<String>,
    /// Whether work without GPUs fills the nodes that are fullest rather than be spread.
    pub pack: bool,
}

/// The members of a step over domains: as even as there is room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Spread {
    /// Nodes that are alike in this label are a domain, and so is a node without it; each node, if it is [`Policy::HOST`].
    pub over: Name,
    /// Most members in a domain at a time; as many as there is room for if `None`.
    pub at_most: Option<u32>,
}

/// What the members of a step are counted in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain<'a> {
    /// All nodes with these labels.
    Labels(Vec<&'a str>),
    /// A node by itself.
    Node(NodeId),
}

impl Spread {
    /// Whether each node is a domain.
    pub fn is_by_host(&self) -> bool {
        self.over.as_str() == Policy::HOST
    }

    /// The labels that the nodes of a node's domain share; `None` for one that is a domain by itself. Of a level of the topology they are
    /// those of the levels above, too.
    pub fn labels<'a>(&self, policy: &Policy, inventory: &'a Inventory) -> Option<Vec<&'a str>> {
        if self.is_by_host() {
            return None;
        }
        match policy.depth(&self.over) {
            Some(depth) => policy.domain(inventory).get(..depth).map(<[_]>::to_vec),
            None => inventory.labels.get(&self.over).map(|label| vec![label.as_str()]),
        }
    }

    /// The domain of a node.
    pub fn domain<'a>(&self, policy: &Policy, node: NodeId, inventory: &'a Inventory) -> Domain<'a> {
        self.labels(policy, inventory).map_or(Domain::Node(node), Domain::Labels)
    }
}

/// As it is read after "spread".
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at_most {
            None => write!(f, "over {}", self.over),
            Some(most) => write!(f, "over {}, at most {most} in one", self.over),
        }
    }
}

/// A condition that is good to have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Preference {
    /// The condition.
    pub constraint: Constraint,
    /// How much it counts, 1 to [`limits::PREFERENCE`](crate::limits::PREFERENCE).
    pub weight: u32,
}

/// A level of the topology on which the members of a gang are together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Near {
    /// The level, by its label.
    pub level: Name,
    /// Whether it waits until it can have that; if not, it is further apart where there is no room so near.
    pub need: bool,
}

impl Placing {
    /// Whether it says nothing.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it matters where those are that run of the same step already.
    pub fn counts_its_own(&self) -> bool {
        self.spread.is_some() || self.unique_host
    }

    /// How much of what is preferred a node has: the weights of the conditions that hold.
    pub fn score(&self, inventory: &Inventory) -> u32 {
        let held = self.prefer.iter().filter(|preference| preference.constraint.holds(inventory));
        held.map(|preference| preference.weight).fold(0, u32::saturating_add)
    }

    /// Whether these nodes, one for each member, are as near to each other as they have to be. A single node always is.
    pub fn is_near_enough(&self, policy: &Policy, nodes: &[(NodeId, &Inventory)]) -> bool {
        let Some(near) = self.near.as_ref().filter(|near| near.need) else { return true };
        let Some(((first, inventory), others)) = nodes.split_first() else { return true };
        let Some(depth) = policy.depth(&near.level) else { return false };
        let domain = policy.domain(inventory);
        let beside =
            |inventory: &Inventory| domain.get(..depth).is_some_and(|it| policy.domain(inventory).starts_with(it));
        others.iter().all(|(node, inventory)| node == first || beside(inventory))
    }
}

/// As it is read after "members".
impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, need } = self;
        if *need { write!(f, "all in one {level}") } else { write!(f, "in one {level} if possible") }
    }
}
