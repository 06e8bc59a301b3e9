//! How many connections who may have: so that nobody who can only connect keeps others out.
//!
//! Whoever has a certificate is counted by whom it names. Others are counted by address, and those that have not shown anything yet
//! make way: when there is no room for a newcomer, whoever has shown nothing for longest goes.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use flowyard_model::Identity;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::accept::Bounds;
use crate::refused::Refused;

/// Set once whoever connects has shown who they are in another way than by a certificate.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<AtomicBool>);

impl Shown {
    /// They have.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether they have.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    At(IpAddr),
    Named(Identity),
}

/// The rooms of one port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rooms {
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    counts: HashMap<Who, usize>,
    /// Those that have shown nothing, the oldest first; also some that have by now, or are gone.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    address: IpAddr,
    shown: Shown,
    leave: oneshot::Sender<()>,
}

impl Waiting {
    fn waits(&self) -> bool {
        !self.shown.is_set() && !self.leave.is_closed()
    }
}

/// A place in a room; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    who: Who,
    rooms: Rooms,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.rooms.lock();
        let left = taken.counts.get(&self.who).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => drop(taken.counts.remove(&self.who)),
            left => drop(taken.counts.insert(self.who.clone(), left)),
        }
    }
}

/// What a stranger has until they have shown something: some time, and no right to stay.
#[derive(Debug)]
pub(crate) struct Patience {
    shown: Shown,
    until: Pin<Box<Sleep>>,
    leave: oneshot::Receiver<()>,
}

impl Patience {
    /// Ready when they have to go; `false` if they may stay for good.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.shown.is_set() {
            return Poll::Ready(false);
        }
        let told = Pin::new(&mut self.leave).poll(cx).is_ready();
        if told || self.until.as_mut().poll(cx).is_ready() { Poll::Ready(true) } else { Poll::Pending }
    }
}

impl Rooms {
    /// A place for somebody with a certificate.
    ///
    /// # Errors
    /// When they have as many as they may.
    pub(crate) fn certified(&self, who: Identity, bounds: &Bounds) -> Result<Place, Refused> {
        let many = || Refused::Many { who: who.to_string(), most: bounds.per_identity };
        self.take(&mut self.lock(), Who::Named(who.clone()), bounds.per_identity).ok_or_else(many)
    }

    /// A place for somebody without.
    ///
    /// # Errors
    /// When there is none, and nobody who would make way.
    pub(crate) fn stranger(&self, address: IpAddr, bounds: &Bounds) -> Result<(Place, Shown, Patience), Refused> {
        let mut taken = self.lock();
        taken.waiting.retain(Waiting::waits);
        let at = |waiting: &Waiting| waiting.address == address;
        if taken.waiting.iter().filter(|waiting| at(waiting)).count() >= bounds.strangers_per_address {
            let oldest = taken.waiting.iter().position(at);
            oldest.and_then(|oldest| taken.waiting.remove(oldest)).map(|waiting| waiting.leave.send(()));
        } else if taken.waiting.len() >= bounds.strangers {
            taken.waiting.pop_front().map(|waiting| waiting.leave.send(()));
        }
        let many = || Refused::Many { who: format!("address {address}"), most: bounds.per_address };
        let place = self.take(&mut taken, Who::At(address), bounds.per_address).ok_or_else(many)?;
        let (shown, (leave, told)) = (Shown::default(), oneshot::channel());
        taken.waiting.push_back(Waiting { address, shown: shown.clone(), leave });
        let until = Box::pin(tokio::time::sleep(Duration::from_millis(bounds.stranger_ms)));
        Ok((place, shown.clone(), Patience { shown, until, leave: told }))
    }

    fn take(&self, taken: &mut Taken, who: Who, most: usize) -> Option<Place> {
        let count = taken.counts.entry(who.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { who, rooms: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        per_identity: 2,
        per_address: 4,
        strangers_per_address: 2,
        strangers: 3,
        stranger_ms: 60_000,
        ..Bounds::STANDARD
    };

    fn over(patience: &mut Patience) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        patience.poll_over(&mut cx) == Poll::Ready(true)
    }

    #[tokio::test]
    async fn a_stranger_makes_way_for_a_newcomer_and_whoever_has_shown_something_does_not() {
        let (rooms, one) = (Rooms::default(), IpAddr::from([10, 0, 0, 1]));
        let mut known = rooms.stranger(one, &BOUNDS).unwrap();
        known.1.set();
        let mut first = rooms.stranger(one, &BOUNDS).unwrap();
        let mut second = rooms.stranger(one, &BOUNDS).unwrap();
        assert!(!over(&mut first.2) && !over(&mut second.2));
        let _third = rooms.stranger(one, &BOUNDS).unwrap();
        assert!(over(&mut first.2), "the oldest goes");
        assert!(!over(&mut second.2) && !over(&mut known.2), "and nobody else");
        let full = rooms.stranger(one, &BOUNDS).unwrap_err();
        assert_eq!(full, Refused::Many { who: "address 10.0.0.1".to_owned(), most: 4 });
        // Others are not touched by it, until there are too many strangers in all.
        let _other = rooms.stranger(IpAddr::from([10, 0, 0, 2]), &BOUNDS).unwrap();
        drop((first, known));
        rooms.stranger(one, &BOUNDS).expect("what was left is given again");
    }

    #[test]
    fn whoever_has_a_certificate_is_counted_by_name() {
        let (rooms, who) = (Rooms::default(), Identity::Agent("n1".parse().unwrap()));
        let taken = (rooms.certified(who.clone(), &BOUNDS).unwrap(), rooms.certified(who.clone(), &BOUNDS).unwrap());
        let many = rooms.certified(who.clone(), &BOUNDS).unwrap_err();
        assert_eq!(many.to_string(), "agent n1 has 2 connections open, as many as it may");
        rooms.certified(Identity::Agent("n2".parse().unwrap()), &BOUNDS).unwrap();
        drop(taken);
        rooms.certified(who, &BOUNDS).unwrap();
    }
}
