//! A fleet that is empty, and the work that waits for it.

/// A node; all its GPUs are of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// CPUs.
    pub cpus: u32,
    /// GPUs.
    pub gpus: u32,
    /// Their model.
    pub model: u32,
}

/// Tasks that are alike. A task of more than one member is a gang: all of them or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// CPUs of a member.
    pub cpus: u32,
    /// GPUs of a member; none if 0.
    pub gpus: u32,
    /// Thousandths of each of those; 1,000 unless it is one.
    pub share_milli: u32,
    /// Only of this model.
    pub model: Option<u32>,
    /// Members of a task.
    pub size: u32,
    /// Tasks that wait.
    pub tasks: u32,
}

/// What is to be placed where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The fleet.
    pub nodes: Vec<Node>,
    /// What waits.
    pub work: Vec<Work>,
}

impl Work {
    /// Thousandths of GPUs that a member takes.
    pub fn milli(&self) -> u32 {
        self.gpus * self.share_milli
    }

    /// Whether its members take a part of a GPU.
    pub fn is_part(&self) -> bool {
        self.gpus > 0 && self.share_milli < 1_000
    }

    /// Whether a member may go to a node, and fits when it is empty.
    pub fn may_go_to(&self, node: &Node) -> bool {
        let model = self.gpus == 0 || self.model.is_none_or(|model| model == node.model);
        model && self.cpus <= node.cpus && self.gpus <= node.gpus
    }
}

impl Problem {
    /// CPUs in all.
    pub fn cpus(&self) -> u32 {
        self.nodes.iter().map(|node| node.cpus).sum()
    }

    /// Thousandths of GPUs in all.
    pub fn milli(&self) -> u32 {
        self.nodes.iter().map(|node| 1_000 * node.gpus).sum()
    }

    /// What a task is worth: the part of all GPUs that it takes, and that of all CPUs.
    pub fn worth(&self, work: &Work) -> f64 {
        let part = |of: u32, all: u32| if all == 0 { 0.0 } else { f64::from(of * work.size) / f64::from(all) };
        part(work.milli(), self.milli()) + part(work.cpus, self.cpus())
    }

    /// What so many tasks of each kind of work are worth.
    pub fn worth_of(&self, placed: &[u32]) -> f64 {
        self.work.iter().zip(placed).map(|(work, placed)| f64::from(*placed) * self.worth(work)).sum()
    }

    /// Whether there are gangs.
    pub fn has_gangs(&self) -> bool {
        self.work.iter().any(|work| work.size > 1)
    }
}
