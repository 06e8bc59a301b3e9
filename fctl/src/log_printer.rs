//! Prints the log of one attempt: as it is, or by lines where something is put in front of them.
//!
//! Invariant: standard output of the task goes to standard output, standard error to standard error, and every byte of the
//! task is printed as it came, but in JSON, which is text.

use flowyard_proto::api::{LogStream, LogsResponse};
use serde_json::json;

use crate::output;

/// A longer line is printed in pieces, so that a task without line ends does not fill memory.
const LINE_BYTES: usize = 64 * 1024;

/// How lines are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Style {
    /// Bytes as they come.
    Raw,
    /// By lines, with this in front, and the time if wished.
    Lines {
        /// In front of each line.
        label: String,
        /// Whether the time comes before it.
        timestamps: bool,
    },
    /// An object per line.
    Json {
        /// The task.
        task: String,
        /// The attempt, once known.
        attempt: Option<u32>,
    },
}

/// Prints one attempt's log.
#[derive(Debug)]
pub(crate) struct LogPrinter {
    style: Style,
    open: [OpenLine; 2],
    /// Bytes printed or held of each stream, so that a log read again goes on where it stopped.
    taken: [u64; 2],
}

/// A line whose end has not come yet.
#[derive(Debug, Default)]
struct OpenLine {
    at_us: u64,
    bytes: Vec<u8>,
}

/// A whole line, ready.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    stream: usize,
    at_us: u64,
    bytes: Vec<u8>,
}

impl LogPrinter {
    /// Nothing was printed yet.
    pub(crate) fn new(style: Style) -> Self {
        Self { style, open: Default::default(), taken: [0; 2] }
    }

    /// How far each stream was read.
    pub(crate) fn taken(&self) -> [u64; 2] {
        self.taken
    }

    /// Prints a piece of the log.
    pub(crate) fn print(&mut self, frame: &LogsResponse) {
        let stream = usize::from(frame.stream() == LogStream::Stderr);
        self.take(stream, frame.at_us, &frame.bytes);
    }

    /// Prints a piece of a log that is read again from its beginning; `skip` bytes of each stream were printed before.
    pub(crate) fn print_after(&mut self, frame: &LogsResponse, skip: &mut [u64; 2]) {
        let stream = usize::from(frame.stream() == LogStream::Stderr);
        let known = (skip[stream] as usize).min(frame.bytes.len());
        skip[stream] -= known as u64;
        self.take(stream, frame.at_us, &frame.bytes[known..]);
    }

    fn take(&mut self, stream: usize, at_us: u64, bytes: &[u8]) {
        self.taken[stream] += bytes.len() as u64;
        if self.style == Style::Raw {
            return raw(stream, bytes);
        }
        for line in lines(&mut self.open[stream], stream, at_us, bytes) {
            self.write(&line);
        }
    }

    /// Prints what was left without a line end.
    pub(crate) fn finish(&mut self) {
        for stream in 0..2 {
            let OpenLine { at_us, bytes } = std::mem::take(&mut self.open[stream]);
            if !bytes.is_empty() {
                self.write(&Line { stream, at_us, bytes });
            }
        }
    }

    fn write(&self, line: &Line) {
        match &self.style {
            Style::Raw => raw(line.stream, &line.bytes),
            Style::Lines { label, timestamps } => {
                let time = if *timestamps { format!("{} ", utc(line.at_us)) } else { String::new() };
                let whole = [time.as_bytes(), label.as_bytes(), &line.bytes, b"\n"].concat();
                raw(line.stream, &whole);
            }
            Style::Json { task, attempt } => output::json(&json!({
                "task": task,
                "attempt": attempt,
                "stream": if line.stream == 0 { "stdout" } else { "stderr" },
                "at_us": line.at_us,
                "text": String::from_utf8_lossy(&line.bytes),
            })),
        }
    }
}

fn raw(stream: usize, bytes: &[u8]) {
    match stream {
        0 => output::bytes(bytes),
        _ => output::error_bytes(bytes),
    }
}

/// Whole lines, without their ends; the rest stays in `open`.
fn lines(open: &mut OpenLine, stream: usize, at_us: u64, bytes: &[u8]) -> Vec<Line> {
    let mut whole = Vec::new();
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        if open.bytes.is_empty() {
            open.at_us = at_us;
        }
        let ends = piece.ends_with(b"\n");
        open.bytes.extend_from_slice(if ends { &piece[..piece.len() - 1] } else { piece });
        if ends || open.bytes.len() >= LINE_BYTES {
            let OpenLine { at_us, bytes } = std::mem::take(open);
            whole.push(Line { stream, at_us, bytes });
        }
    }
    whole
}

/// A moment in universal time, as ISO 8601 has it.
fn utc(at_us: u64) -> String {
    let (seconds, ms) = (at_us / 1_000_000, at_us / 1_000 % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is the last one; eras have 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_were_cut() {
        let mut open = OpenLine::default();
        assert!(lines(&mut open, 0, 5, b"one").is_empty());
        let both = lines(&mut open, 0, 9, b" line\n\nrest");
        let line = |at_us, bytes: &[u8]| Line { stream: 0, at_us, bytes: bytes.to_vec() };
        assert_eq!(both, [line(5, b"one line"), line(9, b"")]);
        assert_eq!((open.at_us, open.bytes.as_slice()), (9, b"rest".as_slice()));
    }

    #[test]
    fn a_line_without_end_is_handed_out_in_pieces() {
        let mut open = OpenLine::default();
        let long = vec![b'x'; LINE_BYTES];
        assert_eq!(lines(&mut open, 0, 1, &long).len(), 1);
        assert!(open.bytes.is_empty());
    }

    #[test]
    fn a_log_read_again_goes_on_where_it_stopped() {
        let frame =
            |bytes: &'static [u8]| LogsResponse { stream: LogStream::Stdout.into(), at_us: 1, bytes: bytes.into() };
        let style = Style::Lines { label: String::new(), timestamps: false };
        let mut printer = LogPrinter::new(style);
        printer.print(&frame(b"abc"));
        let mut skip = printer.taken();
        printer.print_after(&frame(b"ab"), &mut skip);
        printer.print_after(&frame(b"cde"), &mut skip);
        assert_eq!(printer.open[0].bytes, b"abcde");
        assert_eq!(printer.taken(), [5, 0]);
        printer.open = Default::default();
    }

    #[test]
    fn moments_read_as_universal_time() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_399_999_000), "2000-02-28T23:59:59.999Z");
        assert_eq!(utc(951_782_400_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_735_689_599_001_999), "2024-12-31T23:59:59.001Z");
    }
}
