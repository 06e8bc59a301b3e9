//! A cluster of several machines, as far as one machine can be several: coordinators and agents, each a process with a folder of its
//! own, formed by the commands that an operator types; on loopback, or on hosts of a [`Network`].

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use super::network::Network;
use super::{Ran, Running, Yard, until};

/// The coordinators and agents of one test. Hosts are called c0, c1, ... and as their nodes.
pub struct Fleet {
    pub yard: Yard,
    pub network: Option<Network>,
    pub coordinators: Vec<Option<Running>>,
    pub agents: Vec<(String, Option<Running>)>,
    /// What its coordinators say below `[nodes]`.
    nodes: &'static str,
    /// The address of this machine, where there is no network.
    loopback: &'static str,
}

/// Where the clients are.
pub const CLIENT: &str = "client";

/// A port that nobody uses now.
fn free(loopback: &str) -> std::io::Result<String> {
    Ok(TcpListener::bind(format!("{loopback}:0"))?.local_addr()?.to_string())
}

impl Fleet {
    /// One coordinator.
    pub fn formed(network: Option<Network>) -> Self {
        Self::watching(network, "")
    }

    /// One coordinator that is reached by IPv6; nothing where this machine has none.
    pub fn over_ipv6() -> Option<Self> {
        const LOOPBACK: &str = "[::1]";
        if let Err(error) = free(LOOPBACK) {
            flowyard_skip::skip(&format!("this machine has no IPv6: {error}"));
            return None;
        }
        Some(Self::at_address(None, "", LOOPBACK))
    }

    /// One coordinator, which watches nodes so.
    pub fn watching(network: Option<Network>, nodes: &'static str) -> Self {
        Self::at_address(network, nodes, "127.0.0.1")
    }

    fn at_address(network: Option<Network>, nodes: &'static str, loopback: &'static str) -> Self {
        let yard = Yard::new();
        std::fs::create_dir_all(yard.home()).unwrap();
        let mut fleet = Self { yard, network, coordinators: vec![], agents: vec![], nodes, loopback };
        let (folder, places) = (fleet.at("c0"), fleet.places("c0"));
        let init = [&["coordinator", "init", "--cluster", "lab", "--folder", &folder][..], &flags(&places)].concat();
        let ran = fleet.on("c0", &init).wait();
        assert_eq!(ran.code(), 0, "{ran:#?}");
        ran.says(&["fctl coordinator run --folder", "fctl token create --role agent"]);
        fleet.coordinators.push(None);
        fleet.configure("c0");
        fleet.run_coordinator(0);
        until("its socket", || fleet.yard.run(&["cluster", "status", &fleet.owner(0)]).code() == 0);
        fleet
    }

    /// The folder of a host.
    pub fn at(&self, host: &str) -> String {
        self.yard.home().join(host).display().to_string()
    }

    /// Starts a command on a host.
    pub fn on(&self, host: &str, args: &[&str]) -> Running {
        let command = self.yard.command(args);
        self.yard.start_command(match &self.network {
            None => command,
            Some(network) => network.on(host, &command),
        })
    }

    /// Runs a client's command to its end.
    pub fn client(&self, args: &[&str]) -> Ran {
        self.on(CLIENT, args).wait()
    }

    /// The flag that names a coordinator's own socket, which is its owner's.
    pub fn owner(&self, coordinator: usize) -> String {
        format!("--endpoint=unix://{}/api.sock", self.at(&format!("c{coordinator}")))
    }

