//! `fctl secret`: what tasks are given and nobody is shown.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use flowyard_model::limits;
use flowyard_proto::cluster::{
    ListSecretsRequest, PutSecretRequest, RemoveSecretRequest, RotateKeyRequest, SecretLine,
};
use serde_json::{Value, json};

use super::Outcome;
use crate::asking::asking;
use crate::cli::Global;
use crate::cli::secret::{PutSecret, Secret};
use crate::failure::Failure;
use crate::home::Home;
use crate::table::{Table, cell};
use crate::{output, text};

pub(super) async fn run(global: &Global, command: Secret) -> Outcome {
    match command {
        Secret::Put(put) => self::put(global, &put).await,
        Secret::Ls => list(global).await,
        Secret::Rm(remove) => {
            let name = remove.name.to_string();
            let request = RemoveSecretRequest { name: name.clone() };
            asking(global, async |client| Ok(client.remove_secret(request).await?)).await?;
            match output::is_json() {
                true => output::json(&json!({ "secret": name, "removed": true })),
                false => output::line(format!("secret {name} is forgotten")),
            }
            Ok(ExitCode::SUCCESS)
        }
        Secret::RotateKey => rotate(global).await,
    }
}

/// The value, from standard input only: so that it is in no list of processes and in no history of a shell.
fn read_value() -> Result<Vec<u8>, Failure> {
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        output::note("type the value, then end it with Ctrl-D on a line of its own");
    }
    let mut value = Vec::new();
    let most = limits::SECRET_BYTES as u64;
    input.by_ref().take(most + 1).read_to_end(&mut value).map_err(Failure::local("standard input"))?;
    match value.len() as u64 {
        0 => Err(Failure::Usage(
            "standard input is empty: give the value there, as in `fctl secret put NAME < file`".to_owned(),
        )),
        bytes if bytes > most => Err(Failure::Usage(format!("a secret has at most {} KiB", most / 1_024))),
        _ => Ok(value),
    }
}

async fn put(global: &Global, put: &PutSecret) -> Outcome {
    let (name, queue) = (put.name.to_string(), put.queue.as_ref().map(ToString::to_string));
    let request = PutSecretRequest { name: name.clone(), queue: queue.clone(), value: read_value()?.into() };
    if global.local {
        // A secret may be the first thing that a home keeps.
        Home::find()?.prepare()?;
    }
    let answer = asking(global, async |client| Ok(client.put_secret(request).await?)).await?;
    if output::is_json() {
        output::json(&json!({ "secret": name, "queue": queue, "replaced": answer.replaced }));
        return Ok(ExitCode::SUCCESS);
    }
    let whom =
        queue.map_or_else(|| "jobs of every queue".to_owned(), |queue| format!("jobs of queue {queue} and below"));
    let does = if answer.replaced { "is replaced" } else { "is kept" };
    output::line(format!("secret {name} {does}, for {whom}"));
    output::note(format!(
        "a step is given it with  env = {{ {name} = {{ secret = \"{name}\" }} }}  or  secret_files = {{ \"{name}\" = \"{name}\" }}"
    ));
    Ok(ExitCode::SUCCESS)
}

async fn list(global: &Global) -> Outcome {
    let answer = asking(global, async |client| Ok(client.list_secrets(ListSecretsRequest {}).await?)).await?;
    if output::is_json() {
        let secrets: Vec<Value> = answer.secrets.iter().map(as_json).collect();
        output::json(&json!({ "secrets": secrets }));
        return Ok(ExitCode::SUCCESS);
    }
    if answer.secrets.is_empty() {
        output::note("there is no secret; keep one with `fctl secret put NAME < file`");
        return Ok(ExitCode::SUCCESS);
    }
    let now_ms = flowyard_clock::wall_ms();
    let mut table = Table::new(["SECRET", "QUEUE", "KEPT BY", "AGE", "KEY"]);
    for line in &answer.secrets {
        let lost = if line.readable { "" } else { " (lost)" };
        table.row([
            cell(text::harmless(&line.name)),
            cell(line.queue.as_deref().map_or_else(|| "every".to_owned(), text::harmless)),
            cell(text::harmless(&line.by)),
            cell(text::duration(now_ms.saturating_sub(line.at_ms))),
            cell(format!("{}{lost}", key(line))),
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

/// The beginning of what the key is known by.
fn key(line: &SecretLine) -> String {
    line.key.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn as_json(line: &SecretLine) -> Value {
    json!({
        "secret": line.name, "queue": line.queue, "by": line.by, "at_ms": line.at_ms, "key": key(line),
        "readable": line.readable,
    })
}

async fn rotate(global: &Global) -> Outcome {
    let answer = asking(global, async |client| Ok(client.rotate_secret_key(RotateKeyRequest {}).await?)).await?;
    if output::is_json() {
        output::json(&json!({ "encrypted": answer.encrypted, "lost": answer.lost }));
    } else {
        output::line(format!("{} encrypted with a new key", text::count(answer.encrypted, "secret")));
        if !answer.lost.is_empty() {
            output::note(format!("the key of these is lost, keep them anew: {}", answer.lost.join(", ")));
        }
    }
    Ok(ExitCode::SUCCESS)
}
