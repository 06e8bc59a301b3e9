//! Hosts with a network of their own on one machine: a network namespace each, all connected to one switch in another. Nothing of it
//! is connected to the machine's own network, and nothing is left when it is dropped.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::system::succeed;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The hosts of one test.
#[derive(Debug)]
pub struct Network {
    /// Begins the names of its namespaces.
    name: String,
    hosts: Vec<String>,
}

impl Network {
    /// Hosts of these names.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn of(hosts: &[&str]) -> Result<Self, String> {
        let name = format!("fy{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let network = Self { name, hosts };
        let switch = network.space("switch");
        succeed("ip", &["netns", "add", &switch])?;
        succeed("ip", &["-n", &switch, "link", "add", "switch", "type", "bridge"])?;
        succeed("ip", &["-n", &switch, "link", "set", "switch", "up"])?;
        for host in &network.hosts {
            let space = network.space(host);
            succeed("ip", &["netns", "add", &space])?;
            let pair = ["link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", &space];
            succeed("ip", &[&["-n", &switch], &pair[..]].concat())?;
            succeed("ip", &["-n", &switch, "link", "set", host, "master", "switch", "up"])?;
            let address = format!("{}/24", network.address(host));
            succeed("ip", &["-n", &space, "address", "add", &address, "dev", "eth0"])?;
            succeed("ip", &["-n", &space, "link", "set", "eth0", "up"])?;
            succeed("ip", &["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// The names of its hosts.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(String::as_str)
    }

    fn space(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// The file of a host's network namespace.
    pub(crate) fn path(&self, host: &str) -> String {
        format!("/run/netns/{}", self.space(host))
    }

    /// The address of a host.
    ///
    /// # Panics
    /// When there is no such host.
    pub fn address(&self, host: &str) -> String {
        let at = self.hosts.iter().position(|known| known == host).unwrap_or_else(|| panic!("there is no host {host}"));
        format!("10.77.0.{}", at + 1)
    }

    /// The same command, on a host.
    pub fn on(&self, host: &str, command: &Command) -> Command {
        let mut there = Command::new("nsenter");
        there.arg(format!("--net={}", self.path(host))).arg("--").arg(command.get_program());
        there.args(command.get_args()).stdin(Stdio::null());
        if let Some(folder) = command.get_current_dir() {
            there.current_dir(folder);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        there
    }

    /// Pulls a host's cable, or puts it back.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn connect(&self, host: &str, connected: bool) {
        let state = if connected { "up" } else { "down" };
        succeed("ip", &["-n", &self.space("switch"), "link", "set", host, state]).unwrap();
    }

    /// Has a host's packets to another one vanish, or arrive again; those in the other direction go on.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn reach(&self, from: &str, to: &str, reached: bool) {
        self.rule(from, to, reached).unwrap();
    }

    fn rule(&self, from: &str, to: &str, reached: bool) -> Result<(), String> {
        let verb = if reached { "-D" } else { "-A" };
        let rule = ["iptables", "-w", verb, "INPUT", "-s", &self.address(from), "-j", "DROP"];
        let space = format!("--net={}", self.path(to));
        succeed("nsenter", &[&[space.as_str(), "--"], &rule[..]].concat())
    }

    /// Whether packets between two hosts can be made to vanish here.
    pub(crate) fn can_part(&self, one: &str, other: &str) -> Result<(), String> {
        self.rule(one, other, false).and_then(|()| self.rule(one, other, true))
    }

    /// Has two groups of hosts hear nothing of each other, or hear each other again.
    pub(crate) fn split(&self, few: &[&str], apart: bool) {
        for one in few {
            for other in self.hosts().filter(|host| !few.contains(host)) {
                self.reach(one, other, !apart);
                self.reach(other, one, !apart);
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in self.hosts.iter().map(String::as_str).chain(["switch"]) {
            // One that was never made is not there to be removed.
            let _ = succeed("ip", &["netns", "del", &self.space(host)]);
        }
    }
}
