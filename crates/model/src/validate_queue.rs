//! The rules a queue keeps in itself. Checked where one is written and where it enters the coordinator.

use crate::{Column, Contract, GpuClass, Queue, QueueAmounts, Rejection, Thousandths, limits};

/// Something that is wrong with a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFault {
    /// The field, as a queue file spells it: `reserve.gpu.h100`.
    pub field: String,
    /// What is wrong, and what would be accepted.
    pub message: String,
}

/// Everything that is wrong with a queue.
pub fn queue_faults(queue: &Queue) -> Vec<QueueFault> {
    let mut faults = Vec::new();
    let mut fault = |field: String, message: String| faults.push(QueueFault { field, message });
    if !(1..=limits::QUEUE_WEIGHT).contains(&queue.weight) {
        fault("weight".to_owned(), format!("a whole number from 1 to {}", limits::QUEUE_WEIGHT));
    }
    if queue.max_active == Some(0) {
        fault("max_active".to_owned(), "at least 1; to let nothing start, write limit = { cpu = 0 }".to_owned());
    }
    let fields = [
        ("limit", &queue.limit),
        ("reserve", &queue.reserve),
        ("borrow", &queue.borrow),
        ("lend", &queue.lend),
        ("no_preempt", &queue.no_preempt),
    ];
    for (field, amounts) in fields {
        bounds(field, amounts, &mut fault);
    }
    reserve_within_limit(queue, &mut fault);
    lend_within_reserve(queue, &mut fault);
    no_preempt_within_reserve(queue, &mut fault);
    short_contract(queue, &mut fault);
    faults
}

/// Checks every rule that can be seen from the queue alone.
///
/// # Errors
/// [`Rejection::Invalid`] naming the first field that breaks one.
pub fn validate_queue(queue: &Queue) -> Result<(), Rejection> {
    match queue_faults(queue).into_iter().next() {
        None => Ok(()),
        Some(QueueFault { field, message }) => {
            Err(Rejection::Invalid { path: format!("queue.{}.{field}", queue.path), message })
        }
    }
}

/// No amount that a sum of some of them would overflow, and no name that nobody could have.
fn bounds(field: &str, amounts: &QueueAmounts, fault: &mut impl FnMut(String, String)) {
    for (column, number) in amounts.named() {
        let most = match column {
            Column::Cpu => limits::QUEUE_CPU_MILLI,
            Column::Memory | Column::Disk => limits::QUEUE_BYTES,
            Column::Gpu(_) => limits::QUEUE_GPU_MILLI,
            Column::Token(_) => limits::QUEUE_TOKENS,
        };
        if number > most {
            let (number, most) = (column.amount(number), column.amount(most));
            fault(format!("{field}.{}", column.field()), format!("{number} is too much; at most {most}"));
        }
    }
    let names = amounts.gpu_milli.len() + amounts.tokens.len();
    if names > limits::QUEUE_COLUMNS {
        let message = format!("at most {} models and tokens, these are {names}", limits::QUEUE_COLUMNS);
        fault(field.to_owned(), message);
    }
    let models = amounts.gpu_milli.keys().filter_map(|class| match class {
        GpuClass::Any => None,
        GpuClass::Model(model) => Some(model),
    });
    for model in models {
        let fits = (1..=limits::TEXT_BYTES).contains(&model.len()) && !model.chars().any(char::is_control);
        if !fits || model == "any" || GpuClass::model(model) != GpuClass::Model(model.clone()) {
            let message =
                format!("a model has 1 to {} bytes in lower case and no control characters", limits::TEXT_BYTES);
            fault(format!("{field}.gpu"), message);
        }
    }
}

/// A promise that a queue's own limit breaks is none. Devices of a model are devices, too.
fn reserve_within_limit(queue: &Queue, fault: &mut impl FnMut(String, String)) {
    let Queue { limit, reserve, .. } = queue;
    for (column, most) in limit.named() {
        let promised = reserve.promised(column);
        if promised > most {
            let (promised, most) = (column.amount(promised), column.amount(most));
            let message = match reserve.get(column) {
                Some(_) => {
                    format!("the reserve of {promised} is above the limit of {most}: lower it, or raise `limit`")
                }
                None => format!(
                    "the reserves by model, {promised} together, are above the limit of {most} of any model: lower them"
                ),
            };
            let name = if reserve.get(column).is_some() { column.field() } else { "gpu".to_owned() };
            fault(format!("reserve.{name}"), message);
        }
    }
    let of_models = reserve.gpu_milli.iter().filter(|(class, _)| **class != GpuClass::Any).map(|(_, milli)| milli);
    let of_models = of_models.fold(0_u64, |sum, milli| sum.saturating_add(*milli));
    if let Some(all) = reserve.get(Column::GPUS).filter(|all| *all < of_models) {
        let (all, of_models) = (Thousandths(all), Thousandths(of_models));
        let message = format!(
            "the reserves by model, {of_models} together, are above the {all} of any model: they count as both"
        );
        fault("reserve.gpu.any".to_owned(), message);
    }
}

