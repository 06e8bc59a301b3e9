//! Text of unknown origin made harmless for a terminal, and the nearest known word to a misspelt one.
//!
//! Invariant: nothing returned by [`shown`] holds a control character or a mark that changes the direction of text.

/// Characters of a foreign text that a message repeats at most.
const MOST_CHARS: usize = 80;

/// The text with control characters and invisible marks escaped, cut after 80 characters.
pub fn shown(text: &str) -> String {
    let mut harmless = shown_whole(text, MOST_CHARS);
    if text.chars().nth(MOST_CHARS).is_some() {
        harmless.push_str("...");
    }
    harmless
}

/// The first `most` characters of the text, escaped.
pub(crate) fn shown_whole(text: &str, most: usize) -> String {
    let mut harmless = String::new();
    for c in text.chars().take(most) {
        if is_harmful(c) {
            harmless.extend(c.escape_default());
        } else {
            harmless.push(c);
        }
    }
    harmless
}

/// An error with its causes, as one line; a cause that is part of what was said before is not said again.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

/// Controls, line separators, marks of direction, and characters without width.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The known word most like `word`, if any is like it at all.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let short: String = word.chars().take(MOST_CHARS).collect::<String>().to_lowercase();
    let score = |candidate: &str| strsim::jaro_winkler(&short, &candidate.to_lowercase());
    let scored = known.into_iter().map(|candidate| (score(candidate), candidate));
    let best = scored.fold(None::<(f64, &str)>, |best, next| match best {
        Some(best) if best.0 >= next.0 => Some(best),
        _ => Some(next),
    })?;
    (best.0 >= 0.75).then_some(best.1)
}

/// `; did you mean `X`?` for a misspelt word, or nothing.
pub(crate) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(word, known).map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}

/// Words in backquotes, joined by commas: what there is to choose from. Cut after twenty.
pub(crate) fn listed<'k>(words: impl IntoIterator<Item = &'k str>) -> String {
    let mut words = words.into_iter();
    let mut text = words.by_ref().take(20).map(|word| format!("`{}`", shown(word))).collect::<Vec<_>>().join(", ");
    let rest = words.count();
    if rest > 0 {
        text.push_str(&format!(" and {rest} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let hostile = "a\u{1b}[31mb\u{202e}c\u{7}\u{9b}d\r\n\u{200b}e\u{feff}";
        let harmless = shown(hostile);
        assert!(!harmless.chars().any(is_harmful), "{harmless:?}");
        assert!(harmless.starts_with("a\\u{1b}[31mb"), "{harmless}");
        assert_eq!(shown("Grüße, 世界"), "Grüße, 世界");
        assert_eq!(shown(&"x".repeat(1_000_000)).len(), MOST_CHARS + 3);
    }

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_a_strange_one_nothing() {
        let known = ["run", "inputs", "outputs", "timeout"];
        assert_eq!(nearest("inptus", known), Some("inputs"));
        assert_eq!(nearest("Timeout", known), Some("timeout"));
        assert_eq!(nearest("zzz", known), None);
    }
}
