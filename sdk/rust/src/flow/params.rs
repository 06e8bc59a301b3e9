//! Parameters: their types, the values given at submit, and putting those into commands and variables.

use std::collections::BTreeMap;
use std::fmt;

use flowyard_model::Name;
use serde::Serialize;

use crate::shown::{did_you_mean, listed, shown};

/// A declared parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: Name,
    /// What values it takes.
    pub kind: ParamKind,
    /// Its value when none is given.
    pub default: Option<ParamValue>,
    /// One line for people.
    pub description: Option<String>,
    /// The only values it takes; any if empty.
    pub choices: Vec<ParamValue>,
}

/// What values a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamKind {
    /// Whole numbers of 64 bits.
    Int,
    /// Decimal numbers.
    Float,
    /// Any text.
    String,
    /// `true` or `false`.
    Bool,
}

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ParamValue {
    /// A whole number.
    Int(i64),
    /// A finite decimal number.
    Float(f64),
    /// A text without NUL.
    String(String),
    /// Yes or no.
    Bool(bool),
}

/// Why a text cannot be put into a command or variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubstitutionError {
    #[error("there is no parameter `{name}`{suggestion}{known}")]
    Unknown { name: String, suggestion: String, known: String },
    #[error(
        "`${{{inside}}}` is not a parameter: write `${{params.NAME}}` for one, or `$${{{inside}}}` for the text itself"
    )]
    NotAParameter { inside: String },
    #[error("`${{` has no closing brace: write `${{params.NAME}}`, or `$${{` for the text itself")]
    Unclosed,
}

impl ParamKind {
    /// As it is written in the flow file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::String => "string",
            Self::Bool => "bool",
        }
    }

    /// What is accepted, for messages.
    pub(crate) fn expects(self) -> &'static str {
        match self {
            Self::Int => "a whole number such as 10",
            Self::Float => "a number such as 0.5",
            Self::String => "a text without NUL",
            Self::Bool => "true or false",
        }
    }

    /// A value given on the command line.
    pub(crate) fn read(self, text: &str) -> Option<ParamValue> {
        match self {
            Self::Int => text.parse().ok().map(ParamValue::Int),
            Self::Float => text.parse().ok().filter(|number: &f64| number.is_finite()).map(ParamValue::Float),
            Self::String => (!text.contains('\0')).then(|| ParamValue::String(text.to_owned())),
            Self::Bool => text.parse().ok().map(ParamValue::Bool),
        }
    }
}

impl fmt::Display for ParamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ParamValue {
    /// As a JSON value.
    pub fn to_json(&self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Float(number) => serde_json::Value::from(*number).to_string(),
            Self::String(text) => serde_json::Value::from(text.as_str()).to_string(),
            Self::Bool(yes) => yes.to_string(),
        }
    }

    /// As it is put into a command.
    pub fn to_text(&self) -> String {
        match self {
            Self::String(text) => text.clone(),
            other => other.to_json(),
        }
    }
}

/// Replaces `${params.NAME}` by what `value` says, and `$${` by `${`. What was put in is not read again.
pub(crate) fn substitute(
    text: &str,
    mut value: impl FnMut(&str) -> Result<String, SubstitutionError>,
) -> Result<String, SubstitutionError> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            result.push_str("${");
            rest = after;
        } else if let Some(inside) = rest.strip_prefix("${") {
            let end = inside.find('}').ok_or(SubstitutionError::Unclosed)?;
            let name = inside[..end].strip_prefix("params.");
            let name = name.ok_or_else(|| SubstitutionError::NotAParameter { inside: shown(&inside[..end]) })?;
            result.push_str(&value(name)?);
            rest = &inside[end + 1..];
        } else {
            result.push('$');
            rest = &rest[1..];
        }
    }
    result.push_str(rest);
    Ok(result)
}

/// The error for a parameter that the flow does not declare.
pub(crate) fn unknown_param(name: &str, params: &[Param]) -> SubstitutionError {
    let names = || params.iter().map(|param| param.name.as_str());
    let suggestion = did_you_mean(name, names());
    let known = match (params.is_empty(), suggestion.is_empty()) {
        (true, _) => "; the flow declares none: add it under [params]".to_owned(),
        (false, true) => format!("; the flow declares {}", listed(names())),
        (false, false) => String::new(),
    };
    SubstitutionError::Unknown { name: shown(name), suggestion, known }
}

/// Puts the values of parameters into a text.
pub(crate) fn put_in(
    text: &str,
    params: &[Param],
    values: &BTreeMap<Name, ParamValue>,
) -> Result<String, SubstitutionError> {
    substitute(text, |name| {
        let value = values.iter().find(|(known, _)| known.as_str() == name).map(|(_, value)| value.to_text());
        value.ok_or_else(|| unknown_param(name, params))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(text: &str) -> String {
        substitute(text, |name| Ok(format!("<{name}>"))).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn only_declared_forms_are_replaced_and_escapes_are_kept() {
        assert_eq!(put("--folds=${params.folds}!"), "--folds=<folds>!");
        assert_eq!(put("$${params.folds} $$ $HOME $"), "${params.folds} $$ $HOME $");
        assert_eq!(put("$$${params.a}"), "$${params.a}");
        assert_eq!(
            put("${HOME}"),
            "`${HOME}` is not a parameter: write `${params.NAME}` for one, or `$${HOME}` for the text itself"
        );
        assert!(put("x ${params.a").starts_with("`${` has no closing brace"));
    }

    #[test]
    fn a_value_put_in_is_not_read_again() {
        let text = substitute("${params.a}", |_| Ok("${params.a}".to_owned())).unwrap();
        assert_eq!(text, "${params.a}");
    }

    #[test]
    fn numbers_keep_their_meaning() {
        assert_eq!(ParamKind::Float.read("0.10").unwrap().to_text(), "0.1");
        assert_eq!(ParamKind::Float.read("1").unwrap().to_json(), "1.0");
        assert_eq!(ParamKind::Int.read("1.0"), None);
        assert_eq!(ParamKind::Float.read("inf"), None);
        assert_eq!(ParamKind::Bool.read("yes"), None);
    }
}
