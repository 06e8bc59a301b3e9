//! Where the members and tasks of a step go in relation to each other and to others.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Constraint, Inventory, Name, NodeId, Policy};

/// Where the tasks of a step go beside where they may: which nodes are preferred, and how members go in relation to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placing {
    /// How near to each other the members of a gang are; as near as there is room if `None`.
    pub near: Option<Near>,
    /// Conditions on a node's labels that are good to have; only where there is one member.
    pub prefer: Vec<Preference>,
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
