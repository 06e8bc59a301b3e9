//! What an agent says, bounded where it enters a coordinator: numbers that no honest agent says go no further, so that neither `apply`
//! nor a leader's arithmetic ever meets them.
//!
//! Invariant: nothing that an agent of any release has honestly said is refused.

use std::collections::BTreeSet;

use crate::{AttemptReport, Digest, End, Inventory, PhaseTimes, RegisterNode, Rejection, Rendezvous, limits};

type Checked = Result<(), Rejection>;

/// Checks a registration.
///
/// # Errors
/// [`Rejection::Invalid`] naming the field, and what would be accepted.
pub fn plausible_registration(register: &RegisterNode) -> Checked {
    if let Some((node, incarnation)) = register.previous {
        at_most("previous_node", node.0, limits::REMEMBERED)?;
        at_most("previous_incarnation", incarnation.0, limits::REMEMBERED)?;
    }
    plausible_inventory(&register.inventory)
}

fn plausible_inventory(inventory: &Inventory) -> Checked {
    at_most("inventory.cpu_milli", inventory.cpu_milli, limits::NODE_CPU_MILLI)?;
    at_most("inventory.memory_bytes", inventory.memory_bytes, limits::NODE_BYTES)?;
    at_most("inventory.disk_bytes", inventory.disk_bytes, limits::NODE_BYTES)?;
    at_most("inventory.gpus", inventory.gpus.len() as u64, limits::NODE_GPUS as u64)?;
    let mut ids = BTreeSet::new();
    for gpu in &inventory.gpus {
        at_most("inventory.gpus.memory_bytes", gpu.memory_bytes, limits::NODE_BYTES)?;
        if !ids.insert(&gpu.id) {
            return Err(invalid("inventory.gpus.id", format!("`{}` is given twice", gpu.id.escape_debug())));
        }
    }
    for part in inventory.gpus.iter().filter_map(|gpu| gpu.part.as_ref()) {
        // Neither is the whole given out beside its parts, nor anything a part of a part.
        if ids.contains(&part.of) {
            let message = format!("`{}` is in the inventory beside a part of it", part.of.escape_debug());
            return Err(invalid("inventory.gpus.part.of", message));
        }
    }
    inventory.rendezvous.as_ref().map_or(Ok(()), plausible_rendezvous)
}

fn plausible_rendezvous(rendezvous: &Rendezvous) -> Checked {
    let Rendezvous { address, ports } = rendezvous;
    // It goes into variables and a file with a line for each node.
    let plain = !address.is_empty() && address.chars().all(|c| c.is_ascii_graphic());
    if !plain || address.len() > limits::TEXT_BYTES {
        let message = format!("a host name or an address of at most {} bytes", limits::TEXT_BYTES);
        return Err(invalid("inventory.rendezvous.address", message));
    }
    let sound = ports.first >= 1 && ports.first <= ports.last;
    if !sound {
        return Err(invalid(
            "inventory.rendezvous.ports",
            "from a first, at least 1, to a last not below it".to_owned(),
        ));
    }
    at_most("inventory.rendezvous.ports", u64::from(ports.count()), u64::from(limits::GANG_PORTS))
}

/// Checks one report.
///
/// # Errors
/// As [`plausible_registration`].
pub fn plausible_report(report: &AttemptReport) -> Checked {
    let PhaseTimes { accepted, fetching, running, storing, ended } = report.times;
    for time in [accepted, fetching, running, storing, ended, report.saved_at].into_iter().flatten() {
        at_most("times", time.0, limits::TIME_MS)?;
    }
    if let Some(checkpoint) = &report.checkpoint {
        at_most("checkpoint.at", checkpoint.at.0, limits::TIME_MS)?;
        plausible_manifest("checkpoint.manifest", checkpoint.manifest)?;
    }
    report.end.as_deref().map_or(Ok(()), plausible_end)
}

fn plausible_end(end: &End) -> Checked {
    for output in end.outputs.values() {
        plausible_manifest("end.outputs.manifest", output.manifest)?;
        if let Some(list) = output.list {
            plausible_blob("end.outputs.list", list.items)?;
        }
    }
    for log in [end.logs.stdout, end.logs.stderr].into_iter().flatten() {
        plausible_blob("end.logs", log)?;
    }
    Ok(())
}

/// Checks the name of a blob that anybody gives.
///
/// # Errors
/// As [`plausible_registration`].
pub fn plausible_blob(path: &str, digest: Digest) -> Checked {
    at_most(path, digest.length, limits::BLOB_BYTES)
}

