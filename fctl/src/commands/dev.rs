//! `fctl dev`: an embedded cluster that stays up until interrupted.

use std::process::ExitCode;

use super::Outcome;
use crate::cli::Dev;
use crate::embedded::{Embedded, Parts};
use crate::failure::Failure;
use crate::home::Home;
use crate::metrics_settings::Place;
use crate::output;
use crate::settings::Settings;
use crate::signals::Stops;

pub(super) async fn run(dev: Dev) -> Outcome {
    flowyard_telemetry::logs::identify("part", "embedded");
    let home = Home::find()?;
    home.prepare()?;
    let mut settings = Settings::of(&home)?;
    settings.agent.fake_gpus = dev.fake_gpus.unwrap_or(settings.agent.fake_gpus);
    settings.agent.fake_mig.extend(dev.fake_mig);
    settings.agent.oci_runtime = dev.oci_runtime.or(settings.agent.oci_runtime);
    settings.agent.labels.extend(dev.label);
    let Some(lock) = home.host()? else {
        let pid = home.host_pid().map_or_else(String::new, |pid| format!(" (pid {pid})"));
        return Err(Failure::Home(format!(
            "a cluster of {} is already up{pid}; use it as it is, end that process first, or set FLOWYARD_HOME to another folder",
            home.path().display()
        )));
    };
    settings.otlp = dev.otlp;
    let place = Place::take(settings.metrics(dev.metrics)?).await?;
    let mut stops = Stops::hear()?;
    let embedded = Embedded::start(&home, lock, Parts::All, &settings).await?;
    if let Err(failure) = embedded.connected().await {
        embedded.shutdown().await;
        return Err(failure);
    }
    if output::is_json() {
        output::json(
            &serde_json::json!({ "home": home.path(), "endpoint": format!("unix://{}", home.socket().display()) }),
        );
    } else {
        output::note(format!(
            "cluster of {} is up; endpoint unix://{}",
            home.path().display(),
            home.socket().display()
        ));
        output::note("submit to it from another terminal:  fctl submit flow.toml        stop it with Ctrl-C");
    }
    let _metrics = place.serve(embedded.metrics());
    stops.next().await;
    output::note("stopping; jobs that have not ended go on when the cluster is up again");
    embedded.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
