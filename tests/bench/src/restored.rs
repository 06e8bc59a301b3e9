//! A coordinator that was restored from a backup, and is alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flowyard_clock::{elapsed, monotonic};
use flowyard_model::JobSpec;
use flowyard_proto::api::GetJobRequest;
use flowyard_sdk::client::{Client, Endpoint};

use crate::asked::Asked;
use crate::fleet::{bare_command, start_coordinator};
use crate::processes::{PATIENCE, Process, free_address, output_of};
use crate::work;

const BATCH: u64 = 500;

/// The one coordinator of a restored cluster.
pub(crate) struct Restored<'a> {
    program: &'a Path,
    place: PathBuf,
    /// A small job, to be submitted.
    pub(crate) spec: JobSpec,
}

impl<'a> Restored<'a> {
    /// Restores a backup into an empty folder.
    pub(crate) fn new(asked: &'a Asked, place: &Path, backup: &Path) -> Result<Self, String> {
        let (api, peers) = (free_address()?, free_address()?);
        let mut restore = bare_command(&asked.program, place);
        restore.args(["coordinator", "restore"]).arg(backup).arg("--folder").arg(place.join("c0"));
        restore.args(["--address", &api, "--listen", &api, "--peer-address", &peers, "--peer-listen", &peers]);
        output_of(&mut restore)?;
        Ok(Self { program: &asked.program, place: place.to_owned(), spec: work::small(&["/bin/true"])? })
    }

    /// Starts it, and waits until it says that it runs.
    pub(crate) fn start(&self) -> Result<Process, String> {
        start_coordinator(self.program, &self.place, 0)
    }

    /// Starts it and does not wait.
    pub(crate) fn spawn(&self) -> Result<Process, String> {
        let mut run = bare_command(self.program, &self.place);
        run.args(["coordinator", "run", "--folder"]).arg(self.folder());
        Process::start(&mut run, &self.place.join("c0.log"))
    }

    /// A client at its own socket.
    pub(crate) fn client(&self) -> Client {
        Client::new(Endpoint::socket(self.place.join("c0/api.sock")))
    }

    /// Waits until a read of what everybody agrees on is answered.
    pub(crate) async fn serving(&self) -> Result<(), String> {
        let start = monotonic();
        while elapsed(start) < 4 * PATIENCE {
            if self.client().get_job(GetJobRequest { job: 1 }).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err("the coordinator does not serve".to_owned())
    }

    /// Submits so many jobs, one entry each.
    pub(crate) async fn submit_many(&self, mut left: u64) -> Result<(), String> {
        let mut client = self.client();
        while left > 0 {
            let count = left.min(BATCH);
            let jobs = std::iter::repeat_n((self.spec.clone(), None), count as usize);
            let answers = client.submit_batch(jobs).await.map_err(|error| error.to_string())?;
            answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
            left -= count;
        }
        Ok(())
    }

    /// Everything that it keeps.
    pub(crate) fn folder(&self) -> PathBuf {
        self.place.join("c0")
    }
}