/// Only what is promised can be lent, and borrowed beyond.
fn lend_within_reserve(queue: &Queue, fault: &mut impl FnMut(String, String)) {
    for (column, lent) in queue.lend.named() {
        let promised = queue.reserve.promised(column);
        if lent > promised {
            let (lent, promised) = (column.amount(lent), column.amount(promised));
            let message = format!(
                "only what is reserved is lent, and {lent} is above the reserve of {promised}: lower it, or leave it out"
            );
            fault(format!("lend.{}", column.field()), message);
        }
    }
    let any_is_promised = queue.reserve.get(Column::GPUS).is_some();
    for (column, _) in queue.borrow.named() {
        let of_model = matches!(column, Column::Gpu(GpuClass::Model(_)));
        if of_model && any_is_promised && queue.reserve.get(column).is_none() {
            let message =
                "the reserve is of any model, so what is beyond it is, too: write `any`, or reserve this model";
            fault(format!("borrow.{}", column.field()), message.to_owned());
        }
    }
}

/// What must not be evicted never borrows: it could not be had back.
fn no_preempt_within_reserve(queue: &Queue, fault: &mut impl FnMut(String, String)) {
    for (column, kept) in queue.no_preempt.named() {
        let promised = queue.reserve.promised(column);
        if kept > promised {
            let (kept, promised) = (column.amount(kept), column.amount(promised));
            let message = format!(
                "what cannot be evicted must not borrow, and {kept} is above the reserve of {promised}: lower it, or raise \
                 `reserve`"
            );
            fault(format!("no_preempt.{}", column.field()), message);
        }
    }
}

