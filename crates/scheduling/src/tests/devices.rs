//! Devices that are not well are given to nobody, memory of devices is shared out, and parts of devices go to who asks for them.

use super::discredit::next;
use super::*;

const GIB: u64 = 1 << 30;

fn gpu(id: &str, model: &str, part: bool) -> Gpu {
    Gpu {
        id: id.to_owned(),
        model: model.to_owned(),
        memory_bytes: 16 * GIB,
        numa_node: None,
        link_group: None,
        pcie_group: None,
        healthy: true,
        fake: true,
        part: part.then(|| GpuPart { of: "whole".to_owned(), instance: 1, compute: 0 }),
    }
}

/// A cluster with one node of these devices.
fn with_gpus(gpus: Vec<Gpu>) -> State {
    let mut state = State::new();
    perform(&mut state, Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let inventory = Arc::new(Inventory { gpus, ..inventory(32) });
    let wish = RegisterNode { name: "n".parse().unwrap(), inventory, previous: None };
    perform(&mut state, Command::RegisterNode(wish));
    state
}

fn asking(tasks: u32, request: GpuRequest) -> StepSpec {
    let mut spec = step(tasks);
    spec.resources.gpus = vec![request];
    spec
}

fn one() -> GpuRequest {
    let (model, same_link_group) = (None, false);
    GpuRequest {
        count: 1,
        model,
        min_memory_bytes: 0,
        same_link_group,
        share_milli: 1_000,
        memory_bytes: 0,
        link: None,
    }
}

fn is(state: &mut State, device: &str, health: DeviceState) {
    let (node, incarnation) = (NodeId(1), Incarnation(1));
    let devices = vec![DeviceReport { device: device.to_owned(), state: health, reason: "it is said".to_owned() }];
    perform(state, Command::SetDevices(SetDevices { node, incarnation, devices }));
    check_all(state).unwrap();
}

/// The devices that are held.
fn held(state: &State) -> Vec<u32> {
    let members = state.live_members(NodeId(1));
    let mut held: Vec<u32> = members.flat_map(|(.., member)| member.gpus.iter().map(|gpu| gpu.0)).collect();
    held.sort_unstable();
    held
}

#[test]
fn a_device_that_is_not_well_is_given_to_nobody_until_it_is_well_again() {
    let (mut state, mut scheduler) = (with_gpus(vec![gpu("a", "x", false), gpu("b", "x", false)]), Scheduler::new(0));
    is(&mut state, "a", DeviceState::Degraded);
    submit(&mut state, "default", asking(2, one()));
    assert_eq!(next(&mut scheduler, &mut state), [1]);
    assert_eq!(held(&state), [1]);
    is(&mut state, "a", DeviceState::Faulty);
    assert_eq!(next(&mut scheduler, &mut state), [] as [u64; 0]);
    is(&mut state, "a", DeviceState::Healthy);
    assert_eq!(next(&mut scheduler, &mut state), [1]);
    let change = |out| ChangeDevice {
        node: NodeId(1),
        device: "b".to_owned(),
        out,
        by: "ops".to_owned(),
        reason: String::new(),
    };
    perform(&mut state, Command::ChangeDevice(change(true)));
    assert_eq!(held(&state), [0, 1], "what holds it stays");
}

#[test]
fn memory_of_a_device_is_given_out_once_whatever_is_free_of_it() {
    let (mut state, mut scheduler) = (with_gpus(vec![gpu("a", "x", false)]), Scheduler::new(0));
    let share = |share_milli, gib: u64| GpuRequest { share_milli, memory_bytes: gib * GIB, ..one() };
    submit(&mut state, "default", asking(3, share(100, 6)));
    assert_eq!(next(&mut scheduler, &mut state), [1, 1], "of 16 GiB");
    // A quarter of the device would have a quarter of its memory: 4 GiB are left.
    submit(&mut state, "default", asking(2, share(250, 0)));
    assert_eq!(next(&mut scheduler, &mut state), [1]);
    submit(&mut state, "default", asking(1, share(100, 1)));
    assert_eq!(next(&mut scheduler, &mut state), [] as [u64; 0]);
    check_all(&state).unwrap();
}

#[test]
fn who_asks_for_a_gpu_and_nothing_more_is_given_no_part_of_one() {
    let gpus = vec![gpu("a", "x", false), gpu("b", "x MIG 1g.10gb", true), gpu("c", "x MIG 1g.10gb", true)];
    let (mut state, mut scheduler) = (with_gpus(gpus), Scheduler::new(0));
    submit(&mut state, "default", asking(3, one()));
    assert_eq!(next(&mut scheduler, &mut state), [1]);
    assert_eq!(held(&state), [0]);
    submit(&mut state, "default", asking(1, GpuRequest { model: Some("X mig 1g.10gb".to_owned()), ..one() }));
    submit(&mut state, "default", asking(1, GpuRequest { min_memory_bytes: GIB, ..one() }));
    assert_eq!(next(&mut scheduler, &mut state), [1, 1]);
    assert_eq!(held(&state), [0, 1, 2]);
}
