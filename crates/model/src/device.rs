//! What becomes of devices: what agents see of their health, and whom operators take out of use.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Incarnation, NodeId, Rejection, TimeMs, limits};

/// How well a device is, as its agent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It may be given out.
    Healthy,
    /// It is given to nobody new; what holds it goes on.
    Degraded,
    /// It is given to nobody, and what holds it has lost it.
    Faulty,
}

impl DeviceState {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Faulty => "faulty",
        }
    }
}

/// What an agent says of one of its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceReport {
    /// Which: its id in the inventory.
    pub device: String,
    /// How well it is.
    pub state: DeviceState,
    /// Why it is not well, or what is to be known of it; may be empty where it is healthy.
    pub reason: String,
}

/// What an agent observed of its devices, for the registration it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDevices {
    /// The agent's node.
    pub node: NodeId,
    /// Its registration.
    pub incarnation: Incarnation,
    /// Only what changed.
    pub devices: Vec<DeviceReport>,
}

/// What an operator wants of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeDevice {
    /// Its node.
    pub node: NodeId,
    /// Its id in the inventory.
    pub device: String,
    /// Whether it is taken out of use, or put back.
    pub out: bool,
    /// Who asks.
    pub by: String,
    /// Why, in their words; may be empty.
    pub reason: String,
}

/// What is known of a device beside what its node offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// How well it is: observed.
    pub state: DeviceState,
    /// Why, in the agent's words.
    pub reason: String,
    /// Since when.
    pub since: TimeMs,
    /// Who took it out of use, if somebody did: desired.
    pub out: Option<Arc<TakenOut>>,
}

impl Condition {
    /// Nothing is to be said of it.
    pub fn is_plain(&self) -> bool {
        self.state == DeviceState::Healthy && self.reason.is_empty() && self.out.is_none()
    }

    /// Whether it may be given out.
    pub fn is_usable(&self) -> bool {
        self.state == DeviceState::Healthy && self.out.is_none()
    }
}

/// That an operator took a device out of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOut {
    /// Who.
    pub by: String,
    /// Why, in their words; may be empty.
    pub reason: String,
    /// When.
    pub at: TimeMs,
}

/// Checks what an agent says of its devices.
///
/// # Errors
/// [`Rejection::Invalid`] naming the field, and what would be accepted.
pub fn plausible_devices(devices: &[DeviceReport]) -> Result<(), Rejection> {
    let fault = |path: &str, message: String| Err(Rejection::Invalid { path: path.to_owned(), message });
    if devices.len() > limits::NODE_GPUS {
        return fault("devices", format!("at most {}, these are {}", limits::NODE_GPUS, devices.len()));
    }
    for device in devices {
        for (path, text) in [("devices.device", &device.device), ("devices.reason", &device.reason)] {
            if text.len() > limits::TEXT_BYTES || text.chars().any(char::is_control) {
                return fault(path, format!("at most {} bytes, and no control characters", limits::TEXT_BYTES));
            }
        }
    }
    Ok(())
}
