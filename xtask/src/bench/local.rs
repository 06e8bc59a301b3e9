//! `bench local`: the figures of the embedded cluster, each beside its floor or its bound.
//!
//! One `fctl dev` in a release build serves all of it, but for the cold start, which has a home of its own.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::fctl::Fctl;
use super::figures::{Samples, print_bound, print_ratio, sample};
use super::{crun, spawn};
use crate::program::succeeds;
use crate::workspace::Workspace;

/// No-op tasks of the durable array.
const ARRAY: u32 = 10_000;
/// Containers started four at once.
const CONTAINERS: u32 = 1_000;
/// Containers started one after the other.
const ALONE: u32 = 200;
/// Submits that wait, of each isolation.
const WAITS: usize = 100;
/// Tasks of the array that only waits.
const PENDING: u32 = 1_000_000;
/// How long the idle cluster is watched.
const IDLE: Duration = Duration::from_secs(10);
/// Cold starts, each in an empty home.
const COLD: usize = 10;
const MIB: f64 = 1_048_576.0;

/// Prints everything the issue of the embedded cluster asks for.
pub(super) fn run(workspace: &Workspace) -> Result<(), String> {
    let fctl = Fctl::build(workspace)?;
    cold_start(&fctl)?;
    let cluster = Cluster::start(&fctl)?;
    cluster.idle()?;
    cluster.pending()?;
    cluster.waits("process", 15.0)?;
    cluster.waits("container", 30.0)?;
    let spawned = spawn::floor()?;
    spawned.print("posix_spawn floor, all cores");
    cluster.array(&spawned)?;
    let crun = crun::floor(workspace)?;
    cluster.containers(crun)?;
    cluster.idle()
}

/// From typing the command in an empty home to the user's process running, by the clock of both.
fn cold_start(fctl: &Fctl) -> Result<(), String> {
    let mut each = Vec::new();
    for _ in 0..COLD {
        std::fs::remove_dir_all(fctl.home()).map_err(|error| error.to_string())?;
        let begun_ms = flowyard_clock::wall_ms();
        fctl.json(&["submit", "--local", "--isolation", "process", "--", "/bin/true"])?;
        let shown = fctl.json(&["show", "1", "--local"])?;
        let running_ms = times(&shown["tasks_shown"][0], "running_ms").ok_or("the task shows no start")?;
        each.push(Duration::from_millis(running_ms.saturating_sub(begun_ms)));
    }
    let wall = each.iter().sum();
    let samples = Samples::new(each, wall);
    print_bound("cold start to first task running", millis(samples.p50()), 300.0, "ms");
    Ok(())
}

/// A running `fctl dev`.
struct Cluster<'a> {
    fctl: &'a Fctl,
    dev: Child,
}

