//! What an agent says of itself, as files, for whoever looks for a fault. Nothing of what its tasks are given, run or print is in them.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use flowyard_proto::agent::{Diagnosis, relay_from_agent};
use flowyard_telemetry::{Exposition, logs};

use crate::attempt::Desk;
use crate::counts::Told;
use crate::relay::{Outbox, message};

/// Bytes of the launcher's log, from its end.
const LAUNCHER_BYTES: u64 = 64 * 1024;

/// Says all files.
pub(crate) async fn serve(desk: &Arc<Desk>, outbox: &Outbox) -> Result<(), String> {
    let desk = Arc::clone(desk);
    let files = tokio::task::spawn_blocking(move || files(&desk)).await.map_err(|error| error.to_string())?;
    for (name, content) in files {
        let file = Diagnosis { name: name.to_owned(), content: content.into_bytes().into() };
        let sent = outbox.send(message(relay_from_agent::Message::Diagnosis(file))).await;
        sent.map_err(|_| "nobody listens any more".to_owned())?;
    }
    Ok(())
}

fn files(desk: &Arc<Desk>) -> Vec<(&'static str, String)> {
    let told = Exposition::of(vec![Arc::new(Told { desk: Arc::clone(desk) })]).text();
    vec![
        ("settings.txt", format!("{:#?}\n", desk.config)),
        ("inventory.txt", format!("{:#?}\n", desk.inventory)),
        ("metrics.txt", told),
        ("log.jsonl", logs::recent()),
        ("launcher.log", launcher_log(desk)),
    ]
}

fn launcher_log(desk: &Desk) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(desk.config.folder.join("launcher/launcher.log"))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAUNCHER_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAUNCHER_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_or_else(|error| format!("{error}\n"), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}
