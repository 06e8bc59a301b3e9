//! From the flags of `fctl submit` to a job spec whose blobs the cluster has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flowyard_model::{Digest, GpuRequest, Image, JobSpec, Name};
use flowyard_sdk::client::Source;
use flowyard_sdk::flags;
use flowyard_sdk::flow::{Flow, FlowStep, Packing};

use crate::cli::{Gpus, StepFlags, Submit};
use crate::failure::Failure;
use crate::{output, text};

/// Variables of the submitter that a task on this machine's own system inherits, so that a virtual environment's programs
/// are found.
const INHERITED: [&str; 3] = ["PATH", "LANG", "TZ"];

/// Makes the job spec of a flow file, or of the command that is given instead; nothing is sent yet.
///
/// # Errors
/// Everything that is wrong with the flow, the flags or the paths they name.
pub(crate) fn prepare(submit: &Submit, file: Option<&Path>) -> Result<(JobSpec, Packing), Failure> {
    let (mut flow, base) = match file {
        Some(path) => (Flow::load(path)?, flowyard_sdk::flow::base_of(path).to_owned()),
        None => (one_step(submit)?, PathBuf::from(".")),
    };
    if let Some(queue) = &submit.queue {
        flow.queue = queue.clone();
    }
    if let Some(priority) = submit.priority {
        flow.priority = priority;
    }
    flow.deadline_ms = submit.deadline.or(flow.deadline_ms);
    flow.queue_ttl_ms = submit.queue_ttl.or(flow.queue_ttl_ms);
    flow.after.extend(submit.after.iter().copied());
    flow.tags.extend(submit.tag.iter().cloned());
    if file.is_some() && submit.step.any() {
        return Err(Failure::Usage(
            "flags of a one-step job cannot be given with a flow file; write these fields into the file".to_owned(),
        ));
    }
    let mut packing = Packing::default();
    let spec = flow.resolve(&base, &submit.params, &mut packing)?;
    Ok((spec, packing))
}

fn one_step(submit: &Submit) -> Result<Flow, Failure> {
    let flags = &submit.step;
    let name = match &flags.name {
        Some(name) => name.clone(),
        None => name_of(&submit.command),
    };
    let step = FlowStep {
        run: submit.command.clone(),
        code: flags.code.clone(),
        inputs: unique("--input", &flags.input)?,
        outputs: unique("--output", &flags.output)?,
        foreach: flags.array.clone(),
        env: unique("--env", &flags.env)?,
        retry: flags.retry.clone(),
        timeout_ms: flags.timeout,
        expected_ms: flags.expected,
        max_parallel: flags.max_parallel,
        cpu_milli: flags.cpu,
        memory_bytes: flags.memory,
        disk_bytes: flags.disk,
        shm_bytes: flags.shm,
        tokens: (!flags.token.is_empty()).then(|| unique("--token", &flags.token)).transpose()?,
        gpus: (!flags.gpu.is_empty()).then(|| alternatives(&flags.gpu)).transpose()?,
        labels: unique("--label", &flags.label)?,
        mounts: (!flags.mount.is_empty()).then(|| flags.mount.clone()),
        image: flags.image.clone(),
        isolation: flags.isolation.map(Into::into),
        constraints: (!flags.constraint.is_empty()).then(|| flags.constraint.clone()),
        network: flags.network,
        kill_grace_ms: flags.kill_grace,
        stop_signal: flags.stop_signal,
        on_disconnect: flags.on_disconnect.map(Into::into),
        ..FlowStep::default()
    };
    Ok(Flow::one_step(name, step))
}

/// What `--gpu` was given, each an alternative.
fn alternatives(given: &[Gpus]) -> Result<Vec<GpuRequest>, Failure> {
    let given: Vec<_> = given.iter().map(|gpus| gpus.0.clone()).collect();
    flags::gpu_alternatives(&given).map_err(|error| Failure::Usage(format!("--gpu: {error}")))
}

/// The program's name, as far as it can be a name.
fn name_of(command: &[String]) -> Name {
    let program = command.first().map_or("", String::as_str);
    let last = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or("");
    let fallback = || "job".parse().unwrap_or_else(|error| unreachable!("a plain word is a name: {error}"));
    last.parse().unwrap_or_else(|_| fallback())
}

fn unique<K: Ord + Clone + std::fmt::Display, V: Clone>(
    flag: &str,
    pairs: &[(K, V)],
) -> Result<BTreeMap<K, V>, Failure> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::Usage(format!("{flag}: `{key}` is given twice")));
        }
    }
    Ok(map)
}

impl StepFlags {
    /// Whether any flag of a one-step job was given.
    fn any(&self) -> bool {
        let lists = !self.input.is_empty()
            || !self.output.is_empty()
            || !self.env.is_empty()
            || !self.mount.is_empty()
            || !self.label.is_empty()
            || !self.constraint.is_empty()
            || !self.token.is_empty();
        let resources = self.cpu.is_some()
            || self.memory.is_some()
            || !self.gpu.is_empty()
            || self.disk.is_some()
            || self.shm.is_some();
        let others = self.name.is_some()
            || self.array.is_some()
            || self.max_parallel.is_some()
            || self.image.is_some()
            || self.isolation.is_some()
            || self.code.is_some()
            || self.retry.is_some()
            || self.timeout.is_some()
            || self.network.is_some()
            || self.kill_grace.is_some()
            || self.stop_signal.is_some()
            || self.on_disconnect.is_some();
        lists || resources || others
    }
}

/// Gives steps that run on this machine's own system what they inherit from the submitter, where the flow says nothing else.
pub(crate) fn inherit(spec: &mut JobSpec) {
    for step in spec.steps.iter_mut().filter(|step| step.image == Image::Host) {
        for name in INHERITED {
            if let Ok(value) = std::env::var(name) {
                step.env.entry(name.to_owned()).or_insert(value);
            }
        }
    }
}

/// Says what was packaged.
pub(crate) fn tell(packing: &Packing) {
    for (folder, summary) in &packing.code {
        if !output::is_json() {
            let files = text::count(summary.files, "file");
            output::note(format!("packaged {folder}: {files}, {}", text::size(summary.bytes)));
        }
    }
}

/// What the cluster must have before the job is submitted.
pub(crate) fn blobs(packing: Packing) -> BTreeMap<Digest, Source> {
    let mut blobs = BTreeMap::new();
    for (digest, packed) in packing.packed {
        blobs.insert(digest, Source::Bytes(Bytes::from(packed.manifest.encode())));
        blobs.extend(packed.sources.into_iter().map(|(digest, path)| (digest, Source::File(path))));
    }
    blobs.extend(packing.lists.into_iter().map(|(digest, bytes)| (digest, Source::Bytes(Bytes::from(bytes)))));
    blobs
}
