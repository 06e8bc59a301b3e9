//! `agents`: a thousand agents are killed and started again while tasks run and print, and short tasks come and go: how many tasks were
//! killed or run again, and how many bytes of their logs are missing.

use std::path::Path;
use std::time::Duration;

use flowyard_clock::{elapsed, monotonic};
use flowyard_model::JobId;
use flowyard_proto::api::{Attempt, GetJobRequest, ListTasksRequest, LogsRequest, Task, TaskState};
use flowyard_sdk::client::Client;

use crate::asked::Asked;
use crate::figures::{Times, print_bound};
use crate::fleet::Fleet;
use crate::work;

const AGENTS: usize = 4;
/// Tasks that print, in each round.
const PRINTERS: u32 = 16;
/// Short tasks in each round.
const SHORT: u32 = 200;
/// Lines of each that prints, one every fifth of a second.
const LINES: u32 = 60;
/// How long a round may take after the last restart.
const PATIENCE: Duration = Duration::from_secs(180);

/// What became of the tasks.
#[derive(Default)]
struct Toll {
    tasks: u64,
    /// Not succeeded, or succeeded with more than one attempt.
    disturbed: u64,
    bytes: u64,
    missing: u64,
}

/// Measures, and prints.
pub(crate) async fn run(asked: &Asked, place: &Path) -> Result<(), String> {
    let mut fleet = Fleet::form(&asked.program, &place.join("fleet")).await?;
    for _ in 0..AGENTS {
        fleet.add_agent("cpu = \"2\"\n").await?;
    }
    let leader = fleet.settle().await?;
    let mut client = fleet.client(&[leader]);
    let wished = if asked.quick { 40 } else { 1_000 };
    let (mut restarts, mut each, mut toll) = (Vec::new(), 0, Toll::default());
    while restarts.len() < wished {
        let printers = submit(&mut client, &["sh", "-c", &script()], PRINTERS).await?;
        let short = submit(&mut client, &["/bin/true"], SHORT).await?;
        let round = monotonic();
        // As long as its tasks print.
        while restarts.len() < wished && elapsed(round) < Duration::from_millis(u64::from(LINES) * 200) {
            let begun = monotonic();
            fleet.restart_agent(each % AGENTS)?;
            each += 1;
            restarts.push(elapsed(begun));
        }
        for (job, count, prints) in [(printers, PRINTERS, true), (short, SHORT, false)] {
            ended(&mut client, job).await?;
            count_tasks(&mut client, job, count, &mut toll).await?;
            if prints {
                count_bytes(&mut client, job, &mut toll).await?;
            }
        }
        println!(
            "    {:>5} restarts: {} tasks, {} disturbed, {} log bytes, {} missing",
            restarts.len(),
            toll.tasks,
            toll.disturbed,
            toll.bytes,
            toll.missing
        );
    }
    println!("an agent killed and running again   {}", Times::new(restarts).line());
    print_bound("tasks killed or run again", toll.disturbed as f64, 0.0, "tasks");
    print_bound("log bytes missing", toll.missing as f64, 0.0, "bytes");
    fleet.stop();
    Ok(())
}

fn script() -> String {
    format!("i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); sleep 0.2; done")
}

fn printed() -> String {
    (0..LINES).map(|line| format!("line {line}\n")).collect()
}

async fn submit(client: &mut Client, run: &[&str], count: u32) -> Result<JobId, String> {
    let submitted = client.submit(&work::array(run, count)?, None).await;
    submitted.map(|(job, _)| job).map_err(|error| error.to_string())
}

async fn ended(client: &mut Client, JobId(job): JobId) -> Result<(), String> {
    let start = monotonic();
    while elapsed(start) < PATIENCE {
        let shown = client.get_job(GetJobRequest { job }).await.map_err(|error| error.to_string())?;
        if shown.row.is_some_and(|row| row.ended_ms.is_some()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("job {job} does not end"))
}

async fn count_tasks(client: &mut Client, JobId(job): JobId, count: u32, toll: &mut Toll) -> Result<(), String> {
    let asked = ListTasksRequest { job, limit: 1_000, ..ListTasksRequest::default() };
    let tasks = client.list_tasks(asked).await.map_err(|error| error.to_string())?.tasks;
    let is_whole = |task: &&Task| task.state() == TaskState::Succeeded && task.attempts.len() == 1;
    let whole = tasks.iter().filter(is_whole).count();
    for task in tasks.iter().filter(|task| !is_whole(task)) {
        println!("    job {job} task {}: {}", task.task, story(task));
    }
    toll.tasks += u64::from(count);
    toll.disturbed += u64::from(count) - whole as u64;
    Ok(())
}

/// How each attempt of a task ended.
fn story(task: &Task) -> String {
    let ended = |attempt: &Attempt| {
        let end = attempt.members.first().and_then(|member| member.end.as_ref());
        let how = end.map(|end| format!("{:?} {:?} {}", end.outcome(), end.reason(), end.message));
        format!("#{} {}", attempt.number, how.unwrap_or_else(|| "has no end".to_owned()))
    };
    task.attempts.iter().map(ended).collect::<Vec<_>>().join("; ")
}

/// The longest beginning that is as it was printed counts; whatever follows is missing.
async fn count_bytes(client: &mut Client, JobId(job): JobId, toll: &mut Toll) -> Result<(), String> {
    let expected = printed();
    for task in 0..PRINTERS {
        let asked = LogsRequest { job, task, stdout: true, ..LogsRequest::default() };
        let mut stream = client.logs(asked).await.map_err(|error| error.to_string())?;
        let mut found = Vec::new();
        while let Some(part) = stream.message().await.map_err(|status| status.to_string())? {
            found.extend_from_slice(&part.bytes);
        }
        let same = expected.bytes().zip(&found).take_while(|(wanted, got)| wanted == *got).count();
        toll.bytes += expected.len() as u64;
        toll.missing += (expected.len() - same) as u64;
    }
    Ok(())
}
