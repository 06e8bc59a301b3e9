//! Private networks, and what tasks may reach: an agent's one table of the packet filter, and the addresses it gives.
//!
//! Owns: whether this machine can have private networks and why not, the table, the pairs of addresses, the resolver. A network
//! itself is made with its container by [`crate::runtime::wire`] and goes with it, so nothing of it is left behind by anybody's
//! death. The table goes with the last of us: an agent replaces it when it starts, and the launcher removes it when it leaves
//! with nothing running.
//!
//! Must not: touch any other table, or any interface but its own.

mod filter;
mod forwarding;
mod pool;
mod resolver;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use self::filter::{Filter, Table};
pub use self::pool::{Net, NoNet, NoPool, Pool};
use self::resolver::Resolver;
use crate::numbers::Numbers;
use crate::runtime::spec::{LaunchSpec, Network, Sandbox, Wire};
use crate::runtime::wire;
use crate::users::Span;

/// What an operator decides about the networks of tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkChoices {
    /// Whether the agent may have a table in the machine's packet filter. Without it there are no private networks, and
    /// metadata is open.
    pub filter: bool,
    /// Addresses of private networks.
    pub addresses: Pool,
    /// What tasks may reach whatever is closed.
    pub allow: Vec<Net>,
    /// What private networks may not reach.
    pub deny: Vec<Net>,
    /// Who resolves names in private networks, instead of whom the machine asks.
    pub nameservers: Vec<Ipv4Addr>,
}

impl Default for NetworkChoices {
    fn default() -> Self {
        Self { filter: true, addresses: Pool::USUAL, allow: vec![], deny: vec![], nameservers: vec![] }
    }
}

/// Written while the table is there, so that the launcher knows that it has to be removed.
const MARK: &str = "filter";

/// How often the table is looked at: other tools may empty the filter, and the machine may learn of other resolvers.
const LOOK: Duration = Duration::from_secs(20);

/// The networks of one agent.
#[derive(Debug)]
pub(crate) struct Networks {
    choices: NetworkChoices,
    names: Names,
    users: Option<Span>,
    apart: Vec<String>,
    /// Why there are no private networks, if there are none.
    private: Result<(), String>,
    /// Why metadata is open to tasks on the node's network, if it is.
    metadata: Result<(), String>,
    numbers: Mutex<Numbers>,
    resolver: Mutex<Resolver>,
}

/// What an agent's things are called in the kernel: after its folder, so that agents which share a machine do not meet.
#[derive(Debug, Clone)]
struct Names {
    table: String,
    interfaces: String,
    mark: PathBuf,
    forwarding: PathBuf,
}

impl Names {
    fn of(home: &Path) -> Self {
        let bytes = home.as_os_str().as_encoded_bytes();
        let sum =
            bytes.iter().fold(0x811c_u16, |sum, byte| (sum ^ u16::from(*byte)).wrapping_mul(0x0193).rotate_left(3));
        Self {
            table: format!("flowyard-{sum:04x}"),
            interfaces: format!("fy{sum:04x}-"),
            mark: home.join(MARK),
            forwarding: home.join("forwarding"),
        }
    }
}

impl Networks {
    /// None, and nothing is filtered: for an agent whose tasks are its own user.
    pub(crate) fn none(home: &Path, why: &str) -> Self {
        let choices = NetworkChoices { filter: false, ..NetworkChoices::default() };
        Self::unfiltered(choices, home, None, why)
    }

    fn unfiltered(choices: NetworkChoices, home: &Path, users: Option<Span>, why: &str) -> Self {
        Self {
            numbers: Mutex::new(Numbers::new(choices.addresses.pairs(), home)),
            choices,
            names: Names::of(home),
            users,
            apart: Vec::new(),
            private: Err(why.to_owned()),
            metadata: Err(why.to_owned()),
            resolver: Mutex::default(),
        }
    }

    /// Sets up what the operator chose, as far as the machine allows. `users` is who tasks are.
    pub(crate) fn open(choices: NetworkChoices, home: &Path, users: Option<Span>) -> Self {
        if !choices.filter {
            return Self::unfiltered(choices, home, users, "agent.filter is false");
        }
        if !rustix::process::geteuid().is_root() {
            return Self::unfiltered(choices, home, users, "root does not run the agent");
        }
        let mut this = Self::unfiltered(choices, home, users, "");
        this.private = this.prepare();
        *this.resolver() = this.current_resolver();
        this.metadata = match users {
            Some(_) => Ok(()),
            None => Err("tasks have no users of their own".to_owned()),
        };
        if let Err(error) = this.load() {
            this.metadata = this.metadata.and(Err(error.clone()));
            this.private = this.private.and(Err(error));
        }
        this
    }

    /// What private networks need of the machine beside the filter.
    fn prepare(&mut self) -> Result<(), String> {
        let routes = std::fs::read_to_string("/proc/net/route").map_err(|error| format!("/proc/net/route: {error}"))?;
        let pool = self.choices.addresses;
        if let Some(route) = pool.routed(&routes, &self.names.interfaces) {
            return Err(format!("the addresses {pool} meet the route to {route}; choose others with agent.addresses"));
        }
        wire::can(&format!("{}x", self.names.interfaces)).map_err(|error| error.to_string())?;
        self.apart = forwarding::on(&self.names.forwarding)?;
        Ok(())
    }