/// A promise is kept within the times of a contract, so they are bounded.
fn short_contract(queue: &Queue, fault: &mut impl FnMut(String, String)) {
    let long = |contract: &Contract| contract.sum_ms() > limits::CONTRACT_MS;
    if queue.contract.as_ref().is_some_and(long) {
        let message = "`min_run`, `notice` and `kill_within` together are at most an hour: so long may others wait for \
                       what they are promised";
        fault("contract".to_owned(), message.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(milli: u64) -> QueueAmounts {
        QueueAmounts { cpu_milli: Some(milli), ..QueueAmounts::default() }
    }

    fn gpus(of: &[(&str, u64)]) -> QueueAmounts {
        let class = |name: &str| if name == "any" { GpuClass::Any } else { GpuClass::model(name) };
        let gpu_milli = of.iter().map(|(name, milli)| (class(name), *milli)).collect();
        QueueAmounts { gpu_milli, ..QueueAmounts::default() }
    }

    fn faults(change: impl FnOnce(&mut Queue)) -> Vec<String> {
        let mut queue = Queue::new("research/vision".parse().unwrap());
        change(&mut queue);
        queue_faults(&queue).into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
    }

    #[test]
    fn a_promise_stays_within_the_limit_and_a_loan_within_the_promise() {
        assert_eq!(faults(|_| {}), Vec::<String>::new());
        let within = |queue: &mut Queue| {
            (queue.limit, queue.reserve, queue.lend) = (cpus(100_000), cpus(100_000), cpus(100_000));
        };
        assert_eq!(faults(within), Vec::<String>::new());
        let above = faults(|queue| (queue.limit, queue.reserve) = (cpus(100_000), cpus(100_500)));
        assert_eq!(above, ["reserve.cpu: the reserve of 100.5 is above the limit of 100: lower it, or raise `limit`"]);
        let lent = faults(|queue| (queue.reserve, queue.lend) = (cpus(1_000), cpus(1_001)));
        let said =
            "lend.cpu: only what is reserved is lent, and 1.001 is above the reserve of 1: lower it, or leave it out";
        assert_eq!(lent, [said]);
        assert_eq!(faults(|queue| queue.lend = cpus(1)).len(), 1, "nothing is promised");
        assert_eq!(faults(|queue| queue.lend = cpus(0)).len(), 0, "and nothing lent");
        assert_eq!(faults(|queue| (queue.limit, queue.borrow) = (cpus(1), cpus(2))).len(), 0, "the limit holds anyway");
    }

    #[test]
    fn devices_are_compared_model_by_model_and_all_together() {
        let both = |limit: &[(&str, u64)], reserve: &[(&str, u64)]| {
            faults(|queue| (queue.limit, queue.reserve) = (gpus(limit), gpus(reserve)))
        };
        assert_eq!(both(&[("h100", 8_000)], &[("a100", 16_000)]), Vec::<String>::new());
        assert_eq!(both(&[("h100", 8_000)], &[("H100", 8_001)]).len(), 1);
        let together = both(&[("any", 8_000)], &[("a100", 4_000), ("h100", 4_001)]);
        assert!(together[0].starts_with("reserve.gpu: the reserves by model, 8.001 together"), "{together:?}");
        let more = faults(|queue| queue.reserve = gpus(&[("any", 1_000), ("h100", 2_000)]));
        assert!(more[0].starts_with("reserve.gpu.any: the reserves by model, 2 together"), "{more:?}");
        let unclear = faults(|queue| (queue.reserve, queue.borrow) = (gpus(&[("any", 1)]), gpus(&[("h100", 1)])));
        assert!(unclear[0].starts_with("borrow.gpu.h100: the reserve is of any model"), "{unclear:?}");
        assert_eq!(faults(|queue| (queue.reserve, queue.lend) = (gpus(&[("h100", 2)]), gpus(&[("any", 2)]))).len(), 0);
        assert_eq!(faults(|queue| queue.limit = gpus(&[("", 1)])).len(), 1);
        assert_eq!(faults(|queue| queue.limit.gpu_milli = [(GpuClass::Model("any".into()), 1)].into()).len(), 1);
    }

    #[test]
    fn what_cannot_be_evicted_stays_within_the_reserve_and_a_contract_within_an_hour() {
        let kept = |reserve, no_preempt| faults(|queue| (queue.reserve, queue.no_preempt) = (reserve, no_preempt));
        assert_eq!(kept(cpus(2_000), cpus(2_000)), Vec::<String>::new());
        assert_eq!(kept(gpus(&[("h100", 2)]), gpus(&[("any", 2)])), Vec::<String>::new());
        let beyond = kept(cpus(2_000), cpus(2_001));
        assert!(
            beyond[0].starts_with("no_preempt.cpu: what cannot be evicted must not borrow, and 2.001"),
            "{beyond:?}"
        );
        assert_eq!(kept(QueueAmounts::default(), cpus(1)).len(), 1, "nothing is promised");
        let contract = |min_run_ms, notice_ms, kill_within_ms| {
            faults(|queue| queue.contract = Some(Contract { min_run_ms, notice_ms, kill_within_ms }))
        };
        assert_eq!(contract(0, 0, 0), Vec::<String>::new());
        assert_eq!(contract(3_600_000, 0, 0), Vec::<String>::new());
        for (min_run, notice, kill_within) in [(3_600_001, 0, 0), (1_800_000, 1_800_000, 1), (u64::MAX, u64::MAX, 1)] {
            let said = contract(min_run, notice, kill_within);
            assert!(said[0].starts_with("contract: `min_run`, `notice` and `kill_within` together"), "{said:?}");
        }
    }

    #[test]
    fn numbers_that_nobody_can_mean_are_refused_with_the_most_that_is_taken() {
        assert_eq!(faults(|queue| queue.weight = 0).len(), 1);
        assert_eq!(faults(|queue| queue.weight = u32::MAX).len(), 1);
        assert_eq!(faults(|queue| queue.max_active = Some(0)).len(), 1);
        let much = faults(|queue| queue.borrow = cpus(u64::MAX));
        assert_eq!(much, ["borrow.cpu: 18446744073709551.615 is too much; at most 1000000000"]);
        let rejected = validate_queue(&Queue { weight: 0, ..Queue::new("a/b".parse().unwrap()) }).unwrap_err();
        assert!(rejected.to_string().contains("queue.a/b.weight"), "{rejected}");
    }
}
