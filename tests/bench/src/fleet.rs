//! Three coordinators on loopback, and agents where a part needs them: the program under measurement at its defaults, formed by the
//! commands that an operator types.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flowyard_identity::ApiToken;
use flowyard_proto::api::ListNodesRequest;
use flowyard_proto::cluster::{ClusterStatus, GetStatusRequest};
use flowyard_sdk::client::{Client, Endpoint};

use crate::processes::{PATIENCE, Process, free_address, output_of};

pub(crate) const COORDINATORS: usize = 3;
/// Whose tokens the clients show by turns.
const PEOPLE: usize = 4;
const RUNS: &str = " runs; agents and people reach it";

/// The cluster.
pub(crate) struct Fleet {
    program: PathBuf,
    folder: PathBuf,
    /// Where the API of each coordinator is reached.
    api: Vec<String>,
    coordinators: Vec<Option<Process>>,
    agents: Vec<Option<Process>>,
    /// Of several people: one may not have too many calls under way.
    tokens: Vec<ApiToken>,
    next_token: AtomicUsize,
}

impl Fleet {
    /// Forms a cluster without agents in the folder.
    pub(crate) async fn form(program: &Path, folder: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut making =
            Making { program: program.to_owned(), folder: folder.to_owned(), api: vec![], running: vec![] };
        making.first()?;
        for _ in 1..COORDINATORS {
            making.join().await?;
        }
        let tokens = (0..PEOPLE).map(|number| making.token(number)).collect::<Result<_, _>>()?;
        let Making { program, folder, api, running } = making;
        let coordinators = running.into_iter().map(Some).collect();
        let next_token = AtomicUsize::new(0);
        let fleet = Self { program, folder, api, coordinators, agents: vec![], tokens, next_token };
        fleet.settle().await?;
        Ok(fleet)
    }

    /// A client of these coordinators, the first of them first, with a connection of its own.
    pub(crate) fn client(&self, coordinators: &[usize]) -> Client {
        let addresses = coordinators.iter().map(|at| self.api[*at].clone()).collect();
        let token = self.next_token.fetch_add(1, Ordering::Relaxed) % self.tokens.len();
        Client::new(Endpoint::fleet(ApiToken { addresses, ..self.tokens[token].clone() }))
    }

