//! The spawn floor: how many processes this machine starts and reaps per second, whatever stands above.
//!
//! The standard library starts a plain command by posix_spawn; this program is small and holds no state, so nothing of
//! ours is in the figure.

use std::process::{Command, Stdio};

use super::figures::{Samples, sample};

const PER_THREAD: usize = 2_000;

/// Spawns and waits in a loop on as many threads as there are cores.
pub(crate) fn floor() -> Result<Samples, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    sample(threads, PER_THREAD, |_, _| {
        let mut command = Command::new("/bin/true");
        let command = command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().map_err(|error| format!("cannot run /bin/true: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("/bin/true ended with {status}")) }
    })
}
