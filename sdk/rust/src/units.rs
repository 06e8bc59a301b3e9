//! Quantities as people write them: `256MiB`, `10m`, `0.5`. The same parsers serve the flow file and the command line.
//!
//! Invariants: no float is involved, so that what is written is what is meant; a quantity that is not whole in its smallest
//! unit, has no unit or is out of bounds is refused with a message that says what would be accepted.

use flowyard_model::limits;

use crate::shown::shown;

/// Units of sizes, with their bytes.
pub const BYTE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// Units of time, with their milliseconds.
pub const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];

const BYTES_HINT: &str = "a size has a unit (B, KB, KiB, MB, MiB, GB, GiB, TB, TiB), such as \"256MiB\"";
const TIME_HINT: &str = "a time has a unit (ms, s, m, h, d), such as \"10m\"";
const CPU_HINT: &str = "a number of CPUs from 0.001 to 4096 with at most three decimals, such as 0.5";

/// Why a text is not a quantity. The message says what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// There is no number in front.
    #[error("`{text}` is not a quantity; {hint}")]
    NotANumber {
        /// What was written, made harmless.
        text: String,
        /// What is accepted.
        hint: &'static str,
    },
    /// A number without unit.
    #[error("`{text}` has no unit: write \"{text}{likely}\" if that is meant; {hint}")]
    NoUnit {
        /// What was written, made harmless.
        text: String,
        /// The unit that is usual.
        likely: &'static str,
        /// What is accepted.
        hint: &'static str,
    },
    /// A unit nobody knows.
    #[error("`{text}` has the unknown unit `{unit}`{suggestion}; {hint}")]
    UnknownUnit {
        /// What was written, made harmless.
        text: String,
        /// The unknown unit, made harmless.
        unit: String,
        /// `, did you mean ...` or nothing.
        suggestion: String,
        /// What is accepted.
        hint: &'static str,
    },
    /// Less than nothing.
    #[error("`{text}` is negative; {hint}")]
    Negative {
        /// What was written, made harmless.
        text: String,
        /// What is accepted.
        hint: &'static str,
    },
    /// Nothing.
    #[error("`{text}` is zero; {hint}")]
    Zero {
        /// What was written, made harmless.
        text: String,
        /// What is accepted.
        hint: &'static str,
    },
    /// A fraction of the smallest unit.
    #[error("`{text}` is not a whole number of {smallest}; {hint}")]
    NotWhole {
        /// What was written, made harmless.
        text: String,
        /// The smallest unit.
        smallest: &'static str,
        /// What is accepted.
        hint: &'static str,
    },
    /// More than any machine has.
    #[error("`{text}` is too much; at most {most}")]
    TooMuch {
        /// What was written, made harmless.
        text: String,
        /// The bound.
        most: &'static str,
    },
}

/// A kind of quantity: its units, bounds and words.
struct Kind {
    units: &'static [(&'static str, u64)],
    likely: &'static str,
    smallest: &'static str,
    most: u64,
    most_text: &'static str,
    hint: &'static str,
}

const BYTES: Kind = Kind {
    units: &BYTE_UNITS,
    likely: "MiB",
    smallest: "bytes",
    most: limits::RESOURCE_BYTES,
    most_text: "1024TiB",
    hint: BYTES_HINT,
};
const TIME: Kind = Kind {
    units: &TIME_UNITS,
    likely: "s",
    smallest: "milliseconds",
    most: limits::DURATION_MS,
    most_text: "3650d (ten years)",
    hint: TIME_HINT,
};
const QUEUE_CPU: Kind = Kind {
    units: &[],
    likely: "",
    smallest: "thousandths",
    most: limits::QUEUE_CPU_MILLI,
    most_text: "1000000000",
    hint: "a number of CPUs with at most three decimals, such as 100 or 0.5",
};
const SHARE: Kind = Kind {
    units: &[],
    likely: "",
    smallest: "thousandths",
    most: 1_000,
    most_text: "1",
    hint: "a part of a device with at most three decimals, such as 0.25",
};
const QUEUE_GPU: Kind = Kind {
    units: &[],
    likely: "",
    smallest: "thousandths",
    most: limits::QUEUE_GPU_MILLI,
    most_text: "1000000",
    hint: "a number of GPUs with at most three decimals, such as 16 or 0.5",
};
const QUEUE_BYTES: Kind =
    Kind { likely: "GiB", most: limits::QUEUE_BYTES, most_text: "1048576TiB (one exbibyte)", ..BYTES };
const CPU: Kind = Kind {
    units: &[],
    likely: "",
    smallest: "thousandths",
    most: limits::CPU_MILLI,
    most_text: "4096",
    hint: CPU_HINT,
};

