//! One run: form, break and mend while clients work, let everything end, and look.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flowyard_clock::{elapsed, monotonic};
use flowyard_proto::api;

use crate::clients::Clients;
use crate::faults::Fault;
use crate::fleet::{CLIENT, COORDINATORS, Fleet};
use crate::history::{Answer, Call, Operation};
use crate::owner::Told;
use crate::plan::{self, LOST, Plan, Round};
use crate::preload::Preload;
use crate::programs::{self, Programs};
use crate::summary::Summary;
use crate::system::waited;
use crate::{account, calls, ends};

/// How long all that was submitted may take to end once everything is mended: a node is given up after twenty seconds, and the
/// machine is small.
const TO_THE_END: Duration = Duration::from_secs(300);
/// Calm before the clients stop.
const CALM: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The short plan, the same each time.
    Short,
    /// The plan of a seed, for so many seconds.
    Seed {
        /// The seed.
        seed: u64,
        /// How long things are broken.
        seconds: u64,
    },
}

/// A run that is under way.
struct Run {
    fleet: Fleet,
    clients: Clients,
    start: Instant,
    summary: Summary,
    wrong: Vec<String>,
    /// Hosts whose disks were full in the last round.
    full: Vec<String>,
}

/// What a run came to.
pub struct Ended {
    /// What was done and looked at, for people.
    pub summary: String,
    /// What could not be broken on this machine.
    pub left_out: Vec<String>,
    /// What is wrong with the product; nothing, if all is well.
    pub violations: Vec<String>,
}

/// Runs a plan against the program. With a `next` release, the cluster is upgraded to that meanwhile; else to a copy of the same
/// program.
///
/// # Errors
/// Why nothing can be run on this machine.
///
/// # Panics
/// When the cluster cannot even be formed, or does not come back.
pub fn run(program: &Path, next: Option<&Path>, wish: Wish) -> Result<Ended, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root may make hosts with networks of their own".to_owned());
    }
    let folder = tempfile::Builder::new().prefix("flowyard-chaos-").tempdir().map_err(|error| error.to_string())?;
    for name in ["said", "outside", "work", "config", "faults", "shared"] {
        std::fs::create_dir(folder.path().join(name)).map_err(|error| error.to_string())?;
    }
    open_to_tasks(&folder.path().join("outside"))?;
    let (preload, left_out) = match Preload::build(&folder.path().join("faults")) {
        Ok(preload) => (Some(preload), Vec::new()),
        Err(reason) => (None, vec![format!("clock jumps, expiry and slow fsync need a C compiler: {reason}")]),
    };
    // Every third seed has one origin for all coordinators.
    let shares_origin = matches!(wish, Wish::Seed { seed, .. } if seed.is_multiple_of(3));
    let programs = Programs::new(program, next, folder.path())?;
    let fleet = Fleet::hosts(programs, folder.path(), preload, shares_origin)?;
    let ended = of(fleet, wish, left_out, folder.path());
    if !ended.violations.is_empty() {
        println!("what everybody said is kept in {}", folder.keep().display());
    }
    Ok(ended)
}

/// Tasks are nobody.
fn open_to_tasks(folder: &Path) -> Result<(), String> {
    let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(folder, anybody).map_err(|error| error.to_string())
}

fn of(mut fleet: Fleet, wish: Wish, left_out: Vec<String>, folder: &Path) -> Ended {
    let begun = monotonic();
    let formed = fleet.form().and_then(|()| fleet.settle()).and_then(|()| fleet.token());
    let token = formed.unwrap_or_else(|reason| panic!("the cluster cannot be formed: {reason}"));
    let origin = if fleet.shares_origin { "one shared origin" } else { "an origin each" };
    let took = elapsed(begun);
    println!("formed in {took:.1?}: {COORDINATORS} coordinators with {origin}, {} agents", fleet.agents.len());
    let (seed, seconds) = match wish {
        Wish::Short => (None, u64::MAX),
        Wish::Seed { seed, seconds } => (Some(seed), seconds),
    };
    let (space, work, outside) = (fleet.network.path(CLIENT), folder.join("work"), fleet.outside());
    let clients = Clients::start(&space, &token, seed.unwrap_or(0), &work, &outside);
    let clients = clients.unwrap_or_else(|reason| panic!("{reason}"));
    let summary = Summary { seed, left_out: left_out.clone(), ..Summary::default() };
    let mut run = Run { fleet, clients, start: monotonic(), summary, wrong: Vec::new(), full: Vec::new() };
    match seed {
        None => plan::short().into_iter().for_each(|round| run.round(round)),
        Some(seed) => {
            for round in Plan::of(seed) {
                if elapsed(run.start).as_secs() >= seconds {
                    break;
                }
                run.round(round);
            }
        }
    }
    let (summary, violations) = run.end();
    Ended { summary: summary.to_string(), left_out, violations }
}

