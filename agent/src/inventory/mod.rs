//! What the node offers, probed at the agent's start.

pub mod fake;
pub mod gpu;
pub(crate) mod health;
mod instances;
mod near;
pub(crate) mod watch;
mod xid;

use std::path::Path;

use flowyard_model::{Abilities, Inventory};
use sysinfo::{Disks, System};

use crate::cgroup::{Enforced, Enforcement};
use crate::config::AgentConfig;
use crate::network::Networks;
use crate::runtime::can_map;

/// Probes the machine.
pub(crate) fn probe(config: &AgentConfig, enforcement: &Enforcement, networks: &Networks) -> Inventory {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    Inventory {
        cpu_milli: config.cpu_milli.unwrap_or(cores * 1_000),
        memory_bytes: config.memory_bytes.unwrap_or_else(total_memory),
        disk_bytes: free_disk(&config.folder),
        gpus: gpu::probe(&config.fake_gpus, &config.fake_mig),
        tokens: std::collections::BTreeMap::new(),
        labels: config.labels.clone(),
        // By what others reach this host is known once the coordinator is connected to.
        rendezvous: None,
        abilities: Abilities {
            containers: config.oci_runtime.is_some() || user_namespaces(),
            process_isolation: config.allow_process,
            host_image: config.allow_host_image,
            private_networks: networks.has_private(),
            separation: separation(config, networks),
            enforcement: in_words(enforcement),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            system: format!(
                "{} {}",
                System::name().unwrap_or_else(|_| "Linux".to_owned()),
                System::kernel_version().unwrap_or_default()
            ),
        },
    }
}

/// Whether this process may make user namespaces, as far as the kernel's switches tell. What else stands against containers
/// is said by the first one.
fn user_namespaces() -> bool {
    let switch = |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let ordinary = !rustix::process::geteuid().is_root();
    let forbidden = ordinary
        && (switch("/proc/sys/kernel/unprivileged_userns_clone") == Some(0)
            || switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1));
    !forbidden && switch("/proc/sys/user/max_user_namespaces") != Some(0)
}

/// How tasks are kept apart from each other and from the node, for people.
fn separation(config: &AgentConfig, networks: &Networks) -> String {
    let users = match (config.users, &config.users_missing) {
        (Some(span), _) if can_map(&config.folder) => {
            format!("each has users of its own ({span}), shared files mapped")
        }
        (Some(span), _) => {
            format!("each has users of its own ({span}), shared files not mapped (kernel or file system cannot)")
        }
        (None, Some(why)) => format!("all are user {} ({why})", config.user.host_uid),
        (None, None) => format!("all are user {}", config.user.host_uid),
    };
    format!("{users}, {}", networks.in_words())
}

/// How limits are held, for people.
fn in_words(enforcement: &Enforcement) -> String {
    let word = |how: Enforced| match how {
        Enforced::Cgroup => "by cgroup",
        Enforced::Watched => "watched",
        Enforced::None => "not enforced",
    };
    format!(
        "cpu {}, memory {}, processes {}, devices {}, disk not enforced",
        word(enforcement.cpu),
        word(enforcement.memory),
        word(enforcement.pids),
        word(enforcement.devices)
    )
}

/// Memory of the machine; 0 where it cannot be told, so that nothing is placed here on a guess.
fn total_memory() -> u64 {
    System::new().map_or(0, |mut system| {
        system.refresh_memory();
        system.total_memory()
    })
}

/// Free bytes of the disk that holds `folder`: the disk mounted at its longest prefix.
fn free_disk(folder: &Path) -> u64 {
    let Ok(disks) = Disks::new_with_refreshed_list() else { return 0 };
    let holds = disks.iter().filter(|disk| folder.starts_with(disk.mount_point()));
    holds.max_by_key(|disk| disk.mount_point().as_os_str().len()).map_or(0, |disk| disk.available_space())
}
