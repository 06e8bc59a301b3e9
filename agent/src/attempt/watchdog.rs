//! Notices that an attempt makes no progress in one phase. Pure counting of time, and the wait around it.
//!
//! Time counts only while this agent runs: one that was paused, with its machine or alone, has not watched.

use std::time::Duration;

use flowyard_model::{StuckLimits, StuckPhase};
use tokio::sync::watch;

/// Looks within one limit.
const LOOKS: u64 = 8;
/// Shortest time between two looks.
const SHORTEST_LOOK_MS: u64 = 10;
/// Longest time between two looks: the limit may become shorter meanwhile.
const LONGEST_LOOK_MS: u64 = 10_000;

/// How long nothing has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stillness {
    /// The progress that was seen last.
    seen: u64,
    still_ms: u64,
}

impl Stillness {
    /// Takes in what is seen `elapsed_ms` after the look before; whether that is too long without progress.
    fn look(&mut self, progress: u64, elapsed_ms: u64, limit_ms: u64) -> bool {
        if progress != self.seen || limit_ms == u64::MAX {
            (self.seen, self.still_ms) = (progress, 0);
            return false;
        }
        // A look that comes late was kept from coming, and so perhaps was the progress.
        self.still_ms += elapsed_ms.min(2 * wait_ms(limit_ms));
        self.still_ms >= limit_ms
    }
}

fn wait_ms(limit_ms: u64) -> u64 {
    (limit_ms / LOOKS).clamp(SHORTEST_LOOK_MS, LONGEST_LOOK_MS)
}

/// Returns once `progress` has not changed for as long as a phase may take without any. The limit may change meanwhile.
pub(super) async fn stuck(
    limits: watch::Receiver<StuckLimits>,
    phase: StuckPhase,
    progress: impl Fn() -> u64,
) -> StuckPhase {
    let mut stillness = Stillness { seen: progress(), still_ms: 0 };
    loop {
        let limit_ms = limits.borrow().of(phase);
        let begun = flowyard_clock::boot_ms();
        tokio::time::sleep(Duration::from_millis(wait_ms(limit_ms))).await;
        let elapsed_ms = flowyard_clock::boot_ms().saturating_sub(begun);
        if stillness.look(progress(), elapsed_ms, limit_ms) {
            return phase;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_not_stuck_however_slow_it_is() {
        let mut stillness = Stillness { seen: 0, still_ms: 0 };
        assert!((1..1_000).all(|progress| !stillness.look(progress, 99, 100)));
    }

    #[test]
    fn what_does_not_move_for_the_limit_is_stuck() {
        let mut stillness = Stillness { seen: 7, still_ms: 0 };
        let looks: Vec<_> = (0..8).map(|_| stillness.look(7, 100, 800)).collect();
        assert_eq!(looks, [false, false, false, false, false, false, false, true]);
    }

    #[test]
    fn a_pause_of_the_agent_is_no_stillness_of_the_attempt() {
        let mut stillness = Stillness { seen: 7, still_ms: 0 };
        assert!(!stillness.look(7, 3_600_000, 800), "one late look says little");
        assert_eq!(stillness.still_ms, 200);
    }

    #[test]
    fn while_no_coordinator_is_heard_from_nothing_is_still() {
        let mut stillness = Stillness { seen: 7, still_ms: 0 };
        assert!(!stillness.look(7, 100, 150));
        assert!(!stillness.look(7, 10_000, StuckLimits::PAUSED.fetching_ms));
        assert!(!stillness.look(7, 100, 150), "it begins anew with the next session");
    }

    #[tokio::test]
    async fn the_wait_ends_with_the_phase_that_is_stuck() {
        let limits = watch::Sender::new(StuckLimits { starting_ms: 50, ..StuckLimits::STANDARD });
        assert_eq!(stuck(limits.subscribe(), StuckPhase::Starting, || 3).await, StuckPhase::Starting);
    }
}
