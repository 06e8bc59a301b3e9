//! Connections that are lost on request: a share of all agents at once, as when a switch fails.

use std::hash::{DefaultHasher, Hash, Hasher};

use flowyard_model::Name;

/// Which agents lose their connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shake {
    /// Counts up: each is another one, and meets other agents.
    pub number: u64,
    /// How many of a million.
    pub share_ppm: u32,
}

impl Shake {
    /// The order in this line, as [`Shake::line`] writes it.
    pub fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (Some("shake"), Some(number), Some(share), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return None;
        };
        Some(Self { number: number.parse().ok()?, share_ppm: share.parse().ok()? })
    }

    /// It as a line.
    pub fn line(self) -> String {
        format!("shake {} {}", self.number, self.share_ppm)
    }

    /// Whether it meets this agent.
    pub(crate) fn meets(self, name: &Name) -> bool {
        let mut hash = DefaultHasher::new();
        (name.as_str(), self.number).hash(&mut hash);
        hash.finish() % 1_000_000 < u64::from(self.share_ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_meets_its_share_of_the_agents_and_each_time_others() {
        let shake = |number, share_ppm| Shake { number, share_ppm };
        let met = |shake: Shake| -> Vec<u32> {
            (0..1_000).filter(|at| shake.meets(&format!("n{at}").parse().unwrap())).collect()
        };
        assert!((250..350).contains(&met(shake(1, 300_000)).len()));
        assert_ne!(met(shake(1, 300_000)), met(shake(2, 300_000)));
        assert_eq!((met(shake(1, 0)).len(), met(shake(1, 1_000_000)).len()), (0, 1_000));
        assert_eq!(Shake::of_line(&shake(7, 5).line()), Some(shake(7, 5)));
        for nonsense in ["", "shake", "shake 1", "shake 1 2 3", "shake x 1", "stir 1 2"] {
            assert_eq!(Shake::of_line(nonsense), None, "{nonsense}");
        }
    }
}
