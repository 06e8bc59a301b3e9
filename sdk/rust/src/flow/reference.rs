//! The reference of the flow file for users, made of the table of fields.

use std::fmt::Write;

use super::fields::{
    BACKOFF, FLOW, Field, GANG, GPU, NEAR, NOTICE, PARAM, PREFERENCE, REASONS, REPLACE, RETRY, RETRY_ON, RETRY_RULE,
    SPREAD, STEP, Shape,
};

const INTRODUCTION: &str = "\
<!-- Made from the table of fields in sdk/rust/src/flow/fields.rs; a test keeps both the same. -->

# The flow file

A flow is a TOML file: a name, parameters, and steps that name what they read and write. `fctl submit flow.toml` submits it,
`fctl validate flow.toml` checks it without submitting and lists its parameters, and `fctl schema` prints a JSON Schema for
editors. Paths in it are relative to the folder it is in.

```toml
name = \"sweep\"

[params]
folds = { type = \"int\", default = 5 }

[defaults]
cpu = 1
memory = \"256MiB\"

[steps.split]
run = [\"python3\", \"split.py\", \"--folds\", \"${params.folds}\"]
code = \".\"
inputs = { data = \"./data.csv\" }
outputs = { folds = \"folds\", grid = \"grid.json\" }

[steps.train]
foreach = \"split/grid\"
run = [\"python3\", \"train.py\"]
code = \".\"
inputs = { folds = \"split/folds\" }
outputs = { model = \"model.json\" }

[steps.pick]
run = [\"python3\", \"pick.py\"]
code = \".\"
inputs = { models = \"train/model\" }
outputs = { best = \"best.json\" }
```
";

const NOTATION: &str = "\
## Names and quantities

- A **name** (of a flow, step, parameter, input, output or label) starts with a letter or digit and goes on with letters,
  digits, `_`, `-` and `.`; at most 63 bytes. Two inputs (or two outputs) of a step whose names differ only in case or
  punctuation are refused, because they would share an environment variable.
- A **size** has a unit: `B`, `KB`, `MB`, `GB`, `TB` (thousands) or `KiB`, `MiB`, `GiB`, `TiB` (1024). `1.5GiB` is fine as long
  as it comes out as whole bytes.
- A **time** has a unit: `ms`, `s`, `m`, `h`, `d`.
- **CPUs** are a decimal number from 0.001 to 4096 with at most three decimals.
- A **queue** is a path of names, such as `research/vision`.
";

const MEANING: &str = "\
## How names are joined

