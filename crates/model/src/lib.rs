//! The words of Flowyard as plain data.
//!
//! No IO, no async, no wire types, no clock, no randomness. Everything kept in the replicated state, and every command that
//! changes it, is defined here; `proto` alone converts between these types and bytes. Integers carry their unit at the end of
//! their name, there is no float, and every map is ordered.

mod access;
mod account;
mod column;
mod command;
mod desired;
mod device;
mod digest;
mod discredit;
mod duration;
mod effects;
mod held;
mod ids;
pub mod limits;
mod link;
mod matching;
mod mix;
mod name;
mod outcome;
mod past;
mod placing;
mod plausible;
mod policy;
mod preempt;
mod quantity;
mod queue;
mod ranges;
mod record;
mod records;
mod reference;
mod resources;
mod retry;
mod secret;
mod spec;
mod stuck;
mod surgery;
mod validate;
mod validate_queue;

pub use access::*;
pub use account::{Account, AccountKey, Usage, UsageBucket};
pub use command::*;
pub use desired::*;
pub use device::{ChangeDevice, Condition, DeviceReport, DeviceState, SetDevices, TakenOut, plausible_devices};
pub use digest::{Digest, DigestError};
pub use discredit::{Charge, Discredit, Standing};
pub use duration::{DurationKey, Durations};
pub use effects::{Changed, Effects};
pub use held::{Column, Held};
pub use ids::*;
pub use link::GpuLink;
pub use matching::Shape;
pub use mix::{MIX_PERIOD_MS, Mix, MixKind};
pub use name::{Name, NameError, QueuePath, QueuePathError};
pub use outcome::*;
pub use past::*;
pub use placing::{Domain, Near, Placing, Preference, Spread};
pub use plausible::{plausible_blob, plausible_manifest, plausible_registration, plausible_report};
pub use policy::{Policy, Throttle, policy_faults, validate_policy};
pub use preempt::*;
pub use quantity::{ByteCount, Thousandths};
pub use queue::{GpuClass, Queue, QueueAmounts};
pub use ranges::Ranges;
pub use record::{Meta, Record, Submission};
pub use records::*;
pub use reference::{Reference, ReferenceError};
pub use resources::*;
pub use retry::*;
pub use secret::*;
pub use spec::*;
pub use stuck::*;
pub use surgery::{Leaving, Repair, RepairWish, Replace, Replaced, Surgery};
pub use validate::{validate, variable_part};
pub use validate_queue::{QueueFault, queue_faults, validate_queue};
