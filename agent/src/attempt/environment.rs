//! What a task sees: the contract of variables and paths. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use flowyard_model::{DesiredMember, Name, StepContext, variable_part};

use super::gang::{self, Seated};
use super::saved::SAVED;

/// Longest item given as a variable, in bytes; a longer one comes as a file.
pub const ITEM_BYTES: usize = 32 * 1024;

/// PATH where neither the step nor its image says another.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where an attempt's things are, as the task sees them.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The working directory.
    pub work: &'a Path,
    /// The private home.
    pub home: &'a Path,
    /// The file of a long item.
    pub item_file: &'a Path,
    /// Each input.
    pub inputs: &'a BTreeMap<Name, std::path::PathBuf>,
    /// The folder with what it is told of its gang in files.
    pub gang: &'a Path,
}

/// All variables of a task. `item` is the item as compact JSON; `image` are the variables its image brings.
pub fn environment(
    context: &StepContext,
    member: &DesiredMember,
    places: Places<'_>,
    item: Option<&str>,
    image: &[(String, String)],
) -> Vec<(String, String)> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
    set("PATH", PATH.to_owned());
    set("LANG", "C.UTF-8".to_owned());
    for (name, value) in image {
        set(name, value.clone());
    }
    set("HOME", path_text(places.home));
    let seated = member.gang.as_ref().and_then(|gang| Seated::new(gang, member.key.rank));
    for (name, value) in seated.iter().flat_map(Seated::of_frameworks) {
        set(name, value);
    }
    for (name, value) in &context.spec.env {
        set(name, value.clone());
    }
    for (name, path) in places.inputs {
        set(&format!("FLOWYARD_INPUT_{}", variable_part(name)), path_text(path));
    }
    for (name, path) in &context.spec.outputs {
        set(&format!("FLOWYARD_OUTPUT_{}", variable_part(name)), path_text(&places.work.join(path)));
    }
    let key = member.key;
    set("FLOWYARD_JOB", key.task.job.to_string());
    set("FLOWYARD_STEP", context.spec.name.to_string());
    set("FLOWYARD_TASK", key.task.task.to_string());
    set("FLOWYARD_ATTEMPT", key.attempt.to_string());
    set("FLOWYARD_PARAMS", params(context));
    set("FLOWYARD_SAVED", path_text(&places.work.join(SAVED)));
    for (name, value) in seated.iter().flat_map(Seated::own) {
        set(name, value);
    }
    if seated.is_some() {
        set("FLOWYARD_HOSTFILE", path_text(&places.gang.join(gang::HOSTFILE)));
        set("FLOWYARD_GANG_FILE", path_text(&places.gang.join(gang::MEMBERS)));
    }
    match item {
        Some(item) if item.len() > ITEM_BYTES => set("FLOWYARD_ITEM_FILE", path_text(places.item_file)),
        Some(item) => set("FLOWYARD_ITEM", item.to_owned()),
        None => {}
    }
    env.into_iter().collect()
}

/// The parameters as one JSON object; their values are JSON already.
fn params(context: &StepContext) -> String {
    let fields = context.params.iter().map(|(name, value)| format!("{}:{value}", serde_json::json!(name.as_str())));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
