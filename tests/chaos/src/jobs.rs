//! What the clients submit: small jobs of a few shapes, each of which shows one thing at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use flowyard_model::{Digest, HostMount, JobSpec, OnDisconnect};
use flowyard_sdk::client::Source;
use flowyard_sdk::flags;
use flowyard_sdk::flow::{Flow, FlowStep, Foreach, Packing};

use crate::dice::Dice;

/// Tries beside the first that a failing job has.
pub(crate) const RETRIES: u32 = 1;

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// Three tasks with an artifact each, which names the attempt that wrote it. It has no retry.
    Plain,
    /// The same with something to read, which the client sends first.
    Reads,
    /// A task that must not run twice, and writes outside while it runs.
    Single,
    /// A task that fails by its own fault, with one retry.
    Fails,
    /// A task long enough to be cancelled.
    Long,
}

impl Shape {
    /// The shape that a tag names; a key is always submitted in the same shape.
    pub(crate) fn of(tag: &str) -> Option<Self> {
        let letter = tag.chars().next()?;
        [Self::Plain, Self::Reads, Self::Single, Self::Fails, Self::Long]
            .into_iter()
            .find(|shape| shape.letter() == letter)
    }

    pub(crate) fn letter(self) -> char {
        match self {
            Self::Plain => 'p',
            Self::Reads => 'r',
            Self::Single => 's',
            Self::Fails => 'f',
            Self::Long => 'l',
        }
    }

    pub(crate) fn draw(dice: &mut Dice) -> Self {
        *dice.pick(&[Self::Plain, Self::Plain, Self::Plain, Self::Reads, Self::Single, Self::Fails, Self::Long])
    }

    /// Tasks of a job of it.
    pub(crate) fn tasks(self) -> u32 {
        if self == Self::Plain { 3 } else { 1 }
    }

    pub(crate) fn has_artifact(self) -> bool {
        matches!(self, Self::Plain | Self::Reads)
    }

    /// What it does. A task writes again until there is room, since a full disk of its node is not its own fault.
    fn script(self, tag: &str, outside: &Path) -> String {
        let store = "until echo $FLOWYARD_JOB.$FLOWYARD_TASK.$FLOWYARD_ATTEMPT > out; do sleep 0.2; done";
        match self {
            Self::Plain => format!("{store}; sleep 0.3; echo done"),
            Self::Reads => format!("grep -q {tag} \"$FLOWYARD_INPUT_WORDS\" || exit 9; {store}"),
            Self::Single => format!(
                "i=0; while [ $i -lt 15 ]; do date +%s%N >> {}/{tag}.$FLOWYARD_ATTEMPT; sleep 0.2; i=$((i+1)); done",
                outside.display()
            ),
            Self::Fails => "exit 3".to_owned(),
            Self::Long => "sleep 6".to_owned(),
        }
    }

    fn step(self, tag: &str, outside: &Path) -> FlowStep {
        let name = |text: &str| text.parse().unwrap_or_else(|error| unreachable!("a plain word is a name: {error}"));
        let script = self.script(tag, outside);
        let mut step = FlowStep {
            run: ["sh", "-c", &script].map(str::to_owned).to_vec(),
            cpu_milli: Some(50),
            memory_bytes: Some(32 << 20),
            disk_bytes: Some(1 << 20),
            ..FlowStep::default()
        };
        if self.has_artifact() {
            step.outputs = BTreeMap::from([(name("out"), "out".to_owned())]);
        }
        match self {
            Self::Plain => step.foreach = Some(Foreach::Range { start: 0, count: self.tasks() }),
            Self::Reads => step.inputs = BTreeMap::from([(name("words"), format!("./{tag}"))]),
            Self::Single => {
                step.on_disconnect = Some(OnDisconnect::Stop);
                step.kill_grace_ms = Some(500);
                step.mounts = Some(vec![HostMount { path: outside.display().to_string(), read_only: false }]);
            }
            Self::Fails => {
                let retry = flags::retry(&format!("times={RETRIES},backoff=100ms"));
                step.retry = Some(retry.unwrap_or_else(|error| unreachable!("a right retry: {error}")));
            }
            Self::Long => step.kill_grace_ms = Some(500),
        }
        step
    }
}

/// A job to submit and the blobs it needs. What it reads is written below `work` first.
pub(crate) fn job(tag: &str, work: &Path, outside: &Path) -> Result<(JobSpec, BTreeMap<Digest, Source>), String> {
    let shape = Shape::of(tag).ok_or_else(|| format!("{tag} names no shape"))?;
    if shape == Shape::Reads {
        std::fs::write(work.join(tag), format!("these are the words of {tag}\n")).map_err(|error| error.to_string())?;
    }
    let name = "task".parse().map_err(|error| format!("{error}"))?;
    let mut flow = Flow::one_step(name, shape.step(tag, outside));
    flow.tags = BTreeSet::from([tag.to_owned()]);
    let mut packing = Packing::default();
    let spec = flow.resolve(work, &[], &mut packing).map_err(|error| error.to_string())?;
    let mut blobs = BTreeMap::new();
    for (digest, packed) in packing.packed {
        blobs.insert(digest, Source::Bytes(packed.manifest.encode().into()));
        blobs.extend(packed.sources.into_iter().map(|(digest, path)| (digest, Source::File(path))));
    }
    Ok((spec, blobs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_makes_a_job_and_is_found_by_its_tag() {
        let folder = tempfile::tempdir().unwrap();
        for shape in [Shape::Plain, Shape::Reads, Shape::Single, Shape::Fails, Shape::Long] {
            let tag = format!("{}-1", shape.letter());
            assert_eq!(Shape::of(&tag), Some(shape));
            let (spec, blobs) = job(&tag, folder.path(), Path::new("/outside")).unwrap();
            assert!(spec.tags.contains(&tag));
            assert_eq!(blobs.is_empty(), shape != Shape::Reads);
        }
    }
}
