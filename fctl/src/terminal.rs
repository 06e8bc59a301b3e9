//! The terminal of this process, handed over to a command that runs elsewhere.
//!
//! Invariant: whatever happens, the terminal gets back the settings it had.

use std::io::{self, IsTerminal};

use flowyard_proto::api::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Standard input in raw mode: every key goes to the command, also those that would stop us.
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Puts the terminal into raw mode until the value is dropped.
    ///
    /// # Errors
    /// When standard input is no terminal any more.
    pub(crate) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // If the terminal is gone, nobody misses its settings.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Whether a person sits at both ends.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Size of the terminal, if it says.
pub(crate) fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    Some(TerminalSize { rows: size.ws_row.into(), columns: size.ws_col.into() })
}
