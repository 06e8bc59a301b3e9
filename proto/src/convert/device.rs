//! Devices that are not well, or were taken out of use.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model as model;
use flowyard_model::{Incarnation, NodeId, TimeMs, limits};

use super::{closed, number};
use crate::decode::{self, DecodeError, Decoded, Problem, Under};
use crate::{api as wire, peer};

closed! {
    DeviceState in wire { Healthy, Degraded, Faulty }
}

impl From<&model::DeviceReport> for wire::DeviceReport {
    fn from(report: &model::DeviceReport) -> Self {
        let model::DeviceReport { device, state, reason } = report;
        Self { device: device.clone(), state: number::<_, wire::DeviceState>(*state), reason: reason.clone() }
    }
}

impl TryFrom<wire::DeviceReport> for model::DeviceReport {
    type Error = DecodeError;

    fn try_from(wire: wire::DeviceReport) -> Decoded<Self> {
        let state = decode::closed("state", wire.state)?;
        Ok(Self { device: wire.device, state, reason: wire.reason })
    }
}

impl From<&model::SetDevices> for peer::SetDevices {
    fn from(set: &model::SetDevices) -> Self {
        let devices = set.devices.iter().map(Into::into).collect();
        Self { node: set.node.0, incarnation: set.incarnation.0, devices }
    }
}

impl TryFrom<peer::SetDevices> for model::SetDevices {
    type Error = DecodeError;

    fn try_from(wire: peer::SetDevices) -> Decoded<Self> {
        let devices = decode::list("devices", wire.devices)?;
        Ok(Self { node: NodeId(wire.node), incarnation: Incarnation(wire.incarnation), devices })
    }
}

impl From<&model::ChangeDevice> for peer::ChangeDevice {
    fn from(change: &model::ChangeDevice) -> Self {
        let model::ChangeDevice { node, device, out, by, reason } = change.clone();
        Self { node: node.0, device, out, by, reason }
    }
}

impl From<peer::ChangeDevice> for model::ChangeDevice {
    fn from(wire: peer::ChangeDevice) -> Self {
        let peer::ChangeDevice { node, device, out, by, reason } = wire;
        Self { node: NodeId(node), device, out, by, reason }
    }
}

/// What is known of devices, in the order of their ids.
pub(crate) fn from_conditions(devices: &BTreeMap<String, model::Condition>) -> Vec<wire::Condition> {
    let condition = |(device, known): (&String, &model::Condition)| wire::Condition {
        device: device.clone(),
        state: number::<_, wire::DeviceState>(known.state),
        reason: known.reason.clone(),
        since_ms: known.since.0,
        out: known.out.as_deref().map(|out| wire::TakenOut {
            by: out.by.clone(),
            reason: out.reason.clone(),
            at_ms: out.at.0,
        }),
    };
    devices.iter().map(condition).collect()
}

pub(super) fn to_conditions(wire: Vec<wire::Condition>) -> Decoded<BTreeMap<String, model::Condition>> {
    decode::at_most("devices", 2 * limits::NODE_GPUS, wire.len())?;
    let mut devices = BTreeMap::new();
    for (at, condition) in wire.into_iter().enumerate() {
        let state = decode::closed("state", condition.state).under_index("devices", at)?;
        let out = condition.out.map(|out| model::TakenOut { by: out.by, reason: out.reason, at: TimeMs(out.at_ms) });
        let (reason, since, out) = (condition.reason, TimeMs(condition.since_ms), out.map(Arc::new));
        let known = model::Condition { state, reason, since, out };
        if devices.insert(condition.device, known).is_some() {
            return Err(Problem::Duplicate).under_index("devices", at);
        }
    }
    Ok(devices)
}
