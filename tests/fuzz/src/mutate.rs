//! Makes hostile inputs out of valid ones.

use flowyard_crash::Dice;

/// No input is longer.
const BYTES_MAX: usize = 64 * 1024;
/// Numbers at which lengths, counts and offsets go wrong.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// A new input: one of `corpus`, changed a few times; sometimes nothing but noise.
pub(crate) fn mutate(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = one_of(corpus, dice).to_vec();
    if corpus.is_empty() || dice.chance(20) {
        bytes = (0..dice.within(0, 200)).map(|_| dice.roll() as u8).collect();
    }
    for _ in 0..dice.pick(&[1, 1, 1, 2, 4, 8]) {
        change(&mut bytes, corpus, dice);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn one_of<'c>(corpus: &'c [Vec<u8>], dice: &mut Dice) -> &'c [u8] {
    match corpus.len() as u64 {
        0 => &[],
        count => &corpus[dice.within(0, count - 1) as usize],
    }
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.within(0, bytes.len() as u64) as usize;
    let span = dice.within(0, (bytes.len() - at).min(64) as u64) as usize;
    match dice.within(0, 9) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..at + span)),
        2 => {
            let copied = bytes[at..at + span].to_vec();
            let times = dice.pick(&[1, 2, 16, 200]);
            drop(bytes.splice(at..at, copied.iter().copied().cycle().take(copied.len() * times)));
        }
        3 => {
            let other = one_of(corpus, dice);
            let from = dice.within(0, other.len() as u64) as usize;
            let until = dice.within(from as u64, other.len() as u64) as usize;
            drop(bytes.splice(at..at + span, other[from..until].iter().copied()));
        }
        4 => overwrite(bytes, at, &dice.pick(&EDGES).to_le_bytes()[..dice.pick(&[1, 2, 4, 8])]),
        5 => overwrite(bytes, at, &varint(dice.pick(&EDGES))),
        6 => overwrite(bytes, at, &[dice.pick(b"0123456789{}[]\",:.-/\\\n\0 \t=#")]),
        7 => overwrite(bytes, at, &[dice.roll() as u8]),
        _ if at < bytes.len() => bytes[at] ^= 1 << dice.within(0, 7),
        _ => bytes.push(dice.roll() as u8),
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes[at..].iter_mut().zip(with).for_each(|(byte, new)| *byte = *new);
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
