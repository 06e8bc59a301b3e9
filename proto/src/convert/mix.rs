//! What the work there is asks for of devices.

use std::sync::Arc;

use flowyard_model as model;
use flowyard_model::{Record, TimeMs};

use crate::decode::{self, Decoded, Problem, Under};
use crate::peer;

pub(super) fn from_mix(mix: &model::Mix) -> peer::Mix {
    let kind = |kind: &model::MixKind| peer::MixKind {
        request: Some((&kind.request).into()),
        average: kind.average,
        told: kind.told,
    };
    peer::Mix { at_ms: mix.at.0, looks: mix.looks, kinds: mix.kinds.iter().map(kind).collect() }
}

pub(super) fn to_mix(mix: peer::Mix) -> Decoded<Record> {
    let kind = |kind: peer::MixKind| {
        let request = decode::required("request", kind.request)?;
        Decoded::Ok(model::MixKind { request, average: kind.average, told: kind.told })
    };
    let kinds = mix.kinds.into_iter().map(kind).collect::<Decoded<Vec<_>>>().under("kinds")?;
    let mix = model::Mix { at: TimeMs(mix.at_ms), looks: mix.looks, kinds };
    if !mix.is_sound() {
        return Err(Problem::Contradiction("kinds of work with devices ascend, and there are few")).under("kinds");
    }
    Ok(Record::Mix(Arc::new(mix)))
}
