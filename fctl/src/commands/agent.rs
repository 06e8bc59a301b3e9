//! `fctl agent`: making this host a node, and running its agent.

use std::path::Path;
use std::process::ExitCode;

use flowyard_agent::fleet::{Membership, Reach};
use flowyard_agent::{Agent, AgentConfig};
use flowyard_cas::{LocalOptions, LocalStore, Store};
use flowyard_identity::JoinToken;
use flowyard_model::Name;
use flowyard_sdk::shown::chain;
use flowyard_telemetry::logs;
use serde_json::json;

use super::Outcome;
use super::coordinator::host_name;
use super::token::read_token;
use crate::cli::fleet::{self, AgentJoin, AgentRun};
use crate::failure::Failure;
use crate::metrics_settings::Place;
use crate::settings::Settings;
use crate::signals::Stops;
use crate::{output, supervised, traced};

pub(super) async fn run(command: fleet::Agent) -> Outcome {
    match command {
        fleet::Agent::Join(join) => self::join(&join).await,
        fleet::Agent::Run(run) => serve(&run).await,
    }
}

async fn join(join: &AgentJoin) -> Outcome {
    let name: Name = match &join.name {
        Some(name) => name.clone(),
        None => {
            host_name()?.parse().map_err(|error| Failure::Usage(format!("this host's name: {error}; give --name")))?
        }
    };
    let token: JoinToken =
        read_token(&join.token)?.parse().map_err(|error| Failure::Usage(format!("the token: {error}")))?;
    let joined = flowyard_agent::fleet::join(&token, &name, &join.folder).await;
    let membership = joined.map_err(|error| Failure::Home(chain(&error)))?;
    if output::is_json() {
        output::json(&json!({ "node": name, "cluster": membership.cluster(), "folder": join.folder }));
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format!("this host is node {name}"));
    let folder = match join.folder == Path::new(fleet::AGENT_FOLDER) {
        true => String::new(),
        false => format!(" --folder {}", join.folder.display()),
    };
    output::note(format!("run its agent:  fctl agent run{folder}"));
    Ok(ExitCode::SUCCESS)
}

async fn serve(run: &AgentRun) -> Outcome {
    let folder = run.folder.as_path();
    let membership = Membership::load(folder).map_err(|error| Failure::Home(chain(&error)))?;
    let settings = Settings::of_file(&folder.join("config.toml"))?;
    let exporter = traced::exporter(run.otlp.as_deref(), "flowyard-agent")?;
    let place = Place::take(settings.metrics(run.metrics)?).await?;
    let options = LocalOptions::with_budget(settings.cache_budget_bytes);
    let local = LocalStore::open(&folder.join("cache"), options).map_err(|error| Failure::Home(chain(&error)))?;
    let exe = std::env::current_exe().map_err(Failure::local("this program"))?;
    let name = membership.name().clone();
    let config = AgentConfig::fleet(name.clone(), folder.to_owned(), &exe, settings.agent);
    let config = config.map_err(|error| Failure::Home(error.to_string()))?;
    logs::identify("part", "agent");
    logs::identify("name", &name);
    let mut stops = Stops::hear()?;
    let store = Store::new(local, flowyard_agent::fleet::origin(&membership));
    let doors = membership.doors().addresses();
    let agent = tokio::select! {
        started = Agent::start_traced(config, store, Reach::Fleet(membership), exporter) => started,
        // What keeps it from starting may last; it can be told to stop meanwhile.
        _ = stops.next() => return Ok(ExitCode::SUCCESS),
    };
    let agent = agent.map_err(|error| Failure::Home(chain(&error)))?;
    if output::is_json() {
        output::json(
            &json!({ "node": name, "coordinators": doors, "limits": agent.inventory().abilities.enforcement }),
        );
    } else {
        output::note(format!("the agent of node {name} runs; its coordinators: {}", doors.join(", ")));
    }
    let _metrics = place.serve(vec![agent.metrics()]);
    let watched = supervised::ready(&format!("agent of node {name}"));
    stops.next().await;
    drop(watched);
    supervised::stopping();
    output::note("stopping; what runs goes on, and is taken up by the next agent of this folder");
    agent.stop(false).await;
    Ok(ExitCode::SUCCESS)
}
