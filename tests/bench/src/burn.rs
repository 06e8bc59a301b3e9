//! `cluster-bench burn cpu|disk FOLDER`: a process that takes what nobody else wants of a core, or keeps the disk busy, until it is
//! killed. Started niced, for the soak.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// Bytes of one write, which is synced.
const WRITE_BYTES: usize = 1 << 20;
/// The file begins anew after so many.
const FILE_WRITES: u64 = 256;

/// Burns until it is killed.
pub(crate) fn forever(what: &str, folder: &str) -> ! {
    match what {
        "disk" => {
            let failed = disk(Path::new(folder));
            eprintln!("burn disk: {failed}");
            std::process::exit(1);
        }
        _ => loop {
            std::hint::black_box((0..1_000_000_u64).fold(0, u64::wrapping_add));
        },
    }
}

/// Returns when the disk cannot be written.
fn disk(folder: &Path) -> std::io::Error {
    let bytes = vec![7; WRITE_BYTES];
    let write = || -> std::io::Result<()> {
        let mut file = File::create(folder.join(format!("burnt-{}", std::process::id())))?;
        loop {
            file.seek(SeekFrom::Start(0))?;
            for _ in 0..FILE_WRITES {
                file.write_all(&bytes)?;
                file.sync_data()?;
            }
        }
    };
    write().err().unwrap_or_else(|| std::io::Error::other("it ended"))
}
