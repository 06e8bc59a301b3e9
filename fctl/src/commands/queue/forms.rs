//! A queue as people and as programs read it.

use std::collections::BTreeSet;

use flowyard_model::{Column, Contract, GpuClass, Queue, QueueAmounts};
use flowyard_proto::{DecodeError, api};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::output;
use crate::table::{Table, cell};
use crate::text::duration;

/// A queue with what it carries, itself and all below it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) queue: Queue,
    pub(super) jobs: u64,
    pub(super) own_jobs: u64,
    pub(super) active: u32,
    pub(super) own_active: u32,
    pub(super) held: QueueAmounts,
    /// Of this, what must not be evicted.
    pub(super) for_good: QueueAmounts,
    /// The contract that holds in it.
    pub(super) contract: Contract,
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
        let api::QueueLine { queue, jobs, active, held, own_jobs, own_active, contract, held_for_good } = line;
        let held = told("what a queue holds", held.unwrap_or_default().try_into())?;
        let for_good = told("what a queue holds for good", held_for_good.unwrap_or_default().try_into())?;
        let contract = contract.map_or(Contract::DEFAULT, Into::into);
        let queue = read(queue.unwrap_or_default())?;
        Ok(Self { queue, jobs, own_jobs, active, own_active, held, for_good, contract })
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
        let Queue { max_active, limit, borrow, no_preempt, .. } = &self.queue;
        max_active.is_some() || ![limit, borrow, no_preempt].into_iter().all(QueueAmounts::is_empty)
    }

    /// The resources that anything is said of, or held, in the order of a queue file.
    pub(super) fn resources(&self) -> BTreeSet<Column<'_>> {
        let Queue { limit, reserve, borrow, lend, no_preempt, .. } = &self.queue;
        let named = [limit, reserve, borrow, lend, no_preempt].into_iter().flat_map(QueueAmounts::named);
        let held = self.held.named().filter(|(_, amount)| *amount > 0);
        named.chain(held).map(|(column, _)| column).collect()
    }

    /// Every amount, a line for each resource.
    pub(super) fn print_amounts(&self) {
        let resources = self.resources();
        if resources.is_empty() {
            return;
        }
        let heading = ["RESOURCE", "HELD", "RESERVE", "LIMIT", "BORROW", "LEND", "NO_PREEMPT"];
        let mut table = Table::new(heading);
        let Queue { limit, reserve, borrow, lend, no_preempt, .. } = &self.queue;
        for column in resources {
            let amounts = [reserve, limit, borrow, lend].map(|amounts| cell(shown(amounts, column)));
            let most = no_preempt.get(column).map(|most| column.amount(most));
            let for_good = most.map(|most| of(column.amount(self.for_good.get(column).unwrap_or(0)), Some(most)));
            let for_good = cell(for_good.unwrap_or_else(|| "-".to_owned()));
            table.row([cell(column.field()), cell(self.held(column))].into_iter().chain(amounts).chain([for_good]));
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
            ("held_for_good", amounts_as_json(&self.for_good)),
            ("contract_here", contract_as_json(&self.contract)),
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

/// What work of a queue is promised that may be evicted, and how long others wait for it at most.
pub(super) fn in_words(contract: &Contract) -> String {
    let Contract { min_run_ms, notice_ms, kill_within_ms } = contract;
    let [min_run, notice, kill] = [min_run_ms, notice_ms, kill_within_ms].map(|ms| duration(*ms));
    let all = duration(contract.bound_ms());
    format!(
        "evicted after a run of {min_run}, {notice} of notice, killed within {kill}: gone within {all} and some seconds, with what is \
         fetched before"
    )
}

/// What a queue holds that others are promised, who they are, and when its work may have to go at the earliest.
pub(super) fn print_borrowed(borrowed: &[api::Borrowed], returns_from_ms: Option<u64>, contract: &Contract) {
    for it in borrowed {
        let amount = |amount: u64| shown_as(&it.resource, amount);
        let named = it.lenders.iter().map(|lender| format!("{} {}", lender.queue, amount(lender.held)));
        let others = (it.lent_by_others > 0).then(|| format!("others {}", amount(it.lent_by_others)));
        let lenders: Vec<_> = named.chain(others).collect();
        let (beyond, wanted) = (amount(it.beyond), amount(it.wanted));
        output::line(format!(
            "borrowed {}: {beyond} held beyond what is promised, of which {wanted} may be wanted back; unused: {}",
            it.resource,
            lenders.join(", ")
        ));
    }
    let now = flowyard_clock::wall_ms();
    let from = returns_from_ms.map(|from| match from.saturating_sub(now) {
        0 => "from now on".to_owned(),
        left => format!("in {} at the earliest", duration(left)),
    });
    if let Some(from) = from.filter(|_| !borrowed.is_empty()) {
        let (notice, kill) = (duration(contract.notice_ms), duration(contract.kill_within_ms));
        output::line(format!(
            "the first attempt may be asked to leave for them {from}, with {notice} of notice, killed within {kill}"
        ));
    } else if !borrowed.is_empty() {
        output::line("nothing of it may be asked to leave for them: it is not preemptible, or was moved too often");
    }
}

/// An amount of a resource, by its word in a queue file.
fn shown_as(resource: &str, amount: u64) -> String {
    let any = GpuClass::Any;
    match resource {
        "cpu" => Column::Cpu.amount(amount),
        "memory" | "disk" => Column::Memory.amount(amount),
        gpu if gpu.starts_with("gpu") => Column::Gpu(&any).amount(amount),
        _ => amount.to_string(),
    }
}

pub(super) fn borrowed_as_json(borrowed: &api::Borrowed) -> Value {
    let lender = |it: &api::BoundHolder| json!({ "queue": it.queue, "unused": it.held });
    json!({
        "resource": borrowed.resource,
        "beyond": borrowed.beyond,
        "wanted": borrowed.wanted,
        "lenders": borrowed.lenders.iter().map(lender).collect::<Vec<_>>(),
        "unused_of_others": borrowed.lent_by_others,
    })
}

/// Everything that is said of a queue, field by field.
pub(super) fn fields(queue: &Queue) -> Vec<(String, String)> {
    let Queue { path: _, weight, max_active, limit, reserve, borrow, lend, contract, no_preempt } = queue;
    let mut fields = vec![("weight".to_owned(), weight.to_string())];
    fields.extend(max_active.map(|most| ("max_active".to_owned(), most.to_string())));
    let contract = contract.iter().flat_map(|Contract { min_run_ms, notice_ms, kill_within_ms }| {
        [("min_run", min_run_ms), ("notice", notice_ms), ("kill_within", kill_within_ms)]
    });
    fields.extend(contract.map(|(field, ms)| (format!("contract.{field}"), duration(*ms))));
    let amounts =
        [("limit", limit), ("reserve", reserve), ("borrow", borrow), ("lend", lend), ("no_preempt", no_preempt)];
    for (field, amounts) in amounts {
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
        "contract": queue.contract.as_ref().map(contract_as_json),
        "no_preempt": amounts_as_json(&queue.no_preempt),
    })
}

fn contract_as_json(contract: &Contract) -> Value {
    let Contract { min_run_ms, notice_ms, kill_within_ms } = contract;
    json!({ "min_run_ms": min_run_ms, "notice_ms": notice_ms, "kill_within_ms": kill_within_ms })
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
