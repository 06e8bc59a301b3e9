//! A number that two runs share exactly when the same happened in the same order.

use std::fmt::{self, Write};

/// Hash of everything that was added (FNV-1a).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    hash: u64,
    /// Whether everything is written out before it is hashed, which costs more than all the rest.
    full: bool,
}

impl Trace {
    pub(crate) fn new(full: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, full }
    }

    /// Adds something; `short` is what is told of it in any case.
    pub(crate) fn add(&mut self, short: u64, what: impl fmt::Debug) {
        for byte in short.to_le_bytes() {
            self.byte(byte);
        }
        if self.full {
            write!(self, "{what:?}").expect("hashing does not fail");
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn byte(&mut self, byte: u8) {
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.byte(byte));
        Ok(())
    }
}
