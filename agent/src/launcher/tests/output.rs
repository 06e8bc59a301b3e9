//! What tasks print, and that much of it harms nobody.

use super::*;
use crate::logs::{STDERR_LOG, TAIL_BYTES};

fn resident_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("process");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
}

#[tokio::test]
async fn both_outputs_are_kept_apart_and_whole() {
    let mut yard = Yard::open().await;
    let spec = yard.shell("seq 1 20000; seq 5 >&2; printf unfinished");
    let folder = spec.folder.clone();
    assert_eq!(yard.run(spec).await.cause, exited(0));
    let mut expected: Vec<String> = (1..=20_000).map(|number| number.to_string()).collect();
    expected.push("unfinished".into());
    assert_eq!(stdout_of(&folder), expected.join("\n"));
    assert_eq!(lines(&folder.join(STDERR_LOG)).len(), 5);
}

#[tokio::test]
async fn a_flood_is_cut_in_the_middle_and_stalls_nobody() {
    let mut yard = Yard::open().await;
    let mut flood =
        yard.shell("yes 'a line of output that nobody reads' | head -c 400M; echo; echo the reason; exit 4");
    flood.log_limit_bytes = 2 << 20;
    let folder = flood.folder.clone();
    yard.start(flood).await;
    let quick = yard.spec(&["true"]);
    let begun = flowyard_clock::monotonic();
    assert_eq!(yard.run(quick).await.cause, exited(0));
    assert!(flowyard_clock::elapsed(begun) < Duration::from_secs(1), "the flood stalled another attempt");
    assert_eq!(yard.end_of(&folder).await.cause, exited(4));
    yard.reconnect().await;
    let resident = resident_bytes(launcher_pid(&yard));
    assert!(resident < 64 << 20, "{resident} bytes resident");
    let lines = lines(&folder.join(STDOUT_LOG));
    assert_eq!(lines.last().expect("lines").bytes, b"the reason");
    let note = lines.iter().find(|line| line.note).expect("a note");
    assert_eq!(String::from_utf8_lossy(&note.bytes), "flowyard: log limit of 2 MiB reached, 397 MiB dropped here");
    let size = std::fs::metadata(folder.join(STDOUT_LOG)).expect("spool").len();
    assert!(size < (2 << 20) + 2 * TAIL_BYTES as u64 + 65_536, "{size}");
}