impl<'a> Cluster<'a> {
    fn start(fctl: &'a Fctl) -> Result<Self, String> {
        let dev = fctl.command(&["dev"]).stderr(Stdio::null()).spawn().map_err(|error| format!("fctl dev: {error}"))?;
        let cluster = Self { fctl, dev };
        for _ in 0..200 {
            if cluster.fctl.json(&["nodes"]).is_ok_and(|answer| answer["nodes"][0]["connected"] == true) {
                return Ok(cluster);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("fctl dev did not come up".to_owned())
    }

    fn resident_bytes(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/status", self.dev.id());
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().map_err(|_| "VmRSS is no number")?;
        Ok(kib * 1_024.0)
    }

    /// CPU time of the cluster's process, in clock ticks of 10 ms.
    fn cpu_ticks(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/stat", self.dev.id());
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or("").split(' ').collect();
        let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Ok(field(11) + field(12))
    }

    fn idle(&self) -> Result<(), String> {
        let before = self.cpu_ticks()?;
        std::thread::sleep(IDLE);
        let used_ms = (self.cpu_ticks()? - before) as f64 * 10.0;
        print_bound("idle: CPU per second", used_ms / IDLE.as_secs_f64(), 1.0, "ms");
        print_bound("idle: resident", self.resident_bytes()? / MIB, 60.0, "MiB");
        Ok(())
    }

    /// An array that cannot start: it asks for the whole node while another task holds a part of it.
    fn pending(&self) -> Result<(), String> {
        let blocker = self.submit(&["--isolation", "process", "--cpu", "0.01", "--", "sleep", "1000"])?;
        let cpu = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let range = format!("0-{}", PENDING - 1);
        self.submit(&["--isolation", "process", "--cpu", &cpu, "--array", "0-9", "--", "/bin/true"])?;
        let before = self.resident_bytes()?;
        let submits = sample(1, 5, |_, _| {
            self.submit(&["--isolation", "process", "--cpu", &cpu, "--array", &range, "--", "/bin/true"]).map(drop)
        })?;
        let each = (self.resident_bytes()? - before).max(0.0) / (5.0 * f64::from(PENDING));
        print_bound("memory per pending task", each, 16.0, "B");
        print_bound("submit of 1,000,000 tasks, whole", millis(submits.p50()), 100.0, "ms");
        for job in self.fctl.json(&["jobs", "--state", "active"])?["jobs"].as_array().unwrap_or(&Vec::new()) {
            self.fctl.json(&["cancel", &job["job"].to_string()])?;
        }
        // The blocker's grace period is its own; the others end at once.
        let _ = self.fctl.command(&["wait", &blocker.to_string()]).stderr(Stdio::null()).status();
        Ok(())
    }

    fn submit(&self, arguments: &[&str]) -> Result<u64, String> {
        let submitted = self.fctl.json(&[&["submit"], arguments].concat())?;
        submitted["job"].as_u64().ok_or_else(|| format!("no job in {submitted}"))
    }

    fn waits(&self, isolation: &str, goal_ms: f64) -> Result<(), String> {
        let submit = |_, _| {
            let arguments = ["submit", "--wait", "--isolation", isolation, "--", "/bin/true"];
            succeeds(self.fctl.command(&arguments).stderr(Stdio::null()))
        };
        sample(1, 5, submit)?;
        let samples = sample(1, WAITS, submit)?;
        samples.print(&format!("submit --wait, {isolation}"));
        print_bound(&format!("submit --wait, {isolation}, p50"), millis(samples.p50()), goal_ms, "ms");
        Ok(())
    }

    /// Durable no-op tasks from submit to done, many at once.
    fn array(&self, floor: &Samples) -> Result<(), String> {
        let range = format!("0-{}", ARRAY - 1);
        let flags = ["--isolation", "process", "--cpu", "0.05", "--memory", "16MiB", "--array", &range];
        let job = self.run_to_end(&flags)?;
        let rate = f64::from(ARRAY) / seconds(&job)?;
        print_ratio("durable no-op tasks per second", rate, floor.per_second(), 0.4);
        Ok(())
    }

    fn containers(&self, crun: Option<crun::Floor>) -> Result<(), String> {
        let range = format!("0-{}", CONTAINERS - 1);
        let cpu = (std::thread::available_parallelism().map_or(1, usize::from) as f64 / 4.0).to_string();
        let job = self.run_to_end(&["--cpu", &cpu, "--memory", "64MiB", "--array", &range])?;
        let rate = f64::from(CONTAINERS) / seconds(&job)?;
        let range = format!("0-{}", ALONE - 1);
        let alone = self.run_to_end(&["--memory", "64MiB", "--max-parallel", "1", "--array", &range])?;
        let started = self.placed_to_running(&alone)?;
        started.print("container, placed to running");
        match crun {
            Some(crun) => {
                print_ratio("containers per second, 4 at once", rate, crun.per_second, 1.0);
                print_bound("placed to running, p50, over crun", millis(started.p50()), crun.p50_ms, "ms");
            }
            None => println!("containers per second, 4 at once   {rate:.0}"),
        }
        Ok(())
    }

    /// Runs no-ops to their end and shows their job.
    fn run_to_end(&self, flags: &[&str]) -> Result<Value, String> {
        let job = self.submit(&[flags, &["--", "/bin/true"]].concat())?.to_string();
        succeeds(self.fctl.command(&["wait", &job]).stderr(Stdio::null()))?;
        self.fctl.json(&["show", &job, "--limit", "1000"])
    }

    fn placed_to_running(&self, job: &Value) -> Result<Samples, String> {
        let step = format!("{}/{}", job["job"], job["steps"][0]["name"].as_str().unwrap_or(""));
        let shown = self.fctl.json(&["show", &step, "--limit", "1000"])?;
        let tasks = shown["tasks_shown"].as_array().ok_or("no tasks are shown")?;
        let between = |task: &Value| Some(times(task, "running_ms")?.saturating_sub(times(task, "placed_ms")?));
        let each: Vec<Duration> = tasks.iter().filter_map(between).map(Duration::from_millis).collect();
        let wall = each.iter().sum();
        if each.is_empty() { Err("no task shows when it ran".to_owned()) } else { Ok(Samples::new(each, wall)) }
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        // Asked to stop as a user would; it ends what it runs.
        let _ = std::process::Command::new("kill").arg(self.dev.id().to_string()).status();
        let _ = self.dev.wait();
    }
}

/// A time of the last attempt of a task.
fn times(task: &Value, name: &str) -> Option<u64> {
    task["attempts"].as_array()?.last()?["times"][name].as_u64()
}

/// Submit to end of a job.
fn seconds(job: &Value) -> Result<f64, String> {
    match (job["submitted_ms"].as_u64(), job["ended_ms"].as_u64()) {
        (Some(submitted), Some(ended)) => Ok((ended - submitted).max(1) as f64 / 1_000.0),
        _ => Err(format!("job {} shows no times", job["job"])),
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
