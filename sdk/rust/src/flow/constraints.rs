//! The small closed grammar of conditions on a node's labels.
//!
//! `LABEL`, `!LABEL`, `LABEL == V`, `LABEL != V`, `LABEL in [V, ...]`, `LABEL not in [V, ...]`; a value may stand in quotes.

use flowyard_model::{Constraint, ConstraintOperator, Name, NameError, limits};

use crate::shown::shown;

const FORMS: &str = "LABEL, !LABEL, LABEL == V, LABEL != V, LABEL in [V, W], LABEL not in [V, W]";

/// Why a text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// It has none of the forms.
    #[error("`{text}` is not a constraint; the forms are: {FORMS}")]
    Form {
        /// What was written, made harmless.
        text: String,
    },
    /// The label is not a name.
    #[error("`{label}` cannot be a label: {source}; the forms are: {FORMS}")]
    Label {
        /// What was written, made harmless.
        label: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// A value is missing, too long or hostile.
    #[error("`{value}` cannot be a label's value: 1 to {most} bytes without control characters, quoted if it has blanks, commas or brackets", most = limits::TEXT_BYTES)]
    Value {
        /// What was written, made harmless.
        value: String,
    },
}

/// Reads one constraint.
///
/// # Errors
/// [`ConstraintError`].
pub fn constraint(text: &str) -> Result<Constraint, ConstraintError> {
    let plain = text.trim();
    if let Some(rest) = plain.strip_prefix('!') {
        return Ok(Constraint { label: label(rest)?, operator: ConstraintOperator::Absent, values: Vec::new() });
    }
    let end =
        plain.find(|c: char| c.is_whitespace() || matches!(c, '=' | '!' | '[' | '<' | '>')).unwrap_or(plain.len());
    let (name, rest) = plain.split_at(end);
    let rest = rest.trim();
    if rest.is_empty() {
        return Ok(Constraint { label: label(name)?, operator: ConstraintOperator::Exists, values: Vec::new() });
    }
    let (operator, values) = comparison(rest).ok_or_else(|| ConstraintError::Form { text: shown(text) })??;
    Ok(Constraint { label: label(name)?, operator, values })
}

type Compared = Result<(ConstraintOperator, Vec<String>), ConstraintError>;

fn comparison(rest: &str) -> Option<Compared> {
    let one = |operator, text: &str| value(text).map(|value| (operator, vec![value]));
    if let Some(text) = rest.strip_prefix("==") {
        return Some(one(ConstraintOperator::In, text));
    }
    if let Some(text) = rest.strip_prefix("!=") {
        return Some(one(ConstraintOperator::NotIn, text));
    }
    let (operator, rest) = match rest.strip_prefix("not").map(str::trim_start) {
        Some(rest) => (ConstraintOperator::NotIn, rest),
        None => (ConstraintOperator::In, rest),
    };
    let list = rest.strip_prefix("in")?.trim().strip_prefix('[')?.strip_suffix(']')?;
    let values = list.split(',').map(value).collect::<Result<Vec<_>, _>>();
    Some(values.map(|values| (operator, values)))
}

fn label(text: &str) -> Result<Name, ConstraintError> {
    let text = text.trim();
    text.parse().map_err(|source| ConstraintError::Label { label: shown(text), source })
}

fn value(text: &str) -> Result<String, ConstraintError> {
    let refused = || ConstraintError::Value { value: shown(text.trim()) };
    let text = text.trim();
    let quoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    let bare = |c: char| c.is_whitespace() || matches!(c, '[' | ']' | '"' | '\'' | '=' | ',');
    let value = match quoted {
        Some(inside) => inside,
        None if text.contains(bare) => return Err(refused()),
        None => text,
    };
    let fits = !value.is_empty() && value.len() <= limits::TEXT_BYTES && !value.chars().any(char::is_control);
    if fits { Ok(value.to_owned()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match constraint(text) {
            Ok(Constraint { label, operator, values }) => format!("{label} {operator:?} {values:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_form_is_understood() {
        assert_eq!(read("rack"), "rack Exists []");
        assert_eq!(read("!spot"), "spot Absent []");
        assert_eq!(read("rack == r1"), "rack In [\"r1\"]");
        assert_eq!(read("rack!=\"r 1\""), "rack NotIn [\"r 1\"]");
        assert_eq!(read("gpu.kind in [a100, h100]"), "gpu.kind In [\"a100\", \"h100\"]");
        assert_eq!(read("zone not in ['a','b']"), "zone NotIn [\"a\", \"b\"]");
    }

    #[test]
    fn other_forms_are_refused_with_the_forms_there_are() {
        for bad in ["", "rack = r1", "rack > 3", "rack in r1", "rack ==", "rack in []", "a b", "!", "rack == a b"] {
            let error = constraint(bad).expect_err(bad).to_string();
            assert!(error.contains("LABEL") || error.contains("label's value"), "{bad}: {error}");
        }
        assert!(!read("\u{1b}[31m == x").contains('\u{1b}'));
    }
}
