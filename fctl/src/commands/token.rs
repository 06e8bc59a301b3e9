//! `fctl token`: what lets somebody in.

use std::io::Read;
use std::process::ExitCode;

use flowyard_proto::cluster::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, TokenLine};
use flowyard_proto::peer::{self, Joiner, RoleKind, grant};
use serde_json::{Value, json};

use super::Outcome;
use crate::asking::{asking, same_cluster};
use crate::cli::Global;
use crate::cli::fleet::{self, TokenCreate, TokenRole};
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::{output, text};

const HOUR_MS: u64 = 3_600_000;
/// How long a token to join lasts, if nothing is said.
const JOIN_MS: u64 = HOUR_MS;
/// How long a person's token lasts, if nothing is said.
const PERSON_MS: u64 = 90 * 24 * HOUR_MS;
/// Longest token that is read.
const TOKEN_BYTES: u64 = 16 * 1024;

pub(super) async fn run(global: &Global, command: fleet::Token) -> Outcome {
    match command {
        fleet::Token::Create(create) => self::create(global, &create).await,
        fleet::Token::Ls => list(global).await,
        fleet::Token::Revoke(revoke) => {
            let request = RevokeTokenRequest { token: revoke.token };
            asking(global, async |client| Ok(client.revoke_token(request).await?)).await?;
            match output::is_json() {
                true => output::json(&json!({ "token": revoke.token, "revoked": true })),
                false => output::line(format!("token {} is good for nothing any more", revoke.token)),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A token as it was given on the command line, or from standard input where that says `-`: so that it is in no list of processes.
pub(super) fn read_token(given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().take(TOKEN_BYTES).read_to_string(&mut text);
    read.map_err(Failure::local("standard input"))?;
    Ok(text)
}

fn grant_of(create: &TokenCreate) -> Result<peer::Grant, Failure> {
    let only = |flag: &str, who: &str| Failure::Usage(format!("{flag} is for {who} only; leave it out"));
    let joins = |joiner: Joiner| {
        if create.name.is_some() {
            return Err(only("--name", "the token of a person"));
        }
        Ok(grant::Kind::Join(joiner.into()))
    };
    if !create.queue.is_empty() && create.role != TokenRole::Submitter {
        return Err(only("--queue", "a submitter"));
    }
    let person = |kind: RoleKind| {
        if create.uses.is_some() {
            return Err(only("--uses", "tokens of coordinators and agents"));
        }
        if kind == RoleKind::Submitter && create.queue.is_empty() {
            return Err(Failure::Usage("a submitter submits to queues; name them with --queue".to_owned()));
        }
        let name = create.name.as_ref().ok_or_else(|| Failure::Usage("--name: say whose token it is".to_owned()))?;
        let queues = create.queue.iter().map(ToString::to_string).collect();
        let role = Some(peer::Role { kind: kind.into(), queues });
        Ok(grant::Kind::Api(peer::ApiGrant { principal: name.to_string(), role }))
    };
    let kind = match create.role {
        TokenRole::Coordinator => joins(Joiner::Coordinator),
        TokenRole::Agent => joins(Joiner::Agent),
        TokenRole::Viewer => person(RoleKind::Viewer),
        TokenRole::Submitter => person(RoleKind::Submitter),
        TokenRole::Operator => person(RoleKind::Operator),
        TokenRole::Admin => person(RoleKind::Admin),
    };
    Ok(peer::Grant { kind: Some(kind?) })
}

async fn create(global: &Global, create: &TokenCreate) -> Outcome {
    let grant = grant_of(create)?;
    let joins = matches!(create.role, TokenRole::Coordinator | TokenRole::Agent);
    let life_ms = create.ttl.unwrap_or(if joins { JOIN_MS } else { PERSON_MS });
    let request = CreateTokenRequest { grant: Some(grant), life_ms, uses: create.uses };
    let made = asking(global, async |client| Ok(client.create_token(request).await?)).await?;
    let command = match create.role {
        TokenRole::Coordinator => Some(format!("fctl coordinator join {}", made.text)),
        TokenRole::Agent => Some(format!("fctl agent join {}", made.text)),
        _ => None,
    };
    if output::is_json() {
        output::json(&json!({
            "token": made.token, "text": made.text, "command": command, "expires_at_ms": made.expires_at_ms,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let lasts = text::duration(life_ms);
    let cluster = same_cluster(global);
    match &command {
        Some(command) => {
            output::line(command);
            let uses = create.uses.unwrap_or(1);
            output::note(format!(
                "run this line on the other host; it lets in {} within {lasts}. Take it back: fctl token revoke {}{cluster}",
                text::count(u64::from(uses), "host"),
                made.token
            ));
        }
        None => {
            output::line(&made.text);
            output::note(format!(
                "it lasts {lasts} and is shown only now. Keep it on their machine: fctl login. Take it back: fctl token revoke {}{cluster}",
                made.token
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a token is good for, in words.
fn purpose(line: &TokenLine) -> String {
    match line.grant.as_ref().and_then(|grant| grant.kind.as_ref()) {
        Some(grant::Kind::Join(joiner)) => match Joiner::try_from(*joiner) {
            Ok(Joiner::Coordinator) => "joins as coordinator".to_owned(),
            Ok(Joiner::Agent) => "joins as agent".to_owned(),
            _ => "joins".to_owned(),
        },
        Some(grant::Kind::Api(api)) => {
            let role = api.role.clone().unwrap_or_default();
            let kind = text::word(role.kind().as_str_name(), "ROLE_KIND_");
            let queues = if role.queues.is_empty() { String::new() } else { format!(" to {}", role.queues.join(", ")) };
            format!("{} ({kind}{queues})", text::harmless(&api.principal))
        }
        None => String::new(),
    }
}

fn standing(line: &TokenLine, now_ms: u64) -> String {
    match (line.revoked, line.uses_left) {
        (true, _) => "revoked".to_owned(),
        (_, Some(0)) => "used up".to_owned(),
        _ => format!("{} left", text::duration(line.expires_at_ms.saturating_sub(now_ms))),
    }
}

async fn list(global: &Global) -> Outcome {
    let answer = asking(global, async |client| Ok(client.list_tokens(ListTokensRequest {}).await?)).await?;
    if output::is_json() {
        let tokens: Vec<Value> = answer.tokens.iter().map(as_json).collect();
        output::json(&json!({ "tokens": tokens }));
        return Ok(ExitCode::SUCCESS);
    }
    if answer.tokens.is_empty() {
        output::note("there is no token; make one with `fctl token create`");
        return Ok(ExitCode::SUCCESS);
    }
    let now_ms = flowyard_clock::wall_ms();
    let mut table = Table::new(["TOKEN", "FOR", "STANDING", "USES", "MADE BY"]);
    for line in &answer.tokens {
        table.row([
            cell(line.token.to_string()),
            cell(purpose(line)),
            cell(standing(line, now_ms)),
            cell(line.uses_left.map_or_else(|| "-".to_owned(), |left| left.to_string())),
            cell(text::harmless(&line.created_by)),
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

fn as_json(line: &TokenLine) -> Value {
    let (kind, principal, queues) = match line.grant.as_ref().and_then(|grant| grant.kind.as_ref()) {
        Some(grant::Kind::Join(joiner)) => {
            let joiner = Joiner::try_from(*joiner).unwrap_or_default();
            (text::word(joiner.as_str_name(), "JOINER_"), None, Vec::new())
        }
        Some(grant::Kind::Api(api)) => {
            let role = api.role.clone().unwrap_or_default();
            (text::word(role.kind().as_str_name(), "ROLE_KIND_"), Some(api.principal.clone()), role.queues)
        }
        None => (String::new(), None, Vec::new()),
    };
    json!({
        "token": line.token, "role": kind, "name": principal, "queues": queues, "expires_at_ms": line.expires_at_ms,
        "uses_left": line.uses_left, "created_by": line.created_by, "created_at_ms": line.created_at_ms,
        "revoked": line.revoked,
    })
}
