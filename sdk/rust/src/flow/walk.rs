//! Walking a TOML tree with positions: each value is asked for as one type, and what is not of it becomes a problem.
//!
//! Knows TOML and places; does not know what a flow is.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use flowyard_model::{Name, NameError};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::{ALIASES, Field};
use super::problem::{Problems, Reported};
use crate::shown::{did_you_mean, listed, nearest, shown};
use crate::units::QuantityError;

/// The problems and positions found so far.
pub(crate) struct Walk<'s> {
    pub(crate) problems: Problems<'s>,
    pub(crate) spans: BTreeMap<String, Range<usize>>,
}

/// A value and where it stands.
pub(crate) struct At<'t, 'i> {
    pub(crate) path: String,
    pub(crate) value: &'t Spanned<DeValue<'i>>,
}

/// A key of a table with its value.
pub(crate) struct KeyAt<'t, 'i> {
    pub(crate) key: &'t str,
    pub(crate) key_span: Range<usize>,
    pub(crate) at: At<'t, 'i>,
}

impl<'t, 'i> At<'t, 'i> {
    fn raw(&self) -> &'t DeValue<'i> {
        self.value.get_ref()
    }

    pub(crate) fn as_table(&self) -> Option<&'t DeTable<'i>> {
        match self.raw() {
            DeValue::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&'t str> {
        match self.raw() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one and has 64 bits.
    pub(crate) fn as_integer(&self) -> Option<i64> {
        match self.raw() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        }
    }

    /// A number as it was written, for parsers that do without floats.
    pub(crate) fn as_number_text(&self) -> Option<String> {
        match self.raw() {
            DeValue::Integer(_) => self.as_integer().map(|number| number.to_string()),
            DeValue::Float(number) => Some(number.as_str().to_owned()),
            _ => None,
        }
    }

    pub(crate) fn as_boolean(&self) -> Option<bool> {
        match self.raw() {
            DeValue::Boolean(yes) => Some(*yes),
            _ => None,
        }
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.raw(), DeValue::Array(_))
    }
}

impl<'s> Walk<'s> {
    pub(crate) fn new(problems: Problems<'s>) -> Self {
        Self { problems, spans: BTreeMap::new() }
    }

