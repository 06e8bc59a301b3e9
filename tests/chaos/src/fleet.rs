//! The cluster under test: three coordinators and five agents, each a process on a host of its own, formed by the commands that an
//! operator types.

mod forming;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use flowyard_proto::api::Node;
use flowyard_proto::cluster::MemberStatus;

use crate::host::Host;
use crate::network::Network;
use crate::owner::Owner;
use crate::preload::Preload;
use crate::process::{Process, tail};
use crate::programs::Programs;
use crate::proxy::{Link, Proxy, Weather};
use crate::system::{PATIENCE, waited};

pub(crate) const COORDINATORS: usize = 3;
pub(crate) const AGENTS: usize = 5;
/// Where the clients are.
pub(crate) const CLIENT: &str = "client";
const COORDINATOR_RUNS: &str = " runs; agents and people reach it";
const AGENT_RUNS: &str = "the agent of node ";
/// What a coordinator says of a log that it does not use.
const QUARANTINED: &str = "was moved to";

/// A coordinator or an agent, and its process while it is to run.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    process: Option<Process>,
    /// How often this coordinator was replaced; each has its own folder.
    life: u32,
    /// Switched off for good.
    pub(crate) lost: bool,
}

impl Seat {
    pub(crate) fn life(&self) -> u32 {
        self.life
    }
}

/// How a coordinator began.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    Runs,
    /// It refused its log and set it aside.
    Quarantined,
}

/// Hosts, processes and what is between them.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) programs: Programs,
    folder: PathBuf,
    pub(crate) owner: Owner,
    pub(crate) coordinators: Vec<Seat>,
    pub(crate) agents: Vec<Seat>,
    /// Whether all coordinators keep blobs in one folder; otherwise each has its own copies.
    pub(crate) shares_origin: bool,
    /// What a host's clock and disk are like: milliseconds ahead, milliseconds for a barrier.
    skews: BTreeMap<String, (i64, i64)>,
    pub(crate) preload: Option<Preload>,
    weather: Arc<Weather>,
    started: u32,
    /// The cluster's version once it was formed.
    pub(crate) formed_version: u32,
    _proxies: Vec<Proxy>,
    hosts: BTreeMap<String, Host>,
    pub(crate) network: Network,
}

