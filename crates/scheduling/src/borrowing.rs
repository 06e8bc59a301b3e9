//! What a queue holds that others are promised, lend and do not use now, and that is not free elsewhere: its work runs there until
//! those want it back. It is the solver that says so, by the rights by which it would take it.

use std::collections::BTreeSet;

use flowyard_model::{Column, GpuClass, NodeId, QueuePath, TaskKey, TimeMs};
use flowyard_placement::{Account, Held, Lent, Queues};
use flowyard_state::State;

use crate::evictable;
use crate::nodes;
use crate::tree::Tree;
use crate::why::Resource;
use crate::words::Words;

/// What a queue has borrowed of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Borrowed {
    /// Of what.
    pub resource: Resource,
    /// How much it holds beyond what it is promised.
    pub beyond: u64,
    /// How much of that may be wanted back: what its lenders lend and do not hold, but for what is free.
    pub wanted: u64,
    /// Who lends, and how much of it they do not hold. Of queues below each other the uppermost that lends as much.
    pub lenders: Vec<(QueuePath, u64)>,
}

/// What a queue, with all that is below it, has borrowed of others; nothing of resources of which nobody could want anything back, since
/// those who are promised it hold it, or as much is free.
pub fn borrowed(state: &State, queue: &QueuePath) -> Vec<Borrowed> {
    let any = GpuClass::Any;
    let held = state.load(queue).held.clone();
    let gpus = (held.get(Column::GPUS) > 0).then_some(Column::Gpu(&any));
    let columns = held.columns().filter(|(_, held)| *held > 0).map(|(column, _)| column).chain(gpus);
    let mut shares = Shares::of(state);
    columns.filter_map(|column| shares.borrowed(queue, column)).collect()
}

/// From when on the first attempt of a queue and of those below it may be asked to leave that holds anything of what was borrowed; never if
/// `None`.
pub fn first_return(state: &State, queue: &QueuePath, borrowed: &[Borrowed]) -> Option<TimeMs> {
    let live = state.nodes().flat_map(|(id, _)| state.live_members(id).map(|(key, ..)| key.task));
    let tasks: BTreeSet<TaskKey> = live.collect();
    let is_own = |task: &TaskKey| state.outline(task.job).is_some_and(|job| queue.covers(&job.spec.queue));
    let is_borrowed = |task: &TaskKey| {
        let held = evictable::held(state, *task);
        borrowed.iter().any(|it| held.get(it.resource.column()) > 0)
    };
    tasks.into_iter().filter(is_own).filter(is_borrowed).filter_map(|task| state.evictable_at(task)).min()
}

/// The queues with what they hold and what is free, and nothing that waits.
struct Shares {
    tree: Tree,
    words: Words,
    queues: Queues,
}

impl Shares {
    fn of(state: &State) -> Self {
        let (tree, mut words, mut queues) = (Tree::of(state), Words::of(state.policy()), Queues::new(Held::NONE));
        tree.tell(state, &mut words, &mut queues);
        for (id, node) in state.nodes() {
            queues.change_capacity(&Held::NONE, &nodes::capacity(node, &mut words));
            queues.change_free(&Held::NONE, &free(state, (id, node), &mut words));
        }
        let shared = &state.policy().tokens;
        queues.change_capacity(&Held::NONE, &words.tokens(shared.iter().map(|(name, count)| (name, *count))));
        queues.change_free(&Held::NONE, &words.tokens(shared.keys().map(|name| (name, state.shared_free(name)))));
        for (key, account) in state.accounts() {
            let held = words.held(&account.held);
            if let Some(queue) = tree.number(key.queue.as_str()) {
                let account = Account { held, active: account.active, decayed: Held::NONE };
                queues.set_account(queue, words.user(&key.owner), account);
            }
        }
        Self { tree, words, queues }
    }

    fn borrowed(&mut self, queue: &QueuePath, column: Column<'_>) -> Option<Borrowed> {
        let number = self.tree.number(queue.as_str())?;
        let Lent { beyond, wanted, lenders } = self.queues.lent_to(number, self.words.column(column))?;
        let lender = |(queue, lent)| Some((self.tree.path(queue)?, lent));
        let lenders = lenders.into_iter().filter_map(lender).collect();
        Some(Borrowed { resource: Resource::of(column), beyond, wanted, lenders })
    }
}

/// What of a node may be given out.
fn free(state: &State, (id, node): (NodeId, &flowyard_model::Node), words: &mut Words) -> Held {
    if !nodes::is_usable(node) {
        return Held::NONE;
    }
    nodes::free(&nodes::facts_now(state, (id, node), None, 0, words))
}
