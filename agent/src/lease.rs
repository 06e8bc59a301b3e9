//! The lease file: until when attempts with `on_disconnect = "stop"` may run without further word from a coordinator.
//!
//! It holds a time of the boot clock, which begins anew when the machine does. Invariant: a lease of an earlier boot is never
//! taken for one of this.

use std::io;
use std::path::Path;

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Puts the lease's new end into its file, by rename. Shims and the launcher read it when the old one is due.
pub(crate) fn renew(path: &Path, until_ms: u64) {
    if let Err(error) = replace(path, &until_ms.to_string()) {
        tracing::error!(%error, path = %path.display(), "the lease cannot be renewed; attempts with on_disconnect = \"stop\" will end");
    }
}

/// Ends a lease that an earlier boot left behind. To be called before anything is begun.
///
/// # Errors
/// When it cannot be ended: then nothing may be begun.
pub(crate) fn end_of_earlier_boot(path: &Path) -> io::Result<()> {
    end_unless_of(path, std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim())
}

fn end_unless_of(path: &Path, boot: &str) -> io::Result<()> {
    let marker = path.with_added_extension("boot");
    // What cannot be compared is taken for another: a lease that ends too early is renewed at the next word.
    let same = !boot.is_empty() && std::fs::read_to_string(&marker).is_ok_and(|known| known == boot);
    if same {
        return Ok(());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    replace(&marker, boot)
}

fn replace(path: &Path, content: &str) -> io::Result<()> {
    let beside = path.with_added_extension("tmp");
    std::fs::write(&beside, content)?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::ending::read_lease;

    #[test]
    fn a_lease_ends_with_the_boot_it_was_given_in() {
        let folder = tempfile::tempdir().unwrap();
        let lease = folder.path().join("lease");
        end_unless_of(&lease, "first").unwrap();
        renew(&lease, 1_000_000);
        end_unless_of(&lease, "first").unwrap();
        assert_eq!(read_lease(&lease), Some(1_000_000), "the agent alone began anew");
        end_unless_of(&lease, "second").unwrap();
        assert_eq!(read_lease(&lease), None);
    }
}
