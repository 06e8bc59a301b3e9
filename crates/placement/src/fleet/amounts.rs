//! Divisible amounts of a node and of what runs there.

/// Divisible amounts. Tokens are by position; a missing one is 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Scratch space in bytes.
    pub disk_bytes: u64,
    /// Tokens by their position.
    pub tokens: Vec<u32>,
}

impl Amounts {
    /// None of anything.
    pub const NONE: Self = Self { cpu_milli: 0, memory_bytes: 0, disk_bytes: 0, tokens: Vec::new() };

    /// The amount of a token.
    pub fn token(&self, at: usize) -> u32 {
        self.tokens.get(at).copied().unwrap_or(0)
    }

    pub(crate) fn take(&mut self, needs: &Self) {
        self.cpu_milli -= needs.cpu_milli;
        self.memory_bytes -= needs.memory_bytes;
        self.disk_bytes -= needs.disk_bytes;
        for (at, count) in needs.tokens.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.tokens[at] -= count;
        }
    }

    /// Takes as much as there is, up to this.
    pub(crate) fn take_what_there_is(&mut self, needs: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_sub(needs.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_sub(needs.memory_bytes);
        self.disk_bytes = self.disk_bytes.saturating_sub(needs.disk_bytes);
        for (at, free) in self.tokens.iter_mut().enumerate() {
            *free = free.saturating_sub(needs.token(at));
        }
    }

    /// Takes back what was taken, but never comes to more than `all`.
    pub(crate) fn give_back_within(&mut self, needs: &Self, all: &Self) {
        let back = |free: u64, needs: u64, all: u64| free.saturating_add(needs).min(all.max(free));
        self.cpu_milli = back(self.cpu_milli, needs.cpu_milli, all.cpu_milli);
        self.memory_bytes = back(self.memory_bytes, needs.memory_bytes, all.memory_bytes);
        self.disk_bytes = back(self.disk_bytes, needs.disk_bytes, all.disk_bytes);
        for (at, free) in self.tokens.iter_mut().enumerate() {
            *free = free.saturating_add(needs.token(at)).min(all.token(at).max(*free));
        }
    }

    /// Whether this much is free.
    pub(crate) fn fit_in(&self, free: &Self) -> bool {
        self.cpu_milli <= free.cpu_milli
            && self.memory_bytes <= free.memory_bytes
            && self.disk_bytes <= free.disk_bytes
            && self.tokens.iter().enumerate().all(|(at, count)| *count <= free.token(at))
    }

    /// How often this much is free, at most `most`.
    pub(crate) fn times_in(&self, free: &Self, most: u64) -> u64 {
        let times = |need: u64, free: u64| free.checked_div(need).unwrap_or(most);
        let plain = times(self.cpu_milli, free.cpu_milli)
            .min(times(self.memory_bytes, free.memory_bytes))
            .min(times(self.disk_bytes, free.disk_bytes));
        let tokens = self.tokens.iter().enumerate();
        tokens.map(|(at, count)| times(u64::from(*count), u64::from(free.token(at)))).fold(plain, u64::min).min(most)
    }
}
