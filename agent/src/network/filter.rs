//! The packet filter of one agent: a single table of nftables, which says what tasks may not reach. Pure but for [`Table`].
//!
//! What is private is known by the names of our own interfaces, what shares the node's network by the users of tasks. So the
//! rules are the same whatever runs, and starting a task changes none.
//!
//! Invariant: a table is replaced in one step. Nothing is ever open for a moment because rules are made anew.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use super::pool::{Net, Pool};
use crate::users::Span;

/// Where clouds tell whoever asks from a machine what the machine is and which keys it has.
pub(crate) const METADATA: [&str; 8] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
];

/// Addresses that mean something to one link only: in a private network nobody has a use for them.
const LINK_LOCAL: &str = "169.254.0.0/16";

/// What a table is made of.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    /// Its name.
    pub(crate) table: String,
    /// How the names of private networks' interfaces begin.
    pub(crate) interfaces: String,
    /// Who tasks are that share the node's network, if they are somebody.
    pub(crate) users: Option<Span>,
    /// Addresses of private networks, if there are such.
    pub(crate) pool: Option<Pool>,
    /// What tasks may reach whatever is closed.
    pub(crate) open: Vec<Net>,
    /// What private networks may not reach, beside metadata.
    pub(crate) closed: Vec<Net>,
    /// Who resolves names; reached for that only.
    pub(crate) nameservers: Vec<Ipv4Addr>,
    /// Interfaces between which nothing is to be forwarded, because nothing was before we came.
    pub(crate) apart: Vec<String>,
}

impl Filter {
    /// The table as `nft` reads it, in place of the one that is there.
    pub(crate) fn script(&self) -> String {
        let table = &self.table;
        let mut text = format!("table inet {table} {{}}\ndelete table inet {table}\ntable inet {table} {{\n");
        self.sets(&mut text);
        if let Some(users) = self.users {
            text.push_str(&host_tasks(users));
        }
        if let Some(pool) = self.pool {
            text.push_str(&private_networks(&self.interfaces, pool, &self.apart));
        }
        text.push_str("}\n");
        text
    }

    fn sets(&self, text: &mut String) {
        let metadata = METADATA.iter().filter_map(|address| address.parse().ok());
        let metadata: Vec<Net> = metadata.collect();
        let links = LINK_LOCAL.parse().ok();
        let closed: Vec<Net> = metadata.iter().chain(&self.closed).copied().chain(links).collect();
        set(text, "metadata", &metadata);
        set(text, "closed", &closed);
        set(text, "open", &self.open);
        let servers: Vec<Net> = self.nameservers.iter().filter_map(|server| server.to_string().parse().ok()).collect();
        set(text, "nameservers", &servers);
    }
}

/// A set per version of addresses.
fn set(text: &mut String, name: &str, nets: &[Net]) {
    for (version, kind) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
        let elements: Vec<String> =
            nets.iter().filter(|net| net.is_ipv4() == (version == 4)).map(ToString::to_string).collect();
        let elements = match elements.is_empty() {
            true => String::new(),
            false => format!("elements = {{ {} }}; ", elements.join(", ")),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  set {name}{version} {{ type {kind}; flags interval; auto-merge; {elements}}}");
    }
}

/// For tasks that share the node's network. Some clouds resolve names at their metadata address, so names come first.
fn host_tasks(users: Span) -> String {
    format!(
        "  chain output {{
    type filter hook output priority filter; policy accept;
    meta skuid {users} jump task_of_host
  }}
  chain task_of_host {{
    ip daddr @open4 accept
    ip6 daddr @open6 accept
    ip daddr @nameservers4 meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr @metadata4 reject with icmpx admin-prohibited
    ip6 daddr @metadata6 reject with icmpx admin-prohibited
  }}
"
    )
}

/// For private networks: out to other machines, and nowhere else.
fn private_networks(interfaces: &str, pool: Pool, apart: &[String]) -> String {
    let apart: Vec<String> = apart.iter().map(|name| format!("\"{name}\"")).collect();
    let apart = match apart.is_empty() {
        true => String::new(),
        false => format!("    iifname {{ {0} }} oifname {{ {0} }} drop\n", apart.join(", ")),
    };
    format!(
        "  chain input {{
    type filter hook input priority filter; policy accept;
    iifname \"{interfaces}*\" jump to_node
  }}
  chain to_node {{
    ct state established,related accept
    ip daddr @nameservers4 meta l4proto {{ tcp, udp }} th dport 53 accept
    reject with icmpx admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname \"{interfaces}*\" jump from_task
    oifname \"{interfaces}*\" ct state established,related accept
    oifname \"{interfaces}*\" reject with icmpx admin-prohibited
{apart}  }}
  chain from_task {{
    oifname \"{interfaces}*\" reject with icmpx admin-prohibited
    meta nfproto ipv6 reject with icmpx admin-prohibited
    ip saddr != {pool} drop
    ct status dnat reject with icmpx admin-prohibited
    ct state established,related accept
    ip daddr @nameservers4 meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr @open4 accept
    ip daddr @closed4 reject with icmpx admin-prohibited
    accept
  }}
  chain nat {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {pool} oifname != \"{interfaces}*\" masquerade
  }}