impl Fleet {
    /// Hosts with nothing on them. The folder keeps what everybody says.
    pub(crate) fn hosts(
        programs: Programs,
        folder: &Path,
        preload: Option<Preload>,
        shares_origin: bool,
    ) -> Result<Self, String> {
        let coordinators = (0..COORDINATORS).map(|number| format!("c{number}"));
        let names: Vec<String> = coordinators.chain((0..AGENTS).map(|number| format!("n{number}"))).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).chain([CLIENT]).collect();
        let network = Network::of(&all)?;
        network.can_part("c0", "c1")?;
        let (mut hosts, mut proxies, weather) = (BTreeMap::new(), Vec::new(), Arc::new(Weather::default()));
        for name in &names {
            hosts.insert(name.clone(), Host::new(name, &network, &folder.join("disks"))?);
            if let Some(preload) = &preload {
                preload.set(name, 0, 0).map_err(|error| error.to_string())?;
            }
            if name.starts_with('c') {
                proxies.push(Proxy::start(&network.path(name), &forming::doors(&network.address(name)), &weather)?);
            }
        }
        Ok(Self {
            programs,
            folder: folder.to_owned(),
            owner: Owner::new().map_err(|error| error.to_string())?,
            coordinators: Vec::new(),
            agents: Vec::new(),
            shares_origin,
            skews: BTreeMap::new(),
            preload,
            weather,
            started: 0,
            formed_version: 0,
            _proxies: proxies,
            hosts,
            network,
        })
    }

    /// A folder that every host sees, in which tasks leave traces.
    pub(crate) fn outside(&self) -> PathBuf {
        self.folder.join("outside")
    }

    /// The folder of the blobs that all coordinators share, if they do.
    fn shared_origin(&self) -> PathBuf {
        self.folder.join("shared")
    }

    /// Where a coordinator keeps blobs, and the hosts that lose them with it.
    pub(crate) fn origin(&self, number: usize) -> Vec<(String, String)> {
        let host = |number: usize| format!("c{number}");
        match self.shares_origin {
            true => {
                (0..COORDINATORS).map(|number| (host(number), self.shared_origin().display().to_string())).collect()
            }
            false => vec![(host(number), format!("{}/origin", self.coordinator_folder(number)))],
        }
    }

    pub(crate) fn host(&self, name: &str) -> &Host {
        &self.hosts[name]
    }

    fn host_mut(&mut self, name: &str) -> &mut Host {
        self.hosts.get_mut(name).unwrap_or_else(|| panic!("there is no host {name}"))
    }

    pub(crate) fn coordinator_folder(&self, number: usize) -> String {
        let life = self.coordinators.get(number).map_or(0, |seat| seat.life);
        self.hosts[&format!("c{number}")].disk().join(format!("coordinator-{life}")).display().to_string()
    }

    pub(crate) fn agent_folder(&self, number: usize) -> String {
        self.hosts[&format!("n{number}")].disk().join("agent").display().to_string()
    }

    /// The socket of a coordinator, which is its owner's.
    pub(crate) fn socket(&self, number: usize) -> PathBuf {
        Path::new(&self.coordinator_folder(number)).join("api.sock")
    }

    fn owner_flag(&self, number: usize) -> String {
        format!("--endpoint=unix://{}", self.socket(number).display())
    }

    /// A command of the program on a host, as that host's clock and disk are.
    fn command(&self, host: &str, args: &[String]) -> Result<Command, String> {
        let mut command =
            self.hosts[host].command(self.programs.of(host)).ok_or_else(|| format!("host {host} is off"))?;
        command.args(args).current_dir(&self.folder).env("XDG_CONFIG_HOME", self.folder.join("config"));
        command.env("FLOWYARD_LOG", "info").env_remove("FLOWYARD_ENDPOINT").env_remove("FLOWYARD_HOME");
        if let Some(preload) = &self.preload {
            preload.apply(host, &mut command);
        }
        Ok(command)
    }

    /// Runs a command of the program on a host to its end, which must be a good one: what it wrote.
    fn run_on(&self, host: &str, args: &[String]) -> Result<String, String> {
        let out = self.command(host, args)?.output().map_err(|error| error.to_string())?;
        match out.status.success() {
            true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
            false => Err(format!("{host}: {args:?}: {}", String::from_utf8_lossy(&out.stderr).trim())),
        }
    }

    fn start(&mut self, host: &str, args: &[&str]) -> Result<Process, String> {
        self.started += 1;
        let said = self.folder.join("said").join(format!("{host}-{}", self.started));
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        Process::start(self.command(host, &args)?, said).map_err(|error| error.to_string())
    }

    /// Starts a coordinator and waits until it serves, or says why it does not.
    pub(crate) fn run_coordinator(&mut self, number: usize) -> Result<Begun, String> {
        let folder = self.coordinator_folder(number);
        let mut process = self.start(&format!("c{number}"), &["coordinator", "run", "--folder", &folder])?;
        if process.says(COORDINATOR_RUNS, PATIENCE) {
            self.coordinators[number].process = Some(process);
            return Ok(Begun::Runs);
        }
        match process.stderr() {
            said if said.contains(QUARANTINED) => Ok(Begun::Quarantined),
            said => Err(format!("coordinator c{number} does not run: {}", tail(&said))),
        }
    }

    pub(crate) fn must_run_coordinator(&mut self, number: usize) -> Result<(), String> {
        match self.run_coordinator(number)? {
            Begun::Runs => Ok(()),
            Begun::Quarantined => Err(format!("coordinator c{number} refused a log that nobody damaged")),
        }
    }

    /// A coordinator that answers, another one than `not`.
    fn answering(&self, not: Option<usize>) -> Option<usize> {
        let mut numbers = (0..self.coordinators.len()).filter(|number| Some(*number) != not);
        numbers.find(|number| self.owner.status(&self.socket(*number)).is_ok())
    }

    /// The coordinator that leads, once one does.
    pub(crate) fn leader(&self) -> Option<usize> {
        let mut found = None;
        waited(PATIENCE, || {
            let status = self.answering(None).and_then(|from| self.owner.status(&self.socket(from)).ok());
            let leader = status.and_then(|status| status.members.into_iter().find(|member| member.leads));
            let is = |number: &usize, address: &str| {
                address == format!("{}:{}", self.network.address(&format!("c{number}")), forming::PORTS[0])
            };
            found = leader.and_then(|it| (0..self.coordinators.len()).find(|number| is(number, &it.api_address)));
            found.is_some()
        });
        found
    }

    /// The cluster's version, as a coordinator that answers tells it.
    pub(crate) fn cluster_version(&self) -> Option<u32> {
        let from = self.answering(None)?;
        self.owner.status(&self.socket(from)).ok().map(|status| status.cluster_version)
    }

    pub(crate) fn run_agent(&mut self, number: usize) -> Result<(), String> {
        let (name, folder) = (format!("n{number}"), self.agent_folder(number));
        let mut process = self.start(&name, &["agent", "run", "--folder", &folder])?;
        match process.says(&format!("{AGENT_RUNS}{name} runs"), PATIENCE) {
            true => self.agents[number].process = Some(process),
            false => return Err(format!("the agent of {name} does not run: {}", tail(&process.stderr()))),
        }
        Ok(())
    }

    /// The process of a host, taken from its seat.
    pub(crate) fn take(&mut self, host: &str) -> Option<Process> {
        self.seat_mut(host).process.take()
    }

    pub(crate) fn process(&self, host: &str) -> Option<&Process> {
        let (list, number) = self.place(host);
        list[number].process.as_ref()
    }

    fn place(&self, host: &str) -> (&Vec<Seat>, usize) {
        let (role, number) = host.split_at(1);
        let number = number.parse().unwrap_or_else(|_| panic!("{host} is no host of a member"));
        (if role == "c" { &self.coordinators } else { &self.agents }, number)
    }

    fn seat_mut(&mut self, host: &str) -> &mut Seat {
        let number = self.place(host).1;
        if host.starts_with('c') { &mut self.coordinators[number] } else { &mut self.agents[number] }
    }

    /// Starts what belongs on a host.
    pub(crate) fn run_host(&mut self, host: &str) -> Result<(), String> {
        let number = self.place(host).1;
        if host.starts_with('c') { self.must_run_coordinator(number) } else { self.run_agent(number) }
    }

    /// A power cut of a host.
    pub(crate) fn switch_off(&mut self, host: &str) {
        self.host_mut(host).switch_off();
        drop(self.take(host));
    }

    /// The power is back, and what belongs on the host is started.
    pub(crate) fn switch_on(&mut self, host: &str) -> Result<(), String> {
        self.host_mut(host).switch_on()?;
        self.run_host(host)
    }

    /// A host's links become slow or lossy, or as they should be.
    pub(crate) fn link(&self, host: &str, link: Link) {
        let address = self.network.address(host).parse().expect("it is an address");
        self.weather.set(address, link);
    }

    /// A host's clock is so far ahead from now on, or its disk so slow; the rest stays.
    pub(crate) fn skew(&mut self, host: &str, change: impl FnOnce(&mut (i64, i64))) -> Result<(), String> {
        let skew = self.skews.entry(host.to_owned()).or_default();
        change(skew);
        let preload = self.preload.as_ref().ok_or("there is nothing to preload")?;
        preload.set(host, skew.0, skew.1).map_err(|error| error.to_string())
    }

    /// Everybody who ended without being told to, with what they said; they are started again, as a service manager does.
    pub(crate) fn fallen(&mut self) -> Vec<String> {
        let names: Vec<String> = self.hosts.keys().cloned().collect();
        let mut fallen = Vec::new();
        for host in names {
            let Some(how) = self.seat_mut(&host).process.as_mut().and_then(Process::fell) else { continue };
            drop(self.take(&host));
            fallen.push(how);
            if let Err(reason) = self.run_host(&host) {
                fallen.push(reason);
            }
        }
        fallen
    }

    /// Waits until every coordinator answers and every node that is not lost is connected.
    pub(crate) fn settle(&self) -> Result<(), String> {
        let answers = |number: usize| {
            let status = self.owner.status(&self.socket(number));
            let all = |members: &[MemberStatus]| {
                members.len() == COORDINATORS && members.iter().all(|member| member.about.is_some())
            };
            status.is_ok_and(|status| all(&status.members))
        };
        if !waited(PATIENCE, || (0..COORDINATORS).all(answers)) {
            let status = |number| format!("c{number}: {:?}", self.owner.status(&self.socket(number)));
            return Err(format!(
                "not all coordinators answer: {}",
                (0..COORDINATORS).map(status).collect::<Vec<_>>().join("\n")
            ));
        }
        let expected = self.agents.iter().filter(|seat| !seat.lost).count();
        let nodes = || self.owner.nodes(&self.socket(0)).unwrap_or_default();
        match waited(PATIENCE, || nodes().iter().filter(|node| node.connected).count() == expected) {
            true => Ok(()),
            false => {
                let line = |node: Node| format!("{} {} {}", node.name, node.health().as_str_name(), node.connected);
                Err(format!(
                    "not all nodes are connected: {}",
                    nodes().into_iter().map(line).collect::<Vec<_>>().join(", ")
                ))
            }
        }
    }

    /// Stops all agents, then all coordinators, in order: who did not stop as asked.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        let seats = self.agents.iter_mut().chain(self.coordinators.iter_mut());
        let processes: Vec<Process> = seats.filter_map(|seat| seat.process.take()).collect();
        processes.into_iter().filter_map(|process| process.stop().err()).collect()
    }

    /// Why a job does not end, as the cluster says it.
    pub(crate) fn why(&self, job: u64) -> String {
        let request = flowyard_proto::api::WhyRequest { job, ..flowyard_proto::api::WhyRequest::default() };
        let answer = self.owner.ask(&self.socket(0), async |client| client.why(request).await);
        format!("why {job}: {answer:?}")
    }

    /// Panics that anybody wrote of.
    pub(crate) fn panics(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.folder.join("said")).into_iter().flatten().flatten();
        let said = files.map(|file| (file.file_name(), std::fs::read(file.path()).unwrap_or_default()));
        let panicked = said.filter_map(|(name, said)| {
            let said = String::from_utf8_lossy(&said).into_owned();
            let line = said.lines().position(|line| line.contains("panicked at"))?;
            let lines: Vec<&str> = said.lines().skip(line).take(3).collect();
            Some(format!("{}: {}", name.to_string_lossy(), lines.join(" ")))
        });
        panicked.collect()
    }

    /// Hosts that are on, by name.
    pub(crate) fn hosts_on(&self) -> impl Iterator<Item = (&String, &Host)> {
        self.hosts.iter().filter(|(_, host)| host.is_on())
    }
}
