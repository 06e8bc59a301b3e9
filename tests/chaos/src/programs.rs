//! Which program each host runs while a cluster is upgraded: the one it was formed with, or the next one.
//!
//! The next one is a release that was built for it (`cargo xtask upgrade-test` does), or else a copy of the same program, so that
//! replacing a file under a running cluster is tried wherever the suite runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::fleet::{AGENTS, COORDINATORS, Fleet};

/// The two programs, and where which one runs.
#[derive(Debug)]
pub(crate) struct Programs {
    first: PathBuf,
    next: PathBuf,
    /// Whether the next one is another release, from which there may be no way back.
    is_release: bool,
    /// Hosts that run the next one.
    upgraded: BTreeSet<String>,
}

impl Programs {
    /// The program, and the release after it, if there is one to upgrade to; a copy below `folder` if not.
    pub(crate) fn new(program: &Path, next: Option<&Path>, folder: &Path) -> Result<Self, String> {
        let (next, is_release) = match next {
            Some(next) => (next.to_owned(), true),
            None => {
                let copy = folder.join("next");
                std::fs::copy(program, &copy).map_err(|error| format!("{}: {error}", copy.display()))?;
                (copy, false)
            }
        };
        Ok(Self { first: program.to_owned(), next, is_release, upgraded: BTreeSet::new() })
    }

    /// What a host runs.
    pub(crate) fn of(&self, host: &str) -> &Path {
        if self.upgraded.contains(host) { &self.next } else { &self.first }
    }

    /// Whether all coordinators run the other release.
    fn coordinators_done(&self) -> bool {
        self.is_release && (0..COORDINATORS).all(|number| self.upgraded.contains(&format!("c{number}")))
    }
}

/// Hosts that still run the first program, in the order in which they are upgraded: coordinators first.
fn left(fleet: &Fleet) -> Vec<String> {
    let coordinators = (0..COORDINATORS).map(|number| format!("c{number}"));
    let agents = (0..AGENTS).filter(|number| !fleet.agents[*number].lost).map(|number| format!("n{number}"));
    coordinators.chain(agents).filter(|host| !fleet.programs.upgraded.contains(host)).collect()
}

/// Whether there is anything to upgrade. What is only a copy can be gone back from.
pub(crate) fn is_possible(fleet: &Fleet) -> bool {
    !fleet.programs.is_release || !left(fleet).is_empty()
}

/// Upgrades the next host, as an operator does: stopped in order, the program replaced, started.
pub(crate) fn upgrade_next(fleet: &mut Fleet) -> Result<(), String> {
    let mut hosts = left(fleet);
    if hosts.is_empty() {
        // Back to where it began, to go round again.
        let programs = &mut fleet.programs;
        std::mem::swap(&mut programs.first, &mut programs.next);
        programs.upgraded.clear();
        hosts = left(fleet);
    }
    hosts.first().map_or(Ok(()), |host| upgrade(fleet, host))
}

/// Upgrades all that are left, one after the other.
pub(crate) fn upgrade_all(fleet: &mut Fleet) -> Result<(), String> {
    for host in left(fleet) {
        upgrade(fleet, &host)?;
    }
    Ok(())
}

fn upgrade(fleet: &mut Fleet, host: &str) -> Result<(), String> {
    is_right(fleet)?;
    if let Some(process) = fleet.take(host) {
        process.stop()?;
    }
    fleet.programs.upgraded.insert(host.to_owned());
    fleet.run_host(host)
}

/// Before the last coordinator is upgraded, the cluster does nothing that its first program does not know.
fn is_right(fleet: &Fleet) -> Result<(), String> {
    let Some(version) = fleet.cluster_version() else { return Ok(()) };
    match version > fleet.formed_version && !fleet.programs.coordinators_done() {
        true => Err(format!("the cluster's version is {version} before all coordinators know it")),
        false => Ok(()),
    }
}

/// After everything: the version is as high as all coordinators know, and no higher.
pub(crate) fn violation(fleet: &Fleet) -> Option<String> {
    let raised = || fleet.cluster_version().is_some_and(|version| version > fleet.formed_version);
    if fleet.programs.coordinators_done() && !crate::system::waited(crate::system::PATIENCE, raised) {
        return Some("all coordinators were upgraded, and the cluster's version was not raised".to_owned());
    }
    is_right(fleet).err()
}
