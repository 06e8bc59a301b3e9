//! Which bound of its queue, or of one above it, keeps a task from being placed: a limit, or room that is kept free for others.

use std::collections::BTreeSet;

use flowyard_model::{Column, GpuClass, Health, Held, Node, QueuePath, Resources, Scheduling, StepSpec};
use flowyard_state::{Measure, Reached, State};

/// The bound that keeps one more task of the step out, whichever alternative is taken, in words.
pub(super) fn reached(state: &State, queue: &QueuePath, spec: &StepSpec) -> Option<String> {
    let alternatives = spec.resources.gpus.len().max(1);
    let told: Option<Vec<_>> = (0..alternatives).map(|at| of_alternative(state, queue, spec, at as u32)).collect();
    told?.into_iter().next()
}

/// The same for one alternative. If any model will do, every model there is has to be out of bounds.
fn of_alternative(state: &State, queue: &QueuePath, spec: &StepSpec, alternative: u32) -> Option<String> {
    let of_any = state.bound_reached(queue, &need(spec, &spec.resources, alternative));
    if let Some(reached) = of_any {
        return Some(limit(&reached));
    }
    let request = spec.resources.gpus.get(alternative as usize);
    if let Some(request) = request.filter(|request| request.model.is_none()) {
        let models = state.nodes().flat_map(|(_, node)| &node.inventory.gpus).filter(|gpu| request.accepts(gpu));
        let models: BTreeSet<_> = models.map(|gpu| gpu.model.to_ascii_lowercase()).collect();
        let of_model = |model: &String| {
            let mut wanted = spec.resources.clone();
            wanted.gpus[alternative as usize].model = Some(model.clone());
            state.bound_reached(queue, &need(spec, &wanted, alternative)).map(|reached| limit(&reached))
        };
        let told: Option<Vec<_>> = models.iter().map(of_model).collect();
        if let Some(first) = told.and_then(|told| told.into_iter().next()) {
            return Some(first);
        }
    }
    kept(state, queue, &need(spec, &spec.resources, alternative))
}

/// What a task with all its members would hold.
fn need(spec: &StepSpec, wanted: &Resources, alternative: u32) -> Held {
    let mut need = Held::NONE;
    (0..spec.size).for_each(|_| need.add(&Held::by_request(wanted, alternative)));
    need
}

fn limit(reached: &Reached<'_>) -> String {
    let Reached { queue, measure, held, need, most } = *reached;
    let path = &queue.path;
    match measure {
        Measure::Tasks => format!("queue {path} has as many active tasks as it may: {held} of {most}"),
        Measure::Limit(column) => format!(
            "queue {path} holds {} of its limit of {} {}, and a task needs {}",
            column.amount(held),
            column.amount(most),
            column.field(),
            column.amount(need)
        ),
        Measure::Borrow(column) => format!(
            "queue {path} holds {} {}, a task needs {}, and with what it may borrow beyond its reserve it may hold {}",
            column.amount(held),
            column.field(),
            column.amount(need),
            column.amount(most)
        ),
    }
}

/// Room that queues beside this one, or beside one above it, do not lend.
fn kept(state: &State, queue: &QueuePath, need: &Held) -> Option<String> {
    let keepers: Vec<_> =
        state.queues().filter(|other| !other.lend.is_empty() && is_beside(&other.path, queue)).collect();
    keepers.iter().find_map(|first| {
        first.lend.named().filter(|(column, _)| need.get(*column) > 0).find_map(|(column, _)| {
            let kept = |at: &&flowyard_model::Queue| -> u64 {
                let Some(lent) = at.lend.get(column) else { return 0 };
                let unused = at.reserve.promised(column).saturating_sub(state.load(&at.path).held.get(column));
                unused.saturating_sub(lent)
            };
            let kept = keepers.iter().map(|queue| kept(&&***queue)).fold(0, u64::saturating_add);
            let (free, needed) = (free(state, column), need.get(column));
            let entitled = state.queues().any(|own| {
                own.path.covers(queue)
                    && state.load(&own.path).held.get(column).saturating_add(needed) <= own.reserve.promised(column)
            });
            let is_kept = kept > 0 && !entitled && needed <= free && needed.saturating_add(kept) > free;
            is_kept.then(|| {
                format!(
                    "{} of the {} {} that are free are kept for queues that do not lend them, such as {}, and a task needs {}",
                    column.amount(kept.min(free)),
                    column.amount(free),
                    column.field(),
                    first.path,
                    column.amount(needed)
                )
            })
        })
    })
}

/// Whether a queue is a sibling of another one, or of one above that.
fn is_beside(one: &QueuePath, other: &QueuePath) -> bool {
    let above = one.as_str().rsplit_once('/').map_or("", |(above, _)| above);
    let below = other.as_str() == above || above.is_empty() || other.as_str().starts_with(&format!("{above}/"));
    below && !one.covers(other)
}

/// How much of a resource is free on nodes that take work.
fn free(state: &State, column: Column<'_>) -> u64 {
    let open = |node: &Node| node.health == Health::Up && node.scheduling == Scheduling::Open;
    let of_node = |node: &Node| {
        let (has, used) = (&node.inventory, &node.used);
        match column {
            Column::Cpu => has.cpu_milli.saturating_sub(used.cpu_milli),
            Column::Memory => has.memory_bytes.saturating_sub(used.memory_bytes),
            Column::Disk => has.disk_bytes.saturating_sub(used.disk_bytes),
            Column::Token(name) => {
                let count = |counts: &std::collections::BTreeMap<_, u32>| counts.get(name).copied().unwrap_or(0);
                u64::from(count(&has.tokens).saturating_sub(count(&used.tokens)))
            }
            Column::Gpu(class) => {
                let counts = has.gpus.iter().enumerate().filter(|(_, gpu)| {
                    gpu.healthy && (*class == GpuClass::Any || *class == GpuClass::model(&gpu.model))
                });
                let left = |at: usize| 1_000_u32.saturating_sub(used.gpu_milli.get(at).copied().unwrap_or(0));
                counts.map(|(at, _)| u64::from(left(at))).sum()
            }
        }
    };
    state.nodes().filter(|(_, node)| open(node)).map(|(_, node)| of_node(node)).fold(0, u64::saturating_add)
}