/// Checks the name of a manifest that anybody gives.
///
/// # Errors
/// As [`plausible_registration`].
pub fn plausible_manifest(path: &str, digest: Digest) -> Checked {
    at_most(path, digest.length, limits::MANIFEST_BYTES)
}

fn at_most(path: &str, given: u64, most: u64) -> Checked {
    if given <= most { Ok(()) } else { Err(invalid(path, format!("at most {most}, this is {given}"))) }
}

fn invalid(path: &str, message: String) -> Rejection {
    Rejection::Invalid { path: path.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Abilities, Gpu, GpuPart, Incarnation, NodeId, PortRange};

    fn registration(change: impl FnOnce(&mut RegisterNode, &mut Inventory)) -> Checked {
        let abilities = Abilities {
            containers: true,
            process_isolation: true,
            host_image: true,
            private_networks: false,
            separation: String::new(),
            enforcement: String::new(),
            agent_version: String::new(),
            system: String::new(),
        };
        let mut inventory = Inventory {
            cpu_milli: 4_000,
            memory_bytes: 1 << 30,
            disk_bytes: 0,
            gpus: vec![],
            tokens: Default::default(),
            labels: Default::default(),
            abilities,
            rendezvous: None,
        };
        let previous = Some((NodeId(3), Incarnation(7)));
        let offered = Arc::new(inventory.clone());
        let mut register = RegisterNode { name: "n1".parse().unwrap(), inventory: offered, previous };
        change(&mut register, &mut inventory);
        register.inventory = Arc::new(inventory);
        plausible_registration(&register)
    }

    #[test]
    fn a_whole_device_is_not_offered_beside_its_parts() {
        let gpu = |id: &str, of: Option<&str>| Gpu {
            id: id.to_owned(),
            model: "H100".to_owned(),
            memory_bytes: 1,
            numa_node: None,
            link_group: None,
            pcie_group: None,
            healthy: true,
            fake: true,
            part: of.map(|of| GpuPart { of: of.to_owned(), instance: 1, compute: 0 }),
        };
        let offered = |gpus: Vec<Gpu>| registration(|_, inventory| inventory.gpus = gpus);
        assert_eq!(offered(vec![gpu("MIG-a", Some("GPU-a")), gpu("MIG-b", Some("GPU-a"))]), Ok(()));
        let beside = offered(vec![gpu("MIG-a", Some("GPU-a")), gpu("GPU-a", None)]).unwrap_err();
        assert!(beside.to_string().contains("`GPU-a` is in the inventory beside a part of it"), "{beside}");
    }

    #[test]
    fn what_no_honest_agent_says_goes_no_further() {
        assert_eq!(registration(|_, _| {}), Ok(()));
        let absurd = registration(|register, _| register.previous = Some((NodeId(1), Incarnation(u64::MAX))));
        assert!(absurd.unwrap_err().to_string().contains("previous_incarnation"));
        assert!(registration(|register, _| register.previous = Some((NodeId(u64::MAX), Incarnation(1)))).is_err());
        assert!(registration(|_, inventory| inventory.cpu_milli = u64::MAX).is_err());
        assert!(registration(|_, inventory| inventory.memory_bytes = u64::MAX).is_err());
        assert!(registration(|_, inventory| inventory.disk_bytes = u64::MAX).is_err());
        let meets = |address: &str, first, last| {
            let rendezvous = Rendezvous { address: address.to_owned(), ports: PortRange { first, last } };
            registration(|_, inventory| inventory.rendezvous = Some(rendezvous))
        };
        assert_eq!(meets("10.0.0.7", 28_000, 28_999), Ok(()));
        for (address, first, last) in
            [("", 1, 2), ("a b", 1, 2), ("a\nb", 1, 2), ("a", 0, 2), ("a", 3, 2), ("a", 1, 60_000)]
        {
            assert!(meets(address, first, last).is_err(), "{address:?} {first} {last}");
        }
        let gpu = Gpu {
            id: "a".to_owned(),
            model: String::new(),
            memory_bytes: 1,
            numa_node: None,
            link_group: None,
            pcie_group: None,
            healthy: true,
            fake: true,
            part: None,
        };
        let twice = registration(|_, inventory| inventory.gpus = vec![gpu.clone(), gpu]);
        assert!(twice.unwrap_err().to_string().contains("given twice"));
    }
}
