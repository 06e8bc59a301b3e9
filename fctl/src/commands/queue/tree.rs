//! `fctl queue tree`: the queues below each other, also where what is between them is no queue itself.

use std::process::ExitCode;

use flowyard_model::Column;
use serde_json::{Value, json};

use super::forms::{Line, shown};
use crate::cli::Global;
use crate::commands::Outcome;
use crate::output;
use crate::table::{Table, Tone, cell, toned};

/// A part of the tree.
#[derive(Debug)]
struct Branch {
    path: String,
    /// None where there are only queues below.
    line: Option<Line>,
    below: Vec<Branch>,
}

/// Puts lines that are ordered by path below each other.
fn grown(lines: Vec<Line>) -> Vec<Branch> {
    let mut root = Branch { path: String::new(), line: None, below: Vec::new() };
    for line in lines {
        let path = line.queue.path.to_string();
        let mut branch = &mut root;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let known = branch.below.iter().position(|below| below.path == path[..end]);
            let at = known.unwrap_or_else(|| {
                branch.below.push(Branch { path: path[..end].to_owned(), line: None, below: Vec::new() });
                branch.below.len() - 1
            });
            branch = &mut branch.below[at];
        }
        branch.line = Some(line);
    }
    root.below
}

impl Branch {
    fn rows(&self, depth: usize, table: &mut Table) {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let name = format!("{}{name}", "  ".repeat(depth));
        match &self.line {
            None => table.row([toned(name, Tone::Faint)]),
            Some(line) => {
                let mut first = vec![cell(name), cell(line.queue.weight.to_string()), cell(line.active())];
                first.push(cell(line.jobs.to_string()));
                let amounts = |column: Column<'_>| {
                    let (reserve, limit) = (shown(&line.queue.reserve, column), shown(&line.queue.limit, column));
                    [cell(column.field()), cell(line.held(column)), cell(reserve), cell(limit)]
                };
                let mut resources = line.resources().into_iter();
                first.extend(resources.next().into_iter().flat_map(amounts));
                table.row(first);
                for resource in resources {
                    let blank = std::iter::repeat_with(|| cell("")).take(4);
                    table.row(blank.chain(amounts(resource)));
                }
            }
        }
        self.below.iter().for_each(|below| below.rows(depth + 1, table));
    }

    fn as_json(&self) -> Value {
        let mut shown = match &self.line {
            Some(line) => line.as_json(),
            None => json!({ "queue": self.path }),
        };
        shown["exists"] = self.line.is_some().into();
        shown["queues"] = self.below.iter().map(Self::as_json).collect();
        shown
    }
}

pub(super) async fn run(global: &Global, stale: bool) -> Outcome {
    let tree = grown(super::lines(global, stale).await?);
    if output::is_json() {
        output::json(&json!({ "queues": tree.iter().map(Branch::as_json).collect::<Vec<_>>() }));
        return Ok(ExitCode::SUCCESS);
    }
    if tree.is_empty() {
        output::note("there is no queue that you may look at");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["QUEUE", "WEIGHT", "ACTIVE", "JOBS", "RESOURCE", "HELD", "RESERVE", "LIMIT"]);
    tree.iter().for_each(|branch| branch.rows(0, &mut table));
    table.print();
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use flowyard_model::Queue;
    use flowyard_proto::api::QueueLine;

    use super::*;

    #[test]
    fn queues_hang_below_each_other_also_over_what_is_none() {
        // As the cluster orders them: `a-b` comes between `a` and `a/c`.
        let paths = ["a", "a-b", "a/c", "b/c/d", "b/c/e"];
        let line = |path: &&str| {
            let queue = Some((&Queue::new(path.parse().unwrap())).into());
            Line::read(QueueLine { queue, ..QueueLine::default() }).unwrap()
        };
        let tree = grown(paths.iter().map(line).collect());
        let shape = |branch: &Branch| {
            let below: Vec<&str> = branch.below.iter().map(|below| below.path.as_str()).collect();
            (branch.path.clone(), branch.line.is_some(), below.join(" "))
        };
        let shapes: Vec<_> = tree.iter().map(shape).collect();
        let expected = [("a", true, "a/c"), ("a-b", true, ""), ("b", false, "b/c")];
        assert_eq!(shapes, expected.map(|(path, exists, below)| (path.to_owned(), exists, below.to_owned())));
        assert_eq!(shape(&tree[2].below[0]), ("b/c".to_owned(), false, "b/c/d b/c/e".to_owned()));
    }
}
