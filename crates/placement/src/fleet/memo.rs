//! What was worked out of the devices of a node, remembered by their state: many nodes are alike, and a node comes to the same states again.
//!
//! It is a table of fixed size in which a state has one place, so that it is bounded and forgets without counting. The whole
//! state is the key: a wrong answer is not possible, only one that is worked out again.

use super::room::Room;

/// States that have a place.
const PLACES: usize = 1 << 10;
/// Bits of a key for each device, and devices that a key has room for.
const BITS: u32 = 10;
const DEVICES: usize = 8;

/// Answers by state.
#[derive(Debug, Default)]
pub(crate) struct Memo<T> {
    /// Empty until it is needed.
    places: Vec<Option<(u128, T)>>,
}

impl<T: Copy> Memo<T> {
    /// The answer for the devices of a layout's number in this state, worked out if it is not known.
    pub(crate) fn get(&mut self, layout: u32, room: Room<'_>, work: impl FnOnce() -> T) -> T {
        let Some(key) = key(layout, room) else { return work() };
        self.places.resize(PLACES, None);
        let place = &mut self.places[place(key)];
        match place {
            Some((known, answer)) if *known == key => *answer,
            _ => place.insert((key, work())).1,
        }
    }

    /// Forgets everything: numbers of layouts mean something else now.
    pub(crate) fn clear(&mut self) {
        self.places.clear();
    }
}

/// The state of the devices as a number; `None` if they are too many.
fn key(layout: u32, room: Room<'_>) -> Option<u128> {
    // What is free of memory by itself is not part of a key.
    if room.free_milli.len() > DEVICES || !room.free_memory.is_empty() {
        return None;
    }
    // Those that are neither free in part nor as a whole are as good as not there.
    let (whole, broken) = (room.whole.word(0), room.broken.word(0));
    let free = |at: usize, milli: u32| if (whole | broken) & 1 << at == 0 { 0 } else { milli };
    let milli = room.free_milli.iter().enumerate();
    Some(milli.fold(u128::from(layout), |key, (at, milli)| key << BITS | u128::from(free(at, *milli))))
}

fn place(key: u128) -> usize {
    let folded = (key as u64 ^ (key >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (folded >> 32) as usize % PLACES
}
