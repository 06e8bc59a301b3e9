//! Log entries and job specs as bytes.
//!
//! What is encoded here can be decoded again: an entry that could not would stop every replica, so the encoder asks first.
//! The encoding is deterministic (maps are ordered), so a digest of it names the spec.

use flowyard_model::{Command, JobSpec, TimeMs, limits};
use prost::Message;

use crate::convert::check_reports;
use crate::decode::{self, DecodeError, Decoded, Problem, Under};
use crate::peer::log_entry::Command as WireCommand;
use crate::{api, peer};

/// The format of entries that this build writes and reads.
pub const ENTRY_FORMAT: u32 = 1;

/// Why something is not written: it could not be read back. It stays with whoever wished it, and harms no replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot be written: {0}")]
pub struct EncodeError(DecodeError);

impl EncodeError {
    /// What a reader would have said.
    pub fn reason(&self) -> &DecodeError {
        &self.0
    }

    /// Whether it is larger than the limit; a batch can be split.
    pub fn is_too_large(&self) -> bool {
        matches!(self.0.problem, Problem::TooLarge { .. } | Problem::TooMany { .. })
    }
}

impl From<DecodeError> for EncodeError {
    fn from(error: DecodeError) -> Self {
        Self(error)
    }
}

/// A command with the leader's time, as the log keeps it.
///
/// # Errors
/// When it is larger than [`limits::ENTRY_BYTES`], or breaks a rule that [`decode_entry`] holds it to.
pub fn encode_entry(time: TimeMs, command: &Command) -> Result<Vec<u8>, EncodeError> {
    let wire = WireCommand::from(command);
    check(command, &wire)?;
    let entry = peer::LogEntry { format: ENTRY_FORMAT, time_ms: time.0, command: Some(wire) };
    decode::within("", limits::ENTRY_BYTES, entry.encoded_len())?;
    Ok(entry.encode_to_vec())
}

/// An entry that another replica made, with the leader's time instead of its own.
///
/// # Errors
/// When it is not an entry that every replica of this release can read: it must not get into the log.
pub fn restamp(bytes: &[u8], time: TimeMs) -> Decoded<Vec<u8>> {
    let (_, command) = decode_entry(bytes)?;
    encode_entry(time, &command).map_err(|EncodeError(reason)| reason)
}

/// Batches are asked only what the model's types leave open; everything else is small enough to be tried.
fn check(command: &Command, wire: &WireCommand) -> Decoded<()> {
    match command {
        Command::ReportAttempts(report) => check_reports(&report.reports),
        Command::CommitPlan(plan) if plan.claims.is_empty() && plan.drops.is_empty() && plan.repairs.is_empty() => {
            decode::at_most("placements", limits::PLACEMENTS_PER_PLAN, plan.placements.len())
        }
        _ => Command::try_from(wire.clone()).map(drop),
    }
}

/// Reads what [`encode_entry`] wrote, in this release or an older one.
///
/// # Errors
/// [`Problem::UnknownFormat`] and [`Problem::UnknownCommand`] when a newer release wrote it; anything else is damage.
pub fn decode_entry(bytes: &[u8]) -> Decoded<(TimeMs, Command)> {
    decode::within("", limits::ENTRY_BYTES, bytes.len())?;
    let entry = peer::LogEntry::decode(bytes).map_err(Problem::Malformed)?;
    let format = decode::positive("format", entry.format)?;
    if format != ENTRY_FORMAT {
        return Err(Problem::UnknownFormat { format }.into());
    }
    let command = entry.command.ok_or(Problem::UnknownCommand).under("command")?;
    Ok((TimeMs(entry.time_ms), command.try_into()?))
}

/// A spec alone. Equal specs have equal bytes.
///
/// # Errors
/// When it is larger than [`limits::SPEC_BYTES`].
pub fn encode_spec(spec: &JobSpec) -> Result<Vec<u8>, EncodeError> {
    let wire = api::JobSpec::from(spec);
    decode::within("", limits::SPEC_BYTES, wire.encoded_len())?;
    Ok(wire.encode_to_vec())
}

/// Reads what [`encode_spec`] wrote.
///
/// # Errors
/// When the bytes are too many, damaged, or break the contract.
pub fn decode_spec(bytes: &[u8]) -> Decoded<JobSpec> {
    decode::within("", limits::SPEC_BYTES, bytes.len())?;
    api::JobSpec::decode(bytes).map_err(Problem::Malformed)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_replica_made_carries_the_leaders_time_and_what_none_could_read_is_refused() {
        let made = encode_entry(TimeMs(7), &Command::Tick).unwrap();
        assert_eq!(decode_entry(&restamp(&made, TimeMs(9)).unwrap()), Ok((TimeMs(9), Command::Tick)));
        assert!(restamp(b"nonsense", TimeMs(9)).is_err());
        let newer = peer::LogEntry { format: ENTRY_FORMAT, time_ms: 7, command: None }.encode_to_vec();
        assert!(restamp(&newer, TimeMs(9)).is_err(), "a command that this build does not know");
    }
}
