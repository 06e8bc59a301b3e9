//! Quantities as people write them, exactly: nothing is rounded, so that what is shown can be written again.

use std::fmt;

/// A number of thousandths, shown as a decimal: `0.5`, `16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thousandths(pub u64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1_000, self.0 % 1_000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A number of bytes, shown in the largest binary unit of which it is a whole number: `2TiB`, `1536MiB`, `1000B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let whole = UNITS.iter().find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift);
        let (unit, shift) = whole.copied().unwrap_or(("B", 0));
        f.pad(&format!("{}{unit}", self.0 >> shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_shown_exactly() {
        let thousandths = |milli| Thousandths(milli).to_string();
        assert_eq!(thousandths(0), "0");
        assert_eq!(thousandths(500), "0.5");
        assert_eq!(thousandths(16_000), "16");
        assert_eq!(thousandths(100_001), "100.001");
        let bytes = |count| ByteCount(count).to_string();
        assert_eq!(bytes(0), "0B");
        assert_eq!(bytes(2 << 40), "2TiB");
        assert_eq!(bytes(3 << 29), "1536MiB");
        assert_eq!(bytes((1 << 30) + 1), "1073741825B");
    }
}
