//! Every decoder of what the network or a disk says, by name.

mod files;
mod folders;
mod identity;
mod messages;
mod words;

/// A decoder.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Reads bytes; whether it accepted them. It panics when what it accepted does not come back once written.
    pub run: fn(&[u8]) -> bool,
    /// Valid inputs to begin with.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// How many inputs the suite hands over.
    pub inputs: u64,
}

/// All of them.
pub fn all() -> Vec<Target> {
    [messages::TARGETS, files::TARGETS, folders::TARGETS, identity::TARGETS, words::TARGETS].concat()
}

/// What reads memory only.
const fn quick(name: &'static str, run: fn(&[u8]) -> bool, corpus: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, corpus, inputs: 3_000 }
}

/// Text is what most of these take; other bytes are refused before they see them.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("")
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
