//! `fctl queue`: the queues of the tenant tree, what they are promised, allowed and holding.

mod forms;
mod put;
mod tree;

use std::process::ExitCode;

use flowyard_model::{Column, QueuePath};
use flowyard_proto::api::{DropQueueRequest, GetQueueRequest, GetQueueResponse, ListQueuesRequest};
use serde_json::json;

use self::forms::Line;
use super::Outcome;
use crate::asking::{asking, asking_anybody};
use crate::cli::Global;
use crate::cli::queue::{Queue, ShowQueue};
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::{output, text};

/// Resources that have a column of their own in a list: all of them are in `fctl queue show`.
const COLUMNS: [Column<'_>; 3] = [Column::Cpu, Column::Memory, Column::GPUS];

pub(super) async fn run(global: &Global, command: Queue) -> Outcome {
    match command {
        Queue::Put(put) => put::run(global, &put.file).await,
        Queue::Ls(read) => list(global, read.stale).await,
        Queue::Tree(read) => tree::run(global, read.stale).await,
        Queue::Show(show) => self::show(global, &show).await,
        Queue::Drop(queue) => forget(global, &queue.path).await,
    }
}

/// The queues that the caller may look at, by path.
async fn lines(global: &Global, stale: bool) -> Result<Vec<Line>, Failure> {
    let ask = async |client: &mut flowyard_sdk::client::Client| Ok(client.list_queues(ListQueuesRequest {}).await?);
    let answer = asking_anybody(global, stale, ask).await?;
    answer.queues.into_iter().map(Line::read).collect()
}

async fn list(global: &Global, stale: bool) -> Outcome {
    let lines = lines(global, stale).await?;
    if output::is_json() {
        let queues: Vec<_> = lines.iter().map(Line::as_json).collect();
        output::json(&json!({ "queues": queues }));
        return Ok(ExitCode::SUCCESS);
    }
    if lines.is_empty() {
        output::note("there is no queue that you may look at");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["QUEUE", "WEIGHT", "ACTIVE", "JOBS", "CPU", "MEMORY", "GPU"]);
    for line in &lines {
        let first = [
            cell(line.queue.path.as_str()),
            cell(line.queue.weight.to_string()),
            cell(line.active()),
            cell(line.jobs.to_string()),
        ];
        table.row(first.into_iter().chain(COLUMNS.map(|column| cell(line.of_limit(column)))));
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

async fn show(global: &Global, show: &ShowQueue) -> Outcome {
    let request = GetQueueRequest { path: show.queue.path.to_string() };
    let ask = async |client: &mut flowyard_sdk::client::Client| Ok(client.get_queue(request).await?);
    let answer = asking_anybody(global, show.read.stale, ask).await?;
    let GetQueueResponse { line, above, below, borrowed, returns_from_ms } = answer;
    let line = Line::read(line.unwrap_or_default())?;
    let above = above.into_iter().map(Line::read).collect::<Result<Vec<_>, _>>()?;
    if output::is_json() {
        let mut shown = line.as_json();
        shown["above"] = above.iter().map(Line::as_json).collect();
        shown["below"] = below.into();
        shown["borrowed"] = borrowed.iter().map(forms::borrowed_as_json).collect();
        shown["returns_from_ms"] = returns_from_ms.into();
        output::json(&shown);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::bare();
    table.row([cell("queue"), cell(line.queue.path.as_str())]);
    table.row([cell("weight"), cell(line.queue.weight.to_string())]);
    table.row([cell("active"), cell(active(&line))]);
    table.row([cell("jobs"), cell(format!("{}{}", line.jobs, here(line.own_jobs, line.jobs)))]);
    table.row([cell("contract"), cell(forms::in_words(&line.contract))]);
    if !below.is_empty() {
        table.row([cell("below"), cell(below.join(", "))]);
    }
    table.print();
    line.print_amounts();
    forms::print_borrowed(&borrowed, returns_from_ms, &line.contract);
    for bounding in above.iter().filter(|line| line.is_bounding()) {
        output::line("");
        output::line(format!("also bounded by {}: {}", bounding.queue.path, active(bounding)));
        bounding.print_amounts();
    }
    Ok(ExitCode::SUCCESS)
}

/// How many tasks are active, and may be.
fn active(line: &Line) -> String {
    let most = line.queue.max_active.map_or_else(String::new, |most| format!(" of at most {most}"));
    let (all, own) = (u64::from(line.active), u64::from(line.own_active));
    format!("{}{most}{}", text::count(all, "task"), here(own, all))
}

/// How many of them are of the queue itself, where others are of queues below it.
fn here(own: u64, all: u64) -> String {
    if own == all { String::new() } else { format!(", {own} of the queue itself") }
}

async fn forget(global: &Global, path: &QueuePath) -> Outcome {
    let queue = path.to_string();
    let request = DropQueueRequest { path: queue.clone() };
    asking(global, async |client| Ok(client.drop_queue(request).await?)).await?;
    match output::is_json() {
        true => output::json(&json!({ "queue": queue, "dropped": true })),
        false => output::line(format!("queue {queue} is forgotten")),
    }
    Ok(ExitCode::SUCCESS)
}
