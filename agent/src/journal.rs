//! What an agent remembers across its own death: which node it is, and what it was asked to run.
//!
//! One file, appended to, each record a line of JSON; rewritten at each start, and when most of it is of no use any more. Not synced:
//! it must survive the agent, not a power cut, after which nothing runs anyway. A torn line is passed over.
//!
//! Invariant: a member whose record could not be written is not begun, so nothing runs that the next agent does not know of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowyard_model::{DesiredMember, Incarnation, JobId, MemberKey, NodeId, StepContext, StepIndex, StopTerms};
use serde::{Deserialize, Serialize};

/// Lines that the file may have in any case before it is rewritten.
const LINES_MIN: u64 = 4_096;
/// Lines for each member that is remembered, above which it is rewritten.
const LINES_PER_MEMBER: u64 = 16;

/// Which node of which cluster an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registration {
    /// The cluster.
    pub cluster: String,
    /// Which history of it.
    pub epoch: u32,
    /// The node.
    pub node: NodeId,
    /// For which time it was registered.
    pub incarnation: Incarnation,
}

/// What is appended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    /// This agent is this node.
    Registered(Registration),
    /// The context of members that follow.
    Step(Arc<StepContext>),
    /// A member was taken.
    Accepted(DesiredMember),
    /// It was asked to stop, in this way.
    Stopping(MemberKey, StopTerms),
    /// It is over, and the coordinator knows.
    Forgotten(MemberKey),
}

/// What was read back.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// The last registration.
    pub registered: Option<Registration>,
    /// Members that were taken and not forgotten, each with its context in `steps`.
    pub members: BTreeMap<MemberKey, DesiredMember>,
    /// Those of them that were asked to stop, and how.
    pub stopping: BTreeMap<MemberKey, StopTerms>,
    /// Their contexts.
    pub steps: BTreeMap<(JobId, StepIndex), Arc<StepContext>>,
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    lines: u64,
    members: u64,
    /// Contexts that are in the file.
    steps: BTreeSet<(JobId, StepIndex)>,
    /// Whether the last line may lack its end.
    torn: bool,
}

impl Journal {
    /// Reads what is there, rewrites it without what was forgotten, and opens it for more.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Remembered)> {
        let remembered = read(path)?;
        let beside = path.with_extension("tmp");
        let mut file = File::create(&beside)?;
        let registered = remembered.registered.clone().map(Record::Registered);
        let steps = remembered.steps.values().cloned().map(Record::Step);
        let members = remembered.members.values().cloned().map(Record::Accepted);
        let stopping = remembered.stopping.iter().map(|(key, terms)| Record::Stopping(*key, *terms));
        let mut lines = 0;
        for record in registered.into_iter().chain(steps).chain(members).chain(stopping) {
            file.write_all(&line(&record))?;
            lines += 1;
        }
        std::fs::rename(&beside, path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        let this = Self {
            file,
            path: path.to_owned(),
            lines,
            members: remembered.members.len() as u64,
            steps: remembered.steps.keys().copied().collect(),
            torn: false,
        };
        Ok((this, remembered))
    }

    /// Notes a registration. One that cannot be written costs adoption after a crash, not the work that runs now.
    pub(crate) fn registered(&mut self, registration: Registration) {
        self.append_or_say(&Record::Registered(registration));
    }

    /// Notes that a member was taken; its context before the first that needs it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn accepted(&mut self, context: &Arc<StepContext>, member: &DesiredMember) -> io::Result<()> {
        let step = (context.job, context.step);
        if !self.steps.contains(&step) {
            self.append(&Record::Step(Arc::clone(context)))?;
            self.steps.insert(step);
        }
        self.append(&Record::Accepted(member.clone()))?;
        self.members += 1;
        Ok(())
    }

    /// Notes that a member was asked to stop. If that cannot be written, the next agent hears it from a coordinator.
    pub(crate) fn stopping(&mut self, key: MemberKey, terms: StopTerms) {
        self.append_or_say(&Record::Stopping(key, terms));
    }

    /// Notes that nothing is kept of a member any more. If that cannot be written, the next agent finds nothing of it.
    pub(crate) fn forgotten(&mut self, key: MemberKey) {
        self.append_or_say(&Record::Forgotten(key));
        self.members = self.members.saturating_sub(1);
        if self.lines > LINES_MIN.max(self.members * LINES_PER_MEMBER) {
            match Self::open(&self.path) {
                Ok((rewritten, _)) => *self = rewritten,
                Err(error) => tracing::warn!(path = %self.path.display(), %error, "the journal cannot be rewritten"),
            }
        }
    }

    fn append_or_say(&mut self, record: &Record) {
        if let Err(error) = self.append(record) {
            tracing::error!(path = %self.path.display(), %error, "the journal cannot be written");
        }
    }

    /// A line that was torn, by a full disk, is ended before the next one.
    fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut bytes = line(record);
        if self.torn {
            bytes.insert(0, b'\n');
        }
        let written = self.file.write_all(&bytes);
        self.torn = written.is_err();
        self.lines += 1;
        written
    }
}

/// Opens the journal in a file of anything, as an agent does that starts; whether it remembers something then. For tests.
///
/// # Errors
/// When the file cannot be read or written.
pub fn remembers_from(path: &Path) -> io::Result<bool> {
    let (_, remembered) = Journal::open(path)?;
    Ok(remembered.registered.is_some() || !remembered.members.is_empty())
}

fn line(record: &Record) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec(record).unwrap_or_else(|error| panic!("a journal record is plain data: {error}"));
    bytes.push(b'\n');
    bytes
}

fn read(path: &Path) -> io::Result<Remembered> {
    let (members, steps, stopping) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut remembered = Remembered { registered: None, members, stopping, steps };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(remembered),
        Err(error) => return Err(error),
    };
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        if line.is_empty() {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(Record::Registered(registration)) => remembered.registered = Some(registration),
            Ok(Record::Step(context)) => drop(remembered.steps.insert((context.job, context.step), context)),
            Ok(Record::Accepted(member)) => drop(remembered.members.insert(member.key, member)),
            Ok(Record::Stopping(key, terms)) => drop(remembered.stopping.insert(key, terms)),
            Ok(Record::Forgotten(key)) => drop(remembered.members.remove(&key)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a torn or foreign line of the journal was passed over")
            }
        }
    }
    let step = |key: &MemberKey| (key.task.job, key.task.step);
    let Remembered { members, steps, stopping, .. } = &mut remembered;
    // Without its context nothing can be done for a member but to end it, as what is not remembered.
    members.retain(|key, _| steps.contains_key(&step(key)));
    stopping.retain(|key, _| members.contains_key(key));
    let used: BTreeSet<_> = members.keys().map(step).collect();
    steps.retain(|at, _| used.contains(at));
    Ok(remembered)
}

#[cfg(test)]
pub(crate) mod tests;