/// A size such as `256MiB`, in bytes; more than zero.
///
/// # Errors
/// [`QuantityError`].
pub fn bytes(text: &str) -> Result<u64, QuantityError> {
    positive(text, measured(text, &BYTES)?, &BYTES)
}

/// A time such as `10m`, in milliseconds; may be zero.
///
/// # Errors
/// [`QuantityError`].
pub fn duration_ms(text: &str) -> Result<u64, QuantityError> {
    measured(text, &TIME)
}

/// A time such as `10m`, in milliseconds; more than zero.
///
/// # Errors
/// [`QuantityError`].
pub fn positive_duration_ms(text: &str) -> Result<u64, QuantityError> {
    positive(text, measured(text, &TIME)?, &TIME)
}

/// A number of CPUs such as `0.5`, in thousandths; more than zero.
///
/// # Errors
/// [`QuantityError`].
pub fn cpu_milli(text: &str) -> Result<u64, QuantityError> {
    positive(text, thousandths(text, &CPU)?, &CPU)
}

/// A part of a device, in thousandths.
///
/// # Errors
/// [`QuantityError`].
pub fn share_milli(text: &str) -> Result<u64, QuantityError> {
    positive(text, thousandths(text, &SHARE)?, &SHARE)
}

/// The CPUs of a queue, in thousandths; may be none.
///
/// # Errors
/// [`QuantityError`].
pub fn queue_cpu_milli(text: &str) -> Result<u64, QuantityError> {
    thousandths(text, &QUEUE_CPU)
}

/// The GPUs of a queue, in thousandths; may be none.
///
/// # Errors
/// [`QuantityError`].
pub fn queue_gpu_milli(text: &str) -> Result<u64, QuantityError> {
    thousandths(text, &QUEUE_GPU)
}

/// The memory or disk of a queue, such as `2TiB`, in bytes; may be `0B`.
///
/// # Errors
/// [`QuantityError`].
pub fn queue_bytes(text: &str) -> Result<u64, QuantityError> {
    measured(text, &QUEUE_BYTES)
}

fn thousandths(text: &str, kind: &Kind) -> Result<u64, QuantityError> {
    let (number, unit) = split(text, kind)?;
    if !unit.is_empty() {
        return Err(QuantityError::NotANumber { text: shown(text), hint: kind.hint });
    }
    scaled(text, number, 1_000, kind)
}

fn positive(text: &str, value: u64, kind: &Kind) -> Result<u64, QuantityError> {
    if value == 0 { Err(QuantityError::Zero { text: shown(text), hint: kind.hint }) } else { Ok(value) }
}

fn measured(text: &str, kind: &Kind) -> Result<u64, QuantityError> {
    let (number, unit) = split(text, kind)?;
    if unit.is_empty() {
        return Err(QuantityError::NoUnit { text: shown(text.trim()), likely: kind.likely, hint: kind.hint });
    }
    match kind.units.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => scaled(text, number, *factor, kind),
        None => Err(unknown_unit(text, unit, kind)),
    }
}

fn unknown_unit(text: &str, unit: &str, kind: &Kind) -> QuantityError {
    let likely = |name: &str| {
        let (name, unit) = (name.to_lowercase(), unit.to_lowercase());
        name == unit || (name.ends_with("ib") && name.starts_with(&unit)) || (unit.len() > 2 && unit.starts_with(&name))
    };
    let suggestion = kind.units.iter().rev().find(|(name, _)| likely(name));
    QuantityError::UnknownUnit {
        text: shown(text),
        unit: shown(unit),
        suggestion: suggestion.map_or_else(String::new, |(name, _)| format!(" (did you mean `{name}`?)")),
        hint: kind.hint,
    }
}

/// The number in front and what follows it.
fn split<'t>(text: &'t str, kind: &Kind) -> Result<(&'t str, &'t str), QuantityError> {
    let plain = text.trim();
    if let Some(rest) = plain.strip_prefix('-')
        && rest.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(QuantityError::Negative { text: shown(plain), hint: kind.hint });
    }
    let end = plain.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(plain.len());
    let (number, unit) = plain.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return Err(QuantityError::NotANumber { text: shown(plain), hint: kind.hint });
    }
    Ok((number, unit.trim_start()))
}

