//! The rows of an archived page, as they are kept in the origin.

use flowyard_model::{Digest, JobId, TimeMs};
use prost::Message;

use crate::decode::{self, Decoded, Problem, Under};
use crate::{api, peer};

/// The format of rows that this build writes and reads.
const ROWS_FORMAT: u32 = 1;

/// One archived job.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveRow {
    /// The job as lists show it.
    pub row: api::JobRow,
    /// Manifest of what is kept of it.
    pub manifest: Digest,
    /// When it was archived.
    pub archived_at: TimeMs,
    /// Until when it is kept.
    pub until: TimeMs,
}

impl ArchiveRow {
    /// Which job it is.
    pub fn job(&self) -> JobId {
        JobId(self.row.job)
    }
}

/// Rows as bytes. Equal rows have equal bytes.
pub fn encode_rows<'r>(rows: impl IntoIterator<Item = &'r ArchiveRow>) -> Vec<u8> {
    let rows = rows.into_iter().map(|row| peer::ArchiveRow {
        row: Some(row.row.clone()),
        manifest: Some(row.manifest.into()),
        archived_at_ms: row.archived_at.0,
        until_ms: row.until.0,
    });
    peer::ArchiveRows { format: ROWS_FORMAT, rows: rows.collect() }.encode_to_vec()
}

/// Reads what [`encode_rows`] wrote.
///
/// # Errors
/// When a newer release wrote it, or the bytes are damaged.
pub fn decode_rows(bytes: &[u8]) -> Decoded<Vec<ArchiveRow>> {
    let rows = peer::ArchiveRows::decode(bytes).map_err(Problem::Malformed)?;
    if rows.format != ROWS_FORMAT {
        return Err(Problem::UnknownFormat { format: rows.format }).under("format");
    }
    rows.rows.into_iter().enumerate().map(|(at, row)| to_row(row).under_index("rows", at)).collect()
}

fn to_row(row: peer::ArchiveRow) -> Decoded<ArchiveRow> {
    Ok(ArchiveRow {
        row: row.row.ok_or(Problem::Missing).under("row")?,
        manifest: decode::required("manifest", row.manifest)?,
        archived_at: TimeMs(row.archived_at_ms),
        until: TimeMs(row.until_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_and_those_of_a_newer_format_are_refused() {
        let digest = Digest { hash: [3; 32], length: 9 };
        let row = api::JobRow { job: 17, name: "iris".to_owned(), ..api::JobRow::default() };
        let rows = [ArchiveRow { row, manifest: digest, archived_at: TimeMs(5), until: TimeMs(9) }];
        assert_eq!(decode_rows(&encode_rows(&rows)).unwrap(), rows);
        let newer = peer::ArchiveRows { format: 2, rows: Vec::new() }.encode_to_vec();
        assert!(decode_rows(&newer).unwrap_err().to_string().contains("format 2 is not known"));
    }
}
