//! `fctl install`: the unit files with which systemd runs a coordinator or an agent.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::Outcome;
use crate::cli::fleet::{AGENT_FOLDER, COORDINATOR_FOLDER, Daemon, Install};
use crate::failure::Failure;
use crate::output;

const COORDINATOR: &str = include_str!("../../units/flowyard-coordinator.service");
const AGENT: &str = include_str!("../../units/flowyard-agent.service");

pub(super) fn run(install: &Install) -> Outcome {
    let (name, unit, folder) = match install.service {
        Daemon::Coordinator => ("flowyard-coordinator.service", COORDINATOR, COORDINATOR_FOLDER),
        Daemon::Agent => ("flowyard-agent.service", AGENT, AGENT_FOLDER),
    };
    let folder = install.folder.as_deref().unwrap_or(Path::new(folder));
    let program = std::env::current_exe().map_err(Failure::local("this program"))?;
    let text = unit.replace("@PROGRAM@", plain(&program)?).replace("@FOLDER@", plain(folder)?);
    if install.print {
        output::line(text.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    if !install.units.is_dir() {
        let where_else =
            "is this machine run by systemd? --units names another folder, --print writes the unit to standard output";
        return Err(Failure::Usage(format!("there is no folder {} for units; {where_else}", install.units.display())));
    }
    let path = install.units.join(name);
    let beside = install.units.join(format!(".{name}.new"));
    std::fs::write(&beside, text).map_err(Failure::local(beside.display()))?;
    std::fs::rename(&beside, &path).map_err(Failure::local(path.display()))?;
    if output::is_json() {
        output::json(&json!({ "unit": name, "file": path }));
    } else {
        output::line(format!("wrote {}", path.display()));
        output::note(format!(
            "start it now and at every boot:  systemctl daemon-reload && systemctl enable --now {name}"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// A path as a unit file takes it without any quoting.
fn plain(path: &Path) -> Result<&str, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+');
    match path.to_str() {
        Some(text) if path.is_absolute() && text.chars().all(plain) => Ok(text),
        _ => Err(Failure::Usage(format!(
            "{} cannot be written into a unit file: use an absolute path of letters, digits and /-_.+",
            path.display()
        ))),
    }
}
