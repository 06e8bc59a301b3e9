//! The last look at what goes into a bundle: whatever has the form of a token or a key is taken out, wherever it came from.
//!
//! Parts put nothing of the kind into what they say; this is for what somebody typed where it does not belong, such as a token as the
//! name of a job.

/// What tokens begin with.
const TOKENS: [&str; 2] = ["fya1-", "fyt1-"];
const KEY_BEGINS: &str = "-----BEGIN ";
const KEY_ENDS: &str = "-----END ";
const TAKEN_OUT: &str = "(taken out)";

/// The text without tokens and keys.
pub(super) fn scrub(text: &str) -> String {
    without_keys(&without_tokens(text))
}

fn without_tokens(text: &str) -> String {
    let (mut left, mut kept) = (text, String::with_capacity(text.len()));
    while let Some((at, token)) = first(left) {
        let (before, rest) = left.split_at(at);
        kept.push_str(before);
        kept.push_str(token);
        kept.push_str(TAKEN_OUT);
        let of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '+' | '/' | '=');
        left = rest.trim_start_matches(of_token);
    }
    kept.push_str(left);
    kept
}

fn first(text: &str) -> Option<(usize, &'static str)> {
    TOKENS.iter().filter_map(|token| Some((text.find(token)?, *token))).min()
}

/// Blocks of PEM are left out with all between their lines; where the end is missing, to the end.
fn without_keys(text: &str) -> String {
    let (mut left, mut kept) = (text, String::with_capacity(text.len()));
    while let Some(at) = left.find(KEY_BEGINS) {
        kept.push_str(&left[..at]);
        kept.push_str(TAKEN_OUT);
        let rest = &left[at..];
        let end = rest.find(KEY_ENDS).and_then(|end| {
            let tail = &rest[end + KEY_ENDS.len()..];
            Some(end + KEY_ENDS.len() + tail.find("-----")? + "-----".len())
        });
        left = end.map_or("", |end| &rest[end..]);
    }
    kept.push_str(left);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_token_or_a_key_is_taken_out() {
        let text =
            "a fya1-12-abcDEF.x_y, \"fyt1-9-q\" z\n-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY----- after";
        let expected = "a fya1-(taken out), \"fyt1-(taken out)\" z\n(taken out) after";
        assert_eq!(scrub(text), expected);
        assert_eq!(scrub("-----BEGIN X-----\ncut off"), "(taken out)");
        assert_eq!(scrub("nothing of the kind, fya2-1"), "nothing of the kind, fya2-1");
    }
}
