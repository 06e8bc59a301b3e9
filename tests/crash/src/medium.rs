//! A disk that tells apart what programs see and what a power cut would leave: pure, in memory.
//!
//! A file has its durable bytes, its live bytes, and the changes between them that no fsync covered yet. A folder has its
//! durable names and its live ones; changes of names wait in one list, in order, until the folder is synced. That is less than
//! usual file systems promise and all that POSIX does: a synced file whose folder was not synced may have no name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// The number of the outermost folder.
pub(crate) const ROOT: u64 = 1;

/// Why the disk refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is nothing of that name or number.
    Absent,
    /// The name is taken.
    Exists,
    /// A folder was meant to be a file, or the other way round.
    WrongKind,
    /// The folder holds something.
    NotEmpty,
    /// No space is left.
    Full,
    /// The device failed, or has no power.
    Broken,
}

/// A change of a file that no fsync covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Bytes written at an offset.
    Write(u64, Vec<u8>),
    /// The length was set.
    Length(u64),
}

/// What a number stands for.
#[derive(Debug, Clone)]
pub enum Content {
    /// A file.
    File {
        /// What a power cut leaves for certain.
        durable: Vec<u8>,
        /// What programs read.
        live: Vec<u8>,
        /// What lies between the two, oldest first.
        unsynced: Vec<Change>,
    },
    /// A folder.
    Folder {
        /// The names that a power cut leaves for certain.
        durable: BTreeMap<OsString, u64>,
        /// The names that programs see.
        live: BTreeMap<OsString, u64>,
    },
}

/// A file or a folder.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its bytes or names.
    pub content: Content,
    /// Its permissions.
    pub mode: u16,
    /// When it was written last, in milliseconds.
    pub modified_ms: u64,
}

impl Node {
    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        matches!(self.content, Content::Folder { .. })
    }

    /// How many bytes programs can read.
    pub fn length(&self) -> u64 {
        match &self.content {
            Content::File { live, .. } => live.len() as u64,
            Content::Folder { .. } => 0,
        }
    }
}

/// Names that change together or not at all: folder, name, and what it stands for afterwards.
pub(crate) type Renaming = Vec<(u64, OsString, Option<u64>)>;

/// What the disk does wrong, besides losing power.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// So many of the next syncs fail with an input-output error.
    pub failing_syncs: u32,
    /// No more bytes than these fit.
    pub capacity_bytes: Option<u64>,
    /// Every sync takes so much longer.
    pub sync_delay_ms: u64,
    /// The power is off: nothing succeeds.
    pub off: bool,
}

/// The disk.
#[derive(Debug)]
pub struct Medium {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) renamings: Vec<Renaming>,
    next: u64,
    /// What it does wrong.
    pub faults: Faults,
    /// How many syncs succeeded.
    pub syncs: u64,
}

impl Default for Medium {
    fn default() -> Self {
        let mut medium =
            Self { nodes: BTreeMap::new(), renamings: Vec::new(), next: ROOT, faults: Faults::default(), syncs: 0 };
        medium.make(empty_folder(), 0o755);
        medium
    }
}

fn empty_folder() -> Content {
    Content::Folder { durable: BTreeMap::new(), live: BTreeMap::new() }
}

