//! All conversion between model and wire, a file per kind of thing.
//!
//! Model to wire is `From`: of values where the model type is `Copy`, of references elsewhere; it cannot fail. Wire to model is
//! `TryFrom` with [`crate::DecodeError`], and strict: what must be given is given, every enum is known, names are names, sets have
//! no duplicates. Rules between the fields of a spec are not here but in `flowyard_model::validate`.

mod access;
mod account;
mod closing;
mod command;
mod desired;
mod device;
mod discredit;
mod duration;
mod mix;
mod outcome;
mod past;
mod placing;
mod preempt;
mod queue;
mod record;
mod records;
mod resources;
mod retry;
mod secret;
mod spec;
mod surgery;

use std::collections::BTreeMap;

use flowyard_model::Name;

pub(crate) use closing::{only_of_a_drain, shown_closure};
pub(crate) use command::{check_reports, previous};
pub(crate) use device::from_conditions;
pub(crate) use discredit::shown_discredit;
pub(crate) use outcome::stuck_number;
pub(crate) use records::{task_state, waiting_until_ms};

/// Closed enums whose variants have the same names on both sides.
macro_rules! closed {
    ($($name:ident in $wire:ident { $($variant:ident),+ $(,)? })+) => { $(
        impl From<flowyard_model::$name> for $wire::$name {
            fn from(value: flowyard_model::$name) -> Self {
                match value { $(flowyard_model::$name::$variant => Self::$variant,)+ }
            }
        }

        impl $crate::decode::Closed for flowyard_model::$name {
            fn from_number(number: i32) -> Option<Self> {
                match $wire::$name::try_from(number).ok()? {
                    $wire::$name::Unspecified => None,
                    $($wire::$name::$variant => Some(Self::$variant),)+
                }
            }
        }
    )+ };
}
use closed;

/// The number of a closed enum.
fn number<M, W: From<M> + Into<i32>>(value: M) -> i32 {
    W::from(value).into()
}

/// A map by names with its values converted.
fn by_text<V, W>(map: &BTreeMap<Name, V>, value: impl Fn(&V) -> W) -> BTreeMap<String, W> {
    map.iter().map(|(key, it)| (key.as_str().to_owned(), value(it))).collect()
}
