//! A JSON list read as a stream: each item checked and made compact by leaving out the blanks between its parts.
//!
//! The text of an item is otherwise kept as written, so that no number loses a digit and no key its place. Memory is bounded by
//! one item, and the call stack by [`MOST_NESTED`].

use std::io::BufRead;

use super::{ITEM_BYTES, ItemsError};

/// Lists and objects inside one another, as deep as common parsers go.
const MOST_NESTED: u32 = 100;

/// Gives every item of the list to `take`.
pub(super) fn items<R: BufRead>(
    reader: R,
    mut take: impl FnMut(&[u8]) -> Result<(), ItemsError>,
) -> Result<(), ItemsError> {
    let mut scan = Scan { reader, line: 1, column: 1, item: Vec::new(), index: 0 };
    scan.blanks()?;
    scan.open_list()?;
    scan.blanks()?;
    if scan.peek()? == Some(b']') {
        scan.next()?;
        return scan.end();
    }
    loop {
        scan.item.clear();
        scan.blanks()?;
        scan.value(0)?;
        if std::str::from_utf8(&scan.item).is_err() {
            return Err(scan.wrong("the item before this place is not UTF-8"));
        }
        take(&scan.item)?;
        scan.index = scan.index.saturating_add(1);
        scan.blanks()?;
        match scan.next()? {
            Some(b',') => {}
            Some(b']') => return scan.end(),
            _ => return Err(scan.wrong("expected `,` or `]` after an item of the list")),
        }
    }
}

struct Scan<R> {
    reader: R,
    line: u64,
    column: u64,
    item: Vec<u8>,
    index: u32,
}

impl<R: BufRead> Scan<R> {
    fn peek(&mut self) -> Result<Option<u8>, ItemsError> {
        loop {
            match self.reader.fill_buf() {
                Ok(buffer) => return Ok(buffer.first().copied()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn next(&mut self) -> Result<Option<u8>, ItemsError> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.reader.consume(1);
            if byte == b'\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        Ok(byte)
    }

    /// Moves one byte of the input to the item.
    fn keep(&mut self) -> Result<(), ItemsError> {
        if let Some(byte) = self.next()? {
            if self.item.len() == ITEM_BYTES {
                return Err(ItemsError::ItemTooLarge { index: self.index });
            }
            self.item.push(byte);
        }
        Ok(())
    }

    fn blanks(&mut self) -> Result<(), ItemsError> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek()? {
            self.next()?;
        }
        Ok(())
    }

    fn wrong(&self, problem: &'static str) -> ItemsError {
        ItemsError::Syntax { line: self.line, column: self.column, problem }
    }

    fn open_list(&mut self) -> Result<(), ItemsError> {
        let found = match self.peek()? {
            Some(b'[') => return self.next().map(|_| ()),
            None => "nothing",
            Some(b'{') => "an object",
            Some(b'"') => "a text",
            Some(b'-' | b'0'..=b'9') => "a number",
            Some(b't' | b'f' | b'n') => "a single value",
            Some(_) => return Err(self.wrong("expected a JSON list, starting with `[`")),
        };
        Err(ItemsError::NotAList { found })
    }

    /// Nothing but blanks may follow the list.
    fn end(&mut self) -> Result<(), ItemsError> {
        self.blanks()?;
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(self.wrong("something follows the end of the list")),
        }
    }

    fn value(&mut self, depth: u32) -> Result<(), ItemsError> {
        match self.peek()? {
            Some(b'{' | b'[') if depth == MOST_NESTED => Err(self.wrong("lists and objects are nested too deeply")),
            Some(b'{') => self.container(b'}', depth),
            Some(b'[') => self.container(b']', depth),
            Some(b'"') => self.text(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(_) => Err(self.wrong("expected a JSON value")),
            None => Err(self.wrong("the list is not closed")),
        }
    }

    /// A list, or an object when it closes with a brace.
    fn container(&mut self, close: u8, depth: u32) -> Result<(), ItemsError> {
        self.keep()?;
        self.blanks()?;
        if self.peek()? == Some(close) {
            return self.keep();
        }
        loop {
            self.blanks()?;
            if close == b'}' {
                self.key()?;
            }
            self.value(depth + 1)?;
            self.blanks()?;
            match self.peek()? {
                Some(b',') => self.keep()?,
                Some(byte) if byte == close => return self.keep(),
                Some(_) => return Err(self.wrong("expected `,` or the closing bracket")),
                None => return Err(self.wrong("a list or object is not closed")),
            }
        }
    }

    fn key(&mut self) -> Result<(), ItemsError> {
        if self.peek()? != Some(b'"') {
            return Err(self.wrong("expected a key in double quotes"));
        }
        self.text()?;
        self.blanks()?;
        if self.peek()? != Some(b':') {
            return Err(self.wrong("expected `:` after a key"));
        }
        self.keep()?;
        self.blanks()
    }

    fn text(&mut self) -> Result<(), ItemsError> {
        self.keep()?;
        loop {
            match self.peek()? {
                Some(b'"') => return self.keep(),
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => return Err(self.wrong("a control character inside a text has to be escaped")),
                Some(_) => self.keep()?,
                None => return Err(self.wrong("a text is not closed")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), ItemsError> {
        self.keep()?;
        match self.peek()? {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.keep(),
            Some(b'u') => {
                self.keep()?;
                for _ in 0..4 {
                    match self.peek()? {
                        Some(byte) if byte.is_ascii_hexdigit() => self.keep()?,
                        _ => return Err(self.wrong("expected four hexadecimal digits after `\\u`")),
                    }
                }
                Ok(())
            }
            _ => Err(self.wrong("an unknown escape after `\\`")),
        }
    }

    fn number(&mut self) -> Result<(), ItemsError> {
        if self.peek()? == Some(b'-') {
            self.keep()?;
        }
        if self.peek()? == Some(b'0') {
            self.keep()?;
        } else {
            self.digits()?;
        }
        if self.peek()? == Some(b'.') {
            self.keep()?;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek()? {
            self.keep()?;
            if let Some(b'+' | b'-') = self.peek()? {
                self.keep()?;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ItemsError> {
        if !self.peek()?.is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.wrong("expected a digit"));
        }
        while self.peek()?.is_some_and(|byte| byte.is_ascii_digit()) {
            self.keep()?;
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), ItemsError> {
        for expected in word {
            if self.peek()? != Some(*expected) {
                return Err(self.wrong("expected a JSON value"));
            }
            self.keep()?;
        }
        Ok(())
    }
}
