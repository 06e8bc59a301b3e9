//! How long steps took.

use std::sync::Arc;

use flowyard_model as model;
use flowyard_model::{DurationKey, Record, TimeMs};

use crate::decode::{self, Decoded, Problem, Under};
use crate::peer;

pub(super) fn from_durations(key: &DurationKey, known: &model::Durations) -> peer::Durations {
    peer::Durations {
        owner: key.owner.clone(),
        flow: key.flow.to_string(),
        step: key.step.to_string(),
        counts: known.counts.iter().map(|count| u32::from(*count)).collect(),
        last_at_ms: known.last_at.0,
    }
}

pub(super) fn to_durations(known: peer::Durations) -> Decoded<Record> {
    let (flow, step) = (decode::name("flow", &known.flow)?, decode::name("step", &known.step)?);
    let counts = known.counts.into_iter().map(u16::try_from).collect::<Result<Vec<_>, _>>();
    let counts = counts.map_err(|_| Problem::Contradiction("so many runs are not counted")).under("counts")?;
    let durations = model::Durations { counts, last_at: TimeMs(known.last_at_ms) };
    if !durations.is_sound() {
        return Err(Problem::Contradiction("runs are counted up to the last bucket that has any")).under("counts");
    }
    Ok(Record::Durations(DurationKey { owner: known.owner, flow, step }, Arc::new(durations)))
}
