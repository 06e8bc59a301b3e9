//! Removes the folders of forgotten attempts, one after the other on a thread of its own: side by side they would wait for
//! each other at the folder above, and what runs would wait for them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tokio::sync::oneshot;

use crate::attempt::{LAUNCHED, WORK};
use crate::launcher::EXIT_RECORD;
use crate::logs::{STDERR_LOG, STDOUT_LOG};

/// Folders that may wait; the one who forgets more removes them himself.
const QUEUE: usize = 4_096;

/// Hands folders to the thread, which ends with the last handle.
#[derive(Debug)]
pub(crate) struct Remover {
    queue: SyncSender<Work>,
}

/// What the thread does, in this order.
#[derive(Debug)]
enum Work {
    /// Removes a folder.
    Remove(PathBuf),
    /// Says that everything before is done.
    Say(oneshot::Sender<()>),
}

impl Remover {
    /// Starts the thread. Without one, folders are removed where they are forgotten.
    pub(crate) fn start() -> Self {
        let (queue, work) = sync_channel(QUEUE);
        let started = std::thread::Builder::new().name("remover".to_owned()).spawn(move || work_off(&work));
        if let Err(error) = started {
            tracing::warn!(%error, "no thread to remove folders on");
        }
        Self { queue }
    }

    /// Removes a folder soon.
    pub(crate) fn remove(&self, folder: PathBuf) {
        self.hand(Work::Remove(folder));
    }

    /// Says when all folders so far are gone.
    pub(crate) fn say(&self, gone: oneshot::Sender<()>) {
        self.hand(Work::Say(gone));
    }

    fn hand(&self, work: Work) {
        match self.queue.try_send(work) {
            Ok(()) => {}
            Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) => work.done(),
        }
    }
}

impl Work {
    fn done(self) {
        match self {
            Self::Remove(folder) => remove(&folder),
            Self::Say(gone) => {
                let _ = gone.send(());
            }
        }
    }
}

fn work_off(queue: &Receiver<Work>) {
    for work in queue {
        work.done();
    }
}

fn remove(folder: &Path) {
    if remove_usual(folder).is_ok() {
        return;
    }
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "an attempt's folder could not be removed");
        }
        _ => {}
    }
}

/// What most attempts leave is removed by name, without listing folders; anything else makes the last step fail.
fn remove_usual(folder: &Path) -> io::Result<()> {
    for file in [EXIT_RECORD, LAUNCHED, STDOUT_LOG, STDERR_LOG] {
        // What is not there, or is no file, is settled by the last step.
        let _ = std::fs::remove_file(folder.join(file));
    }
    let _ = std::fs::remove_dir(folder.join(WORK));
    std::fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_go_whatever_lies_in_them() {
        let above = tempfile::tempdir().expect("a folder");
        let (usual, unusual) = (above.path().join("usual"), above.path().join("unusual"));
        for folder in [&usual, &unusual] {
            std::fs::create_dir_all(folder.join(WORK)).expect("made");
            std::fs::write(folder.join(EXIT_RECORD), "{}").expect("written");
        }
        std::fs::create_dir_all(unusual.join(WORK).join("deep")).expect("made");
        remove(&usual);
        remove(&unusual);
        assert_eq!(std::fs::read_dir(above.path()).expect("listed").count(), 0);
    }
}