"
    )
}

/// The table in the kernel.
#[derive(Debug)]
pub(crate) struct Table;

impl Table {
    /// Has `nft` read a script.
    pub(crate) fn load(script: &str) -> Result<(), String> {
        let mut child = nft().arg("-f").arg("-").stdin(Stdio::piped()).spawn().map_err(|error| missing(&error))?;
        if let Some(mut stdin) = child.stdin.take() {
            // If it does not read, it says why.
            let _ = stdin.write_all(script.as_bytes());
        }
        let out = child.wait_with_output().map_err(|error| missing(&error))?;
        if out.status.success() { Ok(()) } else { Err(first_line(&out.stderr)) }
    }

    /// Whether the table is there: other tools can empty the whole filter.
    pub(crate) fn is_there(table: &str) -> bool {
        let listed = nft().args(["list", "chains", "inet"]).output();
        listed.is_ok_and(|out| {
            let text = String::from_utf8_lossy(&out.stdout);
            text.lines().any(|line| line.trim() == format!("table inet {table} {{"))
        })
    }

    /// Removes the table, if it is there.
    pub(crate) fn remove(table: &str) -> Result<(), String> {
        Self::load(&format!("table inet {table} {{}}\ndelete table inet {table}\n"))
    }
}

fn nft() -> Command {
    let mut command = Command::new("nft");
    // Systems keep it where only root's PATH leads.
    command.env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn missing(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "`nft` is not installed (package nftables)".to_owned(),
        _ => format!("nft: {error}"),
    }
}

fn first_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    format!("nft: {}", text.lines().next().unwrap_or("failed without a word").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> Filter {
        Filter {
            table: "flowyard-ab12".into(),
            interfaces: "fyab12-".into(),
            users: Some(Span::USUAL),
            pool: Some(Pool::USUAL),
            open: vec!["10.1.1.1".parse().expect("an address")],
            closed: vec!["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")],
            nameservers: vec![Ipv4Addr::new(10, 0, 0, 2)],
            apart: vec!["eth0".into(), "eth1".into()],
        }
    }

    #[test]
    fn what_is_opened_comes_before_what_is_closed() {
        let script = filter().script();
        let at = |what: &str| script.find(what).unwrap_or_else(|| panic!("{what} is not in {script}"));
        assert!(at("ip daddr @open4 accept\n    ip daddr @closed4 reject") > at("chain from_task"));
        assert!(at("meta skuid 1879048192-2147352575 jump task_of_host") < at("chain task_of_host"));
        assert!(at("169.254.169.254/32") < at("chain output"));
        assert!(script.contains("iifname { \"eth0\", \"eth1\" } oifname { \"eth0\", \"eth1\" } drop"), "{script}");
    }

    #[test]
    fn a_table_has_only_what_there_is_to_filter() {
        let none = Filter { users: None, pool: None, ..filter() }.script();
        assert!(!none.contains("hook"), "{none}");
        let private = Filter { users: None, apart: vec![], ..filter() }.script();
        assert!(
            !private.contains("skuid")
                && private.contains("masquerade")
                && !private.contains("drop\n  }\n  chain from")
        );
    }

    #[test]
    fn neither_version_6_nor_what_the_node_translates_is_let_out_of_a_private_network() {
        let script = filter().script();
        let chain = script.split("chain from_task {").nth(1).and_then(|rest| rest.split('}').next());
        let rules: Vec<&str> =
            chain.expect("the chain").lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let at =
            |rule: &str| rules.iter().position(|line| *line == rule).unwrap_or_else(|| panic!("{rule}: {rules:?}"));
        let first_accept = rules.iter().position(|line| line.ends_with("accept")).expect("something is let out");
        for rule in [
            "meta nfproto ipv6 reject with icmpx admin-prohibited",
            "ct status dnat reject with icmpx admin-prohibited",
        ] {
            assert!(at(rule) < first_accept, "{rule}: {rules:?}");
        }
    }
}
