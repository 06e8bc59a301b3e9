//! How past use fades: each moment of it is worth half after each half-life. Integers only, so that replicas agree to the bit.
//!
//! A part of one is kept in 2^-63, `ONE` being all of it.

use flowyard_model::limits::HALF_LIFE_MS;

/// All of it.
const ONE: u64 = 1 << 63;
/// Halves after which nothing is left.
const HALVES: u64 = 63;
/// Roots of one half that are tabled: the n-th is 2^(-2^-n). What is finer is computed from the exponential series.
const TABLED: usize = 20;
/// Binary places of a fraction of a half-life.
const PLACES: u32 = 52;
/// ln 2, in 2^-63.
const LN_2: u128 = 6_393_154_322_601_327_829;
/// 1 / ln 2, in 2^-62.
const INVERSE_LN_2: u128 = 6_653_256_548_922_161_245;
/// Milliseconds that something held for ever is worth: the half-life / ln 2, in 2^-32.
const FOR_EVER: u64 = ((HALF_LIFE_MS as u128 * INVERSE_LN_2) >> 30) as u64;

const ROOTS: [u64; TABLED] = roots();

const fn roots() -> [u64; TABLED] {
    let mut roots = [0; TABLED];
    let mut last = ONE / 2;
    let mut at = 0;
    while at < TABLED {
        // The root of x / 2^63, in 2^-63, is the root of x * 2^63.
        last = ((last as u128) << 63).isqrt() as u64;
        roots[at] = last;
        at += 1;
    }
    roots
}

const fn product(one: u64, other: u64) -> u64 {
    ((one as u128 * other as u128) >> 63) as u64
}

/// Which part of what was used is left after so long: 2^(-span / half-life).
pub(crate) fn left(span_ms: u64) -> u64 {
    left_of(span_ms, HALF_LIFE_MS)
}

/// The same of what fades at another pace.
pub(crate) fn left_of(span_ms: u64, half_life_ms: u64) -> u64 {
    let halves = span_ms / half_life_ms;
    if halves >= HALVES {
        return 0;
    }
    let fraction = ((u128::from(span_ms % half_life_ms) << PLACES) / u128::from(half_life_ms)) as u64;
    let fine_places = PLACES - TABLED as u32;
    let chosen = ROOTS.iter().enumerate().filter(|(at, _)| fraction >> (PLACES - 1 - *at as u32) & 1 == 1);
    let coarse = chosen.fold(ONE, |left, (_, root)| product(left, *root));
    let fine = u128::from(fraction & ((1 << fine_places) - 1));
    // 2^-x = 1 - x ln 2 + (x ln 2)^2 / 2 - ...; the next term is below 2^-62.
    let exponent = (fine * LN_2) >> PLACES;
    let series = u128::from(ONE) - exponent + ((exponent * exponent) >> 64);
    product(coarse, series as u64) >> halves
}

/// What is left of an amount.
pub(crate) fn of(amount: u128, left: u64) -> u128 {
    let (high, low) = (amount >> 64, amount & u128::from(u64::MAX));
    high * (u128::from(left) << 1) + ((low * u128::from(left)) >> 63)
}

/// What one unit, held until now for so long that this part is left, is worth now: milliseconds in 2^-31.
pub(crate) fn worth(left: u64) -> u64 {
    ((u128::from(ONE - left) * u128::from(FOR_EVER)) >> 64) as u64
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// ln 2, in 2^-60.
    const LN_2_REFERENCE: u128 = 799_144_290_325_165_978;

    /// 2^(-span / half-life) in 2^-60, by the exponential series of the whole fraction.
    pub(crate) fn reference(span_ms: u64) -> u128 {
        let (halves, rest) = (span_ms / HALF_LIFE_MS, span_ms % HALF_LIFE_MS);
        let exponent = u128::from(rest) * LN_2_REFERENCE / u128::from(HALF_LIFE_MS);
        let (mut even, mut odd, mut term) = (0u128, 0u128, 1u128 << 60);
        for n in 1..40 {
            if n % 2 == 1 {
                even += term
            } else {
                odd += term
            }
            term = ((term * exponent) >> 60) / n;
        }
        (even - odd) >> halves.min(127)
    }

    /// Within a part of 2^20, or so little that it is nothing.
    fn alike(one: u128, other: u128) -> bool {
        one.abs_diff(other) <= (one.max(other) >> 20).max(1 << 3)
    }

    #[test]
    fn half_is_left_after_a_half_life_and_all_at_once() {
        assert_eq!(left(0), ONE);
        assert_eq!(left(HALF_LIFE_MS), ONE / 2);
        assert_eq!(left(10 * HALF_LIFE_MS), ONE >> 10);
        assert_eq!(left(u64::MAX), 0);
        assert_eq!(of(u128::from(u64::MAX) << 40, ONE), u128::from(u64::MAX) << 40);
        assert_eq!(of(1 << 100, ONE / 2), 1 << 99);
    }

    #[test]
    fn what_was_held_for_a_moment_is_worth_it_and_for_ever_no_more_than_the_bound() {
        let milliseconds = |span| u128::from(worth(left(span)));
        for span in [1, 2, 10, 1_000, 60_000] {
            assert!(alike(milliseconds(span), u128::from(span) << 31) || span == 60_000, "{span}");
        }
        assert!(milliseconds(60_000) < 60_000 << 31, "a minute has faded a little");
        // 604,800,000 / ln 2
        assert_eq!(milliseconds(u64::MAX) >> 31, 872_541_960);
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_the_series_says(span in prop_oneof![0..10u64, 0..1u64 << 20, 0..40 * HALF_LIFE_MS]) {
            prop_assert!(alike(u128::from(left(span)) >> 3, reference(span)), "{} {}", left(span), reference(span));
        }

        #[test]
        fn two_spans_leave_what_their_sum_leaves(one in 0..20 * HALF_LIFE_MS, other in 0..20 * HALF_LIFE_MS) {
            let twice = of(u128::from(left(one)), left(other));
            prop_assert!(alike(twice, u128::from(left(one + other))));
        }
    }
}
