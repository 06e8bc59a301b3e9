//! What a power cut leaves of a [`Medium`].

use std::collections::{BTreeMap, BTreeSet};

use crate::dice::Dice;
use crate::medium::{Change, Content, Medium, ROOT, apply};

/// How a disk treats what was written and not synced when its power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It had written all of it: as after kill -9.
    Nothing,
    /// It had written none of it.
    Everything,
    /// It had written each file's changes in order up to one, and that one in part.
    Tail {
        /// Bytes that are written as one.
        sector: usize,
    },
    /// It had written some pieces of it, in any order.
    Scattered {
        /// Bytes that are written as one.
        sector: usize,
        /// How many of a thousand pieces were written.
        per_mille: u64,
    },
}

impl Loss {
    /// A loss drawn by chance.
    pub fn draw(dice: &mut Dice) -> Self {
        let sector = dice.pick(&[512, 4096]);
        match dice.within(0, 9) {
            0 => Self::Nothing,
            1 | 2 => Self::Everything,
            3..=5 => Self::Tail { sector },
            _ => Self::Scattered { sector, per_mille: dice.pick(&[100, 500, 900]) },
        }
    }
}

impl Medium {
    /// Cuts the power and gives it back: what is left is all there is from now on.
    pub fn cut_power(&mut self, loss: Loss, dice: &mut Dice) {
        self.settle_some_names(loss, dice);
        for node in self.nodes.values_mut() {
            if let Content::File { durable, live, unsynced } = &mut node.content {
                let changes = std::mem::take(unsynced);
                *durable = surviving(std::mem::take(durable), &changes, loss, dice);
                live.clone_from(durable);
            }
        }
        self.forget_nameless();
        self.renumber();
        self.faults = crate::medium::Faults::default();
    }

    /// Names become durable in order, as in the journal of a file system; what is lost is the end.
    fn settle_some_names(&mut self, loss: Loss, dice: &mut Dice) {
        let renamings = std::mem::take(&mut self.renamings);
        let kept = match loss {
            Loss::Nothing => renamings.len() as u64,
            Loss::Everything => 0,
            Loss::Tail { .. } | Loss::Scattered { .. } => dice.within(0, renamings.len() as u64),
        };
        renamings.iter().take(kept as usize).for_each(|renaming| self.settle(renaming));
    }

    fn forget_nameless(&mut self) {
        let (mut named, mut open) = (BTreeSet::from([ROOT]), vec![ROOT]);
        while let Some(folder) = open.pop() {
            let content = self.nodes.get(&folder).map(|node| &node.content);
            let durable = BTreeMap::new();
            let names = if let Some(Content::Folder { durable, .. }) = content { durable } else { &durable };
            open.extend(names.values().filter(|number| named.insert(**number)));
        }
        self.nodes.retain(|number, _| named.contains(number));
    }
}

/// The bytes of a file after the cut.
fn surviving(mut bytes: Vec<u8>, changes: &[Change], loss: Loss, dice: &mut Dice) -> Vec<u8> {
    match loss {
        Loss::Everything => {}
        Loss::Nothing => changes.iter().for_each(|change| apply(&mut bytes, change)),
        Loss::Tail { sector } => {
            let whole = dice.within(0, changes.len() as u64) as usize;
            changes.iter().take(whole).for_each(|change| apply(&mut bytes, change));
            if let Some(Change::Write(offset, written)) = changes.get(whole) {
                let pieces = pieces(*offset, written, sector);
                let kept = dice.within(0, pieces.len() as u64) as usize;
                pieces.into_iter().take(kept).for_each(|piece| apply(&mut bytes, &piece));
            }
        }
        Loss::Scattered { sector, per_mille } => {
            scatter(&mut bytes, changes, sector, |dice| dice.chance(per_mille), dice)
        }
    }
    bytes
}

fn scatter(bytes: &mut Vec<u8>, changes: &[Change], sector: usize, kept: impl Fn(&mut Dice) -> bool, dice: &mut Dice) {
    // The length is metadata, and metadata keeps its order: it is one of those the file had.
    let settled = dice.within(0, changes.len() as u64) as usize;
    let mut length = bytes.len() as u64;
    for (at, change) in changes.iter().enumerate() {
        match change {
            Change::Write(offset, written) => {
                let end = offset + written.len() as u64;
                length = if at < settled { length.max(end) } else { length };
                for piece in pieces(*offset, written, sector) {
                    if kept(dice) {
                        apply(bytes, &piece);
                    }
                }
            }
            Change::Length(set) if at < settled => {
                length = *set;
                apply(bytes, change);
            }
            Change::Length(_) => {}
        }
    }
    bytes.resize(length as usize, 0);
}

