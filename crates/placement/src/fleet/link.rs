//! How near to each other devices of one node are.

/// A level on which devices of a node are near to each other. Each level parts them into groups of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// By links of their own.
    Nvlink,
    /// By one switch, or one root complex.
    Pcie,
    /// By one NUMA node.
    Numa,
}

impl Link {
    /// How many there are.
    pub const COUNT: usize = 3;
    /// All of them, by their position.
    pub const ALL: [Self; Self::COUNT] = [Self::Nvlink, Self::Pcie, Self::Numa];

    /// Its position among all.
    pub fn position(self) -> usize {
        self as usize
    }
}
