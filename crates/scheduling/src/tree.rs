//! The tree of queues as placement is told of it: each path that a queue is at or below gets a number.

use std::collections::BTreeMap;

use flowyard_model::QueuePath;
use flowyard_placement::{QueueFacts, QueueIndex, Queues};
use flowyard_state::State;

use crate::words::Words;

/// Numbers of the queues, in the order of their paths; made anew whenever a queue changes.
#[derive(Debug)]
pub(crate) struct Tree {
    numbers: BTreeMap<String, QueueIndex>,
}

impl Tree {
    pub(crate) fn of(state: &State) -> Self {
        let records = state.queues().flat_map(|queue| queue.path.levels());
        let waiting = state.ready_groups().map(|ready| ready.queue.as_str());
        let holding = state.accounts().flat_map(|(key, _)| key.queue.levels());
        let mut numbers: BTreeMap<String, QueueIndex> =
            records.chain(holding).chain(waiting).map(|path| (path.to_owned(), QueueIndex(0))).collect();
        numbers.values_mut().enumerate().for_each(|(at, number)| *number = QueueIndex(at as u32));
        Self { numbers }
    }

    /// The number of a queue.
    pub(crate) fn number(&self, path: &str) -> Option<QueueIndex> {
        self.numbers.get(path).copied()
    }

    /// The path of a number.
    pub(crate) fn path(&self, number: QueueIndex) -> Option<QueuePath> {
        self.numbers.iter().find(|(_, known)| **known == number)?.0.parse().ok()
    }

    /// Tells what every queue may.
    pub(crate) fn tell(&self, state: &State, words: &mut Words, queues: &mut Queues) {
        self.tell_as(state, words, queues, |facts| facts);
    }

    /// The same with every queue's facts changed like this.
    pub(crate) fn tell_as(
        &self,
        state: &State,
        words: &mut Words,
        queues: &mut Queues,
        change: impl Fn(QueueFacts) -> QueueFacts,
    ) {
        for (path, number) in &self.numbers {
            let parent = path.rsplit_once('/').and_then(|(above, _)| self.number(above));
            let known = path.parse::<QueuePath>().ok();
            let facts = match known.and_then(|path| state.queue(&path).cloned()) {
                None => QueueFacts::below(parent),
                Some(queue) => QueueFacts {
                    parent,
                    weight: queue.weight,
                    most_active: queue.max_active,
                    limit: words
                        .named_for_good(&queue.no_preempt)
                        .into_iter()
                        .fold(words.named(&queue.limit), |limit, (column, most)| limit.with(column, most)),
                    reserve: words.promised(&queue),
                    borrow: words.named(&queue.borrow),
                    lend: words.named(&queue.lend),
                },
            };
            queues.put_queue(*number, change(facts));
        }
    }
}