impl Run {
    fn say(&self, what: &str) {
        println!("{:7.1}s  {what}", elapsed(self.start).as_secs_f64());
    }

    /// Breaks, waits, mends, waits.
    fn round(&mut self, round: Round) {
        let mut struck: Vec<Fault> = Vec::new();
        for fault in round.faults {
            if !fault.is_possible(&self.fleet) {
                continue;
            }
            let Some(leader) = self.fleet.leader() else {
                self.wrong.push(format!("nobody led before: {fault}"));
                continue;
            };
            let kind = fault.kind();
            let fault = fault.now(leader);
            self.say(&format!(
                "{fault}{}",
                if fault.to_string().contains(&format!("c{leader}")) { " (it leads)" } else { "" }
            ));
            *self.summary.faults.entry(kind).or_default() += 1;
            let done = fault.strike(&mut self.fleet);
            self.expect(&format!("{fault}"), done);
            struck.push(fault);
        }
        std::thread::sleep(round.lasts);
        for fault in struck.iter().rev() {
            let lives = self.lives();
            let done = fault.heal(&mut self.fleet);
            self.expect(&format!("mending that {fault}"), done);
            self.summary.replaced += self.lives() - lives;
        }
        std::thread::sleep(round.calm);
        // Ending takes a while: one that met a full disk may be seen to have ended a round later.
        let full: Vec<String> = struck.iter().filter_map(Fault::may_fell).collect();
        let before = std::mem::replace(&mut self.full, full.clone());
        self.fallen(&[full, before].concat());
    }

    fn lives(&self) -> u32 {
        self.fleet.coordinators.iter().map(crate::fleet::Seat::life).sum()
    }

    fn expect(&mut self, what: &str, done: Result<(), String>) {
        if let Err(reason) = done {
            self.say(&format!("WRONG: {what}: {reason}"));
            self.wrong.push(format!("{what}: {reason}"));
        }
    }

    /// Who ended without being told to is started again; it is wrong unless their host is one of those where that may be.
    fn fallen(&mut self, may: &[String]) {
        for how in self.fleet.fallen() {
            self.say(&how);
            if may.iter().any(|host| how.starts_with(&format!("{host}-"))) {
                self.summary.fell += 1;
            } else {
                self.wrong.push(how);
            }
        }
    }

    /// Everything is mended: what was submitted must end, and be as it should.
    fn end(mut self) -> (Summary, Vec<String>) {
        self.say("everything is mended");
        let settled = self.fleet.settle();
        self.expect("after everything was mended", settled);
        std::thread::sleep(CALM);
        self.summary.calls = self.clients.calls();
        let Self { fleet, clients, start, summary, wrong, .. } = self;
        let history = clients.stop().unwrap_or_else(|reason| panic!("{reason}"));
        let (operations, refused) = history.taken();
        let mut looking = Looking { fleet, operations, summary, wrong };
        looking.wrong.extend(refused.into_iter().map(|what| format!("refused: {what}")));
        looking.all();
        looking.summary.lasted = elapsed(start);
        println!("{:7.1}s  looked at everything", elapsed(start).as_secs_f64());
        (looking.summary, looking.wrong)
    }
}

/// The end of a run.
struct Looking {
    fleet: Fleet,
    operations: Vec<Operation>,
    summary: Summary,
    wrong: Vec<String>,
}

