//! What the NVIDIA driver's numbered errors (XIDs) mean for who uses the device, and for whoever comes next. Pure.
//!
//! After NVIDIA's catalogue (<https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html>), its memory error management for A100 and later
//! (<https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/>) and its health checks (<https://docs.nvidia.com/health-validation/reference/checks/xid.md>).
//! What a program does wrong by itself (13, 31, 43, 45, 69 and the like) says nothing of the device.

use flowyard_model::DeviceState;

/// What follows from an XID, and what it says; `None` if nothing.
pub(crate) fn meaning(xid: u64) -> Option<(DeviceState, &'static str)> {
    use DeviceState::{Degraded, Faulty, Healthy};
    Some(match xid {
        // The device does not work for anybody until it is reset, or its machine starts anew.
        46 => (Faulty, "the GPU stopped processing; reset it"),
        62 => (Faulty, "its internal micro-controller halted; reset it"),
        79 => (Faulty, "it has fallen off the bus; restart the machine"),
        95 => (Faulty, "uncontained memory error; reset it"),
        119 | 120 => (Faulty, "its system processor does not answer, or failed; reset it"),
        140 => (Faulty, "unrecovered memory error; reset it"),
        // Whom it hit is ended by the driver; others may go on, and then it is to be reset.
        48 => (Degraded, "uncorrectable memory error; reset it once it is empty"),
        64 => (Degraded, "a bad row or page of memory could not be put aside; reset it once it is empty"),
        74 => (Degraded, "error of an NVLink; reset it once it is empty, and look at the link"),
        94 => (Degraded, "contained memory error; reset it once it is empty"),
        // New work may be started on it.
        63 => (Healthy, "a bad row or page of memory is put aside at the next reset"),
        92 => (Healthy, "many corrected memory errors"),
        _ => return None,
    })
}

/// What follows from the driver's own word on how a device recovers (`NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`).
pub(crate) fn recovery(action: u64) -> Option<(DeviceState, &'static str)> {
    match action {
        1 => Some((DeviceState::Faulty, "the driver asks for a reset")),
        2 => Some((DeviceState::Faulty, "the driver asks for a restart of the machine")),
        3 => Some((DeviceState::Degraded, "the driver asks to end what uses links to other GPUs")),
        4 => Some((DeviceState::Degraded, "the driver asks for a reset once it is empty")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_does_wrong_says_nothing_of_the_device() {
        for xid in [13, 31, 43, 45, 69] {
            assert_eq!(meaning(xid), None, "{xid}");
        }
        assert_eq!(meaning(79).map(|(state, _)| state), Some(DeviceState::Faulty));
        assert_eq!(meaning(94).map(|(state, _)| state), Some(DeviceState::Degraded));
        assert_eq!(meaning(63).map(|(state, _)| state), Some(DeviceState::Healthy));
        assert_eq!((recovery(0), recovery(4).map(|(state, _)| state)), (None, Some(DeviceState::Degraded)));
    }
}
