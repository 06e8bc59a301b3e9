//! The JSON Schema of the flow file, for editors; made of the table of fields.

use flowyard_model::limits::{GPU_ALTERNATIVES, QUEUE_TOKENS};
use serde_json::{Map, Value, json};

use super::fields::{
    BACKOFF, DEFAULTS_DOC, FLOW, Field, GANG, GPU, NEAR, NOTICE, PARAM, PREFERENCE, RANGE, REASONS, REPLACE, RETRY,
    RETRY_RULE, SECRET, SPREAD, STEP, Shape,
};

const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$";
const SIZE: &str = "^[0-9]+(\\.[0-9]+)? *(B|KB|KiB|MB|MiB|GB|GiB|TB|TiB)$";
const TIME: &str = "^[0-9]+(\\.[0-9]+)? *(ms|s|m|h|d)$";

/// The schema, as JSON text with line breaks.
pub fn json_schema() -> String {
    let mut schema = table(FLOW, &["name", "steps"]);
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!("Flowyard flow"));
    schema.insert("definitions".to_owned(), json!({ "step": table(STEP, &["run"]), "param": table(PARAM, &["type"]) }));
    let mut text =
        serde_json::to_string_pretty(&Value::Object(schema)).expect("a schema of plain values has a JSON form");
    text.push('\n');
    text
}

fn table(fields: &[Field], required: &[&str]) -> Map<String, Value> {
    let properties: Map<_, _> = fields.iter().map(|field| (field.name.to_owned(), described(field))).collect();
    let mut object = Map::new();
    object.insert("type".to_owned(), json!("object"));
    object.insert("properties".to_owned(), Value::Object(properties));
    object.insert("additionalProperties".to_owned(), json!(false));
    object.insert("required".to_owned(), json!(required));
    object
}

fn described(field: &Field) -> Value {
    let mut value = shape(field.shape);
    if let Value::Object(object) = &mut value {
        let default = if field.default.is_empty() { String::new() } else { format!(" Default: {}.", field.default) };
        object.insert("description".to_owned(), json!(format!("{}{default}", field.doc)));
    }
    value
}

fn shape(shape: Shape) -> Value {
    match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Name => json!({ "type": "string", "pattern": NAME }),
        Shape::Queue => json!({ "type": "string", "minLength": 1 }),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Shape::Bytes => json!({ "type": "string", "pattern": SIZE }),
        Shape::Duration => json!({ "type": "string", "pattern": TIME }),
        Shape::Share => json!({ "type": ["number", "string"], "minimum": 0.001, "maximum": 1 }),
        Shape::Cpu => json!({ "type": ["number", "string"], "minimum": 0.001 }),
        Shape::Choice(words) => json!({ "type": "string", "enum": words }),
        Shape::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Shape::Choices(words) => json!({ "type": "array", "items": { "type": "string", "enum": words } }),
        Shape::TextMap => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Shape::Counts => json!({
            "type": "object", "additionalProperties": { "type": "integer", "minimum": 1, "maximum": QUEUE_TOKENS },
        }),
        Shape::Env => json!({ "type": "object", "additionalProperties": { "anyOf": [
            { "type": "string" },
            table(SECRET, &["secret"]),
        ] } }),
        Shape::Any => json!({ "type": ["string", "number", "boolean"] }),
        Shape::List => json!({ "type": "array" }),
        Shape::Foreach => json!({ "anyOf": [
            { "type": "string", "pattern": "^[^/]+/[^/]+$" },
            { "type": "array" },
            table(RANGE, &["range"]),
        ] }),
        Shape::Backoff => json!({ "anyOf": [{ "type": "string", "pattern": TIME }, table(BACKOFF, &[])] }),
        Shape::RetryRules => json!({ "type": "array", "items": table(RETRY_RULE, &[]) }),
        Shape::Reasons => one_or_many(&json!({ "enum": REASONS.map(|(word, _)| word) })),
        Shape::ExitCodes => one_or_many(&json!({ "type": "integer", "minimum": 1, "maximum": 255 })),
        Shape::Notice => json!(table(NOTICE, &["time"])),
        Shape::Retry => json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, table(RETRY, &["times"])] }),
        Shape::Gpu => gpu(),
        Shape::Gang => Value::Object(table(GANG, &["size"])),
        Shape::Near => json!({ "anyOf": [{ "type": "string", "pattern": NAME }, table(NEAR, &["level"])] }),
        Shape::Replace => json!({ "anyOf": [{ "type": "boolean" }, table(REPLACE, &[])] }),
        Shape::Spread => json!({ "anyOf": [{ "type": "string", "pattern": NAME }, table(SPREAD, &["over"])] }),
        Shape::Prefer => json!({ "type": "array", "items": table(PREFERENCE, &["label"]) }),
        Shape::Params => named("#/definitions/param"),
        Shape::Steps => named("#/definitions/step"),
        Shape::Defaults => defaults(),
        Shape::Reserved => json!({ "not": {} }),
    }
}

/// A number, a table, or a list of alternatives.
fn gpu() -> Value {
    let one = |least: u32| json!({ "anyOf": [{ "type": "integer", "minimum": least }, table(GPU, &[])] });
    let many = json!({ "type": "array", "items": one(1), "minItems": 1, "maxItems": GPU_ALTERNATIVES });
    json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, table(GPU, &[]), many] })
}

fn one_or_many(one: &Value) -> Value {
    json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
}

fn named(definition: &str) -> Value {
    json!({ "type": "object", "propertyNames": { "pattern": NAME }, "additionalProperties": { "$ref": definition } })
}

fn defaults() -> Value {
    let shared: Vec<_> = STEP.iter().filter(|field| field.in_defaults).copied().collect();
    let mut object = table(&shared, &[]);
    object.insert("description".to_owned(), json!(DEFAULTS_DOC));
    Value::Object(object)
}
