//! `fctl bench`: what a cluster can carry, measured.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use flowyard_history::Profile;
use flowyard_model::{Gpu, QueuePath, limits};
use flowyard_sdk::units;

const EXAMPLES: &str = "\
Examples:
  fctl bench fleet                                          100 nodes and 10,000 tasks, on this machine
  fctl bench fleet --nodes 10000 --tasks 1000000            what three coordinators on this machine can carry
  fctl bench fleet --failures 0.05 --duration 2s            tasks that take time and fail
  fctl bench fleet --tasks 100000 --chaos leader,agents,limit   whether faults lose anything
  fctl bench fleet --trace tasks.csv -o json                the arrivals of a file; figures for programs
  fctl bench fleet --trace tasks.csv --tasks 1000000        over and over, until there are so many
  fctl bench fleet --endpoint TOKEN --nodes 500             an existing cluster, with an administrator's token";

/// `fctl bench`.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Measure coordinators under a fleet of hollow agents: real sessions, on which tasks are only pretended
    #[command(after_help = EXAMPLES)]
    Fleet(Box<BenchFleet>),
    /// Write a trace by the dice, with the marginals of published ones: what `fctl whatif` and `fctl bench fleet` take
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(BenchTrace),
    /// Run hollow agents, as standard input says
    #[command(hide = true)]
    Agents,
}

/// `fctl bench fleet`.
#[derive(Debug, Args)]
pub(crate) struct BenchFleet {
    /// Hollow nodes
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=MOST_NODES))]
    pub nodes: u32,
    /// CPUs of each node, so how many tasks of one CPU run there at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub slots: u64,
    /// GPUs of each node: a count, or COUNT,model=NAME,memory=SIZE,linked=N (groups of N are linked); given more than once, nodes
    /// are divided between them
    #[arg(long, value_name = "N")]
    pub gpus: Vec<NodeGpus>,
    /// Tasks; 10,000 if not given, or those of the trace. Of a trace that has more, the first; one that has fewer begins again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_TASKS))]
    pub tasks: Option<u64>,
    /// Most tasks of one job, which are submitted as an array
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub array: u32,
    /// Submit each task as a job of its own that differs from all others
    #[arg(long, conflicts_with = "array")]
    pub distinct: bool,
    /// How many kinds of tasks there are that ask for different resources
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub shapes: u32,
    /// GPUs that each task asks for
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    pub task_gpus: u32,
    /// Tasks submitted per second; all at once if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// How long each task takes, such as 500ms
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = units::duration_ms)]
    pub duration: u64,
    /// Queue that jobs wait in
    #[arg(long, value_name = "PATH")]
    pub queue: Option<QueuePath>,
    /// So many queues that jobs are divided between, of equal weight; only in a cluster of the bench's own
    #[arg(long, value_name = "N", conflicts_with_all = ["queue", "endpoint"], value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub queues: Option<u32>,
    /// A file with the arrivals instead: CSV or JSON lines with at_ms, duration_ms, cpu, memory, gpus, model, queue, user, count
    #[arg(long, value_name = "FILE", conflicts_with_all = ["array", "distinct", "shapes", "task_gpus", "rate", "duration", "queue", "queues"])]
    pub trace: Option<PathBuf>,
    /// Share of the attempts that fail, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub failures: Share,
    /// Share of the attempts that end through their node's fault, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub faults: Share,
    /// Tries beside the first of a task that fails
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=i64::from(limits::RETRIES)))]
    pub retries: u32,
    /// Which attempts fail is drawn from this number
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Tasks that are submitted before and cannot run: how soon others are placed beside them; only in a cluster of the bench's own
    #[arg(long, value_name = "N", conflicts_with = "endpoint", value_parser = clap::value_parser!(u64).range(1..=MOST_TASKS))]
    pub backlog: Option<u64>,
    /// Submit each of those as a job of its own that differs from all others
    #[arg(long, requires = "backlog")]
    pub backlog_distinct: bool,
    /// Faults while it runs: the leader is killed and started again, 30 % of the agents lose their connections at once, a queue's limit
    /// is changed; only in a cluster of the bench's own
    #[arg(long, value_name = "FAULT,...", value_delimiter = ',', conflicts_with = "endpoint")]
    pub chaos: Vec<Fault>,
    /// Give up when nothing gets on for so long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::positive_duration_ms)]
    pub patience: u64,
    /// Folder in which the coordinators keep everything; one of the system's temporary folder if not given
    #[arg(long, value_name = "DIR", value_parser = super::fleet::folder)]
    pub folder: Option<PathBuf>,
    /// Leave that folder when done, with what the coordinators said
    #[arg(long)]
    pub keep: bool,
}

const TRACE_EXAMPLES: &str = "\
Examples:
  fctl bench trace week.csv                                   10,000 jobs of a week, like Helios
  fctl bench trace year.csv --profile philly --jobs 100000 --days 365 --queues 14
  fctl whatif --from week.csv --fleet machines.toml --policy fifo";

