//! Texts and numbers one after the other, each as short as it can be. Written and read by the same process, never stored.

/// Writes them.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn with_room(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Seven bits in each byte, the lowest first; the eighth says that more follow.
    pub(super) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.raw(text.as_bytes());
    }

    pub(super) fn texts<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t str>) {
        self.number(texts.len() as u64);
        texts.for_each(|text| self.text(text));
    }

    pub(super) fn pairs<'t>(&mut self, pairs: impl ExactSizeIterator<Item = (&'t str, &'t str)>) {
        self.number(pairs.len() as u64);
        pairs.for_each(|(key, value)| {
            self.text(key);
            self.text(value);
        });
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads what a [`Writer`] wrote, in the same order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn raw<const N: usize>(&mut self) -> [u8; N] {
        let (read, rest) = self.rest.split_first_chunk().expect("what is read was written");
        self.rest = rest;
        *read
    }

    pub(super) fn number(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.raw();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    pub(super) fn text(&mut self) -> &'a str {
        let length = self.number() as usize;
        let (read, rest) = self.rest.split_at(length);
        self.rest = rest;
        std::str::from_utf8(read).expect("a text was written")
    }

    /// A text that was written after its length and one; `None` after a zero.
    pub(super) fn text_after_one(&mut self) -> Option<&'a str> {
        let length = self.number().checked_sub(1)? as usize;
        let (read, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(std::str::from_utf8(read).expect("a text was written"))
    }

    /// As many texts as were written together.
    pub(super) fn texts(&mut self) -> impl Iterator<Item = &'a str> {
        (0..self.number()).map(move |_| self.text())
    }

    /// As many pairs of texts as were written together.
    pub(super) fn pairs(&mut self) -> impl Iterator<Item = (&'a str, &'a str)> {
        (0..self.number()).map(move |_| (self.text(), self.text()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            numbers in prop::collection::vec(any::<u64>(), 0..8),
            texts in prop::collection::vec(".{0,200}", 0..8),
        ) {
            let mut writer = Writer::with_room(0);
            numbers.iter().for_each(|number| writer.number(*number));
            writer.raw(&[7, 8]);
            writer.texts(texts.iter().map(String::as_str));
            writer.pairs(texts.iter().map(|text| (text.as_str(), "x")));
            let bytes = writer.done();
            let mut reader = Reader::of(&bytes);
            for number in numbers {
                prop_assert_eq!(reader.number(), number);
            }
            prop_assert_eq!(reader.raw(), [7, 8]);
            let read: Vec<&str> = reader.texts().collect();
            prop_assert_eq!(&read, &texts);
            let pairs: Vec<_> = reader.pairs().collect();
            prop_assert!(pairs.iter().zip(&texts).all(|(pair, text)| *pair == (text.as_str(), "x")));
            prop_assert_eq!(pairs.len(), texts.len());
        }
    }
}
