//! Job specs and their parts.

use std::collections::BTreeMap;

use flowyard_model as model;
use flowyard_model::{JobId, StepIndex};

use super::{by_text, closed, number, placing, retry};
use crate::api as wire;
use crate::decode::{self, DecodeError, Decoded, Problem, Under};

closed! {
    Isolation in wire { Container, Process }
    NeedKind in wire { All, Each }
    OnFailure in wire { Stop, Continue }
    ConstraintOperator in wire { In, NotIn, Exists, Absent }
    OnDisconnect in wire { Keep, Stop }
}

impl From<model::Digest> for wire::Digest {
    fn from(digest: model::Digest) -> Self {
        Self { hash: prost::bytes::Bytes::copy_from_slice(&digest.hash), length: digest.length }
    }
}

impl TryFrom<wire::Digest> for model::Digest {
    type Error = DecodeError;

    fn try_from(digest: wire::Digest) -> Decoded<Self> {
        let bytes = digest.hash.len();
        let hash = digest.hash.as_ref().try_into().map_err(|_| Problem::HashLength { bytes }).under("hash")?;
        Ok(Self { hash, length: digest.length })
    }
}

impl From<&model::JobSpec> for wire::JobSpec {
    fn from(spec: &model::JobSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            queue: spec.queue.to_string(),
            priority: spec.priority,
            tags: spec.tags.iter().cloned().collect(),
            params: by_text(&spec.params, String::clone),
            steps: spec.steps.iter().map(Into::into).collect(),
            after: spec.after.iter().map(|job| job.0).collect(),
            retention_ms: spec.retention_ms,
            deadline_ms: spec.deadline_ms,
            queue_ttl_ms: spec.queue_ttl_ms,
        }
    }
}

impl TryFrom<wire::JobSpec> for model::JobSpec {
    type Error = DecodeError;

    fn try_from(spec: wire::JobSpec) -> Decoded<Self> {
        Ok(Self {
            name: decode::name("name", &spec.name)?,
            queue: spec.queue.parse().map_err(Problem::QueuePath).under("queue")?,
            priority: spec.priority,
            tags: decode::set("tags", spec.tags.into_iter().map(Ok))?,
            params: decode::named("params", spec.params)?,
            steps: decode::list("steps", spec.steps)?,
            after: spec.after.into_iter().map(JobId).collect(),
            retention_ms: spec.retention_ms,
            deadline_ms: spec.deadline_ms,
            queue_ttl_ms: spec.queue_ttl_ms,
        })
    }
}

impl From<&model::StepSpec> for wire::StepSpec {
    fn from(step: &model::StepSpec) -> Self {
        Self {
            name: step.name.to_string(),
            command: step.command.clone(),
            image: Some((&step.image).into()),
            isolation: number::<_, wire::Isolation>(step.isolation),
            code: step.code.map(Into::into),
            inputs: by_text(&step.inputs, |input| input.into()),
            outputs: by_text(&step.outputs, String::clone),
            fan_out: Some((&step.fan_out).into()),
            needs: step.needs.iter().map(|(step, kind)| (step.0, number::<_, wire::NeedKind>(*kind))).collect(),
            env: step.env.clone(),
            resources: Some((&step.resources).into()),
            size: step.size,
            retry: Some((&step.retry).into()),
            timeout_ms: step.timeout_ms,
            expected_ms: step.expected_ms,
            on_failure: number::<_, wire::OnFailure>(step.on_failure),
            max_parallel: step.max_parallel,
            constraints: step.constraints.iter().map(Into::into).collect(),
            network: network_number(step.network).into(),
            mounts: step.mounts.iter().map(Into::into).collect(),
            kill_grace_ms: step.kill_grace_ms,
            stop_signal: wire::StopSignal::from(step.stop_signal).into(),
            on_disconnect: number::<_, wire::OnDisconnect>(step.on_disconnect),
            priority: step.priority,
            secrets: step.secrets.iter().map(Into::into).collect(),
            usual_network: step.network == model::NetworkMode::Usual,
            not_preemptible: !step.preemptible,
            notice: step.notice.map(Into::into),
            placing: placing::from_placing(&step.placing),
        }
    }
}

