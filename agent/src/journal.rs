//! What an agent remembers across its own death: which node it is, and what it was asked to run.
//!
//! One file, appended to, each record a line of JSON; rewritten at each start. Not synced: it must survive the agent, not a
//! power cut, after which nothing runs anyway. A torn last line is passed over.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowyard_model::{DesiredMember, Incarnation, JobId, MemberKey, NodeId, StepContext, StepIndex};
use serde::{Deserialize, Serialize};

/// What is appended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    /// This agent is this node, registered for this time.
    Registered(NodeId, Incarnation),
    /// The context of members that follow.
    Step(Arc<StepContext>),
    /// A member was taken.
    Accepted(DesiredMember),
    /// It is over, and the coordinator knows.
    Forgotten(MemberKey),
}

/// What was read back.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// The last registration.
    pub registered: Option<(NodeId, Incarnation)>,
    /// Members that were taken and not forgotten.
    pub members: BTreeMap<MemberKey, DesiredMember>,
    /// Their contexts.
    pub steps: BTreeMap<(JobId, StepIndex), Arc<StepContext>>,
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Reads what is there, rewrites it without what was forgotten, and opens it for more.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Remembered)> {
        let mut remembered = read(path)?;
        let needed: Vec<_> = remembered.members.keys().map(|key| (key.task.job, key.task.step)).collect();
        remembered.steps.retain(|step, _| needed.contains(step));
        let beside = path.with_extension("tmp");
        let mut file = File::create(&beside)?;
        let registered = remembered.registered.map(|(node, incarnation)| Record::Registered(node, incarnation));
        let steps = remembered.steps.values().cloned().map(Record::Step);
        let members = remembered.members.values().cloned().map(Record::Accepted);
        for record in registered.into_iter().chain(steps).chain(members) {
            file.write_all(&line(&record))?;
        }
        std::fs::rename(&beside, path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok((Self { file, path: path.to_owned() }, remembered))
    }

    /// Notes a registration.
    pub(crate) fn registered(&mut self, node: NodeId, incarnation: Incarnation) {
        self.append(&Record::Registered(node, incarnation));
    }

    /// Notes a context, before the first member that needs it.
    pub(crate) fn step(&mut self, context: &Arc<StepContext>) {
        self.append(&Record::Step(Arc::clone(context)));
    }

    /// Notes that a member was taken.
    pub(crate) fn accepted(&mut self, member: &DesiredMember) {
        self.append(&Record::Accepted(member.clone()));
    }

    /// Notes that nothing is kept of a member any more.
    pub(crate) fn forgotten(&mut self, key: MemberKey) {
        self.append(&Record::Forgotten(key));
    }

    /// A journal that cannot be written costs adoption after a crash, not the work that runs now.
    fn append(&mut self, record: &Record) {
        if let Err(error) = self.file.write_all(&line(record)) {
            tracing::error!(path = %self.path.display(), %error, "the journal cannot be written");
        }
    }
}

fn line(record: &Record) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec(record).unwrap_or_else(|error| panic!("a journal record is plain data: {error}"));
    bytes.push(b'\n');
    bytes
}

fn read(path: &Path) -> io::Result<Remembered> {
    let mut remembered = Remembered { registered: None, members: BTreeMap::new(), steps: BTreeMap::new() };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(remembered),
        Err(error) => return Err(error),
    };
    for line in BufReader::new(file).split(b'\n') {
        match serde_json::from_slice(&line?) {
            Ok(Record::Registered(node, incarnation)) => remembered.registered = Some((node, incarnation)),
            Ok(Record::Step(context)) => drop(remembered.steps.insert((context.job, context.step), context)),
            Ok(Record::Accepted(member)) => drop(remembered.members.insert(member.key, member)),
            Ok(Record::Forgotten(key)) => drop(remembered.members.remove(&key)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a torn or foreign line of the journal was passed over")
            }
        }
    }
    Ok(remembered)
}