    fn current_resolver(&self) -> Resolver {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        resolver::choose(
            &self.choices.nameservers,
            &text("/etc/resolv.conf"),
            &text("/run/systemd/resolve/resolv.conf"),
        )
    }

    fn load(&self) -> Result<(), String> {
        let filter = Filter {
            table: self.names.table.clone(),
            interfaces: self.names.interfaces.clone(),
            users: self.users,
            pool: self.private.is_ok().then_some(self.choices.addresses),
            open: self.choices.allow.clone(),
            closed: self.choices.deny.clone(),
            nameservers: self.resolver().nameservers.clone(),
            apart: self.apart.clone(),
        };
        std::fs::write(&self.names.mark, "").map_err(|error| format!("{}: {error}", self.names.mark.display()))?;
        Table::load(&filter.script())
    }

    /// Keeps the table, for ever: makes it anew when somebody has removed it, or when other resolvers are asked.
    pub(crate) async fn keep(self: std::sync::Arc<Self>) {
        if self.private.is_err() && self.metadata.is_err() {
            return;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let this = std::sync::Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || this.look()).await;
            if let Ok(Err(error)) = looked {
                tracing::error!(error, "the packet filter of tasks is not there, and cannot be made");
            }
        }
    }

    fn look(&self) -> Result<(), String> {
        let resolver = self.current_resolver();
        let same = *self.resolver() == resolver;
        if same && Table::is_there(&self.names.table) {
            return Ok(());
        }
        if same {
            tracing::warn!(table = self.names.table, "somebody removed the packet filter of tasks; it is made anew");
        }
        *self.resolver() = resolver;
        self.load()
    }

    /// Whether tasks can have private networks.
    pub(crate) fn has_private(&self) -> bool {
        self.private.is_ok()
    }

    /// The ends of the private network of the attempt in `folder`, and what its resolver's file says.
    ///
    /// # Errors
    /// Why it gets none, for who reads about the node.
    pub(crate) fn give(&self, folder: &Path) -> Result<(Wire, String), String> {
        self.private.clone()?;
        let number = self.numbers().take(folder).ok_or_else(|| {
            format!(
                "all addresses of {} are taken; its operator can give more with `agent.addresses`",
                self.choices.addresses
            )
        })?;
        let (node, task) = self.choices.addresses.pair(number);
        let wire = Wire { interface: format!("{}{number}", self.names.interfaces), node, task };
        Ok((wire, self.resolver().text()))
    }

    /// Learns which network an attempt has that an earlier agent started.
    pub(crate) fn hold(&self, launch: &LaunchSpec) {
        let Sandbox::Container(container) = &launch.sandbox else { return };
        if let Network::Private(wire) = &container.network
            && let Some(number) = self.choices.addresses.number(wire.task)
        {
            self.numbers().hold(number, &launch.folder);
        }
    }

    /// What the table does, in words for people.
    pub(crate) fn in_words(&self) -> String {
        let metadata = match &self.metadata {
            Ok(()) => "cloud metadata closed".to_owned(),
            Err(why) => format!("cloud metadata open to network host ({why})"),
        };
        let private = match &self.private {
            Ok(()) => format!("private networks {}{}", self.choices.addresses, self.names_in_words()),
            Err(why) => format!("no private networks ({why})"),
        };
        format!("{metadata}, {private}")
    }

    fn names_in_words(&self) -> &'static str {
        match self.resolver().nameservers.is_empty() {
            true => " without names (the node's resolver is on its loopback; see agent.nameservers)",
            false => "",
        }
    }

    fn numbers(&self) -> std::sync::MutexGuard<'_, Numbers> {
        // A panic cannot leave them half changed.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolver(&self) -> std::sync::MutexGuard<'_, Resolver> {
        // A panic cannot leave it half changed.
        self.resolver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what the agent of `home` has set up; nothing of it may run. What cannot be removed is replaced by the next agent.
pub(crate) fn take_down(home: &Path) {
    let names = Names::of(home);
    if names.mark.exists() && Table::remove(&names.table).is_ok() {
        let _ = std::fs::remove_file(&names.mark);
        forwarding::off(&names.forwarding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ_by_folder() {
        let (one, other) = (Names::of(Path::new("/var/lib/a")), Names::of(Path::new("/var/lib/b")));
        assert_ne!(one.table, other.table);
        // An interface's name has at most 15 bytes, and a pool at most 2^23 pairs.
        assert!(format!("{}8388607", one.interfaces).len() <= 15, "{}", one.interfaces);
    }

    #[test]
    fn without_a_filter_no_network_is_given_and_it_is_said_why() {
        let home = tempfile::tempdir().expect("a folder");
        let none = Networks::none(home.path(), "no fleet");
        assert_eq!(none.give(home.path()).unwrap_err(), "no fleet");
        assert_eq!(none.in_words(), "cloud metadata open to network host (no fleet), no private networks (no fleet)");
    }
}