impl TryFrom<wire::StepSpec> for model::StepSpec {
    type Error = DecodeError;

    fn try_from(step: wire::StepSpec) -> Decoded<Self> {
        Ok(Self {
            name: decode::name("name", &step.name)?,
            command: step.command,
            image: decode::required("image", step.image)?,
            isolation: decode::closed("isolation", step.isolation)?,
            code: decode::optional("code", step.code)?,
            inputs: decode::named("inputs", step.inputs)?,
            outputs: decode::named("outputs", step.outputs)?,
            fan_out: decode::required("fan_out", step.fan_out)?,
            needs: needs(step.needs)?,
            env: step.env,
            resources: decode::required("resources", step.resources)?,
            size: decode::positive("size", step.size)?,
            retry: decode::required("retry", step.retry)?,
            timeout_ms: step.timeout_ms,
            expected_ms: step.expected_ms,
            on_failure: decode::closed("on_failure", step.on_failure)?,
            max_parallel: step.max_parallel,
            constraints: decode::list("constraints", step.constraints)?,
            network: network(step.network, step.usual_network)?,
            mounts: decode::list("mounts", step.mounts)?,
            kill_grace_ms: step.kill_grace_ms,
            stop_signal: retry::stop_signal("stop_signal", step.stop_signal)?,
            on_disconnect: decode::closed("on_disconnect", step.on_disconnect)?,
            priority: step.priority,
            secrets: decode::list("secrets", step.secrets)?,
            preemptible: !step.not_preemptible,
            notice: decode::optional("notice", step.notice)?,
            placing: placing::to_placing(step.placing).under("placing")?,
        })
    }
}

/// A cluster that knows nothing of usual networks gives its node's, as it always did.
fn network_number(mode: model::NetworkMode) -> wire::NetworkMode {
    match mode {
        model::NetworkMode::Host | model::NetworkMode::Usual => wire::NetworkMode::Host,
        model::NetworkMode::Private => wire::NetworkMode::Private,
        model::NetworkMode::None => wire::NetworkMode::None,
    }
}

fn network(number: i32, usual: bool) -> Decoded<model::NetworkMode> {
    let contradicts = Problem::Contradiction("a step that takes the usual network names none but the host's");
    match wire::NetworkMode::try_from(number) {
        Ok(wire::NetworkMode::Host) if usual => Ok(model::NetworkMode::Usual),
        Ok(wire::NetworkMode::Private | wire::NetworkMode::None) if usual => Err(contradicts),
        Ok(wire::NetworkMode::Host) => Ok(model::NetworkMode::Host),
        Ok(wire::NetworkMode::Private) => Ok(model::NetworkMode::Private),
        Ok(wire::NetworkMode::None) => Ok(model::NetworkMode::None),
        Ok(wire::NetworkMode::Unspecified) => Err(Problem::Missing),
        Err(_) => Err(Problem::UnknownValue { number }),
    }
    .under("network")
}

fn needs(needs: BTreeMap<u32, i32>) -> Decoded<BTreeMap<StepIndex, model::NeedKind>> {
    let kind = |step, kind| decode::closed("", kind).under_index("needs", step);
    needs.into_iter().map(|(step, number)| Ok((StepIndex(step), kind(step, number)?))).collect()
}