    fn configure(&self, host: &str) {
        let path = PathBuf::from(self.at(host)).join("coordinator.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        // Without hosts there is no network that an agent may filter, so none of its own for a task either.
        let jobs = if self.network.is_some() { "" } else { "network = \"host\"" };
        let text = text.replace("\n[nodes]", &format!("\n[nodes]\n{}", self.nodes));
        std::fs::write(&path, text.replace("\n[jobs]", &format!("\n[jobs]\n{jobs}"))).unwrap();
    }

    /// Where a coordinator is reached: its API, and its peers' port.
    fn places(&self, host: &str) -> [String; 2] {
        match &self.network {
            None => [(); 2].map(|()| free(self.loopback).unwrap()),
            Some(network) => [7400, 7401].map(|port| format!("{}:{port}", network.address(host))),
        }
    }

    pub fn run_coordinator(&mut self, number: usize) {
        let host = format!("c{number}");
        let mut running = self.on(&host, &["coordinator", "run", "--folder", &self.at(&host)]);
        running.wait_until("the coordinator to run", |it| it.stderr().contains(" runs; agents and people reach it"));
        self.coordinators[number] = Some(running);
    }

    /// The words of the line that lets another host in.
    pub fn line(&self, role: &str) -> Vec<String> {
        let line = self.yard.ok(&["token", "create", "--role", role, &self.owner(0)]);
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    }

    /// Adds a coordinator, and waits until it votes.
    pub fn grow(&mut self) {
        let number = self.coordinators.len();
        let host = format!("c{number}");
        let (folder, places) = (self.at(&host), self.places(&host));
        let mut line = self.line("coordinator");
        line.extend(["--folder".to_owned(), folder]);
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let ran = self.on(&host, &[&line[..], &flags(&places)].concat()).wait();
        assert_eq!(ran.code(), 0, "{ran:#?}");
        self.coordinators.push(None);
        self.configure(&host);
        self.run_coordinator(number);
        until("it to vote", || self.members().iter().filter(|member| member["votes"] == true).count() == number + 1);
    }

    pub fn members(&self) -> Vec<serde_json::Value> {
        self.yard.json(&["cluster", "status", &self.owner(0)])["members"].as_array().unwrap().clone()
    }

    /// Adds an agent and runs it. Nodes are alike on whatever machine this runs.
    pub fn add_agent(&mut self, name: &str) {
        // The network of the machine itself is not ours to filter.
        let filter = if self.network.is_some() { "" } else { "filter = false\n" };
        self.add_agent_with(name, &format!("[agent]\ncpu = \"2\"\n{filter}"));
    }

    /// Adds an agent with these settings, and runs it.
    pub fn add_agent_with(&mut self, name: &str, settings: &str) {
        let mut line = self.line("agent");
        line.extend(["--name".to_owned(), name.to_owned(), "--folder".to_owned(), self.at(name)]);
        let ran = self.on(name, &line.iter().map(String::as_str).collect::<Vec<_>>()).wait();
        assert_eq!(ran.code(), 0, "{ran:#?}");
        std::fs::write(PathBuf::from(self.at(name)).join("config.toml"), settings).unwrap();
        self.agents.push((name.to_owned(), None));
        self.run_agent(self.agents.len() - 1);
    }

    pub fn run_agent(&mut self, number: usize) {
        let name = self.agents[number].0.clone();
        let settings = PathBuf::from(self.at(&name)).join("config.toml");
        if self.network.is_none() && !settings.exists() {
            // The network of the machine itself is not ours to filter, nor to forward in.
            std::fs::write(settings, "[agent]\nfilter = false\n").unwrap();
        }
        let mut running = self.on(&name, &["agent", "run", "--folder", &self.at(&name)]);
        running.wait_until("the agent to run", |it| it.stderr().contains(&format!("the agent of node {name} runs")));
        self.agents[number].1 = Some(running);
    }

    /// A person's token.
    pub fn token(&self, args: &[&str]) -> String {
        let made = self.yard.ok(&[&["token", "create", &self.owner(0)], args].concat());
        made.trim().to_owned()
    }

    pub fn log_in(&self, token: &str) {
        let ran = self.client(&["login", token]);
        assert!(ran.stdout.contains("cluster lab"), "{ran:#?}");
    }

    /// Kills the coordinator that leads, as a power cut would; which one it was.
    pub fn kill_leader(&mut self) -> usize {
        let leads = |shown: &serde_json::Value| shown["leads"] == true;
        let address = self.members().iter().find(|member| leads(member)).expect("a leader")["address"].clone();
        let address = format!("\"{}\"", address.as_str().unwrap());
        let settings = |number: usize| PathBuf::from(self.at(&format!("c{number}"))).join("coordinator.toml");
        let is_it = |number: &usize| std::fs::read_to_string(settings(*number)).unwrap().contains(&address);
        let leader = (0..self.coordinators.len()).find(is_it).unwrap();
        self.coordinators[leader].take().expect("it runs").kill();
        leader
    }

    /// Stops all of it in order.
    pub fn stop(mut self) {
        let agents = self.agents.drain(..).filter_map(|(_, agent)| agent);
        let all: Vec<Running> = agents.chain(self.coordinators.drain(..).flatten()).collect();
        for ran in all.into_iter().map(Running::interrupt) {
            assert_eq!(ran.code(), 0, "{ran:#?}");
        }
    }
}

/// Addresses of a coordinator as flags.
fn flags([api, peers]: &[String; 2]) -> [&str; 8] {
    ["--address", api, "--listen", api, "--peer-address", peers, "--peer-listen", peers]
}

/// Runs a program of the system that must succeed.
pub fn succeed(program: &str, args: &[&str]) -> Result<(), String> {
    let out = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}
