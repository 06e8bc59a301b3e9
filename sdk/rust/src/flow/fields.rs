//! Every key of a flow file, once: what it is called, what it holds, what it means.
//!
//! The reader takes its known keys from here, and the JSON Schema and the reference for users are made of it.

use flowyard_model::{Reason, limits};

/// A key of a table in the flow file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// The key.
    pub(crate) name: &'static str,
    /// What it holds.
    pub(crate) shape: Shape,
    /// What it means, for a user.
    pub(crate) doc: &'static str,
    /// As it is written, value only.
    pub(crate) example: &'static str,
    /// What holds without it; empty if nothing does.
    pub(crate) default: &'static str,
    /// Whether `[defaults]` may hold it too.
    pub(crate) in_defaults: bool,
}

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Any text.
    Text,
    /// A name.
    Name,
    /// A queue path.
    Queue,
    /// Yes or no.
    Boolean,
    /// A whole number between these.
    Integer(i64, i64),
    /// A size with a unit.
    Bytes,
    /// A time with a unit.
    Duration,
    /// A number of CPUs.
    Cpu,
    /// A part of a device.
    Share,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of some of these words.
    Choices(&'static [&'static str]),
    /// Name to text.
    TextMap,
    /// Name to text, or to a secret.
    Env,
    /// Any value.
    Any,
    /// A list of any values.
    List,
    /// What `foreach` takes.
    Foreach,
    /// What `notice` takes.
    Notice,
    /// What `retry` takes.
    Retry,
    /// A wait that grows.
    Backoff,
    /// Exceptions in `retry`.
    RetryRules,
    /// A reason, or some.
    Reasons,
    /// An exit code, or some.
    ExitCodes,
    /// Name to a count.
    Counts,
    /// What `gpu` takes.
    Gpu,
    /// What `gang` takes.
    Gang,
    /// What `near` of a gang takes.
    Near,
    /// What `replace` of a gang takes.
    Replace,
    /// A list of preferences.
    Prefer,
    /// What `spread` takes.
    Spread,
    /// Name to parameter.
    Params,
    /// The defaults of steps.
    Defaults,
    /// Name to step.
    Steps,
    /// Reserved for later; refused.
    Reserved,
}

/// A key.
pub(crate) const fn field(name: &'static str, shape: Shape, doc: &'static str, example: &'static str) -> Field {
    Field { name, shape, doc, example, default: "", in_defaults: false }
}

impl Field {
    /// Whether it is refused for now.
    pub(crate) const fn is_reserved(&self) -> bool {
        matches!(self.shape, Shape::Reserved)
    }

