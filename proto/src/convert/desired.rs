//! What a coordinator tells one agent to run.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model as model;
use flowyard_model::{Fence, GpuIndex, JobId, Rank, Revision, StepIndex, TaskIndex, Term};

use super::{by_text, number};
use crate::decode::{self, DecodeError, Decoded, Problem, Under};
use crate::{agent, api};

impl From<&model::StepContext> for agent::StepContext {
    fn from(context: &model::StepContext) -> Self {
        Self {
            job: context.job.0,
            step: context.step.0,
            job_name: context.job_name.to_string(),
            spec: Some((&context.spec).into()),
            params: by_text(&context.params, String::clone),
            owner: context.owner.clone(),
            lists: context.lists.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<agent::StepContext> for model::StepContext {
    type Error = DecodeError;

    fn try_from(context: agent::StepContext) -> Decoded<Self> {
        Ok(Self {
            job: JobId(context.job),
            step: StepIndex(context.step),
            job_name: decode::name("job_name", &context.job_name)?,
            spec: decode::required("spec", context.spec)?,
            params: decode::named("params", context.params)?,
            owner: context.owner,
            lists: decode::set("lists", context.lists.iter().map(|name| decode::name("", name)))?,
        })
    }
}

impl From<&model::DesiredMember> for agent::DesiredMember {
    fn from(member: &model::DesiredMember) -> Self {
        Self {
            key: Some(member.key.into()),
            gpus: member.gpus.iter().map(|gpu| gpu.0).collect(),
            gpu_alternative: member.gpu_alternative,
            inputs: by_text(&member.inputs, |input| input.into()),
            item: member.item.map(Into::into),
            known: number::<_, api::Phase>(member.known),
            gang: member.gang.as_ref().map(Into::into),
        }
    }
}

impl From<&model::Gang> for agent::Gang {
    fn from(gang: &model::Gang) -> Self {
        let node = |node: &model::GangNode| agent::GangNode {
            name: node.name.to_string(),
            address: node.address.clone(),
            members: node.members,
        };
        Self {
            nodes: gang.nodes.iter().map(node).collect(),
            main_port: gang.main_port.into(),
            generation: gang.generation,
            vacant: gang.vacant.iter().map(|rank| rank.0).collect(),
        }
    }
}

impl TryFrom<agent::Gang> for model::Gang {
    type Error = DecodeError;

    fn try_from(gang: agent::Gang) -> Decoded<Self> {
        if gang.nodes.is_empty() {
            return Err(Problem::Missing).under("nodes");
        }
        let main_port = decode::port("main_port", gang.main_port)?;
        Ok(Self {
            nodes: decode::list("nodes", gang.nodes)?,
            main_port,
            generation: gang.generation,
            vacant: gang.vacant.into_iter().map(Rank).collect(),
        })
    }
}

impl TryFrom<agent::GangNode> for model::GangNode {
    type Error = DecodeError;

    fn try_from(node: agent::GangNode) -> Decoded<Self> {
        let members = decode::positive("members", node.members)?;
        Ok(Self { name: decode::name("name", &node.name)?, address: node.address, members })
    }
}

impl TryFrom<agent::DesiredMember> for model::DesiredMember {
    type Error = DecodeError;

    fn try_from(member: agent::DesiredMember) -> Decoded<Self> {
        Ok(Self {
            key: decode::required("key", member.key)?,
            gpus: member.gpus.into_iter().map(GpuIndex).collect(),
            gpu_alternative: member.gpu_alternative,
            inputs: decode::named("inputs", member.inputs)?,
            item: decode::optional("item", member.item)?,
            known: decode::closed("known", member.known)?,
            gang: decode::optional("gang", member.gang)?,
        })
    }
}

impl From<&model::ResolvedInput> for agent::ResolvedInput {
    fn from(input: &model::ResolvedInput) -> Self {
        use agent::resolved_input::Kind;
        let kind = match input {
            model::ResolvedInput::Artifact(manifest) => Kind::Manifest((*manifest).into()),
            model::ResolvedInput::Join { count, entries } => {
                let entry = |(task, manifest): &(TaskIndex, model::Digest)| agent::JoinEntry {
                    task: task.0,
                    manifest: Some((*manifest).into()),
                };
                Kind::Join(agent::Join { count: *count, entries: entries.iter().map(entry).collect() })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<agent::ResolvedInput> for model::ResolvedInput {
    type Error = DecodeError;

    fn try_from(input: agent::ResolvedInput) -> Decoded<Self> {
        use agent::resolved_input::Kind;
        match input.kind.ok_or(Problem::Missing).under("kind")? {
            Kind::Manifest(manifest) => Ok(Self::Artifact(manifest.try_into().under("manifest")?)),
            Kind::Join(join) => {
                let entries = join_entries(join.count, join.entries).under("join")?;
                Ok(Self::Join { count: join.count, entries })
            }
        }
    }
}

fn join_entries(count: u32, wire: Vec<agent::JoinEntry>) -> Decoded<Vec<(TaskIndex, model::Digest)>> {
    let mut entries: Vec<(TaskIndex, model::Digest)> = Vec::with_capacity(wire.len());
    for (at, entry) in wire.into_iter().enumerate() {
        let task = TaskIndex(entry.task);
        if entry.task >= count || entries.last().is_some_and(|last| last.0 >= task) {
            let problem = Problem::Contradiction("tasks ascend, and all are below the count");
            return Err(problem).under_index("entries", at);
        }
        entries.push((task, decode::required("manifest", entry.manifest).under_index("entries", at)?));
    }
    Ok(entries)
}

impl From<model::Item> for agent::Item {
    fn from(item: model::Item) -> Self {
        use agent::item::Source;
        let source = match item {
            model::Item::Number(number) => Source::Number(number),
            model::Item::Listed { items, position } => {
                Source::List(agent::ListItem { items: Some(items.into()), position })
            }
        };
        Self { source: Some(source) }
    }
}

impl TryFrom<agent::Item> for model::Item {
    type Error = DecodeError;

    fn try_from(item: agent::Item) -> Decoded<Self> {
        use agent::item::Source;
        match item.source.ok_or(Problem::Missing).under("source")? {
            Source::Number(number) => Ok(Self::Number(number)),
            Source::List(list) => {
                let items = decode::required("items", list.items).under("list")?;
                Ok(Self::Listed { items, position: list.position })
            }
        }
    }
}

impl From<&model::Desired> for agent::Desired {
    fn from(desired: &model::Desired) -> Self {
        Self {
            term: desired.fence.term.0,
            revision: desired.fence.revision.0,
            sequence: desired.sequence,
            all: desired.all,
            steps: desired.steps.iter().map(|context| context.as_ref().into()).collect(),
            run: desired.run.iter().map(Into::into).collect(),
            stop: desired.stop.iter().map(|key| (*key).into()).collect(),
            gone: desired.gone.iter().map(|key| (*key).into()).collect(),
            stop_terms: desired.stop_terms.iter().map(from_terms).collect(),
        }
    }
}

impl TryFrom<agent::Desired> for model::Desired {
    type Error = DecodeError;

    fn try_from(desired: agent::Desired) -> Decoded<Self> {
        let steps: Vec<model::StepContext> = decode::list("steps", desired.steps)?;
        Ok(Self {
            fence: Fence { term: Term(desired.term), revision: Revision(desired.revision) },
            sequence: decode::positive("sequence", desired.sequence)?,
            all: desired.all,
            steps: steps.into_iter().map(Arc::new).collect(),
            run: decode::list("run", desired.run)?,
            stop: decode::list("stop", desired.stop)?,
            gone: decode::list("gone", desired.gone)?,
            stop_terms: to_terms(desired.stop_terms).under("stop_terms")?,
        })
    }
}

fn from_terms((key, terms): (&model::MemberKey, &model::StopTerms)) -> agent::StopTerms {
    let model::StopTerms { notice_ms, kill_within_ms } = *terms;
    agent::StopTerms { key: Some((*key).into()), notice_ms, kill_within_ms }
}

fn to_terms(wire: Vec<agent::StopTerms>) -> Decoded<BTreeMap<model::MemberKey, model::StopTerms>> {
    let mut terms = BTreeMap::new();
    for agent::StopTerms { key, notice_ms, kill_within_ms } in wire {
        terms.insert(decode::required("key", key)?, model::StopTerms { notice_ms, kill_within_ms });
    }
    Ok(terms)
}
