//! What became of members that gangs lost, and seats for others in their place.

use std::collections::BTreeMap;

use flowyard_model as model;
use flowyard_model::{AttemptNumber, Rank, TimeMs};

use crate::decode::{self, DecodeError, Decoded, Problem, Under};
use crate::peer;

impl From<&model::Surgery> for peer::Surgery {
    fn from(surgery: &model::Surgery) -> Self {
        let open = surgery.repair.iter().flat_map(|repair| &repair.open);
        let replaced = surgery.replaced.iter();
        Self {
            generation: surgery.generation,
            until_ms: surgery.repair.as_ref().map(|repair| repair.until.0),
            open: open.map(|(rank, held)| peer::OpenRank { rank: rank.0, held: Some(held.into()) }).collect(),
            vacant: surgery.vacant.iter().map(|rank| rank.0).collect(),
            replaced: replaced
                .map(|it| peer::Replaced { rank: it.rank.0, member: Some((&it.member).into()) })
                .collect(),
        }
    }
}

impl TryFrom<peer::Surgery> for model::Surgery {
    type Error = DecodeError;

    fn try_from(surgery: peer::Surgery) -> Decoded<Self> {
        let mut open = BTreeMap::new();
        for (at, rank) in surgery.open.into_iter().enumerate() {
            let held = decode::required("held", rank.held).under_index("open", at)?;
            if open.insert(Rank(rank.rank), held).is_some() {
                return Err(Problem::Duplicate).under_index("open", at);
            }
        }
        let repair = match (surgery.until_ms, open.is_empty()) {
            (None, true) => None,
            (Some(until), false) => Some(model::Repair { until: TimeMs(until), open }),
            (None, false) => return Err(Problem::Missing).under("until_ms"),
            (Some(_), true) => return Err(Problem::Missing).under("open"),
        };
        let vacant = surgery.vacant.into_iter().map(Rank).collect();
        Ok(Self {
            generation: surgery.generation,
            repair,
            vacant,
            replaced: decode::list("replaced", surgery.replaced)?,
        })
    }
}

impl TryFrom<peer::Replaced> for model::Replaced {
    type Error = DecodeError;

    fn try_from(replaced: peer::Replaced) -> Decoded<Self> {
        Ok(Self { rank: Rank(replaced.rank), member: decode::required("member", replaced.member)? })
    }
}

impl From<&model::RepairWish> for peer::RepairWish {
    fn from(wish: &model::RepairWish) -> Self {
        let seat = |(rank, seat): &(Rank, model::Seat)| peer::RankSeat { rank: rank.0, seat: Some(seat.into()) };
        Self { task: Some(wish.task.into()), attempt: wish.attempt.0, seats: wish.seats.iter().map(seat).collect() }
    }
}

impl TryFrom<peer::RepairWish> for model::RepairWish {
    type Error = DecodeError;

    fn try_from(wish: peer::RepairWish) -> Decoded<Self> {
        let mut seats = Vec::with_capacity(wish.seats.len());
        for (at, seat) in wish.seats.into_iter().enumerate() {
            seats.push((Rank(seat.rank), decode::required("seat", seat.seat).under_index("seats", at)?));
        }
        let task = wish.task.ok_or(Problem::Missing).under("task")?.into();
        Ok(Self { task, attempt: AttemptNumber(wish.attempt), seats })
    }
}

/// Why a member leaves, as one number; 0 where it stays.
pub(super) fn leaving_number(leaving: Option<model::Leaving>) -> i32 {
    let leaving = match leaving {
        None => peer::Leaving::Unspecified,
        Some(model::Leaving::Drained) => peer::Leaving::Drained,
        Some(model::Leaving::DeviceGone) => peer::Leaving::DeviceGone,
    };
    leaving.into()
}

/// The reverse of [`leaving_number`].
pub(super) fn leaving(number: i32) -> Decoded<Option<model::Leaving>> {
    match peer::Leaving::try_from(number) {
        Ok(peer::Leaving::Unspecified) => Ok(None),
        Ok(peer::Leaving::Drained) => Ok(Some(model::Leaving::Drained)),
        Ok(peer::Leaving::DeviceGone) => Ok(Some(model::Leaving::DeviceGone)),
        Err(_) => Err(Problem::UnknownValue { number }).under("leaving"),
    }
}
