//! A TOML value as compact JSON, for literal lists.

use serde_json::{Map, Value};
use toml::de::DeValue;

/// Why a TOML value has no JSON form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    #[error("a whole number of an item must fit into 64 bits")]
    Integer,
    #[error("a number of an item must be finite")]
    Float,
}

/// The value as JSON; dates become text. The depth is bounded by the TOML parser.
pub(crate) fn to_json(value: &DeValue<'_>) -> Result<Value, JsonError> {
    Ok(match value {
        DeValue::String(text) => Value::from(&**text),
        DeValue::Integer(number) => {
            Value::from(i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| JsonError::Integer)?)
        }
        DeValue::Float(number) => {
            let number = number.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            Value::Number(number.ok_or(JsonError::Float)?)
        }
        DeValue::Boolean(yes) => Value::from(*yes),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| to_json(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| key.span().start);
            let mut object = Map::new();
            for (key, value) in entries {
                object.insert(key.get_ref().to_string(), to_json(value.get_ref())?);
            }
            Value::Object(object)
        }
    })
}