/// Cuts a write at the borders of sectors.
fn pieces(offset: u64, written: &[u8], sector: usize) -> Vec<Change> {
    let mut pieces = Vec::new();
    let (mut at, mut rest) = (offset, written);
    while !rest.is_empty() {
        let take = rest.len().min(sector - at as usize % sector);
        let (piece, left) = rest.split_at(take);
        pieces.push(Change::Write(at, piece.to_vec()));
        (at, rest) = (at + take as u64, left);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn file(medium: &mut Medium, name: &str, bytes: &[u8]) -> u64 {
        let number = medium.create(ROOT, OsStr::new(name), 0o644, false).unwrap();
        medium.write(number, 0, bytes).unwrap();
        number
    }

    fn read(medium: &Medium, folder: u64, name: &str) -> Option<Vec<u8>> {
        match &medium.node(medium.find(folder, OsStr::new(name)).ok()?).unwrap().content {
            Content::File { live, .. } => Some(live.clone()),
            Content::Folder { .. } => None,
        }
    }

    #[test]
    fn what_was_synced_with_its_name_stays_and_the_rest_goes() {
        let mut medium = Medium::default();
        let kept = file(&mut medium, "kept", b"one");
        let nameless = file(&mut medium, "nameless", b"two");
        medium.sync(kept).unwrap();
        medium.sync(ROOT).unwrap();
        file(&mut medium, "late", b"three");
        medium.sync(nameless).unwrap();
        medium.rename((ROOT, OsStr::new("kept")), (ROOT, OsStr::new("moved"))).unwrap();
        medium.write(kept, 0, b"ONE").unwrap();
        medium.cut_power(Loss::Everything, &mut Dice::new(1));
        assert_eq!(read(&medium, ROOT, "kept"), Some(b"one".to_vec()));
        assert_eq!(read(&medium, ROOT, "nameless"), Some(b"two".to_vec()));
        assert_eq!((read(&medium, ROOT, "moved"), read(&medium, ROOT, "late")), (None, None));
    }

    #[test]
    fn a_folder_that_nothing_durable_names_takes_what_it_holds_with_it() {
        let mut medium = Medium::default();
        let folder = medium.create(ROOT, OsStr::new("folder"), 0o755, true).unwrap();
        let inside = medium.create(folder, OsStr::new("inside"), 0o644, false).unwrap();
        medium.sync(inside).unwrap();
        medium.sync(folder).unwrap();
        medium.cut_power(Loss::Everything, &mut Dice::new(1));
        assert_eq!(medium.nodes.len(), 1);
    }

    #[test]
    fn syncing_one_folder_of_a_move_makes_the_whole_move_durable() {
        let mut medium = Medium::default();
        let folder = medium.create(ROOT, OsStr::new("folder"), 0o755, true).unwrap();
        medium.sync(ROOT).unwrap();
        file(&mut medium, "a", b"");
        medium.rename((ROOT, OsStr::new("a")), (folder, OsStr::new("b"))).unwrap();
        medium.sync(folder).unwrap();
        medium.cut_power(Loss::Nothing, &mut Dice::new(1));
        let folder = medium.find(ROOT, OsStr::new("folder")).unwrap();
        assert_eq!((read(&medium, ROOT, "a"), read(&medium, folder, "b")), (None, Some(Vec::new())));
    }

    #[test]
    fn a_write_is_torn_at_sectors_and_only_there() {
        let mut torn = 0;
        for seed in 0..50 {
            let mut medium = Medium::default();
            let number = file(&mut medium, "file", &[1; 2048]);
            medium.sync(number).unwrap();
            medium.sync(ROOT).unwrap();
            medium.write(number, 256, &[2; 1024]).unwrap();
            medium.cut_power(Loss::Scattered { sector: 512, per_mille: 500 }, &mut Dice::new(seed));
            let bytes = read(&medium, ROOT, "file").unwrap();
            let runs: Vec<u8> = [(0, 256), (256, 512), (512, 1024), (1024, 1280), (1280, 2048)]
                .iter()
                .map(|&(from, to)| {
                    assert!(bytes[from..to].iter().all(|byte| *byte == bytes[from]), "seed {seed}");
                    bytes[from]
                })
                .collect();
            assert_eq!((runs[0], runs[4]), (1, 1));
            torn += u32::from(runs[1..4] != [1, 1, 1] && runs[1..4] != [2, 2, 2]);
        }
        assert!(torn > 20, "{torn}");
    }

    #[test]
    fn after_a_failed_sync_the_next_one_does_not_bring_the_bytes_back() {
        let mut medium = Medium::default();
        let number = file(&mut medium, "file", b"one");
        medium.sync(number).unwrap();
        medium.sync(ROOT).unwrap();
        medium.write(number, 0, b"two").unwrap();
        medium.faults.failing_syncs = 1;
        assert!(medium.sync(number).is_err());
        medium.sync(number).unwrap();
        assert_eq!(read(&medium, ROOT, "file"), Some(b"two".to_vec()), "programs go on seeing it");
        medium.cut_power(Loss::Nothing, &mut Dice::new(1));
        assert_eq!(read(&medium, ROOT, "file"), Some(b"one".to_vec()));
    }

    #[test]
    fn a_full_disk_takes_what_does_not_grow_it() {
        let mut medium = Medium::default();
        let number = file(&mut medium, "file", b"one");
        medium.faults.capacity_bytes = Some(4);
        medium.write(number, 1, b"two").unwrap();
        assert_eq!(medium.write(number, 2, b"three"), Err(crate::medium::Refused::Full));
        medium.write(number, 0, b"four").unwrap();
    }
}
