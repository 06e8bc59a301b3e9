//! Who resolves names in a private network. Pure.

use std::net::{IpAddr, Ipv4Addr};

/// What a private network's `/etc/resolv.conf` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Resolver {
    /// Who is asked.
    pub(crate) nameservers: Vec<Ipv4Addr>,
    /// Lines beside, as the host has them: where short names are looked for, and how patiently.
    others: Vec<String>,
}

/// Chooses the resolver: what is configured, or what the host asks itself, or, where the host asks a service of its own on
/// loopback, whom that service asks as systemd's writes it down.
pub(crate) fn choose(configured: &[Ipv4Addr], host: &str, behind: &str) -> Resolver {
    let others = host.lines().filter(|line| line.starts_with("search ") || line.starts_with("options "));
    let chosen = [configured.to_vec(), reachable(host), reachable(behind)];
    Resolver {
        nameservers: chosen.into_iter().find(|servers| !servers.is_empty()).unwrap_or_default(),
        others: others.map(str::to_owned).collect(),
    }
}

/// The servers of a file that another network can reach: not those on loopback, and, as private networks have version 4 only,
/// of that.
fn reachable(text: &str) -> Vec<Ipv4Addr> {
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver ")?.trim().parse().ok());
    let version_4 = servers.filter_map(|server| match server {
        IpAddr::V4(server) => Some(server),
        IpAddr::V6(_) => None,
    });
    version_4.filter(|server| !server.is_loopback() && !server.is_unspecified()).collect()
}

impl Resolver {
    /// The file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("# Written by Flowyard for a private network.\n");
        if self.nameservers.is_empty() {
            text.push_str("# The node's own resolver is on its loopback, which is not reached from here.\n");
        }
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        for line in &self.others {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_on_loopback_is_replaced_by_the_one_behind_it() {
        let stub = "nameserver 127.0.0.53\noptions edns0\nsearch lab.example\n";
        let behind = "nameserver 10.0.0.2\nnameserver fd00::2\n";
        let resolver = choose(&[], stub, behind);
        assert_eq!(resolver.nameservers, [Ipv4Addr::new(10, 0, 0, 2)]);
        assert!(resolver.text().ends_with("nameserver 10.0.0.2\noptions edns0\nsearch lab.example\n"), "{resolver:?}");
        assert_eq!(choose(&[], behind, "").nameservers, [Ipv4Addr::new(10, 0, 0, 2)]);
        assert_eq!(choose(&[Ipv4Addr::new(9, 9, 9, 9)], behind, "").nameservers, [Ipv4Addr::new(9, 9, 9, 9)]);
        let none = choose(&[], stub, "");
        assert!(none.nameservers.is_empty() && none.text().contains("loopback"), "{none:?}");
    }
}
