//! A question to a cluster: connect, ask, close; whatever the answer, nothing is left running.

use flowyard_sdk::client::Client;

use crate::cli::Global;
use crate::connect::Connection;
use crate::embedded::Parts;
use crate::failure::Failure;
use crate::output;

/// Asks the cluster that the flags name. Under `--local` no task is run for it.
///
/// # Errors
/// When there is no cluster, and what `ask` gives.
pub(crate) async fn asking<T>(
    global: &Global,
    ask: impl AsyncFnOnce(&mut Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut connection = Connection::open(global, Parts::Coordinator).await?;
    let answer = ask(&mut connection.client).await;
    connection.close().await;
    answer
}

/// As [`asking`]; with `stale`, whatever coordinator answers tells what it knows, and the answer is labelled.
///
/// # Errors
/// As [`asking`].
pub(crate) async fn asking_anybody<T>(
    global: &Global,
    stale: bool,
    ask: impl AsyncFnOnce(&mut Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    asking(global, async |client| {
        if !stale {
            return ask(client).await;
        }
        let mut client = client.stale();
        let answer = ask(&mut client).await?;
        if let Some(staleness) = client.staleness() {
            output::label_stale(staleness);
        }
        Ok(answer)
    })
    .await
}

/// What a command that is suggested must be given to reach the same cluster.
pub(crate) fn same_cluster(global: &Global) -> String {
    match (&global.endpoint, global.local) {
        (_, true) => " --local".to_owned(),
        // From the environment or the command line, it is not known which; naming it again does no harm.
        // A token is a secret: nobody's screen shows it again.
        (Some(endpoint), false) if endpoint.trim_start().to_ascii_lowercase().starts_with("fya1-") => {
            " --endpoint TOKEN".to_owned()
        }
        (Some(endpoint), false) if std::env::var_os("FLOWYARD_ENDPOINT").is_none() => {
            format!(" --endpoint {}", flowyard_sdk::shown::shown(endpoint))
        }
        _ => String::new(),
    }
}