    /// Reports that a value is not what was expected.
    pub(crate) fn wrong(&mut self, at: &At<'_, '_>, expected: &str) -> Reported<'_> {
        let message = format!("expected {expected}, found {}", found(at.raw()));
        self.problems.at_span(at.value.span(), &at.path, message)
    }

    pub(crate) fn problem(&mut self, at: &At<'_, '_>, message: impl Into<String>) -> Reported<'_> {
        self.problems.at_span(at.value.span(), &at.path, message)
    }

    /// The entries of a table in the order of the file. `None`: it is no table, which is reported.
    pub(crate) fn table<'t, 'i>(&mut self, at: &At<'t, 'i>, expected: &str) -> Option<Vec<KeyAt<'t, 'i>>> {
        let Some(table) = at.as_table() else {
            self.wrong(at, expected);
            return None;
        };
        Some(self.entries(table, &at.path))
    }

    pub(crate) fn entries<'t, 'i>(&mut self, table: &'t DeTable<'i>, path: &str) -> Vec<KeyAt<'t, 'i>> {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| {
                let path = join(path, key.get_ref());
                let position = if matches!(value.get_ref(), DeValue::Table(_)) { key.span() } else { value.span() };
                self.spans.insert(path.clone(), position);
                KeyAt { key: key.get_ref(), key_span: key.span(), at: At { path, value } }
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        entries
    }

    /// The entries whose keys are fields; the others are reported with the nearest field.
    pub(crate) fn fields<'t, 'i>(
        &mut self,
        entries: Vec<KeyAt<'t, 'i>>,
        fields: &[Field],
        place: &str,
    ) -> Vec<KeyAt<'t, 'i>> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| fields.iter().any(|field| field.name == entry.key));
        for entry in unknown {
            let names = || fields.iter().map(|field| field.name);
            let aliases = ALIASES.iter().filter(|(_, field)| names().any(|name| name == *field));
            let meant = nearest(entry.key, names().chain(aliases.map(|(alias, _)| *alias)));
            let meant =
                meant.map(|word| ALIASES.iter().find(|(alias, _)| *alias == word).map_or(word, |(_, field)| *field));
            let suggestion = meant.map_or_else(String::new, |field| format!("; did you mean `{field}`?"));
            let message = format!("unknown key `{}` {place}{suggestion}", shown(entry.key));
            let reported = self.problems.at_span(entry.key_span, &entry.at.path, message);
            if suggestion.is_empty() {
                let usable = fields.iter().filter(|field| !field.is_reserved()).map(|field| field.name);
                reported.help(format!("there are {}", all_listed(usable)));
            }
        }
        known
    }

    /// The items of a list. `None`: it is no list, which is reported.
    pub(crate) fn list<'t, 'i>(&mut self, at: &At<'t, 'i>, expected: &str) -> Option<Vec<At<'t, 'i>>> {
        let DeValue::Array(items) = at.raw() else {
            self.wrong(at, expected);
            return None;
        };
        let item = |(index, value)| At { path: format!("{}.{index}", at.path), value };
        Some(items.iter().enumerate().map(item).collect())
    }

    pub(crate) fn text(&mut self, at: &At<'_, '_>, expected: &str) -> Option<String> {
        let text = at.as_text().map(str::to_owned);
        if text.is_none() {
            self.wrong(at, expected);
        }
        text
    }

    pub(crate) fn texts(&mut self, at: &At<'_, '_>, expected: &str) -> Vec<String> {
        let items = self.list(at, expected).unwrap_or_default();
        items.iter().filter_map(|item| self.item_text(item)).collect()
    }

    /// A text in a list, whose place is remembered.
    pub(crate) fn item_text(&mut self, item: &At<'_, '_>) -> Option<String> {
        self.spans.insert(item.path.clone(), item.value.span());
        self.text(item, "a text in quotes")
    }

    pub(crate) fn boolean(&mut self, at: &At<'_, '_>) -> Option<bool> {
        let yes = at.as_boolean();
        if yes.is_none() {
            self.wrong(at, "true or false");
        }
        yes
    }

    /// A whole number between two bounds.
    pub(crate) fn integer<T: TryFrom<i64>>(&mut self, at: &At<'_, '_>, low: i64, high: i64) -> Option<T> {
        let number = at.as_integer().filter(|number| (low..=high).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.wrong(at, &format!("a whole number from {low} to {high}"));
        }
        number
    }

    /// A text that `parse` understands.
    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &mut self,
        at: &At<'_, '_>,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let Some(text) = at.as_text() else {
            self.wrong(at, expected);
            return None;
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(at, error.to_string());
                None
            }
        }
    }

    /// A quantity with a unit, which is always text.
    pub(crate) fn quantity(
        &mut self,
        at: &At<'_, '_>,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<u64, QuantityError>,
    ) -> Option<u64> {
        let number = at.as_number_text();
        match number.as_deref().or(at.as_text()).map(parse) {
            Some(Ok(value)) => Some(value),
            Some(Err(error)) => {
                self.problem(at, error.to_string());
                None
            }
            None => {
                self.wrong(at, expected);
                None
            }
        }
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(&mut self, at: &At<'_, '_>, words: &[(&str, T)]) -> Option<T> {
        let names = || words.iter().map(|(word, _)| *word);
        let expected = format!("one of {}", names().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", "));
        let text = self.text(at, &expected)?;
        let chosen = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let suggestion = did_you_mean(&text, names());
            self.problem(at, format!("`{}` is not {expected}{suggestion}", shown(&text)));
        }
        chosen
    }

    /// A key that has to be a name.
    pub(crate) fn name_key(&mut self, entry: &KeyAt<'_, '_>, what: &str) -> Option<Name> {
        let name: Result<Name, NameError> = Name::from_str(entry.key);
        name.map_err(|error| {
            let message = format!("`{}` cannot be the name of {what}: {error}", shown(entry.key));
            self.problems.at_span(entry.key_span.clone(), &entry.at.path, message);
        })
        .ok()
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { shown(key) } else { format!("{path}.{}", shown(key)) }
}

fn all_listed<'k>(names: impl Iterator<Item = &'k str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What a value is, for messages.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{}\"", shown(text)),
        DeValue::Integer(number) => format!("the number {}", shown(&number.to_string())),
        DeValue::Float(number) => format!("the number {}", shown(number.as_str())),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The words of [`listed`] for owned names.
pub(crate) fn names_listed<'n>(names: impl Iterator<Item = &'n Name>) -> String {
    listed(names.map(Name::as_str))
}