- The value of an input is an output of another step if its first part is the name of a declared step, and a path otherwise.
  `./` in front always means a path. A value that is both (a step's output, and a file of that name) is refused.
- Naming an output makes the dependency; `needs` adds further ones. Steps that need each other in a circle are refused.
- A path must not climb out of the folder of the flow with `..`; an absolute path is accepted.
- An output of a step with many tasks arrives as a folder with the entries `0`, `1`, ... in the order of the items; with
  `each`, task i gets the artifact of task i alone.
- `foreach` over a list that turns out empty skips the step, and a join of it gets an empty folder. A list has at most
  10,000,000 items of at most 1 MiB each.
- Inputs of the form `SCHEME://...` and `17/train/model` (an output of another job) are reserved.

## What a task sees

| Variable | Meaning |
|---|---|
| `FLOWYARD_INPUT_<NAME>` | Path of an input; the name in upper case, `-` and `.` as `_`. Read-only. |
| `FLOWYARD_OUTPUT_<NAME>` | Path to write an output to. |
| `FLOWYARD_JOB`, `FLOWYARD_STEP`, `FLOWYARD_TASK`, `FLOWYARD_ATTEMPT` | What it is. |
| `FLOWYARD_ITEM` | Its item as JSON; over 32 KiB it is in the file `FLOWYARD_ITEM_FILE`. |
| `FLOWYARD_PARAMS` | All parameters as a JSON object. |
| `TRACEPARENT` | The `run` span of its trace (W3C Trace Context), where the agent tells a collector (`--otlp`): OpenTelemetry's SDKs read it. `env` may set another. |
| `FLOWYARD_SAVED` | A file to touch whenever it has saved its work: `fctl show` says when that was. |
| `FLOWYARD_GPU_SHARE`, `FLOWYARD_GPU_MEMORY_BYTES` | Of a task with GPUs: how much of each it has (`0.250`; `1.000` for whole ones), and how many bytes of the memory of each, in the order of `CUDA_VISIBLE_DEVICES`, with commas between. |
| `CUDA_MPS_PINNED_DEVICE_MEM_LIMIT`, `CUDA_MPS_ACTIVE_THREAD_PERCENTAGE` | Of a task with a share of real GPUs: the same in the words of CUDA's MPS. A limit only where an MPS daemon of the node serves the task. |
| `FLOWYARD_SECRETS` | Folder in memory with the files of `secret_files`. Only where the step is given secrets. |

A member of a gang finds these, too:

| Variable | Meaning |
|---|---|
| `FLOWYARD_RANK`, `FLOWYARD_SIZE` | Which member it is, from 0, and of how many. |
| `FLOWYARD_LOCAL_RANK`, `FLOWYARD_LOCAL_SIZE` | The same among those on its node. |
| `FLOWYARD_NODE_RANK`, `FLOWYARD_NODES` | Which of the nodes it is on, from 0, and of how many. Ranks are counted through the nodes: those of one node follow each other. |
| `FLOWYARD_MAIN_ADDRESS`, `FLOWYARD_MAIN_PORT` | Where rank 0 is, and a port there that no other gang is given. |
| `FLOWYARD_HOSTFILE` | A file with a line `ADDRESS slots=MEMBERS` for each node, in the order of ranks. |
| `FLOWYARD_GANG_GENERATION` | How often members had been replaced when it started: 0 in a gang that lost none. |
| `FLOWYARD_GANG_FILE` | A JSON file with the `generation`, the `size`, `main_address`, `main_port` and the `members` (`rank`, `node`, `address`, `local_rank`) as they are now. It and the file of hosts are written anew, each as a whole, when a member was replaced. |
| `MASTER_ADDR`, `MASTER_PORT`, `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `GROUP_RANK` | The same in the words of `torch.distributed` (`init_method=\"env://\"`). |
| `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES`, `JAX_PROCESS_ID` | In those of `jax.distributed.initialize`, which reads the first by itself and is given the others as arguments. |
| `OMPI_COMM_WORLD_RANK`, `OMPI_COMM_WORLD_SIZE`, `OMPI_COMM_WORLD_LOCAL_RANK`, `OMPI_COMM_WORLD_LOCAL_SIZE`, `PMI_RANK`, `PMI_SIZE` | In those of Open MPI and PMI. |

What is not `FLOWYARD_...` of these, `env` may set otherwise.

Nothing else is inherited but `PATH`, `LANG` and `TZ`; `env` adds to it. Variables starting with `FLOWYARD_` cannot be set.
";

const GPU_ALTERNATIVES: &str = "
Alternatives, up to eight, each a number from 1 on or a table:

```toml
gpu = [{ count = 2, model = \"H100\" }, { count = 4, model = \"A100\" }]
```

Every machine is looked at for the first before the second is tried, and a task keeps what it was given until it ends; it finds what that is in
`CUDA_VISIBLE_DEVICES`. The members of a gang all have the same alternative. Each says all it needs: a `share` or `link` holds for its own
alternative alone.
";

const RETRY_EXAMPLE: &str = "
```toml
[steps.train.retry]
times = 5
backoff = { initial = \"1s\", factor = 2, max = \"5m\", jitter = true }
rules = [
  { reason = \"oom\", times = 1 },
  { exit_code = [42, 43], backoff = \"10s\" },
  { exit_code = 1, times = 0 },
]
```
";

/// The reference, as Markdown.
pub fn reference_markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## At the top of the file\n\n");
    rows(&mut text, FLOW);
    text.push_str("\n## `[params]`\n\nEach entry is a table, `NAME = { type = \"int\", default = 5 }`.\n\n");
    rows(&mut text, PARAM);
    text.push_str("\n## `[steps.NAME]`\n");
    for field in STEP {
        section(&mut text, field);
    }
    text.push_str("\n## `[defaults]`\n\nWhat may stand here, for all steps that do not say otherwise: ");
    let shared: Vec<_> = STEP.iter().filter(|field| field.in_defaults && !field.is_reserved()).collect();
    let shared: Vec<_> = shared.iter().map(|field| format!("`{}`", field.name)).collect();
    text.push_str(&shared.join(", "));
    text.push_str(".\n\n");
    text.push_str(NOTATION);
    text.push('\n');
    text.push_str(MEANING);
    text
}

