//! One gang on nodes of which some is in use: which nodes are the fewest.

/// A gang, and what is free for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneGang {
    /// By node, CPUs and GPUs that are free.
    pub nodes: Vec<(u32, u32)>,
    /// CPUs of a member.
    pub cpus: u32,
    /// GPUs of a member.
    pub gpus: u32,
    /// Members.
    pub size: u32,
}

/// How few nodes it fits on, by trying all sets of them; `None` if it fits on none.
pub fn fewest_nodes(gang: &OneGang) -> Option<u32> {
    let holds = |(cpus, gpus): (u32, u32)| (cpus / gang.cpus).min(gpus.checked_div(gang.gpus).unwrap_or(u32::MAX));
    let members = |set: u32| -> u32 {
        let inside = gang.nodes.iter().enumerate().filter(|(at, _)| set & 1 << at != 0);
        inside.map(|(_, node)| holds(*node)).sum()
    };
    let enough = (0..1u32 << gang.nodes.len()).filter(|set| members(*set) >= gang.size);
    enough.map(u32::count_ones).min()
}
