//! Aligned columns for people. Nothing that a terminal obeys gets into a cell.

use flowyard_sdk::shown::shown;
use owo_colors::OwoColorize;

use crate::output;

/// Blanks between columns.
const GAP: &str = "  ";

/// How a cell looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Plain,
    /// Ended well.
    Good,
    /// Ended badly.
    Bad,
    /// Under way.
    Live,
    /// Of less interest.
    Faint,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

/// A plain cell.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    toned(text, Tone::Plain)
}

/// A cell with a tone.
pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Cell {
    Cell { text: shown(text.as_ref()), tone }
}

/// The cell of a state, with the tone that belongs to it.
pub(crate) fn state(word: &str) -> Cell {
    toned(word, tone_of(word))
}

/// The tone of a state.
pub(crate) fn tone_of(word: &str) -> Tone {
    match word {
        "succeeded" | "up" => Tone::Good,
        "failed" | "lost" | "down" => Tone::Bad,
        "active" | "running" | "suspect" | "draining" => Tone::Live,
        "cancelled" | "skipped" | "stopped" | "cordoned" | "drained" => Tone::Faint,
        _ => Tone::Plain,
    }
}

/// A text with the tone's colour, for a terminal.
pub(crate) fn paint(text: &str, tone: Tone) -> String {
    match tone {
        Tone::Plain => text.to_owned(),
        Tone::Good => text.green().to_string(),
        Tone::Bad => text.red().to_string(),
        Tone::Live => text.cyan().to_string(),
        Tone::Faint => text.dimmed().to_string(),
    }
}

/// Rows below a heading.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| toned(heading, Tone::Faint)).collect()], indent: 0 }
    }

    /// Columns without headings.
    pub(crate) fn bare() -> Self {
        Self { rows: Vec::new(), indent: 0 }
    }

    /// Moves it to the right.
    pub(crate) fn indented(mut self, blanks: usize) -> Self {
        self.indent = blanks;
        self
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Writes it as a part of the answer.
    pub(crate) fn print(&self) {
        for line in self.lines() {
            output::line(line);
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        self.rows.iter().map(move |row| {
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
            let mut line = " ".repeat(self.indent);
            for (at, cell) in row.iter().take(last + 1).enumerate() {
                line.push_str(&paint(&cell.text, cell.tone));
                if at < last {
                    line.push_str(&" ".repeat(widths[at] - cell.width()));
                    line.push_str(GAP);
                }
            }
            line
        })
    }
}

impl Cell {
    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_no_line_ends_in_blanks() {
        let mut table = Table::bare().indented(2);
        table.row([cell("a"), cell("bb"), cell("")]);
        table.row([cell("ccc"), cell(""), cell("d")]);
        assert_eq!(table.lines().collect::<Vec<_>>(), ["  a    bb", "  ccc      d"]);
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let mut table = Table::bare();
        table.row([cell("\u{1b}[2J\r\n")]);
        assert_eq!(table.lines().next().unwrap(), "\\u{1b}[2J\\r\\n");
    }
}
