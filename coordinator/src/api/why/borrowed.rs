//! What a running task is told that holds what others are promised: who lent it, and when it may have to go at the earliest.

use flowyard_model::{Held, Job, TaskKey};
use flowyard_scheduling::borrowed;

use super::Scene;
use super::words::duration;

/// Lenders that are named of one resource.
const NAMED: usize = 3;

/// What its queue has borrowed of what it holds, and its contract; nothing if that is nothing, or it may not be evicted.
pub(super) fn of(scene: Scene<'_>, job: &Job, key: TaskKey) -> Vec<String> {
    let Some(from) = scene.view.evictable_at(key) else { return Vec::new() };
    let (queue, spec) = (&job.spec.queue, &job.spec.steps[key.step.0 as usize]);
    let alternative =
        scene.view.task(key).and_then(|task| Some(task.attempts.last()?.members.first()?.gpu_alternative));
    let own = Held::by_request(&spec.resources, alternative.unwrap_or(0));
    let lent = borrowed(scene.view, queue);
    let lent: Vec<_> = lent.iter().filter(|it| own.get(it.resource.column()) > 0).collect();
    if lent.is_empty() {
        return Vec::new();
    }
    let said = lent.iter().map(|it| {
        let column = it.resource.column();
        let seen = it.lenders.iter().filter(|(lender, _)| (scene.looks)(lender)).take(NAMED);
        let mut whose: Vec<_> =
            seen.clone().map(|(lender, unused)| format!("{lender} ({} unused)", column.amount(*unused))).collect();
        whose.extend((seen.count() < it.lenders.len()).then(|| "others".to_owned()));
        format!(
            "its queue holds {} {} beyond what it is promised, of which {} may be wanted back by {}",
            column.amount(it.beyond),
            column.field(),
            column.amount(it.wanted),
            whose.join(", ")
        )
    });
    let contract = scene.view.contract(queue);
    let when = match from.0.saturating_sub(scene.now_ms) {
        0 => "from now on".to_owned(),
        left => format!("in {} at the earliest", duration(left)),
    };
    let terms = format!(
        "if that is wanted back it may be asked to leave {when}; it has {} of notice then and is killed {} after that, and is placed \
         again when there is room",
        duration(contract.notice_ms),
        duration(contract.kill_within_ms)
    );
    said.chain([terms]).collect()
}