/// `fctl bench trace`.
#[derive(Debug, Args)]
pub(crate) struct BenchTrace {
    /// The file to write; `-` is standard output
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Whose marginals it has: philly (Microsoft, 2017) or helios (SenseTime, 2020)
    #[arg(long, value_name = "NAME", default_value = "helios", value_parser = profile)]
    pub profile: Profile,
    /// Jobs, of one task each
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub jobs: u64,
    /// Days over which they arrive
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=3_650))]
    pub days: u64,
    /// People; the k-th submits as much as the first by k
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub people: u64,
    /// Queues that people are divided between; the usual one alone if not given
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    pub queues: u64,
    /// Most GPUs of one job; what is more becomes as many
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub most_gpus: u32,
    /// Another number, another trace
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Replace a file that is there
    #[arg(long)]
    pub overwrite: bool,
}

fn profile(text: &str) -> Result<Profile, String> {
    Profile::named(text).ok_or_else(|| "write philly or helios".to_owned())
}

/// A coordinator takes 16,384 connections.
const MOST_NODES: i64 = 16_000;
const MOST_TASKS: u64 = 50_000_000;

/// A fault that a bench makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// The coordinator that leads is killed, and started again
    Leader,
    /// Three of ten agents lose their connections at once
    Agents,
    /// The limit of a queue is changed while its tasks wait and run
    Limit,
}

impl Fault {
    /// Its word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Agents => "agents",
            Self::Limit => "limit",
        }
    }
}

/// A share, in parts of a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) ppm: u32,
}

fn share(text: &str) -> Result<Share, String> {
    let wrong = || "write a share from 0 to 1, such as 0.05 for one of twenty".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 || (whole.is_empty() && part.is_empty()) {
        return Err(wrong());
    }
    let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let part: u32 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
    match whole.checked_mul(1_000_000).and_then(|whole| whole.checked_add(part)) {
        Some(ppm) if ppm <= 1_000_000 => Ok(Share { ppm }),
        _ => Err(wrong()),
    }
}

/// The GPUs of a node, as `--gpus` names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeGpus {
    count: u32,
    model: String,
    memory_bytes: u64,
    linked: u32,
}

impl NodeGpus {
    /// The devices.
    pub(crate) fn devices(&self) -> Vec<Gpu> {
        let device = |at: u32| Gpu {
            id: format!("hollow-{at}"),
            model: self.model.clone(),
            memory_bytes: self.memory_bytes,
            numa_node: Some(at * 2 / self.count.max(1)),
            link_group: Some(at / self.linked),
            pcie_group: None,
            healthy: true,
            fake: true,
            part: None,
        };
        (0..self.count).map(device).collect()
    }
}

impl FromStr for NodeGpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write a count, or 8,model=H100,memory=80GiB,linked=4";
        let number = |text: &str, most: u32| match text.parse::<u32>() {
            Ok(number) if number <= most => Ok(number),
            _ => Err(format!("`{}` is not a whole number up to {most}; {form}", text.escape_debug())),
        };
        let mut parts = text.split(',');
        let count = number(parts.next().unwrap_or_default(), 64)?;
        let mut gpus = Self { count, model: "hollow".to_owned(), memory_bytes: 16 << 30, linked: count.max(1) };
        for part in parts {
            match part.split_once('=') {
                Some(("model", value)) if !value.is_empty() => gpus.model = value.to_owned(),
                Some(("memory", value)) => {
                    gpus.memory_bytes = units::bytes(value).map_err(|error| error.to_string())?
                }
                Some(("linked", value)) => gpus.linked = number(value, 64)?.max(1),
                _ => return Err(format!("`{}` says nothing of a GPU; {form}", part.escape_debug())),
            }
        }
        Ok(gpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_exactly_and_what_is_none_is_refused() {
        for (text, ppm) in [("0", 0), ("1", 1_000_000), ("0.05", 50_000), (".5", 500_000), ("1.0", 1_000_000)] {
            assert_eq!(share(text), Ok(Share { ppm }), "{text}");
        }
        for wrong in ["", ".", "2", "1.000001", "-0.1", "5%", "0.0000001", "1e-3", "NaN"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn gpus_of_a_node_have_a_model_and_groups_that_are_linked() {
        let gpus: NodeGpus = "8,model=H100,memory=80GiB,linked=4".parse().unwrap();
        let groups: Vec<_> = gpus.devices().iter().map(|gpu| gpu.link_group.unwrap()).collect();
        assert_eq!(groups, [0, 0, 0, 0, 1, 1, 1, 1]);
        assert!(gpus.devices().iter().all(|gpu| gpu.model == "H100" && gpu.memory_bytes == 80 << 30));
        assert_eq!("0".parse::<NodeGpus>().unwrap().devices(), []);
        for wrong in ["", "many", "8,colour=red", "8,model=", "65", "8,memory=80"] {
            assert!(wrong.parse::<NodeGpus>().is_err(), "{wrong}");
        }
    }
}
