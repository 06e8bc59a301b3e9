//! Fractions without floats: parts of 2^32, rounded down, so that every machine reckons alike.

/// One whole.
pub const ONE: u64 = 1 << 32;

/// `amount * by / whole`, rounded down, and the largest number where that is not one. Of a whole of nothing,
/// something is the largest number and nothing is nothing.
pub fn mul_div(amount: u64, by: u64, whole: u64) -> u64 {
    let product = u128::from(amount) * u128::from(by);
    match (u64::try_from(product), whole) {
        (Ok(0), _) => 0,
        (_, 0) => u64::MAX,
        (Ok(product), _) => product / whole,
        (Err(_), _) => u64::try_from(product / u128::from(whole)).unwrap_or(u64::MAX),
    }
}

/// Which part of the whole an amount is.
pub fn part(amount: u64, whole: u64) -> u64 {
    mul_div(amount, ONE, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rounded_down() {
        assert_eq!(part(1, 3), ONE / 3);
        assert_eq!(part(3, 3), ONE);
        assert_eq!(mul_div(7, 3, 2), 10);
    }

    #[test]
    fn what_is_no_number_is_the_largest() {
        assert_eq!(mul_div(u64::MAX, u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(mul_div(u64::MAX, 3, 2), u64::MAX);
        assert_eq!(part(0, 0), 0);
        assert_eq!(part(1, 0), u64::MAX);
        assert_eq!(part(u64::MAX, 1 << 40), u64::MAX >> 8);
    }
}