impl From<&model::Image> for wire::Image {
    fn from(image: &model::Image) -> Self {
        use wire::image::{Host, Kind, Stored};
        let kind = match image {
            model::Image::Host => Kind::Host(Host {}),
            model::Image::Stored { manifest, source } => {
                Kind::Stored(Stored { manifest: Some((*manifest).into()), source: source.clone() })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::Image> for model::Image {
    type Error = DecodeError;

    fn try_from(image: wire::Image) -> Decoded<Self> {
        use wire::image::Kind;
        match image.kind.ok_or(Problem::Missing).under("kind")? {
            Kind::Host(_) => Ok(Self::Host),
            Kind::Stored(stored) => {
                let manifest = decode::required("manifest", stored.manifest).under("stored")?;
                Ok(Self::Stored { manifest, source: stored.source })
            }
        }
    }
}

impl From<&model::Input> for wire::Input {
    fn from(input: &model::Input) -> Self {
        use wire::input::{Output, Source};
        let source = match input {
            model::Input::Stored { manifest } => Source::Stored((*manifest).into()),
            model::Input::Output { step, output } => {
                Source::Output(Output { step: step.0, output: output.to_string() })
            }
        };
        Self { source: Some(source) }
    }
}

impl TryFrom<wire::Input> for model::Input {
    type Error = DecodeError;

    fn try_from(input: wire::Input) -> Decoded<Self> {
        use wire::input::Source;
        match input.source.ok_or(Problem::Missing).under("source")? {
            Source::Stored(digest) => Ok(Self::Stored { manifest: digest.try_into().under("stored")? }),
            Source::Output(from) => {
                let output = decode::name("output", &from.output).under("output")?;
                Ok(Self::Output { step: StepIndex(from.step), output })
            }
        }
    }
}

impl From<&model::FanOut> for wire::FanOut {
    fn from(fan_out: &model::FanOut) -> Self {
        use wire::fan_out::{Each, Kind, Output, Range, Single};
        let kind = match fan_out {
            model::FanOut::Single => Kind::Single(Single {}),
            model::FanOut::Range { start, count } => Kind::Range(Range { start: *start, count: *count }),
            model::FanOut::Items(list) => Kind::Items((*list).into()),
            model::FanOut::Output { step, output } => Kind::Output(Output { step: step.0, output: output.to_string() }),
            model::FanOut::Each { step } => Kind::Each(Each { step: step.0 }),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::FanOut> for model::FanOut {
    type Error = DecodeError;

    fn try_from(fan_out: wire::FanOut) -> Decoded<Self> {
        use wire::fan_out::Kind;
        Ok(match fan_out.kind.ok_or(Problem::Missing).under("kind")? {
            Kind::Single(_) => Self::Single,
            Kind::Range(range) => Self::Range { start: range.start, count: range.count },
            Kind::Items(list) => Self::Items(list.try_into().under("items")?),
            Kind::Output(from) => Self::Output {
                step: StepIndex(from.step),
                output: decode::name("output", &from.output).under("output")?,
            },
            Kind::Each(each) => Self::Each { step: StepIndex(each.step) },
        })
    }
}

impl From<model::ItemList> for wire::ItemList {
    fn from(list: model::ItemList) -> Self {
        Self { items: Some(list.items.into()), count: list.count }
    }
}

impl TryFrom<wire::ItemList> for model::ItemList {
    type Error = DecodeError;

    fn try_from(list: wire::ItemList) -> Decoded<Self> {
        Ok(Self { items: decode::required("items", list.items)?, count: list.count })
    }
}

impl From<&model::Constraint> for wire::Constraint {
    fn from(constraint: &model::Constraint) -> Self {
        Self {
            label: constraint.label.to_string(),
            operator: number::<_, wire::ConstraintOperator>(constraint.operator),
            values: constraint.values.clone(),
        }
    }
}

impl TryFrom<wire::Constraint> for model::Constraint {
    type Error = DecodeError;

    fn try_from(constraint: wire::Constraint) -> Decoded<Self> {
        Ok(Self {
            label: decode::name("label", &constraint.label)?,
            operator: decode::closed("operator", constraint.operator)?,
            values: constraint.values,
        })
    }
}

impl From<&model::HostMount> for wire::HostMount {
    fn from(mount: &model::HostMount) -> Self {
        Self { path: mount.path.clone(), read_only: mount.read_only }
    }
}

impl TryFrom<wire::HostMount> for model::HostMount {
    type Error = DecodeError;

    fn try_from(mount: wire::HostMount) -> Decoded<Self> {
        Ok(Self { path: decode::positive("path", mount.path)?, read_only: mount.read_only })
    }
}
