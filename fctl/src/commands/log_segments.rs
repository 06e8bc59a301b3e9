//! `fctl cluster log-segments`: what is kept of the log in the origin, so that the past can be replayed.

use std::process::ExitCode;

use flowyard_proto::api;
use serde_json::{Value, json};

use super::Outcome;
use crate::asking::asking;
use crate::cli::Global;
use crate::table::{Table, cell};
use crate::{attempt_lines, output, text};

pub(super) async fn run(global: &Global) -> Outcome {
    let kept = asking(global, async |client| Ok(client.get_storage(api::GetStorageRequest {}).await?)).await?;
    if output::is_json() {
        let segments: Vec<_> = kept.segments.iter().map(as_json).collect();
        output::json(&json!({
            "segments": segments,
            "unsealed_entries": kept.unsealed_entries,
            "keep_ms": kept.segments_keep_ms,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    if !kept.segments.is_empty() {
        let mut table = Table::new(["FIRST", "LAST", "SIZE", "SEALED", "BLOB", "CHAIN"]);
        for segment in &kept.segments {
            table.row([
                cell(segment.first.to_string()),
                cell(segment.last.to_string()),
                cell(text::size(segment.bytes)),
                cell(text::ago(segment.sealed_ms)),
                cell(attempt_lines::short(&segment.blob)),
                cell(attempt_lines::short(&segment.chain)),
            ]);
        }
        table.print();
    }
    output::note(summary(&kept));
    Ok(ExitCode::SUCCESS)
}

/// How large all segments are together.
pub(super) fn size(kept: &api::Storage) -> String {
    text::size(kept.segments.iter().map(|segment| segment.bytes).sum())
}

/// Which entries are sealed, and what is missing.
pub(super) fn summary(kept: &api::Storage) -> String {
    let (Some(first), Some(last)) = (kept.segments.first(), kept.segments.last()) else {
        return match kept.segments_keep_ms {
            0 => "the log is not sealed".to_owned(),
            _ => "nothing yet; entries are sealed once a snapshot covers them".to_owned(),
        };
    };
    let holes = kept.segments.windows(2).filter(|pair| pair[0].last + 1 != pair[1].first).count();
    let holes = if holes > 0 { format!(", with {}", text::count(holes as u64, "hole")) } else { String::new() };
    let waits = match kept.unsealed_entries {
        0 => String::new(),
        waits => format!("; {} to be sealed", text::count_of(waits, "entry", "entries")),
    };
    let parts = text::count(kept.segments.len() as u64, "segment");
    format!("entries {} to {} in {parts}{holes}{waits}", first.first, last.last)
}

/// One segment.
pub(super) fn as_json(segment: &api::LogSegment) -> Value {
    json!({
        "first": segment.first,
        "last": segment.last,
        "bytes": segment.bytes,
        "blob": segment.blob,
        "chain": segment.chain,
        "sealed_ms": segment.sealed_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_what_waits_are_said() {
        let segment = |first, last| api::LogSegment { first, last, ..api::LogSegment::default() };
        let mut kept = api::Storage { segments_keep_ms: 1, ..api::Storage::default() };
        assert_eq!(summary(&kept), "nothing yet; entries are sealed once a snapshot covers them");
        kept.segments = vec![segment(1, 50), segment(51, 90)];
        assert_eq!(summary(&kept), "entries 1 to 90 in 2 segments");
        kept.segments.push(segment(100, 110));
        kept.unsealed_entries = 1;
        assert_eq!(summary(&kept), "entries 1 to 110 in 3 segments, with 1 hole; 1 entry to be sealed");
    }
}
