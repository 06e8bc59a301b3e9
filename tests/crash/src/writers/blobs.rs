//! Writes blobs: to an origin in a folder, and to the store of a node.

use std::convert::Infallible;

use bytes::Bytes;
use flowyard_cas::{LocalOptions, LocalStore, Origin, StoreError, digest_bytes};

use super::{Ended, Order, say};
use crate::dice::Dice;

/// Blobs that may have been under way when the writer was ended.
const UNDER_WAY: u64 = 2;
/// Writes that may fail before a writer gives up.
const FAILURES: u32 = 3;

/// The blob of that number.
fn blob(seed: u64, number: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed.rotate_left(16) ^ number);
    let bytes = match dice.within(0, 199) {
        0 => 8 * 1024 * 1024 + dice.within(1, 4096),
        1..=20 => dice.within(60_000, 300_000),
        _ => dice.within(1, 6_000),
    };
    let mut blob = Vec::with_capacity(bytes as usize + 8);
    while (blob.len() as u64) < bytes {
        blob.extend_from_slice(&dice.roll().to_le_bytes());
    }
    blob
}

fn acknowledged(order: &Order) -> u64 {
    order.acks.last().map_or(0, |ack| ack.parse().expect("an ack is a number of blobs"))
}

pub(super) async fn write_origin(order: &Order) -> Result<Infallible, Ended> {
    let failed = |error: StoreError| Ended::failed(&error);
    let origin = Origin::in_directory(&order.folder.join("origin"), true).map_err(failed)?;
    for number in 0..acknowledged(order) + UNDER_WAY {
        let bytes = blob(order.seed, number);
        let digest = digest_bytes(&bytes);
        // A blob that the origin says it has is not sent again, so it has to be whole.
        let held = origin.contains(&digest).await.map_err(failed)?;
        if held || number < acknowledged(order) {
            let read = origin.get_bytes(&digest).await;
            read.map_err(|error| Ended::Wrong(format!("blob {number} (held: {held}): {error}")))?;
        }
    }
    say("ready");
    let (mut number, mut failures) = (acknowledged(order), 0);
    loop {
        let bytes = blob(order.seed, number);
        // A client does not send what is said to be there.
        let missing = origin.missing(&[digest_bytes(&bytes)]).await.map_err(failed)?;
        let stored =
            if missing.is_empty() { Ok(digest_bytes(&bytes)) } else { origin.put_bytes(Bytes::from(bytes)).await };
        match stored {
            Ok(_) => {
                number += 1;
                say(&format!("ack {number}"));
            }
            Err(_) if failures < FAILURES => failures += 1,
            Err(error) => return Err(failed(error)),
        }
    }
}

/// With an even seed the store syncs, and keeps what it acknowledged; else it may lose anything, but never serves what is wrong.
pub(super) fn write_local(order: &Order) -> Result<Infallible, Ended> {
    let failed = |error: StoreError| Ended::failed(&error);
    let fsync = order.seed.is_multiple_of(2);
    let options = LocalOptions { fsync, ..LocalOptions::with_budget(u64::MAX) };
    let store = LocalStore::open(&order.folder.join("local"), options).map_err(failed)?;
    // A full disk makes it evict what nobody holds; here everything is held.
    let mut held = Vec::new();
    for number in 0..acknowledged(order) + UNDER_WAY {
        let bytes = blob(order.seed, number);
        let digest = digest_bytes(&bytes);
        match store.read(&digest) {
            Ok(Some(read)) if read == bytes => held.extend(store.get(&digest).map_err(failed)?),
            Ok(Some(_)) => return Err(Ended::Wrong(format!("blob {number} is served with other bytes"))),
            missing if fsync && number < acknowledged(order) => {
                return Err(Ended::Wrong(format!("blob {number} was acknowledged: {missing:?}")));
            }
            Ok(None) | Err(StoreError::Damaged { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    say("ready");
    let (mut number, mut failures) = (acknowledged(order), 0);
    loop {
        match store.put_bytes(&blob(order.seed, number)) {
            Ok(blob) => {
                held.push(blob);
                number += 1;
                say(&format!("ack {number}"));
            }
            Err(_) if failures < FAILURES => failures += 1,
            Err(error) => return Err(failed(error)),
        }
    }
}