fn rows(text: &mut String, fields: &[Field]) {
    text.push_str("| Key | Holds | Default | Meaning |\n|---|---|---|---|\n");
    for field in fields {
        let example = if field.example.is_empty() { String::new() } else { format!(", as `{}`", field.example) };
        let holds = format!("{}{example}", holds(field.shape));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{}` | {holds} | {} | {} |", field.name, default(field), field.doc);
    }
}

fn section(text: &mut String, field: &Field) {
    let _ = write!(text, "\n### `{}`\n\n{}\n", field.name, field.doc);
    if field.is_reserved() {
        return;
    }
    let _ = write!(text, "\n- Holds {}.", holds(field.shape));
    if !field.default.is_empty() {
        let _ = write!(text, " Default: {}.", default(field));
    }
    let _ = write!(text, "\n- `{} = {}`\n", field.name, field.example);
    match field.shape {
        Shape::Retry => {
            text.push('\n');
            rows(text, RETRY);
            let _ = write!(
                text,
                "\nThe ends are: `{}` (a non-zero exit code or a signal), `{}` (killed for its memory \
                 use), `{}` (ran longer than its `timeout`).\n",
                RETRY_ON[0], RETRY_ON[1], RETRY_ON[2]
            );
            text.push_str("\n`backoff` as a table says how the wait grows:\n\n");
            rows(text, BACKOFF);
            text.push_str(
                "\nA rule holds for ends with one of its reasons and one of its exit codes; it says at least one of both:\n\n",
            );
            rows(text, RETRY_RULE);
            let reasons: Vec<_> = REASONS.iter().map(|(word, _)| format!("`{word}`")).collect();
            let _ = write!(text, "\nThe reasons are: {}.\n", reasons.join(", "));
            text.push_str(RETRY_EXAMPLE);
        }
        Shape::Gpu => {
            text.push('\n');
            rows(text, GPU);
            text.push_str(GPU_ALTERNATIVES);
        }
        Shape::Gang => {
            text.push('\n');
            rows(text, GANG);
            text.push_str("\n`near` as a table can insist:\n\n");
            rows(text, NEAR);
            text.push_str("\n`replace` as a table says how long:\n\n");
            rows(text, REPLACE);
            text.push_str(
                "\nWhat is near to what, an operator says ([scheduler.md](scheduler.md#gangs-in-a-topology)).\n",
            );
        }
        Shape::Notice => {
            text.push('\n');
            rows(text, NOTICE);
        }
        Shape::Prefer => {
            text.push('\n');
            rows(text, PREFERENCE);
        }
        Shape::Spread => {
            text.push('\n');
            rows(text, SPREAD);
        }
        _ => {}
    }
}

fn default(field: &Field) -> String {
    match field.default {
        "" => String::new(),
        value
            if value == "false"
                || value == "true"
                || value.starts_with('"')
                || value.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            format!("`{value}`")
        }
        words => words.to_owned(),
    }
}

fn holds(shape: Shape) -> String {
    let words = |words: &[&str]| words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" or ");
    match shape {
        Shape::Text => "a text".to_owned(),
        Shape::Name => "a name".to_owned(),
        Shape::Queue => "a queue".to_owned(),
        Shape::Boolean => "`true` or `false`".to_owned(),
        Shape::Integer(low, high) => format!("a whole number from {low} to {high}"),
        Shape::Bytes => "a size".to_owned(),
        Shape::Duration => "a time".to_owned(),
        Shape::Share => "a part of one".to_owned(),
        Shape::Cpu => "a number of CPUs".to_owned(),
        Shape::Choice(choices) => words(choices),
        Shape::Texts => "a list of texts".to_owned(),
        Shape::Choices(choices) => format!("a list of {}", words(choices)),
        Shape::TextMap => "a table of texts".to_owned(),
        Shape::Counts => "a table of whole numbers from 1 on".to_owned(),
        Shape::Env => "a table of texts, or of `{ secret = \"NAME\" }`".to_owned(),
        Shape::Any => "a value of its type".to_owned(),
        Shape::List => "a list".to_owned(),
        Shape::Foreach => "`\"STEP/NAME\"`, a list, or a range".to_owned(),
        Shape::Backoff => "a time, or a table".to_owned(),
        Shape::RetryRules => "a list of tables".to_owned(),
        Shape::Reasons => "a reason, or a list of them".to_owned(),
        Shape::ExitCodes => "a whole number from 1 to 255, or a list of them".to_owned(),
        Shape::Retry => "a number of tries, or a table".to_owned(),
        Shape::Notice => "a table".to_owned(),
        Shape::Gpu => "a number, a table, or a list of alternatives".to_owned(),
        Shape::Gang => "a table".to_owned(),
        Shape::Near => "a level, or a table".to_owned(),
        Shape::Replace => "`true` or `false`, or a table".to_owned(),
        Shape::Prefer => "a list of tables".to_owned(),
        Shape::Spread => "a label, `\"host\"`, or a table".to_owned(),
        Shape::Params | Shape::Defaults | Shape::Steps => "a table".to_owned(),
        Shape::Reserved => "nothing yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Flow;

    const STEPS: &str = "\n[steps.split]\nrun = [\"x\"]\noutputs = { grid = \"grid.json\", folds = \"folds\" }\n\
                         [steps.train]\nrun = [\"x\"]\n[steps.warm-up]\nrun = [\"x\"]\n";

    /// Every example of the reference is taken by the reader, which also shows that every field has one.
    #[test]
    fn every_example_in_the_table_of_fields_is_accepted() {
        for field in STEP.iter().filter(|field| !field.is_reserved()) {
            let run = if field.name == "run" { "" } else { "run = [\"x\"]\n" };
            let example = format!("{} = {}", field.name, field.example);
            let params = "[params]\nfolds = { type = \"int\", default = 5 }\n";
            let text = format!("name = \"a\"\n{params}[steps.x]\n{run}{example}\n{STEPS}");
            Flow::parse("flow.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
            if field.in_defaults {
                let text = format!("name = \"a\"\n{params}[defaults]\n{example}\n{STEPS}");
                Flow::parse("flow.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        for field in FLOW.iter().filter(|field| field.name != "name" && !field.example.is_empty()) {
            let text = format!("name = \"a\"\n{} = {}\n{STEPS}", field.name, field.example);
            Flow::parse("flow.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn the_schema_is_json_and_knows_every_field() {
        let schema: serde_json::Value = serde_json::from_str(&crate::flow::json_schema()).unwrap();
        for field in STEP {
            assert!(schema["definitions"]["step"]["properties"][field.name].is_object(), "{}", field.name);
            assert_eq!(schema["properties"]["defaults"]["properties"][field.name].is_object(), field.in_defaults);
        }
        assert_eq!(schema["definitions"]["step"]["additionalProperties"], false);
    }

    /// What the table says about defaults is what is filled in.
    #[test]
    fn the_documented_defaults_are_those_that_hold() {
        use crate::flow::fallback;
        use crate::units;
        let default = |name: &str| STEP.iter().find(|field| field.name == name).unwrap().default.trim_matches('"');
        assert_eq!(units::cpu_milli(default("cpu")), Ok(fallback::CPU_MILLI));
        assert_eq!(units::bytes(default("memory")), Ok(fallback::MEMORY_BYTES));
        assert_eq!(units::duration_ms(default("kill_grace")), Ok(fallback::KILL_GRACE_MS));
    }
}