impl Medium {
    fn make(&mut self, content: Content, mode: u16) -> u64 {
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, Node { content, mode, modified_ms: flowyard_clock::wall_ms() });
        number
    }

    /// What a number stands for.
    pub fn node(&self, number: u64) -> Result<&Node, Refused> {
        if self.faults.off {
            return Err(Refused::Broken);
        }
        self.nodes.get(&number).ok_or(Refused::Absent)
    }

    /// As [`Self::node`], to change it.
    pub fn node_mut(&mut self, number: u64) -> Result<&mut Node, Refused> {
        if self.faults.off {
            return Err(Refused::Broken);
        }
        self.nodes.get_mut(&number).ok_or(Refused::Absent)
    }

    /// The names in a folder.
    pub fn names(&self, folder: u64) -> Result<&BTreeMap<OsString, u64>, Refused> {
        match &self.node(folder)?.content {
            Content::Folder { live, .. } => Ok(live),
            Content::File { .. } => Err(Refused::WrongKind),
        }
    }

    /// What a name in a folder stands for.
    pub fn find(&self, folder: u64, name: &OsStr) -> Result<u64, Refused> {
        self.names(folder)?.get(name).copied().ok_or(Refused::Absent)
    }

    /// Makes an empty file or folder under a new name.
    pub fn create(&mut self, folder: u64, name: &OsStr, mode: u16, is_folder: bool) -> Result<u64, Refused> {
        if self.names(folder)?.contains_key(name) {
            return Err(Refused::Exists);
        }
        let file = Content::File { durable: Vec::new(), live: Vec::new(), unsynced: Vec::new() };
        let number = self.make(if is_folder { empty_folder() } else { file }, mode);
        self.rename_all(vec![(folder, name.to_owned(), Some(number))]);
        Ok(number)
    }

    /// Gives a file one more name.
    pub fn link(&mut self, number: u64, folder: u64, name: &OsStr) -> Result<(), Refused> {
        self.node(number)?;
        if self.names(folder)?.contains_key(name) {
            return Err(Refused::Exists);
        }
        self.rename_all(vec![(folder, name.to_owned(), Some(number))]);
        Ok(())
    }

    /// Takes a name away.
    pub fn remove(&mut self, folder: u64, name: &OsStr, is_folder: bool) -> Result<(), Refused> {
        let number = self.find(folder, name)?;
        let found = self.node(number)?;
        if found.is_folder() != is_folder {
            return Err(Refused::WrongKind);
        }
        if is_folder && !self.names(number)?.is_empty() {
            return Err(Refused::NotEmpty);
        }
        self.rename_all(vec![(folder, name.to_owned(), None)]);
        Ok(())
    }

    /// Moves a name, over another if that is there.
    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Refused> {
        let number = self.find(from.0, from.1)?;
        if let Ok(replaced) = self.find(to.0, to.1)
            && self.node(replaced)?.is_folder()
            && !self.names(replaced)?.is_empty()
        {
            return Err(Refused::NotEmpty);
        }
        self.rename_all(vec![(from.0, from.1.to_owned(), None), (to.0, to.1.to_owned(), Some(number))]);
        Ok(())
    }

    fn rename_all(&mut self, renaming: Renaming) {
        for (folder, name, number) in &renaming {
            if let Some(Node { content: Content::Folder { live, .. }, .. }) = self.nodes.get_mut(folder) {
                put(live, name, *number);
            }
        }
        self.renamings.push(renaming);
    }

    /// Writes into a file.
    pub fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), Refused> {
        let end = offset + bytes.len() as u64;
        self.refuse_growth(number, end)?;
        self.change(number, Change::Write(offset, bytes.to_vec()))
    }

    /// Sets the length of a file.
    pub fn set_length(&mut self, number: u64, length: u64) -> Result<(), Refused> {
        self.refuse_growth(number, length)?;
        self.change(number, Change::Length(length))
    }

    /// What all files take.
    pub fn live_bytes(&self) -> u64 {
        self.nodes.values().map(Node::length).sum()
    }

    fn refuse_growth(&self, number: u64, end: u64) -> Result<(), Refused> {
        let Some(capacity) = self.faults.capacity_bytes else { return Ok(()) };
        let growth = end.saturating_sub(self.node(number)?.length());
        if growth > 0 && self.live_bytes() + growth > capacity { Err(Refused::Full) } else { Ok(()) }
    }

    fn change(&mut self, number: u64, change: Change) -> Result<(), Refused> {
        let node = self.node_mut(number)?;
        node.modified_ms = flowyard_clock::wall_ms();
        match &mut node.content {
            Content::Folder { .. } => Err(Refused::WrongKind),
            Content::File { live, unsynced, .. } => {
                apply(live, &change);
                unsynced.push(change);
                Ok(())
            }
        }
    }

    /// Makes a file or a folder durable. When it fails, what it should have made durable is taken for written all the same, as
    /// Linux does: a later sync that succeeds says nothing about it.
    pub fn sync(&mut self, number: u64) -> Result<(), Refused> {
        let failing = self.faults.failing_syncs > 0;
        if self.node(number)?.is_folder() {
            if failing {
                self.faults.failing_syncs -= 1;
                return Err(Refused::Broken);
            }
            self.sync_names(number);
        } else if let Content::File { durable, unsynced, .. } = &mut self.node_mut(number)?.content {
            let changes = std::mem::take(unsynced);
            if failing {
                self.faults.failing_syncs -= 1;
                return Err(Refused::Broken);
            }
            changes.iter().for_each(|change| apply(durable, change));
        }
        self.syncs += 1;
        Ok(())
    }

    /// Makes the names of one folder durable, and of others no more than goes with them.
    fn sync_names(&mut self, folder: u64) {
        let (mut kept, mut settled) = (Vec::new(), Vec::new());
        // What happened to a name before a change that becomes durable must not be done again after it.
        let mut touched: Vec<(u64, OsString)> = Vec::new();
        for renaming in std::mem::take(&mut self.renamings).into_iter().rev() {
            let goes = renaming.iter().any(|(of, name, _)| {
                *of == folder || touched.iter().any(|(other, touched)| other == of && touched == name)
            });
            if goes {
                touched.extend(renaming.iter().map(|(of, name, _)| (*of, name.clone())));
                settled.push(renaming);
            } else {
                kept.push(renaming);
            }
        }
        self.renamings = kept.into_iter().rev().collect();
        settled.into_iter().rev().for_each(|renaming| self.settle(&renaming));
    }

    pub(crate) fn settle(&mut self, renaming: &Renaming) {
        for (folder, name, number) in renaming {
            if let Some(Node { content: Content::Folder { durable, .. }, .. }) = self.nodes.get_mut(folder) {
                put(durable, name, *number);
            }
        }
    }

    /// The next numbers are new ones, so that nothing that was open before is mistaken for what is there now.
    pub(crate) fn renumber(&mut self) {
        let moved = |number: u64, by: u64| if number == ROOT { ROOT } else { number + by };
        let by = self.next;
        let mut nodes = std::mem::take(&mut self.nodes);
        for node in nodes.values_mut() {
            if let Content::Folder { durable, live } = &mut node.content {
                durable.values_mut().for_each(|number| *number = moved(*number, by));
                live.clone_from(durable);
            }
        }
        self.nodes = nodes.into_iter().map(|(number, node)| (moved(number, by), node)).collect();
        self.next = by * 2;
    }
}

fn put(names: &mut BTreeMap<OsString, u64>, name: &OsStr, number: Option<u64>) {
    match number {
        Some(number) => drop(names.insert(name.to_owned(), number)),
        None => drop(names.remove(name)),
    }
}

/// Plays one change.
pub(crate) fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length as usize, 0),
        Change::Write(offset, written) => {
            let (from, to) = (*offset as usize, *offset as usize + written.len());
            if bytes.len() < to {
                bytes.resize(to, 0);
            }
            bytes[from..to].copy_from_slice(written);
        }
    }
}