    /// A client at a coordinator's own socket, who waits for nobody.
    pub(crate) fn owner(&self, coordinator: usize) -> Client {
        Client::new(Endpoint::socket(self.at(&format!("c{coordinator}")).join("api.sock")))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The cluster as a coordinator sees it, if it answers within a second.
    pub(crate) async fn status(&self, coordinator: usize) -> Option<ClusterStatus> {
        let mut owner = self.owner(coordinator);
        let asked = tokio::time::timeout(Duration::from_secs(1), owner.get_status(GetStatusRequest {}));
        asked.await.ok()?.ok()
    }

    /// Waits until all coordinators answer, agree on who leads and have caught up: which one leads.
    pub(crate) async fn settle(&self) -> Result<usize, String> {
        let start = flowyard_clock::monotonic();
        while flowyard_clock::elapsed(start) < PATIENCE {
            if let Some(leader) = self.settled().await {
                return Ok(leader);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("the coordinators do not settle; see what they say in the bench's folder".to_owned())
    }

    async fn settled(&self) -> Option<usize> {
        let status = self.status(0).await?;
        let whole = status.members.len() == COORDINATORS
            && status.members.iter().all(|it| it.votes && it.about.is_some() && it.lag_entries.unwrap_or(0) < 8);
        let leader = self.leader_of(&status)?;
        let others_agree = {
            let mut agree = true;
            for number in 0..COORDINATORS {
                let known = self.status(number).await;
                agree &= known.is_some_and(|known| known.term == status.term && self.leader_of(&known) == Some(leader));
            }
            agree
        };
        (whole && others_agree).then_some(leader)
    }

    /// Which coordinator leads, as this answer says.
    pub(crate) fn leader_of(&self, status: &ClusterStatus) -> Option<usize> {
        let leader = status.members.iter().find(|member| member.leads)?;
        self.api.iter().position(|address| *address == leader.api_address)
    }

    /// Kills a coordinator as nothing can be prepared for.
    pub(crate) fn kill(&mut self, coordinator: usize) {
        if let Some(process) = self.coordinators[coordinator].take() {
            process.kill();
        }
    }

    /// Starts a coordinator again, and returns once it serves.
    pub(crate) fn restart(&mut self, coordinator: usize) -> Result<(), String> {
        self.coordinators[coordinator] = Some(start_coordinator(&self.program, &self.folder, coordinator)?);
        Ok(())
    }

    /// Adds an agent, and waits until it is connected.
    pub(crate) async fn add_agent(&mut self, settings: &str) -> Result<(), String> {
        let (number, leader) = (self.agents.len(), self.settle().await?);
        let (name, folder) = (format!("n{number}"), self.at(&format!("n{number}")));
        let endpoint = owner_flag(&self.folder, leader);
        let line = output_of(
            bare_command(&self.program, &self.folder).args(["token", "create", "--role", "agent"]).arg(endpoint),
        )?;
        let join: Vec<&str> = line.split_whitespace().skip(1).collect();
        output_of(
            bare_command(&self.program, &self.folder).args(join).args(["--name", &name, "--folder"]).arg(&folder),
        )?;
        // The network of the machine itself is not ours to filter.
        let text = format!("[agent]\nfilter = false\n{settings}");
        std::fs::write(folder.join("config.toml"), text).map_err(|error| error.to_string())?;
        self.agents.push(None);
        self.run_agent(number)?;
        let start = flowyard_clock::monotonic();
        while flowyard_clock::elapsed(start) < PATIENCE {
            let nodes = self.owner(leader).list_nodes(ListNodesRequest::default()).await;
            if nodes.is_ok_and(|answer| answer.nodes.iter().filter(|node| node.connected).count() > number) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("the agent {name} does not connect"))
    }

    /// Starts an agent, and returns once it says that it runs.
    pub(crate) fn run_agent(&mut self, number: usize) -> Result<(), String> {
        let name = format!("n{number}");
        let said = self.at(&format!("{name}.log"));
        let from = std::fs::metadata(&said).map_or(0, |metadata| metadata.len() as usize);
        let mut run = bare_command(&self.program, &self.folder);
        run.args(["agent", "run", "--folder"]).arg(self.at(&name));
        let mut process = Process::start(&mut run, &said)?;
        process.says(&format!("the agent of node {name} runs"), from)?;
        self.agents[number] = Some(process);
        Ok(())
    }

    /// Kills an agent as nothing can be prepared for, and starts it again.
    pub(crate) fn restart_agent(&mut self, number: usize) -> Result<(), String> {
        if let Some(process) = self.agents[number].take() {
            process.kill();
        }
        self.run_agent(number)
    }

    /// Stops agents, then coordinators, in order.
    pub(crate) fn stop(self) {
        self.agents.into_iter().chain(self.coordinators).flatten().for_each(Process::stop);
    }
}

/// A cluster that is being formed.
struct Making {
    program: PathBuf,
    folder: PathBuf,
    api: Vec<String>,
    running: Vec<Process>,
}

impl Making {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = bare_command(&self.program, &self.folder);
        command.args(words);
        command
    }

    fn owner(&self, coordinator: usize) -> String {
        owner_flag(&self.folder, coordinator)
    }

    fn token(&self, number: usize) -> Result<ApiToken, String> {
        let words = ["token", "create", "--role", "admin", "--ttl", "30d", "--name"];
        let made = output_of(self.command(&words).arg(format!("bench{number}")).arg(self.owner(0)))?;
        made.trim().parse().map_err(|error| format!("the token: {error}"))
    }

    fn first(&mut self) -> Result<(), String> {
        let places = self.places()?;
        output_of(self.command(&["coordinator", "init", "--cluster", "bench"]).args(places))?;
        self.run(0)
    }

    async fn join(&mut self) -> Result<(), String> {
        let number = self.running.len();
        let line = output_of(self.command(&["token", "create", "--role", "coordinator"]).arg(self.owner(0)))?;
        let places = self.places()?;
        let join: Vec<&str> = line.split_whitespace().skip(1).collect();
        output_of(self.command(&join).args(places))?;
        self.run(number)?;
        let start = flowyard_clock::monotonic();
        while flowyard_clock::elapsed(start) < PATIENCE {
            let mut owner = Client::new(Endpoint::socket(self.folder.join("c0/api.sock")));
            let votes = |status: ClusterStatus| status.members.iter().filter(|member| member.votes).count();
            if owner.get_status(GetStatusRequest {}).await.is_ok_and(|status| votes(status) == number + 1) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("coordinator c{number} does not get to vote"))
    }

    /// The flags of the next coordinator, whose API's address is kept.
    fn places(&mut self) -> Result<Vec<String>, String> {
        let (api, peers) = (free_address()?, free_address()?);
        let folder = self.folder.join(format!("c{}", self.api.len())).display().to_string();
        self.api.push(api.clone());
        let flags = [
            ["--folder", &folder],
            ["--address", &api],
            ["--listen", &api],
            ["--peer-address", &peers],
            ["--peer-listen", &peers],
        ];
        Ok(flags.concat().into_iter().map(str::to_owned).collect())
    }

    fn run(&mut self, number: usize) -> Result<(), String> {
        let path = self.folder.join(format!("c{number}/coordinator.toml"));
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        // Agents of this machine may not filter its network, so no task has one of its own.
        let text = text.replace("\n[jobs]", "\n[jobs]\nnetwork = \"host\"");
        // All clients are one person here, who would be told to call less often.
        let text = text + "\n[calls]\nper_second = 0\n";
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        self.running.push(start_coordinator(&self.program, &self.folder, number)?);
        Ok(())
    }
}

fn owner_flag(folder: &Path, coordinator: usize) -> String {
    format!("--endpoint=unix://{}", folder.join(format!("c{coordinator}/api.sock")).display())
}

/// The program, seeing nothing of whoever runs the bench.
pub(crate) fn bare_command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("XDG_CONFIG_HOME", folder.join("config")).env("HOME", folder);
    command.env_remove("FLOWYARD_ENDPOINT").env_remove("FLOWYARD_HOME").env_remove("FLOWYARD_LOG");
    command
}

pub(crate) fn start_coordinator(program: &Path, folder: &Path, number: usize) -> Result<Process, String> {
    let said = folder.join(format!("c{number}.log"));
    let from = std::fs::metadata(&said).map_or(0, |metadata| metadata.len() as usize);
    let mut run = bare_command(program, folder);
    run.args(["coordinator", "run", "--folder"]).arg(folder.join(format!("c{number}")));
    let mut process = Process::start(&mut run, &said)?;
    process.says(RUNS, from)?;
    Ok(process)
}