impl Looking {
    fn sockets(&self) -> Vec<PathBuf> {
        (0..COORDINATORS).map(|number| self.fleet.socket(number)).collect()
    }

    fn all(&mut self) {
        self.summary.calls = self.operations.len();
        self.summary.unanswered = self.operations.iter().filter(|it| it.answer == Answer::Unknown).count();
        let rows = self.until_all_ended();
        let jobs = self.by_tag(&rows);
        self.acknowledged(&rows);
        self.summary.objects = calls::objects(&self.operations, &jobs);
        self.wrong.extend(calls::violations(&self.operations, &jobs));
        for (tag, job) in &jobs {
            self.job(tag, *job);
        }
        self.nodes();
        self.wrong.extend(programs::violation(&self.fleet));
        self.summary.versions = [self.fleet.formed_version, self.fleet.cluster_version().unwrap_or_default()];
        let traced = ends::traced(&self.fleet.outside());
        self.summary.traced = traced.len();
        let twice = traced.iter().filter_map(|(tag, lives)| Some((tag, ends::overlap(lives)?)));
        self.wrong.extend(twice.map(|(tag, how)| format!("{tag} ran twice at once: {how}")));
        self.summary.looked = account::look(&self.fleet);
        self.wrong.extend(self.fleet.stop());
        self.wrong.extend(account::violations(&self.fleet));
        account::remove_cgroups(&self.fleet);
        self.wrong.extend(self.fleet.panics());
    }

    /// Every job, once all have ended.
    fn until_all_ended(&mut self) -> Vec<api::JobRow> {
        let (socket, mut rows) = (self.fleet.socket(0), Vec::new());
        let active = |rows: &[api::JobRow]| -> Vec<u64> {
            rows.iter().filter(|row| row.state() == api::JobPhase::Active).map(|row| row.job).collect()
        };
        let mut failure = None;
        let ended = waited(TO_THE_END, || match self.fleet.owner.jobs(&socket) {
            Ok(listed) => {
                rows = listed;
                active(&rows).is_empty()
            }
            Err(reason) => {
                failure = Some(reason);
                false
            }
        });
        if !ended {
            let left = active(&rows);
            self.wrong.push(format!("{} jobs do not end: {left:?} {}", left.len(), failure.unwrap_or_default()));
            if let Some(job) = left.first() {
                self.wrong.push(self.fleet.why(*job));
            }
        }
        rows
    }

    /// Which job each tag became; none may have become two.
    fn by_tag(&mut self, rows: &[api::JobRow]) -> BTreeMap<String, u64> {
        let mut jobs = BTreeMap::new();
        for row in rows {
            let tag = row.tags.first().cloned().unwrap_or_default();
            if let Some(other) = jobs.insert(tag.clone(), row.job) {
                self.wrong.push(format!("the submission {tag} became two jobs: {other} and {}", row.job));
            }
            *self.summary.jobs.entry(phase(row.state())).or_default() += 1;
        }
        jobs
    }

    /// Every job that a client was told of is there under its tag.
    fn acknowledged(&mut self, rows: &[api::JobRow]) {
        for operation in &self.operations {
            let (Call::Submit { tag, .. }, Answer::Job(job)) = (&operation.call, &operation.answer) else { continue };
            let there = rows.iter().any(|row| row.job == *job && row.tags.contains(tag));
            if !there {
                self.wrong
                    .push(format!("job {job} ({tag}) was acknowledged to client {} and is lost", operation.client));
            }
        }
    }

