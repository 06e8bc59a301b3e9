//! A queue as people and as programs read it.

use std::collections::BTreeSet;

use flowyard_model::{Column, GpuClass, Queue, QueueAmounts};
use flowyard_proto::{DecodeError, api};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::table::{Table, cell};

/// A queue with what it carries, itself and all below it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) queue: Queue,
    pub(super) jobs: u64,
    pub(super) own_jobs: u64,
    pub(super) active: u32,
    pub(super) own_active: u32,
    pub(super) held: QueueAmounts,
}

fn told<T>(what: &str, told: Result<T, DecodeError>) -> Result<T, Failure> {
    told.map_err(|error| Failure::Internal(format!("what the cluster told of {what}: {error}")))
}

/// A queue as the cluster told it.
pub(super) fn read(queue: api::Queue) -> Result<Queue, Failure> {
    told("a queue", queue.try_into())
}

impl Line {
    /// A line as the cluster told it.
    pub(super) fn read(line: api::QueueLine) -> Result<Self, Failure> {
        let api::QueueLine { queue, jobs, active, held, own_jobs, own_active } = line;
        let held = told("what a queue holds", held.unwrap_or_default().try_into())?;
        Ok(Self { queue: read(queue.unwrap_or_default())?, jobs, own_jobs, active, own_active, held })
    }

    /// Tasks, of as many as there may be.
    pub(super) fn active(&self) -> String {
        of(self.active.to_string(), self.queue.max_active.map(|most| most.to_string()))
    }

    /// What is held of a resource, and of how much.
    pub(super) fn of_limit(&self, column: Column<'_>) -> String {
        of(self.held(column), self.queue.limit.get(column).map(|limit| column.amount(limit)))
    }

    /// What is held of a resource.
    pub(super) fn held(&self, column: Column<'_>) -> String {
        column.amount(self.held.get(column).unwrap_or(0))
    }

    /// Whether anything in it bounds the queues below it.
    pub(super) fn is_bounding(&self) -> bool {
        self.queue.max_active.is_some() || !self.queue.limit.is_empty() || !self.queue.borrow.is_empty()
    }

    /// The resources that anything is said of, or held, in the order of a queue file.
    pub(super) fn resources(&self) -> BTreeSet<Column<'_>> {
        let Queue { limit, reserve, borrow, lend, .. } = &self.queue;
        let named = [limit, reserve, borrow, lend].into_iter().flat_map(QueueAmounts::named);
        let held = self.held.named().filter(|(_, amount)| *amount > 0);
        named.chain(held).map(|(column, _)| column).collect()
    }

    /// Every amount, a line for each resource.
    pub(super) fn print_amounts(&self) {
        let resources = self.resources();
        if resources.is_empty() {
            return;
        }
        let mut table = Table::new(["RESOURCE", "HELD", "RESERVE", "LIMIT", "BORROW", "LEND"]);
        let Queue { limit, reserve, borrow, lend, .. } = &self.queue;
        for column in resources {
            let amounts = [reserve, limit, borrow, lend].map(|amounts| cell(shown(amounts, column)));
            table.row([cell(column.field()), cell(self.held(column))].into_iter().chain(amounts));
        }
        table.print();
    }

    pub(super) fn as_json(&self) -> Value {
        let mut shown = as_json(&self.queue);
        for (field, value) in [
            ("jobs", json!(self.jobs)),
            ("own_jobs", json!(self.own_jobs)),
            ("active", json!(self.active)),
            ("own_active", json!(self.own_active)),
            ("held", amounts_as_json(&self.held)),
        ] {
            shown[field] = value;
        }
        shown
    }
}

/// Something of the most there may be.
fn of(there: String, most: Option<String>) -> String {
    most.map_or_else(|| there.clone(), |most| format!("{there}/{most}"))
}

/// The amount of a resource, if it is named.
pub(super) fn shown(amounts: &QueueAmounts, column: Column<'_>) -> String {
    amounts.get(column).map_or_else(|| "-".to_owned(), |amount| column.amount(amount))
}

/// Everything that is said of a queue, field by field.
pub(super) fn fields(queue: &Queue) -> Vec<(String, String)> {
    let Queue { path: _, weight, max_active, limit, reserve, borrow, lend } = queue;
    let mut fields = vec![("weight".to_owned(), weight.to_string())];
    fields.extend(max_active.map(|most| ("max_active".to_owned(), most.to_string())));
    for (field, amounts) in [("limit", limit), ("reserve", reserve), ("borrow", borrow), ("lend", lend)] {
        fields.extend(amounts.named().map(|(column, it)| (format!("{field}.{}", column.field()), column.amount(it))));
    }
    fields
}

/// As it was put.
pub(super) fn as_json(queue: &Queue) -> Value {
    json!({
        "queue": queue.path.as_str(),
        "weight": queue.weight,
        "max_active": queue.max_active,
        "limit": amounts_as_json(&queue.limit),
        "reserve": amounts_as_json(&queue.reserve),
        "borrow": amounts_as_json(&queue.borrow),
        "lend": amounts_as_json(&queue.lend),
    })
}

fn amounts_as_json(amounts: &QueueAmounts) -> Value {
    let by_class = |(class, milli): (&GpuClass, &u64)| (class.to_string(), (*milli).into());
    let by_name = |(name, count): (&flowyard_model::Name, &u64)| (name.to_string(), (*count).into());
    json!({
        "cpu_milli": amounts.cpu_milli,
        "memory_bytes": amounts.memory_bytes,
        "disk_bytes": amounts.disk_bytes,
        "gpu_milli": amounts.gpu_milli.iter().map(by_class).collect::<Map<String, Value>>(),
        "tokens": amounts.tokens.iter().map(by_name).collect::<Map<String, Value>>(),
    })
}
