//! How things end.

use flowyard_model as model;
use flowyard_model::limits;

use super::{by_text, closed, number};
use crate::api as wire;
use crate::decode::{self, DecodeError, Decoded};

closed! {
    AttemptOutcome in wire { Succeeded, Failed, Rejected, Stopped, Preempted, Lost }
    Reason in wire {
        Exit, Signal, Oom, Timeout, Disk, Image, Command, Output, Input, Sandbox, Stuck, Cancelled, Preempted, NodeLost,
        LeaseExpired, Device, Refused,
    }
    Blame in wire { User, Platform, Hardware }
    JobOutcome in wire { Succeeded, Failed, Cancelled }
    StuckPhase in wire { Accepting, Fetching, Starting, Storing, Stopping }
}

/// Where something makes no progress, as a number; 0 if it makes some.
pub(crate) fn stuck_number(stuck: Option<model::StuckPhase>) -> i32 {
    stuck.map_or(0, number::<_, wire::StuckPhase>)
}

/// The reverse of [`stuck_number`].
pub(super) fn stuck_phase(number: i32) -> Decoded<Option<model::StuckPhase>> {
    match number {
        0 => Ok(None),
        number => decode::closed("stuck", number).map(Some),
    }
}

impl From<&model::End> for wire::End {
    fn from(end: &model::End) -> Self {
        Self {
            outcome: number::<_, wire::AttemptOutcome>(end.outcome),
            reason: number::<_, wire::Reason>(end.reason),
            blame: number::<_, wire::Blame>(end.blame),
            exit_code: end.exit_code,
            signal: end.signal,
            message: end.message.clone(),
            peak_memory_bytes: end.peak_memory_bytes,
            cpu_us: end.cpu_us,
            outputs: by_text(&end.outputs, |output| (*output).into()),
            stdout: end.logs.stdout.map(Into::into),
            stderr: end.logs.stderr.map(Into::into),
        }
    }
}

impl TryFrom<wire::End> for model::End {
    type Error = DecodeError;

    fn try_from(end: wire::End) -> Decoded<Self> {
        decode::within("message", limits::MESSAGE_BYTES, end.message.len())?;
        decode::at_most("outputs", limits::ARTIFACTS_PER_STEP, end.outputs.len())?;
        Ok(Self {
            outcome: decode::closed("outcome", end.outcome)?,
            reason: decode::closed("reason", end.reason)?,
            blame: decode::closed("blame", end.blame)?,
            exit_code: end.exit_code,
            signal: end.signal,
            message: end.message,
            peak_memory_bytes: end.peak_memory_bytes,
            cpu_us: end.cpu_us,
            outputs: decode::named("outputs", end.outputs)?,
            logs: model::Logs {
                stdout: decode::optional("stdout", end.stdout)?,
                stderr: decode::optional("stderr", end.stderr)?,
            },
        })
    }
}

impl From<model::Output> for wire::Output {
    fn from(output: model::Output) -> Self {
        Self { manifest: Some(output.manifest.into()), list: output.list.map(Into::into) }
    }
}

impl TryFrom<wire::Output> for model::Output {
    type Error = DecodeError;

    fn try_from(output: wire::Output) -> Decoded<Self> {
        Ok(Self {
            manifest: decode::required("manifest", output.manifest)?,
            list: decode::optional("list", output.list)?,
        })
    }
}
