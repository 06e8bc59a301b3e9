//! What a member of a gang is told of the others: variables, and a file that names their hosts. Pure.
//!
//! Beside our own, the variables that programs of several members look for by themselves: those of torch.distributed (and torchrun),
//! of JAX, and of Open MPI and PMI. A step's own `env` goes before these, and never before ours.

use flowyard_model::{Gang, GangSeat, Rank};

/// A member's place in its gang, with all that is told of it.
#[derive(Debug, Clone, Copy)]
pub struct Seated<'a> {
    gang: &'a Gang,
    rank: Rank,
    seat: GangSeat,
}

impl<'a> Seated<'a> {
    /// The member of this rank; `None` if the gang has none of it.
    pub fn new(gang: &'a Gang, rank: Rank) -> Option<Self> {
        Some(Self { gang, rank, seat: gang.seat(rank)? })
    }

    /// Our own variables, without that of the file of hosts.
    pub fn own(&self) -> Vec<(&'static str, String)> {
        let Self { gang, rank, seat } = self;
        vec![
            ("FLOWYARD_RANK", rank.to_string()),
            ("FLOWYARD_SIZE", gang.size().to_string()),
            ("FLOWYARD_LOCAL_RANK", seat.local.to_string()),
            ("FLOWYARD_LOCAL_SIZE", seat.local_size.to_string()),
            ("FLOWYARD_NODE_RANK", seat.node.to_string()),
            ("FLOWYARD_NODES", gang.nodes.len().to_string()),
            ("FLOWYARD_MAIN_ADDRESS", self.main_address().to_owned()),
            ("FLOWYARD_MAIN_PORT", gang.main_port.to_string()),
        ]
    }

    /// What frameworks look for.
    pub fn of_frameworks(&self) -> Vec<(&'static str, String)> {
        let Self { gang, rank, seat } = self;
        let (rank, size) = (rank.to_string(), gang.size().to_string());
        let (local, local_size) = (seat.local.to_string(), seat.local_size.to_string());
        vec![
            ("MASTER_ADDR", self.main_address().to_owned()),
            ("MASTER_PORT", gang.main_port.to_string()),
            ("RANK", rank.clone()),
            ("WORLD_SIZE", size.clone()),
            ("LOCAL_RANK", local.clone()),
            ("LOCAL_WORLD_SIZE", local_size.clone()),
            ("GROUP_RANK", seat.node.to_string()),
            ("JAX_COORDINATOR_ADDRESS", with_port(self.main_address(), gang.main_port)),
            ("JAX_NUM_PROCESSES", size.clone()),
            ("JAX_PROCESS_ID", rank.clone()),
            ("OMPI_COMM_WORLD_RANK", rank.clone()),
            ("OMPI_COMM_WORLD_SIZE", size.clone()),
            ("OMPI_COMM_WORLD_LOCAL_RANK", local),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", local_size),
            ("PMI_RANK", rank),
            ("PMI_SIZE", size),
        ]
    }

    fn main_address(&self) -> &str {
        self.gang.nodes.first().map_or("", |node| &node.address)
    }
}

/// A line for each node, in the order of ranks, as `mpirun --hostfile` takes it.
pub fn hostfile(gang: &Gang) -> String {
    gang.nodes.iter().map(|node| format!("{} slots={}\n", node.address, node.members)).collect()
}

/// An address of IPv6 is bracketed before a port.
fn with_port(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use flowyard_model::GangNode;

    use super::*;

    fn gang(addresses: [&str; 2]) -> Gang {
        let node = |(name, address): (&str, &str), members| GangNode {
            name: name.parse().unwrap(),
            address: address.to_owned(),
            members,
        };
        Gang { nodes: vec![node(("n7", addresses[0]), 2), node(("n3", addresses[1]), 3)], main_port: 28_004 }
    }

    /// What the third of five members finds, which is the first of the second node.
    const THIRD: &str = "\
FLOWYARD_RANK=2
FLOWYARD_SIZE=5
FLOWYARD_LOCAL_RANK=0
FLOWYARD_LOCAL_SIZE=3
FLOWYARD_NODE_RANK=1
FLOWYARD_NODES=2
FLOWYARD_MAIN_ADDRESS=10.0.0.7
FLOWYARD_MAIN_PORT=28004
MASTER_ADDR=10.0.0.7
MASTER_PORT=28004
RANK=2
WORLD_SIZE=5
LOCAL_RANK=0
LOCAL_WORLD_SIZE=3
GROUP_RANK=1
JAX_COORDINATOR_ADDRESS=10.0.0.7:28004
JAX_NUM_PROCESSES=5
JAX_PROCESS_ID=2
OMPI_COMM_WORLD_RANK=2
OMPI_COMM_WORLD_SIZE=5
OMPI_COMM_WORLD_LOCAL_RANK=0
OMPI_COMM_WORLD_LOCAL_SIZE=3
PMI_RANK=2
PMI_SIZE=5
";

    #[test]
    fn each_member_is_told_its_place_in_the_words_of_each_framework() {
        let gang = gang(["10.0.0.7", "10.0.0.3"]);
        let seated = Seated::new(&gang, Rank(2)).unwrap();
        let lines = seated.own().into_iter().chain(seated.of_frameworks());
        let told: String = lines.map(|(name, value)| format!("{name}={value}\n")).collect();
        assert_eq!(told, THIRD);
        assert_eq!(hostfile(&gang), "10.0.0.7 slots=2\n10.0.0.3 slots=3\n");
    }

    #[test]
    fn ranks_go_through_the_nodes_and_there_is_none_beyond() {
        let gang = gang(["a", "b"]);
        let places: Vec<_> =
            (0..6).map(|rank| gang.seat(Rank(rank)).map(|seat| (seat.node, seat.local, seat.local_size))).collect();
        let here = |node, local, size| Some((node, local, size));
        assert_eq!(places, [here(0, 0, 2), here(0, 1, 2), here(1, 0, 3), here(1, 1, 3), here(1, 2, 3), None]);
    }

    #[test]
    fn an_address_of_ipv6_is_told_from_its_port() {
        let gang = gang(["fd00::7", "fd00::3"]);
        let told = Seated::new(&gang, Rank(0)).unwrap().of_frameworks();
        let value = |name| told.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!(value("MASTER_ADDR"), Some("fd00::7"));
        assert_eq!(value("JAX_COORDINATOR_ADDRESS"), Some("[fd00::7]:28004"));
    }
}
