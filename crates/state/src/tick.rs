//! What falls due by itself.

use flowyard_model::{Changed, Reply, TaskState, limits};

use crate::accept::give_up;
use crate::access::forget_lapsed;
use crate::claims;
use crate::closing::stop_drained;
use crate::discredit;
use crate::forget::{forget, forgets_by_itself};
use crate::ledger;
use crate::overdue::stop_overdue;
use crate::state::State;
use crate::surgery;
use crate::task::move_task;

/// Applies `Tick`: does what is due at state time, up to [`limits::WORK_PER_TICK`]. What is left stays due.
pub(crate) fn tick(state: &mut State, changed: &mut Changed) -> Reply {
    let now = state.meta.time;
    for _ in 0..limits::WORK_PER_TICK {
        if let Some((_, key)) = state.indexes.waiting.get_min().filter(|(until, _)| *until <= now).copied() {
            move_task(state, key, TaskState::Ready, |_| {});
            changed.jobs.insert(key.job);
            changed.placement = true;
        } else if !(stop_drained(state, changed)
            || stop_overdue(state, changed)
            || give_up(state, changed)
            || surgery::give_up(state, changed)
            || claims::fall_due(state, changed)
            || discredit::settle_due(state, changed)
            || forget_expired(state, changed)
            || forget_lapsed(state, changed)
            || ledger::forget_lapsed(state))
        {
            break;
        }
    }
    Reply::Done
}

/// Forgets the job whose time was up first. One whose end others must still learn holds up those behind it until the next
/// entry, which passes the end on.
fn forget_expired(state: &mut State, changed: &mut Changed) -> bool {
    if !forgets_by_itself(state) {
        return false;
    }
    let now = state.meta.time;
    let due = state.indexes.expiry.get_min().filter(|(until, _)| *until <= now).copied();
    due.is_some_and(|(_, job)| forget(state, changed, job))
}