    /// One job: as it should have ended, the same whoever is asked, its bytes there wherever they are asked for.
    fn job(&mut self, tag: &str, job: u64) {
        let sockets = self.sockets();
        let told: Vec<Result<Told, String>> = sockets.iter().map(|socket| self.fleet.owner.job(socket, job)).collect();
        let Some(Ok(first)) = told.first().cloned() else {
            return self.wrong.push(format!("job {job} cannot be read: {:?}", told.first()));
        };
        let cancelled = self.operations.iter().any(|it| it.call == Call::Cancel(job));
        self.wrong.extend(ends::violations(&first, tag, cancelled));
        self.wrong.extend(differences(job, &told, &first));
        self.summary.compared += 1;
        let attempts = first.tasks.iter().flat_map(|task| &task.attempts).flat_map(|attempt| &attempt.members);
        for member in attempts {
            self.summary.attempts += 1;
            let lost = member.end.as_ref().is_some_and(|end| end.outcome() == api::AttemptOutcome::Lost);
            self.summary.lost_attempts += u32::from(lost);
        }
        for (digest, content) in ends::files(&first) {
            self.summary.artifacts += 1;
            for (number, socket) in sockets.iter().enumerate() {
                let read = || self.fleet.owner.bytes(socket, job, digest);
                // Whoever first reads a damaged copy is told so; it is set aside, and the next gets what another coordinator has.
                let answer = match read() {
                    Err(error) if error.contains("damaged") => read(),
                    answer => answer,
                };
                match answer {
                    Ok(bytes) if bytes == content => {}
                    answer => self.wrong.push(format!("c{number} gives for an artifact of job {job}: {answer:?}")),
                }
            }
        }
    }

    /// The nodes as every coordinator tells them; the one that was lost is given up.
    fn nodes(&mut self) {
        let lost = self.fleet.agents[LOST].lost;
        let down = waited(TO_THE_END, || {
            let nodes = self.fleet.owner.nodes(&self.fleet.socket(0)).unwrap_or_default();
            let is = |name: String, health| nodes.iter().any(|node| node.name == name && node.health() == health);
            let expected = |number| if number == LOST && lost { api::Health::Down } else { api::Health::Up };
            (0..self.fleet.agents.len()).all(|number| is(format!("n{number}"), expected(number)))
        });
        if !down {
            let nodes = self.fleet.owner.nodes(&self.fleet.socket(0));
            let health = |node: &api::Node| format!("{} {}", node.name, node.health().as_str_name());
            let all: Vec<String> = nodes.unwrap_or_default().iter().map(health).collect();
            self.wrong.push(format!("the nodes are not as they should: {}", all.join(", ")));
        }
    }
}

/// Coordinators that tell of a job otherwise than the first.
fn differences(job: u64, told: &[Result<Told, String>], first: &Told) -> Vec<String> {
    let others = told.iter().enumerate().skip(1).filter(|(_, other)| other.as_ref() != Ok(first));
    let say = |(number, other)| format!("c{number} tells of job {job} otherwise than c0: {}", difference(other, first));
    others.map(say).collect()
}

/// Where two stories part.
fn difference(one: &Result<Told, String>, other: &Told) -> String {
    const AROUND: usize = 150;
    let (one, other) = (one.as_ref().map_or_else(Clone::clone, |one| format!("{one:?}")), format!("{other:?}"));
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let from = |text: &str| {
        let text: Vec<char> = text.chars().skip(same.saturating_sub(AROUND)).take(2 * AROUND).collect();
        text.into_iter().collect::<String>()
    };
    format!("...{}..., not ...{}...", from(&one), from(&other))
}

fn phase(phase: api::JobPhase) -> &'static str {
    match phase {
        api::JobPhase::Succeeded => "succeeded",
        api::JobPhase::Failed => "failed as they should",
        api::JobPhase::Cancelled => "cancelled",
        api::JobPhase::Active | api::JobPhase::Unspecified => "active",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_that_tells_something_else_is_found() {
        let told = |state: api::JobPhase| {
            let row = api::JobRow { job: 7, state: state.into(), ..api::JobRow::default() };
            let job = api::Job { row: Some(row), ..api::Job::default() };
            Ok(Told { job, tasks: Vec::new(), artifacts: Vec::new() })
        };
        let (same, other) = (told(api::JobPhase::Succeeded), told(api::JobPhase::Failed));
        let first = same.clone().unwrap();
        assert_eq!(differences(7, &[same.clone(), same.clone(), same.clone()], &first), Vec::<String>::new());
        assert_eq!(differences(7, &[same.clone(), other, same.clone()], &first).len(), 1);
        let away = differences(7, &[same.clone(), same, Err("no answer".to_owned())], &first);
        assert!(away[0].starts_with("c2 tells of job 7 otherwise"), "{away:?}");
    }
}
