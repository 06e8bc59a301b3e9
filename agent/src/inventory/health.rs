//! How well the node's devices are, as far as it is seen while the agent runs.
//!
//! What the driver said once stays said until the agent starts anew: a reset needs nobody on the device, and whoever resets it
//! restarts the agent. Pretended devices are as their file says, so that faults can be practised.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flowyard_model::{DeviceReport, DeviceState, Gpu, limits};
use tokio::sync::watch;

use super::xid;

/// How often the file of pretended faults is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// Its name in the agent's folder.
const FAKE_FAULTS: &str = "fake-faults";

/// What was seen of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    state: DeviceState,
    reason: String,
    /// When it last had an error that ends who uses it, by the wall clock.
    struck_ms: Option<u64>,
}

/// What was seen of each device of which there is something to say.
#[derive(Debug)]
pub(crate) struct Health {
    seen: watch::Sender<BTreeMap<String, Seen>>,
}

impl Health {
    /// All devices are well.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { seen: watch::Sender::new(BTreeMap::new()) })
    }

    /// A device had an error. It becomes no better by it.
    pub(crate) fn struck(&self, device: &str, (state, reason): (DeviceState, &str), now_ms: u64) {
        let struck_ms = (state != DeviceState::Healthy).then_some(now_ms);
        self.seen.send_if_modified(|seen| {
            let now = Seen { state, reason: bounded(reason), struck_ms };
            let before = seen.get(device).cloned();
            let worse = before.as_ref().is_none_or(|before| before.state <= now.state);
            let said = |seen: &Seen| (seen.state, seen.reason.clone());
            let struck_ms = struck_ms.or(before.as_ref().and_then(|before| before.struck_ms));
            let kept = Seen { struck_ms, ..if worse { now } else { before.clone().unwrap_or(now) } };
            // Errors come in storms; that it was struck again is nobody's news.
            let news = before.as_ref().map(said) != Some(said(&kept));
            seen.insert(device.to_owned(), kept);
            news
        });
    }

    /// What is pretended of devices, in place of what was.
    fn pretend(&self, faults: &BTreeMap<String, (DeviceState, String)>, fakes: &[Gpu], now_ms: u64) {
        self.seen.send_if_modified(|seen| {
            let mut news = false;
            for gpu in fakes {
                let fake = &gpu.id;
                let before = seen.get(fake).cloned();
                let same = |(state, reason): &(DeviceState, String)| {
                    before.as_ref().is_some_and(|it| it.state == *state && it.reason == *reason)
                };
                // What befalls a whole befalls its parts.
                let of_whole = || gpu.part.as_ref().and_then(|part| faults.get(&part.of));
                match faults.get(fake).or_else(of_whole) {
                    Some(fault) if same(fault) => continue,
                    None if before.is_none() => continue,
                    Some((state, reason)) => {
                        let struck_ms = (*state != DeviceState::Healthy).then_some(now_ms);
                        seen.insert(fake.clone(), Seen { state: *state, reason: bounded(reason), struck_ms });
                    }
                    None => drop(seen.remove(fake)),
                }
                news = true;
            }
            news
        });
    }

    /// Returns when something else is seen; at once if that is asked for and there is something to say.
    pub(crate) fn news(&self, at_once: bool) -> impl Future<Output = ()> + Send + use<> {
        let mut seen = self.seen.subscribe();
        if at_once && !self.seen.borrow().is_empty() {
            seen.mark_changed();
        }
        async move {
            if seen.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// All of which there is something to say.
    pub(crate) fn reports(&self) -> Vec<DeviceReport> {
        let seen = self.seen.borrow();
        let report = |(device, seen): (&String, &Seen)| {
            let (device, state, reason) = (device.clone(), seen.state, seen.reason.clone());
            DeviceReport { device, state, reason }
        };
        seen.iter().map(report).collect()
    }

    /// Whether a device may be given out.
    pub(crate) fn is_well(&self, device: &str) -> bool {
        self.seen.borrow().get(device).is_none_or(|seen| seen.state == DeviceState::Healthy)
    }

    /// Whether a device was found faulty.
    pub(crate) fn is_faulty(&self, device: &str) -> bool {
        self.seen.borrow().get(device).is_some_and(|seen| seen.state == DeviceState::Faulty)
    }

    /// What befell one of these devices since then, if something did that ends who uses it.
    pub(crate) fn struck_since(&self, gpus: &[Gpu], since_ms: u64) -> Option<String> {
        let seen = self.seen.borrow();
        gpus.iter().find_map(|gpu| {
            let it = seen.get(&gpu.id)?;
            let struck = it.struck_ms.is_some_and(|at_ms| at_ms >= since_ms);
            struck.then(|| format!("{}, a device it held: {}", gpu.id, it.reason))
        })
    }
}

fn bounded(reason: &str) -> String {
    let clean: String = reason.chars().filter(|c| !c.is_control()).collect();
    let mut end = clean.len().min(limits::TEXT_BYTES);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean[..end].to_owned()
}

/// Reads what is pretended of fake devices, again and again.
pub(crate) async fn pretend(health: Arc<Health>, folder: PathBuf, gpus: Vec<Gpu>) {
    let fakes: Vec<Gpu> = gpus.into_iter().filter(|gpu| gpu.fake).collect();
    if fakes.is_empty() {
        return;
    }
    let file = folder.join(FAKE_FAULTS);
    loop {
        let text = tokio::fs::read_to_string(&file).await.unwrap_or_default();
        health.pretend(&faults(&text), &fakes, flowyard_clock::wall_ms());
        tokio::time::sleep(LOOK).await;
    }
}

/// Lines `fake-0 xid 79`, `fake-1 degraded a fan is loud`, `fake-2 faulty`; others are passed over.
fn faults(text: &str) -> BTreeMap<String, (DeviceState, String)> {
    let fault = |line: &str| {
        let (device, rest) = line.trim().split_once(' ')?;
        let (word, rest) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        let said = |otherwise: &str| if rest.trim().is_empty() { otherwise.to_owned() } else { rest.trim().to_owned() };
        let fault = match word {
            "xid" => {
                let number = rest.trim().parse().ok()?;
                let (state, reason) = xid::meaning(number)?;
                (state, format!("XID {number}: {reason}"))
            }
            "degraded" => (DeviceState::Degraded, said("pretended to be degraded")),
            "faulty" => (DeviceState::Faulty, said("pretended to be faulty")),
            _ => return None,
        };
        Some((device.to_owned(), fault))
    };
    text.lines().filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(id: &str) -> Gpu {
        super::super::fake::pretended(id)
    }

    #[test]
    fn a_fault_stays_said_whatever_comes_after_it() {
        let health = Health::new();
        health.struck("GPU-a", (DeviceState::Healthy, "many corrected memory errors"), 5);
        assert!(health.is_well("GPU-a"));
        assert_eq!(health.reports().len(), 1, "it is told all the same");
        assert_eq!(health.struck_since(&[gpu("GPU-a")], 0), None, "nobody is ended by it");
        health.struck("GPU-a", (DeviceState::Faulty, "XID 79"), 10);
        health.struck("GPU-a", (DeviceState::Degraded, "XID 94"), 20);
        let [told] = &health.reports()[..] else { panic!("one device") };
        assert_eq!((told.state, told.reason.as_str()), (DeviceState::Faulty, "XID 79"));
        assert!(!health.is_well("GPU-a") && health.is_well("GPU-b"));
    }

    #[test]
    fn who_used_a_device_when_it_was_struck_is_told_from_who_came_after() {
        let health = Health::new();
        health.struck("GPU-a", (DeviceState::Degraded, "XID 94"), 10);
        let gpus = [gpu("GPU-b"), gpu("GPU-a")];
        assert_eq!(health.struck_since(&gpus, 10).as_deref(), Some("GPU-a, a device it held: XID 94"));
        assert_eq!(health.struck_since(&gpus, 11), None);
        assert_eq!(health.struck_since(&gpus[..1], 0), None);
    }

    #[test]
    fn pretended_devices_are_as_their_file_says_and_well_again_without_it() {
        let told = faults("fake-0 xid 79\nfake-1 degraded a fan is loud\n\nfake-2 xid 13\nfake-3 faulty\nnonsense\n");
        assert_eq!(told.keys().collect::<Vec<_>>(), ["fake-0", "fake-1", "fake-3"]);
        assert!(told["fake-0"].1.starts_with("XID 79: it has fallen off the bus"), "{told:?}");
        assert_eq!(told["fake-1"], (DeviceState::Degraded, "a fan is loud".to_owned()));
        let health = Health::new();
        let part = flowyard_model::GpuPart { of: "fake-0".to_owned(), instance: 1, compute: 0 };
        let fakes = [gpu("fake-0"), gpu("fake-1"), Gpu { part: Some(part), ..gpu("fake-0-mig-0") }];
        health.pretend(&told, &fakes, 7);
        assert!(!health.is_well("fake-0") && health.is_well("fake-3"), "it is not there");
        assert!(!health.is_well("fake-0-mig-0"), "it is a part of one that is faulty");
        health.pretend(&BTreeMap::new(), &fakes, 8);
        assert_eq!(health.reports(), []);
    }
}
