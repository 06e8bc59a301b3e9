//! `fctl login`: the token that commands use when nothing else is said.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::ExitCode;

use flowyard_proto::cluster::GetStatusRequest;
use flowyard_sdk::client::{Client, Endpoint};
use serde_json::json;

use super::Outcome;
use super::token::read_token;
use crate::cli::fleet::Login;
use crate::failure::Failure;
use crate::output;

/// The file that keeps it, readable by its owner alone.
pub(crate) fn token_file() -> Option<PathBuf> {
    Some(dirs::config_dir()?.join("flowyard/token"))
}

pub(super) async fn run(login: &Login) -> Outcome {
    let path = token_file().ok_or_else(|| Failure::Home("there is no place for settings: set HOME".to_owned()))?;
    if login.forget {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::Local { path: path.display().to_string(), source: error });
            }
            _ => output::note("no token is kept any more"),
        }
        return Ok(ExitCode::SUCCESS);
    }
    if login.token.is_none() && std::io::stdin().is_terminal() {
        output::note("paste the token, then press Ctrl-D:");
    }
    let text = read_token(login.token.as_deref().unwrap_or("-"))?;
    let text: String = text.split_whitespace().collect();
    if !text.to_ascii_lowercase().starts_with("fya1-") {
        let hint = "a token of the API begins with fya1-; an administrator makes one with `fctl token create --role ROLE --name NAME`";
        return Err(Failure::Usage(hint.to_owned()));
    }
    let endpoint: Endpoint = text.parse().map_err(|error| Failure::Usage(format!("the token: {error}")))?;
    // It is kept only once the cluster has taken it.
    let status = Client::new(endpoint).get_status(GetStatusRequest {}).await?;
    keep(&path, &text).map_err(Failure::local(path.display()))?;
    match output::is_json() {
        true => output::json(&json!({ "cluster": status.name, "file": path })),
        false => output::line(format!("commands use cluster {} from now on", status.name)),
    }
    Ok(ExitCode::SUCCESS)
}

fn keep(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let beside = path.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&beside, path)
}
