//! The file of a trace: arrivals as CSV with a line of names, or as one JSON object per line.
//!
//! ```text
//! at_ms,duration_ms,cpu,memory,gpus,model,queue,user,count
//! 0,2500,1,512MiB,0,,default,ada,20
//! {"at_ms": 40, "duration_ms": 60000, "cpu": "4", "memory": "16GiB", "gpus": 2, "model": "H100"}
//! ```
//!
//! Only `at_ms` has to be there. Fields hold no commas; a field that is empty is as good as none.

use std::collections::BTreeMap;
use std::path::Path;

use flowyard_sdk::units;
use serde_json::Value;

use super::workload::Arrival;
use crate::failure::Failure;
use crate::text;

const FIELDS: [&str; 9] = ["at_ms", "duration_ms", "cpu", "memory", "gpus", "model", "queue", "user", "count"];

/// The arrivals of a file, by time.
///
/// # Errors
/// The first line that is none.
pub(in crate::commands) fn read(path: &Path) -> Result<Vec<Arrival>, Failure> {
    let text = std::fs::read_to_string(path).map_err(Failure::local(path.display()))?;
    parse(&text).map_err(|(line, why)| Failure::Usage(format!("{}:{line}: {why}", path.display())))
}

type Line = BTreeMap<String, String>;

fn parse(text: &str) -> Result<Vec<Arrival>, (usize, String)> {
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let mut lines = lines.by_ref().filter(|(_, line)| !line.is_empty()).peekable();
    let is_json = lines.peek().is_some_and(|(_, line)| line.starts_with('{'));
    let names = match lines.next_if(|_| !is_json) {
        Some((at, head)) => names_of(head).map_err(|why| (at, why))?,
        None => Vec::new(),
    };
    let mut arrivals = Vec::new();
    for (at, line) in lines {
        let fields = if is_json { of_json(line) } else { of_csv(&names, line) };
        arrivals.push(fields.and_then(|fields| arrival(&fields)).map_err(|why| (at, why))?);
    }
    if arrivals.is_empty() {
        return Err((1, "there is no arrival in it".to_owned()));
    }
    arrivals.sort_by_key(|arrival| arrival.at_ms);
    Ok(arrivals)
}

fn known(name: &str) -> Result<String, String> {
    match FIELDS.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("there is no field `{}`; write {}", text::harmless(name), FIELDS.join(", "))),
    }
}

fn names_of(head: &str) -> Result<Vec<String>, String> {
    let names = head.split(',').map(|name| known(name.trim())).collect::<Result<Vec<_>, _>>()?;
    match names.iter().any(|name| name == "at_ms") {
        true => Ok(names),
        false => Err("the first line names the fields, at_ms among them".to_owned()),
    }
}

fn of_csv(names: &[String], line: &str) -> Result<Line, String> {
    let values: Vec<_> = line.split(',').map(|value| value.trim().to_owned()).collect();
    match values.len() == names.len() {
        true => Ok(names.iter().cloned().zip(values).collect()),
        false => Err(format!("{} fields, and the first line names {}", values.len(), names.len())),
    }
}

fn of_json(line: &str) -> Result<Line, String> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let text = |(name, value): (String, Value)| {
        let value = match value {
            Value::Null => String::new(),
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            _ => return Err(format!("`{}` is no text and no number", text::harmless(&name))),
        };
        Ok((known(&name)?, value))
    };
    object.into_iter().map(text).collect()
}

fn arrival(fields: &Line) -> Result<Arrival, String> {
    let field = |name: &str| fields.get(name).filter(|value| !value.is_empty());
    let number = |name: &str, otherwise: Option<u64>| match (field(name), otherwise) {
        (Some(text), _) => {
            text.parse::<u64>().map_err(|_| format!("{name}: `{}` is no whole number", text::harmless(text)))
        }
        (None, Some(otherwise)) => Ok(otherwise),
        (None, None) => Err(format!("{name} is missing")),
    };
    let small = |name: &str, otherwise: u64, most: u32| {
        let value = number(name, Some(otherwise))?;
        u32::try_from(value)
            .ok()
            .filter(|value| *value <= most)
            .ok_or_else(|| format!("{name}: {value} is more than {most}"))
    };
    let count = small("count", 1, flowyard_model::limits::TASKS_PER_STEP)?;
    if count == 0 {
        return Err("count: no task at all".to_owned());
    }
    Ok(Arrival {
        at_ms: number("at_ms", None)?,
        duration_ms: number("duration_ms", Some(0))?,
        cpu_milli: field("cpu")
            .map_or(Ok(1_000), |text| units::cpu_milli(text))
            .map_err(|error| format!("cpu: {error}"))?,
        memory_bytes: field("memory")
            .map_or(Ok(64 << 20), |text| units::bytes(text))
            .map_err(|error| format!("memory: {error}"))?,
        gpus: small("gpus", 0, flowyard_model::limits::GPUS)?,
        model: field("model").cloned(),
        queue: field("queue").map(|text| text.parse()).transpose().map_err(|error| format!("queue: {error}"))?,
        user: field("user").map(|text| text.parse()).transpose().map_err(|error| format!("user: {error}"))?,
        count,
        mark: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same_and_arrivals_are_in_order_of_time() {
        let csv = "at_ms,duration_ms,cpu,memory,gpus,model,queue,user,count\n\
                   40,60000,4,16GiB,2,H100,lab/vision,ada,1\n\n0,10,,,,,,,20\n";
        let json = "{\"at_ms\": 40, \"duration_ms\": 60000, \"cpu\": \"4\", \"memory\": \"16GiB\", \"gpus\": 2, \
                    \"model\": \"H100\", \"queue\": \"lab/vision\", \"user\": \"ada\"}\n\
                    {\"at_ms\": 0, \"duration_ms\": 10, \"count\": 20, \"cpu\": null}\n";
        let (csv, json) = (parse(csv).unwrap(), parse(json).unwrap());
        assert_eq!(csv, json);
        assert_eq!((csv[0].count, csv[0].cpu_milli, csv[0].user.as_ref()), (20, 1_000, None));
        assert_eq!((csv[1].memory_bytes, csv[1].gpus, csv[1].model.as_deref()), (16 << 30, 2, Some("H100")));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let wrong = |text: &str| parse(text).unwrap_err();
        for (text, line, word) in [
            ("", 1, "no arrival"),
            ("at_ms\n", 1, "no arrival"),
            ("at,count\n1,2\n", 1, "`at`"),
            ("count\n2\n", 1, "at_ms"),
            ("at_ms,count\n1,2\n1\n", 3, "names 2"),
            ("at_ms,count\nsoon,2\n", 2, "`soon`"),
            ("at_ms,count\n1,0\n", 2, "no task"),
            ("at_ms,memory\n1,5\n", 2, "memory"),
            ("{\"at_ms\": 1}\n{\"count\": 1}\n", 2, "at_ms is missing"),
            ("{\"at_ms\": 1}\nnonsense\n", 2, "expected"),
            ("{\"at_ms\": [1]}\n", 1, "no number"),
        ] {
            let (at, why) = wrong(text);
            assert!(at == line && why.contains(word), "{text:?}: {at}: {why}");
        }
    }
}