    pub(crate) const fn or(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    const fn shared(mut self) -> Self {
        self.in_defaults = true;
        self
    }
}

/// Keys at the top of the file.
pub(crate) const FLOW: &[Field] = &[
    field("name", Shape::Name, "Name of the flow; jobs are listed under it. Required.", "\"iris\""),
    field("queue", Shape::Queue, "The queue its jobs wait in.", "\"research/vision\"").or("\"default\""),
    field("priority", PRIORITY, "Higher goes first within its queue.", "10").or("0"),
    field("tags", Shape::Texts, "Free words to find its jobs by.", "[\"nightly\"]"),
    field("retention", Shape::Duration, "How long a finished job is remembered.", "\"30d\"").or("the cluster's"),
    field(
        "deadline",
        Shape::Duration,
        "Longest time from its submission to its end. When it has passed, what runs is stopped and the job fails.",
        "\"6h\"",
    )
    .or("none"),
    field(
        "queue_ttl",
        Shape::Duration,
        "Longest time a job waits for its first task to be placed, counted from when it waits for no other job. When it has \
         passed, the job fails.",
        "\"1h\"",
    )
    .or("none"),
    field("params", Shape::Params, "Parameters: values given at submit with `-P NAME=VALUE`.", ""),
    field("defaults", Shape::Defaults, DEFAULTS_DOC, ""),
    field("steps", Shape::Steps, "The steps. At least one.", ""),
];

/// Keys of a parameter.
pub(crate) const PARAM: &[Field] = &[
    field("type", Shape::Choice(&["int", "float", "string", "bool"]), "What values it takes. Required.", "\"int\""),
    field("default", Shape::Any, "Its value when none is given; without it, one must be.", "5"),
    field("description", Shape::Text, "One line for people, shown by `fctl validate`.", "\"number of folds\""),
    field("choices", Shape::List, "The only values it takes.", "[3, 5, 10]"),
];

const PRIORITY: Shape = Shape::Integer(-1_000_000, 1_000_000);

/// Keys of a step.
pub(crate) const STEP: &[Field] = &[
    field(
        "run",
        Shape::Texts,
        "Program and arguments; no shell is involved. `${params.NAME}` is replaced by the parameter's value, `$${` stands \
         for `${`. Required.",
        "[\"python3\", \"train.py\", \"--folds\", \"${params.folds}\"]",
    ),
    field(
        "code",
        Shape::Text,
        "Folder, relative to the flow file, that is packaged and becomes the working directory. Honours `.gitignore` and \
         `.flowyardignore`.",
        "\".\"",
    )
    .or("an empty working directory")
    .shared(),
    field(
        "inputs",
        Shape::TextMap,
        "Artifacts to read, by name. A value is a path relative to the flow file, or `STEP/NAME`, an output of another step, \
         which then comes first. A value whose first part is a declared step is such an output; write `./` in front to mean \
         the path. An output of a step with many tasks arrives as a folder with the entries `0`, `1`, ... The task finds it \
         under `$FLOWYARD_INPUT_<NAME>`, in containers also under `/flowyard/in/NAME`.",
        "{ data = \"./iris.csv\", folds = \"split/folds\" }",
    ),
    field(
        "outputs",
        Shape::TextMap,
        "Artifacts it writes, by name: files or folders below the working directory, stored when the command succeeds. The \
         task finds the path under `$FLOWYARD_OUTPUT_<NAME>`.",
        "{ model = \"model.json\" }",
    ),
    field(
        "foreach",
        Shape::Foreach,
        "Makes one task per item: of a JSON list that another step writes (`\"STEP/NAME\"`), of a literal list, or of the \
         whole numbers from the first up to but not including the second (`{ range = [0, 100] }`). The task finds its item as \
         JSON in `$FLOWYARD_ITEM` (over 32 KiB: in the file `$FLOWYARD_ITEM_FILE`). If the list turns out empty, the step is \
         skipped and a join of it gets an empty folder.",
        "\"split/grid\"",
    ),
    field(
        "each",
        Shape::Text,
        "Follows another step task by task: task i starts when task i of that step has succeeded, with the same item, and an \
         input from that step is the artifact of task i alone.",
        "\"train\"",
    ),
    field(
        "needs",
        Shape::Texts,
        "Steps that must have succeeded first, beside those named by `inputs`, `foreach` and `each`.",
        "[\"warm-up\"]",
    ),
    field(
        "env",
        Shape::Env,
        "Variables. `${params.NAME}` is replaced as in `run`. Together with those of `[defaults]`, name by name. `{ secret = \
         \"NAME\" }` as a value stands for what `fctl secret put NAME` keeps, without a line end after it.",
        "{ OMP_NUM_THREADS = \"1\", API_KEY = { secret = \"API_KEY\" } }",
    )
    .shared(),
    field(
        "secret_files",
        Shape::TextMap,
        "Files that hold a secret: a file's name, and the name under which `fctl secret put` keeps it. They lie in \
         `$FLOWYARD_SECRETS`, a folder in memory that only the task may read.",
        "{ \"key.pem\" = \"DEPLOY_KEY\" }",
    )
    .shared(),
    field("environment", Shape::Reserved, "The dependencies of a step. Reserved: refused until supported.", "").shared(),
    field(
        "retry",
        Shape::Retry,
        "Tries failed attempts again: a number of tries, or a table. Ends that are the platform's or the hardware's fault are \
         tried again anyway and do not count.",
        "{ times = 3, backoff = \"5s\", on = [\"failed\", \"oom\"], rules = [{ exit_code = 1, times = 0 }] }",
    )
    .or("none")
    .shared(),
    field("timeout", Shape::Duration, "Longest run of an attempt; it is stopped then.", "\"10m\"").or("none").shared(),
    field(
        "expected",
        Shape::Duration,
        "How long an attempt is expected to run. It is not stopped then: it tells when its room falls free, and where a step has no \
         `timeout`, whether it is over before work for which room is kept. Without it, that is learned from runs that succeeded.",
        "\"20m\"",
    )
    .or("what earlier runs took")
    .shared(),
    field(
        "on_failure",
        Shape::Choice(&["stop", "continue"]),
        "What it means when a task has failed for good. `stop`: everything else stops and the job fails. `continue`: the \
         other tasks go on, and a join sees which entries are missing.",
        "\"continue\"",
    )
    .or("\"stop\"")
    .shared(),
    field("max_parallel", Shape::Integer(1, 10_000_000), "Most tasks of the step active at one time.", "8")
        .or("no limit")
        .shared(),
    field(
        "cpu",
        Shape::Cpu,
        "CPUs, from 0.001 on, kept in thousandths. A number, or the number as text.",
        "0.5",
    )
    .or("1")
    .shared(),
    field("memory", Shape::Bytes, "Memory; a task that uses more is killed.", "\"2GiB\"").or("\"512MiB\"").shared(),
    field("disk", Shape::Bytes, "Scratch space.", "\"20GiB\"").or("no claim").shared(),
    field("shm", Shape::Bytes, "Size of `/dev/shm`, part of the memory.", "\"1GiB\"").or("the agent's").shared(),
    field(
        "gpu",
        Shape::Gpu,
        "GPUs: how many (0 for none), or a table with the model and memory each must have; or a list of such, each an alternative, \
         the best first: a later one is taken only while no machine has room for an earlier one, or its queue may have no more of that.",
        "{ count = 2, model = \"H100\", memory = \"40GiB\" }",
    )
    .or("none")
    .shared(),
    field(
        "tokens",
        Shape::Counts,
        "Countable things, such as licences, that each member holds as long as it runs, by name. How many there are in the cluster, an \
         operator says with `fctl policy put`.",
        "{ matlab = 1 }",
    )
    .or("none")
    .shared(),
    field(
        "labels",
        Shape::TextMap,
        "Runs only on nodes that have these labels with these values. Together with those of `[defaults]`, name by name.",
        "{ rack = \"r1\" }",
    )
    .shared(),
    field(
        "constraints",
        Shape::Texts,
        "Runs only on nodes whose labels satisfy all of these: `LABEL`, `!LABEL`, `LABEL == V`, `LABEL != V`, `LABEL in [V, \
         W]`, `LABEL not in [V, W]`.",
        "[\"rack == r1\", \"zone in [a, b]\", \"!spot\"]",
    )
    .shared(),
    field(
        "prefer",
        Shape::Prefer,
        "Of the nodes that it may run on, those that satisfy the most of these by weight come first, as long as they have room. A gang \
         goes where the least liked of its nodes is liked as much as can be.",
        "[{ label = \"zone == a\", weight = 50 }]",
    )
    .or("none")
    .shared(),
    field(
        "spread",
        Shape::Spread,
        "Spreads the members of all tasks of the step over the values of a label, or over hosts: each goes where the fewest of them run, as \
         far as there is room. With `at_most`, no more than that many run in one at a time: the others wait.",
        "{ over = \"rack\", at_most = 2 }",
    )
    .or("as it comes")
    .shared(),
    field(
        "unique_host",
        Shape::Boolean,
        "Whether at most one member of all tasks of the step runs on a node at a time.",
        "true",
    )
    .or("false")
    .shared(),
    field(
        "apart",
        Shape::Texts,
        "Tags of jobs beside which it does not run: it goes to no node where an attempt of a job with one of these `tags` lives, and \
         no such job goes to a node where it lives, as far as their queues are in the same tree. With a tag of its own job, each member \
         has a node without any other of them.",
        "[\"database\"]",
    )
    .or("none")
    .shared(),
    field(
        "pack",
        Shape::Boolean,
        "Whether tasks without GPUs fill the nodes that are fullest, rather than be spread over the emptiest. Tasks with GPUs always do.",
        "true",
    )
    .or("false")
    .shared(),
    field(
        "network",
        Shape::Choice(&["private", "host", "none"]),
        "Network of its containers. `private`: one of its own, from which other machines are reached and the node is not. \
         `host`: the node's. `none`: loopback only.",
        "\"none\"",
    )
    .or("what the cluster gives: the node's in an embedded one, one of its own in a fleet unless its operator chose otherwise")
    .shared(),
    field(
        "mounts",
        Shape::Texts,
        "Host folders to see inside under the same path, `PATH:ro` or `PATH:rw` (read-only if neither); only what the agent's \
         configuration allows.",
        "[\"/data:ro\"]",
    )
    .shared(),
    field("kill_grace", Shape::Duration, "Time between the stop signal and the kill.", "\"1m\"").or("\"10s\"").shared(),
    field(
        "stop_signal",
        Shape::Choice(STOP_SIGNALS),
        "The signal that asks the command to stop, when its job is cancelled, its `timeout` has passed or its node is drained. \
         What is left after `kill_grace` is killed.",
        "\"SIGINT\"",
    )
    .or("\"SIGTERM\"")
    .shared(),
    field(
        "preemptible",
        Shape::Boolean,
        "Whether it may be evicted: asked to stop, and run again later, so that work with a higher priority starts, or work of a \
         queue that is promised what this one has borrowed. What may not be evicted counts against `no_preempt` of its queues, \
         and is refused where none of them names what it asks for.",
        "false",
    )
    .or("true")
    .shared(),
    field(
        "notice",
        Shape::Notice,
        "A signal that is sent first when it is evicted, so that it saves its work; it is asked to stop only `time` later, or \
         as soon as its queue's contract says. A command that does not handle the signal is ended by it. Without it, it is asked to \
         stop at once.",
        "{ signal = \"SIGUSR1\", time = \"20s\" }",
    )
    .shared(),
    field(
        "on_disconnect",
        Shape::Choice(&["keep", "stop"]),
        "What an attempt does when its agent hears nothing from the coordinator. `keep`: it runs on, and its task may run \
         twice. `stop`: it stops when its lease ends, so that its task never runs twice.",
        "\"stop\"",
    )
    .or("\"keep\"")
    .shared(),
    field("priority", PRIORITY, "Added to the job's priority.", "1").or("0").shared(),
    field(
        "image",
        Shape::Text,
        "Root file system: `\"host\"` for the node's own operating system, read-only; or the path of an OCI layout folder or \
         of an OCI or docker archive, starting with `./` or `/`.",
        "\"./image.tar\"",
    )
    .or("\"host\"")
    .shared(),
    field(
        "isolation",
        Shape::Choice(&["container", "process"]),
        "`container`, or `process` for a plain process with resource limits, where the agent's configuration allows it.",
        "\"process\"",
    )
    .or("\"container\"")
    .shared(),
    field(
        "gang",
        Shape::Gang,
        "Makes each task of the step a gang: several members that run the same command at the same time, on one node or on many, \
         and that reach each other. `cpu`, `memory`, `gpu` and the like are those of each member. A gang starts as a whole or not \
         at all, as near to each other as there is room; when one member ends badly, all are stopped, and the task is tried again as a whole \
         (but see `replace`). \
         Each member is told its rank, where the first one is, and a port there (see below). `outputs` are those of rank 0. Their \
         network is the node's.",
        "{ size = 8, near = \"rack\" }",
    )
    .or("one member"),
];

/// Keys of `notice`.
pub(crate) const NOTICE: &[Field] = &[
    field("signal", Shape::Choice(STOP_SIGNALS), "The signal.", "\"SIGUSR1\"").or("\"SIGTERM\""),
    field("time", Shape::Duration, "How long before it is asked to stop; at most an hour. Required.", "\"20s\""),
];

/// Keys of `retry`.
pub(crate) const RETRY: &[Field] = &[
    field("times", Shape::Integer(0, limits::RETRIES as i64), "Tries beside the first. Required.", "2"),
    field("backoff", Shape::Backoff, "Wait before the next try; doubled each time, up to 64-fold.", "\"5s\"")
        .or("\"1s\""),
    field("on", Shape::Choices(RETRY_ON), "Which ends are tried again.", "[\"failed\", \"oom\"]").or("all of them"),
    field(
        "rules",
        Shape::RetryRules,
        "Exceptions. The first that an end falls under decides about it, whatever `on` says.",
        "[{ reason = \"oom\", times = 1 }]",
    ),
];

/// Keys of `backoff` as a table.
pub(crate) const BACKOFF: &[Field] = &[
    field("initial", Shape::Duration, "The first wait; `\"0s\"` for none.", "\"1s\"").or("\"1s\""),
    field(
        "factor",
        Shape::Integer(1, limits::RETRY_FACTOR as i64),
        "Each wait is the one before times this; 1 for always the same.",
        "2",
    )
    .or("2"),
    field("max", Shape::Duration, "The longest wait.", "\"5m\"").or("64 times the first"),
    field(
        "jitter",
        Shape::Boolean,
        "Leaves out up to half of each wait, so that tasks that failed together do not come back together.",
        "true",
    )
    .or("false"),
];

/// Keys of an exception in `retry`.
pub(crate) const RETRY_RULE: &[Field] = &[
    field(
        "reason",
        Shape::Reasons,
        "The ends it holds for, by their reason as `fctl show` has it; one, or a list.",
        "\"oom\"",
    )
    .or("any"),
    field("exit_code", Shape::ExitCodes, "The ends it holds for, by exit code; one, or a list.", "[42, 43]").or("any"),
    field(
        "times",
        Shape::Integer(0, limits::RETRIES as i64),
        "Tries after such ends, within those of all; 0 for never.",
        "1",
    )
    .or("as many as all"),
    field("backoff", Shape::Backoff, "Wait after such ends.", "\"10s\"").or("as of all"),
];

/// Reasons that an exception can name.
pub(crate) const REASONS: [(&str, Reason); 8] = [
    ("exit", Reason::Exit),
    ("signal", Reason::Signal),
    ("oom", Reason::Oom),
    ("timeout", Reason::Timeout),
    ("command", Reason::Command),
    ("output", Reason::Output),
    ("image", Reason::Image),
    ("refused", Reason::Refused),
];

/// Reasons that an exception cannot name, since they are never the user's fault.
pub(crate) const UNBLAMED_REASONS: &[&str] =
    &["disk", "input", "sandbox", "stuck", "cancelled", "preempted", "node_lost", "lease_expired", "device"];

/// Signals that a command can be asked to stop with.
pub(crate) const STOP_SIGNALS: &[&str] = &["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"];

/// Ends that a retry rule can name.
pub(crate) const RETRY_ON: &[&str] = &["failed", "oom", "timeout"];

/// Keys of `gpu`.
pub(crate) const GPU: &[Field] = &[
    field("count", Shape::Integer(1, limits::GPUS as i64), "How many.", "2").or("1"),
    field(
        "model",
        Shape::Text,
        "Only devices of this model, as `fctl nodes` spells it, without regard to case.",
        "\"H100\"",
    ),
    field(
        "memory",
        Shape::Bytes,
        "Only devices with at least this much memory. With `share`: the memory of each device that goes with the share; as large a part of it \
         as the share, if it is not said.",
        "\"40GiB\"",
    ),
    field("share", Shape::Share, "How much of each device; others may be given the rest of it.", "0.25").or("1"),
    field(
        "link",
        Shape::Choice(&["nvlink", "pcie", "numa"]),
        "How near to each other all must be: linked by NVLink (directly, or by one switch of such links), below one PCIe switch or else one PCIe \
         root complex, or on one NUMA node. Of a gang, those of each member.",
        "\"pcie\"",
    )
    .or("wherever there is room"),
    field(
        "same_link_group",
        Shape::Boolean,
        "The older way to write `link = \"nvlink\"`; also for clusters of version 1. Only one of both can be said.",
        "true",
    )
    .or("false"),
];

/// Keys of `gang`.
pub(crate) const GANG: &[Field] = &[
    field("size", Shape::Integer(1, limits::GANG as i64), "Members of each task. Required.", "8"),
    field(
        "near",
        Shape::Near,
        "How near to each other its members are: a level of the cluster's topology that is near enough, or a table.",
        "\"rack\"",
    )
    .or("as near as there is room"),
    field(
        "min_size",
        Shape::Integer(1, limits::GANG as i64),
        "The fewest members that it starts with, and goes on with when members are lost; it starts with as many as there is room for. Rank 0 \
         is always one of them.",
        "4",
    )
    .or("`size`"),
    field(
        "replace",
        Shape::Replace,
        "Whether the others go on when members are lost with their node or a device, or have to leave a node that is drained: others \
         take their ranks. `true`, or a table.",
        "true",
    )
    .or("`false`: all are stopped"),
];

/// Keys of `replace`.
pub(crate) const REPLACE: &[Field] = &[field(
    "within",
    Shape::Duration,
    "How long the others wait for somebody in the place of each that was lost; then all are stopped, and placed anew.",
    "\"30m\"",
)
.or("`\"10m\"`")];

/// Keys of `near`.
pub(crate) const NEAR: &[Field] = &[
    field("level", Shape::Name, "The level: a label that the cluster's operator has declared as one. Required.", "\"rack\""),
    field(
        "need",
        Shape::Boolean,
        "Whether it waits until one domain of the level has room for all members; if not, they are further apart where none has.",
        "true",
    )
    .or("false"),
];

/// Keys of a preference.
pub(crate) const PREFERENCE: &[Field] = &[
    field("label", Shape::Text, "A condition as in `constraints`. Required.", "\"zone == a\""),
    field("weight", Shape::Integer(1, limits::PREFERENCE as i64), "How much it counts.", "50").or("1"),
];

/// Keys of `spread`.
pub(crate) const SPREAD: &[Field] = &[
    field(
        "over",
        Shape::Name,
        "The label: nodes with the same value are one domain, a node without it is one by itself. `\"host\"` for each node. Of a level \
         of the topology, racks of the same name in different blocks are different racks. Required.",
        "\"rack\"",
    ),
    field("at_most", Shape::Integer(1, u32::MAX as i64), "Most members in one domain at a time.", "2").or("no bound"),
];

/// What a gang cannot have yet.
pub(crate) const LATER_OF_GANG: &[&str] = &["max_size", "spares"];

/// Keys of a variable that holds a secret.
pub(crate) const SECRET: &[Field] =
    &[field("secret", Shape::Name, "The name under which `fctl secret put` keeps it.", "\"API_KEY\"")];

/// Keys of a range in `foreach`.
pub(crate) const RANGE: &[Field] =
    &[field("range", Shape::List, "First number, and the number after the last.", "[0, 100]")];

/// What other tools call our keys, for the suggestion beside an unknown one.
pub(crate) const ALIASES: &[(&str, &str)] = &[
    ("command", "run"),
    ("cmd", "run"),
    ("script", "run"),
    ("args", "run"),
    ("depends_on", "needs"),
    ("dependencies", "needs"),
    ("after", "needs"),
    ("matrix", "foreach"),
    ("array", "foreach"),
    ("variables", "env"),
    ("retries", "retry"),
    ("max", "times"),
    ("never", "times"),
    ("exit_codes", "exit_code"),
    ("reasons", "reason"),
    ("delay", "backoff"),
    ("kill_signal", "stop_signal"),
    ("ttl", "queue_ttl"),
    ("working_dir", "code"),
    ("parameters", "params"),
    ("nodes", "labels"),
    ("quota", "limit"),
    ("maximum", "limit"),
    ("guaranteed", "reserve"),
    ("guarantee", "reserve"),
    ("nominal", "reserve"),
    ("concurrency", "max_active"),
    ("share", "weight"),
    ("licences", "tokens"),
    ("licenses", "tokens"),
];

/// What `[defaults]` is.
pub(crate) const DEFAULTS_DOC: &str = "Step fields that hold for every step that does not say otherwise.";
