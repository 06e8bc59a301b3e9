//! `fctl usage`.

use clap::{Args, ValueEnum};
use flowyard_sdk::units;

/// What was used.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fctl usage                            of the last seven days, by user
  fctl usage --by queue --since 30d
  fctl usage --by gpu --since 2026-11-01 --until 2026-12-01")]
pub(crate) struct Usage {
    /// What makes a line of the answer
    #[arg(long, value_enum, default_value_t = By::User, value_name = "WHAT")]
    pub by: By,
    /// From this time before now, such as 7d, or from this day by UTC, such as 2026-11-01
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = moment)]
    pub since: Moment,
    /// Up to this time before now, such as 1d, or up to the beginning of this day by UTC; until now if not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Moment>,
    /// Be content with what any coordinator knows, also when none leads; the answer is labelled as such
    #[arg(long)]
    pub stale: bool,
}

/// What makes a line of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Who submitted the jobs
    User,
    /// The queue that the jobs were in
    Queue,
    /// The model of the devices
    Gpu,
}

/// A moment, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So many milliseconds before now.
    Before(u64),
    /// The beginning of this day, in milliseconds since the Unix epoch.
    Day(u64),
}

impl Moment {
    /// In milliseconds since the Unix epoch.
    pub(crate) fn at_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::Before(ms) => now_ms.saturating_sub(ms),
            Self::Day(at_ms) => at_ms,
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    let parts: Vec<&str> = text.split('-').collect();
    if let [year, month, day] = parts[..] {
        let wrong = || format!("`{}` is no day, such as 2026-11-01", flowyard_sdk::shown::shown(text));
        let digits = |part: &str, count: usize| {
            let plain = part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse::<u64>().ok()).flatten()
        };
        let (year, month, day) = (digits(year, 4), digits(month, 2), digits(day, 2));
        let day = year.zip(month).zip(day).and_then(|((year, month), day)| day_ms(year, month, day));
        return day.map(Moment::Day).ok_or_else(wrong);
    }
    units::duration_ms(text).map(Moment::Before).map_err(|error| error.to_string())
}

/// When a day of the calendar begins, by UTC; `None` if there is no such day, or it is before 1970.
fn day_ms(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || !(1..=last).contains(&day) {
        return None;
    }
    // Years begin in March, so that the day that some have more is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year;
    Some((days - 719_468) * 24 * 3_600_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn a_moment_is_a_day_of_the_calendar_or_so_long_ago() {
        assert_eq!(moment("7d"), Ok(Moment::Before(7 * 24 * 3_600_000)));
        assert_eq!(moment("1970-01-01"), Ok(Moment::Day(0)));
        for day in ["2024-02-29", "2026-11-30", "2100-03-01", "1999-12-31"] {
            let Ok(Moment::Day(at_ms)) = moment(day) else { panic!("{day}") };
            assert_eq!(text::moment(at_ms), format!("{day}T00:00:00.000Z"));
        }
        for wrong in
            ["2026-02-29", "2100-02-29", "2026-13-01", "2026-11-31", "2026-1-1", "1969-12-31", "a-b-c", "-1d", "7"]
        {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
        assert_eq!(moment("2026-02-30").unwrap_err(), "`2026-02-30` is no day, such as 2026-11-01");
        assert_eq!(Moment::Before(5).at_ms(3), 0);
    }
}
