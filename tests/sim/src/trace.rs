//! A number that two runs share exactly when the same happened in the same order.

use std::fmt::{self, Write};

/// Hash of everything that was written into it (FNV-1a).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace(u64);

impl Trace {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(&mut self, what: impl fmt::Debug) {
        write!(self, "{what:?}").expect("hashing does not fail");
    }

    pub(crate) fn hash(&self) -> u64 {
        self.0
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Ok(())
    }
}
