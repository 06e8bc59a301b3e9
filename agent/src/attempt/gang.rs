//! What a member of a gang is told of the others: variables, and a file that names their hosts. Pure.
//!
//! Beside our own, the variables that programs of several members look for by themselves: those of torch.distributed (and torchrun),
//! of JAX, and of Open MPI and PMI. A step's own `env` goes before these, and never before ours.

use std::io;
use std::path::Path;

use flowyard_model::{Gang, GangSeat, Rank};
use serde_json::json;

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
            ("FLOWYARD_NODES", gang.node_count().to_string()),
            ("FLOWYARD_MAIN_ADDRESS", self.main_address().to_owned()),
            ("FLOWYARD_MAIN_PORT", gang.main_port.to_string()),
            ("FLOWYARD_GANG_GENERATION", gang.generation.to_string()),
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

/// The folder with what is told in files, within that of the attempt.
pub const FOLDER: &str = "gang";
/// The file that names the hosts, in it.
pub const HOSTFILE: &str = "hostfile";
/// The file that says who is in the gang now, in it.
pub const MEMBERS: &str = "gang.json";

/// Writes the files, each in place of the one before as a whole: a process that reads one finds either that or this.
///
/// # Errors
/// They cannot be written.
pub fn write(attempt: &Path, gang: &Gang) -> io::Result<()> {
    let folder = attempt.join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    // Who reads the second finds the hosts of no earlier generation.
    for (name, text) in [(HOSTFILE, hostfile(gang)), (MEMBERS, members(gang))] {
        let new = folder.join(format!(".{name}"));
        super::write_shown(&new, &text)?;
        std::fs::rename(&new, folder.join(name))?;
    }
    Ok(())
}

/// Who is in the gang now, as JSON.
pub fn members(gang: &Gang) -> String {
    let told = gang.members().map(|(rank, node)| {
        let local = gang.seat(rank).map_or(0, |seat| seat.local);
        json!({ "rank": rank.0, "node": node.name.as_str(), "address": node.address, "local_rank": local })
    });
    let main = gang.nodes.first().map_or("", |node| &node.address);
    let told = json!({
        "generation": gang.generation,
        "size": gang.size(),
        "main_address": main,
        "main_port": gang.main_port,
        "members": told.collect::<Vec<_>>(),
    });
    format!("{told:#}\n")
}

/// A line for each node, in the order of ranks, as `mpirun --hostfile` takes it.
pub fn hostfile(gang: &Gang) -> String {
    let mut next = 0;
    let lines = gang.nodes.iter().map(|node| {
        let ranks = next..next + node.members;
        next = ranks.end;
        let members = ranks.filter(|rank| !gang.vacant.contains(&Rank(*rank))).count();
        if members == 0 { String::new() } else { format!("{} slots={members}\n", node.address) }
    });
    lines.collect()
}

/// An address of IPv6 is bracketed before a port.
fn with_port(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use flowyard_model::GangNode;

    use super::*;

    fn gang(addresses: [&str; 2]) -> Gang {
        let node = |(name, address): (&str, &str), members| GangNode {
            name: name.parse().unwrap(),
            address: address.to_owned(),
            members,
        };
        Gang {
            nodes: vec![node(("n7", addresses[0]), 2), node(("n3", addresses[1]), 3)],
            main_port: 28_004,
            generation: 3,
            vacant: BTreeSet::new(),
        }
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
FLOWYARD_GANG_GENERATION=3
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

    /// The first of five was lost, and the node of the last three has it now.
    fn repaired() -> Gang {
        let mut gang = gang(["10.0.0.7", "10.0.0.3"]);
        let three = GangNode { members: 1, ..gang.nodes[1].clone() };
        gang.nodes[0].members = 1;
        gang.nodes.insert(0, three);
        gang
    }

    #[test]
    fn a_node_that_takes_a_lost_rank_is_one_node_with_all_its_members() {
        let gang = repaired();
        let places: Vec<_> = (0..5)
            .filter_map(|rank| gang.seat(Rank(rank)))
            .map(|seat| (seat.node, seat.local, seat.local_size))
            .collect();
        assert_eq!(places, [(0, 0, 4), (1, 0, 1), (0, 1, 4), (0, 2, 4), (0, 3, 4)]);
        assert_eq!((gang.size(), gang.node_count()), (5, 2));
        assert_eq!(hostfile(&gang), "10.0.0.3 slots=1\n10.0.0.7 slots=1\n10.0.0.3 slots=3\n");
    }

    #[test]
    fn who_is_gone_is_not_told_of_and_all_others_keep_their_ranks() {
        let mut gang = gang(["10.0.0.7", "10.0.0.3"]);
        gang.vacant = [Rank(1), Rank(3)].into();
        assert_eq!((gang.size(), hostfile(&gang)), (3, "10.0.0.7 slots=1\n10.0.0.3 slots=2\n".to_owned()));
        let told: serde_json::Value = serde_json::from_str(&members(&gang)).unwrap();
        let ranks: Vec<_> = told["members"].as_array().unwrap().iter().map(|it| it["rank"].as_u64().unwrap()).collect();
        assert_eq!((ranks, &told["size"]), (vec![0, 2, 4], &json!(3)));
        gang.vacant = [Rank(2), Rank(3), Rank(4)].into();
        assert_eq!(hostfile(&gang), "10.0.0.7 slots=2\n");
    }

    #[test]
    fn the_files_are_renewed_whole_and_say_who_is_where() {
        let attempt = tempfile::tempdir().unwrap();
        write(attempt.path(), &gang(["10.0.0.7", "10.0.0.3"])).unwrap();
        let at = |name: &str| attempt.path().join(FOLDER).join(name);
        let before = std::fs::File::open(at(MEMBERS)).unwrap();
        write(attempt.path(), &repaired()).unwrap();
        let old: serde_json::Value = serde_json::from_reader(before).unwrap();
        let new: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(at(MEMBERS)).unwrap()).unwrap();
        assert_eq!((&old["main_address"], &new["main_address"]), (&json!("10.0.0.7"), &json!("10.0.0.3")));
        assert_eq!(new["members"][1], json!({ "rank": 1, "node": "n7", "address": "10.0.0.7", "local_rank": 0 }));
        assert_eq!((&new["generation"], &new["size"]), (&json!(3), &json!(5)));
        assert_eq!(std::fs::read_to_string(at(HOSTFILE)).unwrap(), hostfile(&repaired()));
        assert_eq!(std::fs::read_dir(attempt.path().join(FOLDER)).unwrap().count(), 2, "nothing else is left there");
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
