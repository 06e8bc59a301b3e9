//! `fctl queue put`: a file of queues, checked as a whole before anything is asked of the cluster.

use std::path::Path;
use std::process::ExitCode;

use flowyard_model::Queue;
use flowyard_proto::api::QueueChange;
use flowyard_sdk::client::{ClientError, Put};
use flowyard_sdk::queue_file;
use serde_json::{Value, json};

use super::forms::{as_json, fields, read};
use crate::asking::asking;
use crate::cli::Global;
use crate::commands::Outcome;
use crate::failure::Failure;
use crate::home::Home;
use crate::output;

/// A queue before and after.
struct Change {
    before: Option<Queue>,
    after: Queue,
}

impl Change {
    fn read(change: QueueChange) -> Result<Self, Failure> {
        Ok(Self { before: change.before.map(read).transpose()?, after: read(change.after.unwrap_or_default())? })
    }

    fn word(&self) -> &'static str {
        match &self.before {
            None => "created",
            Some(before) if *before == self.after => "unchanged",
            Some(_) => "changed",
        }
    }

    /// Every field that is not as it was.
    fn differences(&self) -> String {
        let Some(before) = &self.before else {
            return fields(&self.after).iter().map(stated).collect::<Vec<_>>().join(", ");
        };
        let (before, after) = (fields(before), fields(&self.after));
        let value = |fields: &[(String, String)], name: &str| {
            fields.iter().find(|(known, _)| known == name).map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
        };
        let gone = before.iter().filter(|(name, _)| !after.iter().any(|(known, _)| known == name));
        let names = after.iter().chain(gone).map(|(name, _)| name);
        let changed = names.map(|name| (name, value(&before, name), value(&after, name)));
        let changed = changed.filter(|(_, was, is)| was != is);
        changed.map(|(name, was, is)| format!("{name} {was} -> {is}")).collect::<Vec<_>>().join(", ")
    }

    fn as_json(&self) -> Value {
        json!({
            "queue": self.after.path.as_str(),
            "change": self.word(),
            "before": self.before.as_ref().map(as_json),
            "after": as_json(&self.after),
        })
    }
}

fn stated((name, value): &(String, String)) -> String {
    format!("{name} {value}")
}

pub(super) async fn run(global: &Global, file: &Path) -> Outcome {
    let queues = queue_file::load(file)?;
    if global.local {
        // Queues may be the first thing that a home keeps.
        Home::find()?.prepare()?;
    }
    let Put { changes, refused } = asking(global, async |client| Ok(client.put_queues(&queues).await?)).await?;
    let mut changes = changes.into_iter().map(Change::read).collect::<Result<Vec<_>, _>>()?;
    // They may have been put in another order than they are written in.
    changes.sort_by_key(|change| queues.iter().position(|queue| queue.path == change.after.path));
    if output::is_json() {
        let refused = refused.as_ref().map(|(path, error)| json!({ "queue": path, "message": error.to_string() }));
        output::json(&json!({ "queues": changes.iter().map(Change::as_json).collect::<Vec<_>>(), "refused": refused }));
    } else {
        print(&changes);
    }
    match refused {
        None => Ok(ExitCode::SUCCESS),
        Some((path, error)) => Err(part_way(&queues, &changes, &path, error)),
    }
}

fn print(changes: &[Change]) {
    let width = changes.iter().map(|change| change.after.path.as_str().len()).max().unwrap_or(0);
    for change in changes {
        // What changed may be long, and a cell would cut it.
        let line = format!("{:width$}  {:<9}  {}", change.after.path, change.word(), change.differences());
        output::line(line.trim_end());
    }
}

/// What was done, what was refused, and what was not tried.
fn part_way(queues: &[Queue], changes: &[Change], path: &str, error: ClientError) -> Failure {
    let done = |queue: &Queue| changes.iter().any(|change| change.after.path == queue.path);
    let names = |those: &dyn Fn(&Queue) -> bool| {
        let named = queues.iter().filter(|queue| those(queue)).map(|queue| queue.path.to_string());
        named.collect::<Vec<_>>().join(", ")
    };
    let put = names(&done);
    let rest = names(&|queue| !done(queue) && queue.path.as_str() != path);
    let rest = if rest.is_empty() { String::new() } else { format!("; not tried: {rest}") };
    let also = format!("queue {path} was not put, after these were: {put}{rest}; put the file again once it can be");
    match error {
        ClientError::Refused(why) => ClientError::Refused(format!("{why}; {also}")),
        ClientError::NotFound(why) => ClientError::NotFound(format!("{why}; {also}")),
        ClientError::Unavailable(why) => ClientError::Unavailable(format!("{why}; {also}")),
        ClientError::Busy { message, wait } => ClientError::Busy { message: format!("{message}; {also}"), wait },
        ClientError::Unreachable { endpoint, reason } => {
            ClientError::Unreachable { endpoint, reason: format!("{reason}; {also}") }
        }
        other => other,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(text: &str) -> Vec<Queue> {
        queue_file::parse("queues.toml", text.as_bytes()).unwrap()
    }

    #[test]
    fn a_change_names_every_field_that_is_not_as_it_was() {
        let before = queues("[queue.a]\nweight = 2\nlimit = { cpu = 100, memory = \"1TiB\" }").remove(0);
        let after = queues("[queue.a]\nmax_active = 5\nlimit = { cpu = 0.5, gpu = { H100 = 8 } }").remove(0);
        let change = Change { before: Some(before.clone()), after: after.clone() };
        let said = "weight 2 -> 1, max_active none -> 5, limit.cpu 100 -> 0.5, limit.gpu.h100 none -> 8, \
                    limit.memory 1TiB -> none";
        assert_eq!((change.word(), change.differences().as_str()), ("changed", said));
        let same = Change { before: Some(before.clone()), after: before.clone() };
        assert_eq!((same.word(), same.differences().as_str()), ("unchanged", ""));
        let new = Change { before: None, after: before };
        assert_eq!((new.word(), new.differences().as_str()), ("created", "weight 2, limit.cpu 100, limit.memory 1TiB"));
    }

    #[test]
    fn who_is_stopped_part_way_reads_what_was_done_and_what_was_not() {
        let queues = queues("[queue.a]\n[queue.b]\n[queue.c]\n");
        let put = [Change { before: None, after: queues[0].clone() }];
        let failure = part_way(&queues, &put, "b", ClientError::Refused("it is full".to_owned()));
        let said =
            "it is full; queue b was not put, after these were: a; not tried: c; put the file again once it can be";
        assert_eq!((failure.to_string().as_str(), failure.code()), (said, crate::failure::codes::REFUSED));
    }
}
