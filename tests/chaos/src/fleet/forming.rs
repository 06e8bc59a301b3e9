//! Forming a cluster by the commands that an operator types, and replacing a coordinator of it.

use std::net::SocketAddr;
use std::path::Path;

use flowyard_proto::cluster::{ClusterStatus, RemoveMemberRequest};

use super::{AGENTS, COORDINATORS, Fleet, Seat};
use crate::system::{PATIENCE, waited};

/// A node is given up within a run.
const NODES: &str = "suspect = \"4s\"\ndown = \"22s\"\nlease = \"4s\"";
/// Nodes are alike on whatever machine this runs.
const CPUS: &str = "2";
/// The users of tasks are the kernel's, of which all hosts have one: each agent has its own.
const USERS: u32 = 1_879_048_192;
/// Enough for 256 tasks at once.
const USERS_EACH: u32 = 256 * 65_536;
/// The ports that others reach, the API's and the peers'; a proxy listens there.
pub(super) const PORTS: [u16; 2] = [7400, 7401];
/// Where coordinators listen, behind it.
const BEHIND: [u16; 2] = [17400, 17401];

impl Fleet {
    /// Forms the cluster on them.
    pub(crate) fn form(&mut self) -> Result<(), String> {
        let folder = self.coordinator_folder(0);
        let init = ["coordinator", "init", "--cluster", "lab", "--folder", &folder].map(str::to_owned);
        self.coordinators.push(Seat::default());
        self.run_on("c0", &[&init[..], &self.places("c0")].concat())?;
        self.configure(&folder)?;
        self.must_run_coordinator(0)?;
        for number in 1..COORDINATORS {
            self.coordinators.push(Seat::default());
            self.join_coordinator(number)?;
        }
        for number in 0..AGENTS {
            let name = format!("n{number}");
            let mut join = self.line("agent", 0)?;
            join.extend(["--name".to_owned(), name.clone(), "--folder".to_owned(), self.agent_folder(number)]);
            self.run_on(&name, &join)?;
            let (first, outside) = (USERS + number as u32 * USERS_EACH, self.outside());
            let settings = format!(
                "cache_budget = \"64MiB\"\n[agent]\ncpu = \"{CPUS}\"\nusers = \"{first}-{}\"\nallow_mounts = [\"{}\"]\n",
                first + USERS_EACH - 1,
                outside.display()
            );
            let path = Path::new(&self.agent_folder(number)).join("config.toml");
            std::fs::write(path, settings).map_err(|error| error.to_string())?;
            self.agents.push(Seat::default());
            self.run_agent(number)?;
        }
        self.formed_version = self.cluster_version().ok_or("nobody tells the cluster's version")?;
        Ok(())
    }

    /// A person's token for the clients.
    pub(crate) fn token(&mut self) -> Result<String, String> {
        let words = "token create --role submitter --queue default --name ann --ttl 30d";
        let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        words.push(self.owner_flag(0));
        Ok(self.run_on("c0", &words)?.trim().to_owned())
    }

    fn configure(&self, folder: &str) -> Result<(), String> {
        let path = Path::new(folder).join("coordinator.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
        let text = text.replace("\n[nodes]", &format!("\n[nodes]\n{NODES}"));
        std::fs::write(&path, text).map_err(|error| error.to_string())
    }

    /// Where a coordinator is reached and where it listens, as flags.
    fn places(&self, host: &str) -> Vec<String> {
        let address = self.network.address(host);
        let flag = |name: &str, place: String| [name.to_owned(), place];
        let all = [
            flag("--address", format!("{address}:{}", PORTS[0])),
            flag("--listen", format!("127.0.0.1:{}", BEHIND[0])),
            flag("--peer-address", format!("{address}:{}", PORTS[1])),
            flag("--peer-listen", format!("127.0.0.1:{}", BEHIND[1])),
        ];
        let shared = self.shares_origin.then(|| flag("--shared-origin", self.shared_origin().display().to_string()));
        all.into_iter().chain(shared).flatten().collect()
    }

    /// The words of the line that lets another host in, as coordinator `from` prints it.
    fn line(&self, role: &str, from: usize) -> Result<Vec<String>, String> {
        let words = ["token", "create", "--role", role, &self.owner_flag(from)].map(str::to_owned);
        let line = self.run_on(&format!("c{from}"), &words)?;
        Ok(line.split_whitespace().skip(1).map(str::to_owned).collect())
    }

    /// Adds a coordinator on a host that has none, and waits until it votes.
    fn join_coordinator(&mut self, number: usize) -> Result<(), String> {
        let from = self.another(number)?;
        let (host, folder) = (format!("c{number}"), self.coordinator_folder(number));
        let mut join = self.line("coordinator", from)?;
        join.extend(["--folder".to_owned(), folder.clone()]);
        self.run_on(&host, &[&join[..], &self.places(&host)].concat())?;
        self.configure(&folder)?;
        self.must_run_coordinator(number)?;
        let votes = waited(PATIENCE, || self.replica(number, from).is_some_and(|(_, votes)| votes));
        if votes { Ok(()) } else { Err(format!("c{number} does not get to vote")) }
    }

    /// Replaces a coordinator whose disk is lost: it is taken out, and its host joins anew.
    pub(crate) fn replace_coordinator(&mut self, number: usize) -> Result<(), String> {
        let from = self.another(number)?;
        let (replica, _) = self.replica(number, from).ok_or_else(|| format!("c{number} is no member"))?;
        self.remove(number, replica)?;
        let before = self.coordinator_folder(number);
        self.coordinators[number].life += 1;
        self.join_coordinator(number)?;
        // Its disk is small, and is needed again.
        std::fs::remove_dir_all(&before).map_err(|error| format!("{before}: {error}"))
    }

    /// Takes a coordinator out, as an operator does: asked again while the answer does not come, whoever leads by then.
    fn remove(&self, number: usize, replica: u64) -> Result<(), String> {
        let mut reason = String::new();
        let removed = waited(PATIENCE, || {
            let Some(from) = self.answering(Some(number)) else { return false };
            let wish = RemoveMemberRequest { replica };
            let asked = self.owner.ask(&self.socket(from), async |client| client.remove_member(wish).await);
            let gone = |status: ClusterStatus| status.members.iter().all(|member| member.replica != replica);
            asked.map_err(|error| reason = error).is_ok() || self.owner.status(&self.socket(from)).is_ok_and(gone)
        });
        if removed { Ok(()) } else { Err(format!("c{number} cannot be taken out: {reason}")) }
    }

    /// The id of a coordinator and whether it votes, as coordinator `from` knows it.
    fn replica(&self, number: usize, from: usize) -> Option<(u64, bool)> {
        let address = format!("{}:{}", self.network.address(&format!("c{number}")), PORTS[0]);
        let status = self.owner.status(&self.socket(from)).ok()?;
        let found = status.members.iter().find(|member| member.api_address == address)?;
        Some((found.replica, found.votes))
    }

    /// A coordinator beside this one that answers, once one does: they may be about to choose their leader.
    fn another(&self, number: usize) -> Result<usize, String> {
        let found = flowyard_clock::patiently(PATIENCE, || self.answering(Some(number)));
        found.ok_or_else(|| format!("no other coordinator than c{number} answers"))
    }
}

/// From the ports that others reach to those behind.
pub(super) fn doors(address: &str) -> Vec<(SocketAddr, SocketAddr)> {
    let place = |address: &str, port: u16| format!("{address}:{port}").parse().expect("it is an address");
    PORTS.iter().zip(BEHIND).map(|(port, behind)| (place(address, *port), place("127.0.0.1", behind))).collect()
}
