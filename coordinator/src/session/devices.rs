//! What an agent says of its devices, put into the log where it is news.
//!
//! Invariant: an agent that says much causes one entry in each [`EVERY`] at most: what it said in between is told together.

use std::collections::BTreeMap;
use std::time::Duration;

use flowyard_model::{ClusterVersion, Command, DeviceReport, DeviceState, Incarnation, Node, NodeId, SetDevices};
use flowyard_state::View;
use tokio::sync::watch;
use tonic::Status;

use crate::feed::Feed;
use crate::proposer::Proposer;

/// From one entry to the next.
const EVERY: Duration = Duration::from_secs(1);

/// All that an agent last said of its devices; `None` if it said nothing yet.
pub(super) type Said = watch::Receiver<Option<Vec<DeviceReport>>>;

/// Puts what is news into the log, as long as the session lasts. Returns when that cannot be: the agent begins a new session, and
/// says all again.
pub(super) async fn note(mut said: Said, registered: (NodeId, Incarnation), feed: Feed, proposer: Proposer) -> Status {
    let mut views = feed.views();
    // What is said before all replicas can read it is not lost, but told when they can.
    let ready = views.wait_for(|view| view.version() >= ClusterVersion::ACCESS).await.map(drop);
    while ready.is_ok() && said.changed().await.is_ok() {
        let Some(told) = said.borrow_and_update().clone() else { continue };
        let devices = news(&feed.view(), registered.0, told);
        if devices.is_empty() {
            continue;
        }
        let (node, incarnation) = registered;
        for DeviceReport { device, state, reason } in &devices {
            tracing::warn!(%node, device, state = state.as_str(), reason, "a device is otherwise than before");
        }
        let command = Command::SetDevices(SetDevices { node, incarnation, devices });
        if let Err(error) = proposer.propose(&command).await {
            return Status::unavailable(format!("devices could not be put into the log: {error}"));
        }
        tokio::time::sleep(EVERY).await;
    }
    std::future::pending().await
}

/// What is otherwise than it is known. Those that are not named are well.
fn news(view: &View, id: NodeId, told: Vec<DeviceReport>) -> Vec<DeviceReport> {
    let Some(node) = view.node(id) else { return Vec::new() };
    let mut told: BTreeMap<String, DeviceReport> = told.into_iter().map(|it| (it.device.clone(), it)).collect();
    let gpus = node.inventory.gpus.iter();
    let now = gpus.map(|gpu| {
        let well = || DeviceReport { device: gpu.id.clone(), state: DeviceState::Healthy, reason: String::new() };
        told.remove(&gpu.id).unwrap_or_else(well)
    });
    now.filter(|report| is_news(node, report)).collect()
}

fn is_news(node: &Node, report: &DeviceReport) -> bool {
    match node.devices.get(&report.device) {
        Some(known) => known.state != report.state || known.reason != report.reason,
        None => report.state != DeviceState::Healthy || !report.reason.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Gpu, Inventory, RegisterNode, Reply};

    use super::*;
    use crate::fixture;

    fn report(device: &str, state: DeviceState, reason: &str) -> DeviceReport {
        DeviceReport { device: device.to_owned(), state, reason: reason.to_owned() }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_what_is_otherwise_than_it_is_known_enters_the_log() {
        let (coordinator, _folder) = fixture::coordinator().await;
        let shared = coordinator.shared();
        let gpu = |at: u32| Gpu {
            id: format!("fake-{at}"),
            model: "fake".to_owned(),
            memory_bytes: 1 << 30,
            numa_node: None,
            link_group: None,
            pcie_group: None,
            healthy: true,
            fake: true,
            part: None,
        };
        let RegisterNode { name, inventory, previous } = fixture::registration("n1");
        let inventory = Inventory { gpus: vec![gpu(0), gpu(1)], ..Inventory::clone(&inventory) }.into();
        let wish = Command::RegisterNode(RegisterNode { name, inventory, previous });
        let Reply::Registered { node, incarnation } = shared.propose(&wish).await.unwrap() else {
            panic!("registered")
        };
        let (says, said) = watch::channel(None);
        let noting = tokio::spawn(note(said, (node, incarnation), shared.feed.clone(), shared.proposer.clone()));
        let known = async |state: DeviceState| {
            let is_so = |view: &View| {
                let devices = &view.node(node).unwrap().devices;
                devices.get("fake-1").map_or(DeviceState::Healthy, |known| known.state) == state
            };
            let mut views = shared.feed.views();
            let view = tokio::time::timeout(Duration::from_secs(10), views.wait_for(is_so)).await.expect("it is noted");
            view.unwrap().revision()
        };
        let faulty = vec![report("fake-1", DeviceState::Faulty, "xid 79"), report("nobody", DeviceState::Faulty, "")];
        says.send_replace(Some(faulty.clone()));
        let revision = known(DeviceState::Faulty).await;
        assert!(!shared.feed.view().node(node).unwrap().inventory.gpus[1].healthy);
        // The same again is no news, and nothing is said of what there is not.
        says.send_replace(Some(faulty));
        tokio::time::sleep(EVERY + Duration::from_millis(300)).await;
        assert_eq!(shared.feed.view().revision(), revision);
        says.send_replace(Some(vec![]));
        known(DeviceState::Healthy).await;
        assert!(shared.feed.view().node(node).unwrap().inventory.gpus[1].healthy);
        noting.abort();
        coordinator.shutdown().await;
    }
}
