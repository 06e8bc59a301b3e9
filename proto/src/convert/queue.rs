//! Queues as the API has them.

use flowyard_model as model;

use crate::api as wire;
use crate::decode::{self, DecodeError, Decoded, Problem, Under};

impl From<&model::Queue> for wire::Queue {
    fn from(queue: &model::Queue) -> Self {
        let named = |amounts: &model::QueueAmounts| (!amounts.is_empty()).then(|| amounts.into());
        Self {
            path: queue.path.to_string(),
            weight: queue.weight,
            max_active: queue.max_active,
            limit: named(&queue.limit),
            reserve: named(&queue.reserve),
            borrow: named(&queue.borrow),
            lend: named(&queue.lend),
            contract: queue.contract.map(Into::into),
            no_preempt: named(&queue.no_preempt),
        }
    }
}

/// Every resource is named, those of which nothing is held, too; tokens and models are not.
impl From<&model::Held> for wire::QueueAmounts {
    fn from(held: &model::Held) -> Self {
        let amounts = model::QueueAmounts {
            cpu_milli: Some(held.cpu_milli),
            memory_bytes: Some(held.memory_bytes),
            disk_bytes: Some(held.disk_bytes),
            gpu_milli: held.gpu_milli.clone(),
            tokens: held.tokens.clone(),
        };
        Self { gpu_milli: Some(held.get(model::Column::GPUS)), ..Self::from(&amounts) }
    }
}

impl TryFrom<wire::Queue> for model::Queue {
    type Error = DecodeError;

    fn try_from(queue: wire::Queue) -> Decoded<Self> {
        let amounts = |field, amounts: Option<wire::QueueAmounts>| -> Decoded<model::QueueAmounts> {
            decode::optional(field, amounts).map(Option::unwrap_or_default)
        };
        Ok(Self {
            path: queue.path.parse().map_err(Problem::QueuePath).under("path")?,
            weight: decode::positive("weight", queue.weight)?,
            max_active: queue.max_active,
            limit: amounts("limit", queue.limit)?,
            reserve: amounts("reserve", queue.reserve)?,
            borrow: amounts("borrow", queue.borrow)?,
            lend: amounts("lend", queue.lend)?,
            contract: queue.contract.map(Into::into),
            no_preempt: amounts("no_preempt", queue.no_preempt)?,
        })
    }
}
