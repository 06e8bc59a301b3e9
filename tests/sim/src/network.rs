//! A network that delays, loses, doubles and cuts, until it is healed.

use crate::dice::Dice;
use crate::schedule::{Event, Schedule};

/// The links between the coordinator and everybody else.
#[derive(Debug)]
pub(crate) struct Network {
    /// Messages lost, of a thousand.
    loss: u64,
    /// Messages doubled, of a thousand.
    doubling: u64,
    /// Longest delay in milliseconds.
    delay_ms: u64,
    /// Links that are cut, by agent.
    cut: Vec<bool>,
}

impl Network {
    /// How bad it is, is part of the chance of a run.
    pub(crate) fn new(dice: &mut Dice, agents: usize) -> Self {
        let bad = dice.chance(700);
        Self {
            loss: if bad { dice.within(0, 100) } else { 0 },
            doubling: if bad { dice.within(0, 50) } else { 0 },
            delay_ms: dice.within(1, 80),
            cut: vec![false; agents],
        }
    }

    pub(crate) fn cut(&mut self, agent: usize, cut: bool) {
        self.cut[agent] = cut;
    }

    pub(crate) fn heal(&mut self) {
        (self.loss, self.doubling, self.delay_ms) = (0, 0, 1);
        self.cut.iter_mut().for_each(|cut| *cut = false);
    }

    /// Sends what `message` makes, over the link of an agent or, without one, of the clients.
    pub(crate) fn send(
        &self,
        dice: &mut Dice,
        schedule: &mut Schedule,
        agent: Option<usize>,
        message: impl Fn() -> Event,
    ) {
        let copies = 1 + u64::from(dice.chance(self.doubling));
        for _ in 0..copies {
            let delay = dice.within(1, self.delay_ms);
            let lost = dice.chance(self.loss) || agent.is_some_and(|agent| self.cut[agent]);
            if !lost {
                schedule.after(delay, message());
            }
        }
    }
}