/// `number * factor` as an integer, without ever leaving integers.
fn scaled(text: &str, number: &str, factor: u64, kind: &Kind) -> Result<u64, QuantityError> {
    let too_much = || QuantityError::TooMuch { text: shown(text), most: kind.most_text };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') {
        return Err(QuantityError::NotANumber { text: shown(text), hint: kind.hint });
    }
    let fraction = fraction.trim_end_matches('0');
    let whole = whole.trim_start_matches('0');
    if whole.len() > 18 {
        return Err(too_much());
    }
    let not_whole = || QuantityError::NotWhole { text: shown(text), smallest: kind.smallest, hint: kind.hint };
    if fraction.len() > 18 {
        return Err(not_whole());
    }
    let digits = |text: &str| if text.is_empty() { 0 } else { text.parse::<u128>().unwrap_or(u128::MAX >> 64) };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(18));
    let rest = digits(fraction) * u128::from(factor);
    if rest % scale != 0 {
        return Err(not_whole());
    }
    let value = digits(whole) * u128::from(factor) + rest / scale;
    u64::try_from(value).ok().filter(|value| *value <= kind.most).ok_or_else(too_much)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood_exactly() {
        assert_eq!(bytes("256MiB"), Ok(256 << 20));
        assert_eq!(bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(bytes("0.1MB"), Ok(100_000));
        assert_eq!(bytes("1024TiB"), Ok(limits::RESOURCE_BYTES));
        assert_eq!(duration_ms("1.5h"), Ok(5_400_000));
        assert_eq!(duration_ms("0s"), Ok(0));
        assert_eq!(duration_ms("250ms"), Ok(250));
        assert_eq!(cpu_milli("0.001"), Ok(1));
        assert_eq!(cpu_milli("4096"), Ok(4_096_000));
        assert_eq!(cpu_milli("2.50"), Ok(2_500));
        assert_eq!(queue_cpu_milli("0"), Ok(0));
        assert_eq!(queue_cpu_milli("100000.5"), Ok(100_000_500));
        assert_eq!(queue_gpu_milli("0.125"), Ok(125));
        assert_eq!(queue_bytes("0B"), Ok(0));
        assert_eq!(queue_bytes("4096TiB"), Ok(1 << 52));
    }

    #[test]
    fn what_is_refused_says_what_would_be_accepted() {
        let message = |result: Result<u64, QuantityError>| result.unwrap_err().to_string();
        for (result, expected) in [
            (bytes("512"), "`512` has no unit: write \"512MiB\" if that is meant"),
            (bytes("0MiB"), "`0MiB` is zero; a size has a unit"),
            (bytes("-1GiB"), "`-1GiB` is negative; a size has a unit"),
            (bytes("12G"), "`12G` has the unknown unit `G` (did you mean `GiB`?)"),
            (bytes("12mb"), "`12mb` has the unknown unit `mb` (did you mean `MB`?)"),
            (bytes("1.5B"), "`1.5B` is not a whole number of bytes"),
            (bytes("9999999TiB"), "`9999999TiB` is too much; at most 1024TiB"),
            (bytes("99999999999999999999999GiB"), "is too much; at most 1024TiB"),
            (bytes(""), "`` is not a quantity; a size has a unit"),
            (bytes("1.2.3GB"), "`1.2.3GB` is not a quantity"),
            (bytes("\u{1b}[1m"), "`\\u{1b}[1m` is not a quantity"),
            (positive_duration_ms("0s"), "`0s` is zero; a time has a unit"),
            (duration_ms("5"), "`5` has no unit: write \"5s\" if that is meant; a time has a unit (ms, s, m, h, d)"),
            (duration_ms("5min"), "`5min` has the unknown unit `min` (did you mean `m`?)"),
            (duration_ms("11000d"), "`11000d` is too much; at most 3650d (ten years)"),
            (cpu_milli("0"), "`0` is zero; a number of CPUs from 0.001 to 4096"),
            (cpu_milli("0.0005"), "`0.0005` is not a whole number of thousandths"),
            (cpu_milli("-2"), "`-2` is negative"),
            (cpu_milli("5000"), "`5000` is too much; at most 4096"),
            (cpu_milli("2 cores"), "`2 cores` is not a quantity; a number of CPUs"),
            (cpu_milli("1e3"), "`1e3` is not a quantity"),
            (queue_cpu_milli("1.0005"), "`1.0005` is not a whole number of thousandths"),
            (queue_gpu_milli("-1"), "`-1` is negative; a number of GPUs"),
            (queue_gpu_milli("1000001"), "is too much; at most 1000000"),
            (queue_bytes("2"), "`2` has no unit: write \"2GiB\" if that is meant"),
            (queue_bytes("1048577TiB"), "is too much; at most 1048576TiB"),
        ] {
            let message = message(result);
            assert!(message.contains(expected), "{message}\nlacks\n{expected}");
        }
    }
}
