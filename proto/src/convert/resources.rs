//! What tasks ask for and what nodes offer.

use std::collections::BTreeMap;

use flowyard_model as model;

use super::{by_text, closed};
use crate::api as wire;
use crate::decode::{self, DecodeError, Decoded, Problem, Under};

impl From<&model::Resources> for wire::Resources {
    fn from(resources: &model::Resources) -> Self {
        Self {
            cpu_milli: resources.cpu_milli,
            memory_bytes: resources.memory_bytes,
            disk_bytes: resources.disk_bytes,
            shm_bytes: resources.shm_bytes,
            tokens: by_text(&resources.tokens, |count| *count),
            gpus: resources.gpus.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Resources> for model::Resources {
    type Error = DecodeError;

    fn try_from(resources: wire::Resources) -> Decoded<Self> {
        Ok(Self {
            cpu_milli: decode::positive("cpu_milli", resources.cpu_milli)?,
            memory_bytes: decode::positive("memory_bytes", resources.memory_bytes)?,
            disk_bytes: resources.disk_bytes,
            shm_bytes: resources.shm_bytes,
            tokens: decode::named("tokens", resources.tokens)?,
            gpus: decode::list("gpus", resources.gpus)?,
        })
    }
}

closed! {
    GpuLink in wire { Nvlink, Pcie, Numa }
}

impl From<&model::GpuRequest> for wire::GpuRequest {
    fn from(request: &model::GpuRequest) -> Self {
        Self {
            count: request.count,
            model: request.model.clone(),
            min_memory_bytes: request.min_memory_bytes,
            same_link_group: request.same_link_group,
            share_milli: request.share_milli,
            memory_bytes: request.memory_bytes,
            link: request.link.map(|link| wire::GpuLink::from(link).into()),
        }
    }
}

impl TryFrom<wire::GpuRequest> for model::GpuRequest {
    type Error = DecodeError;

    fn try_from(request: wire::GpuRequest) -> Decoded<Self> {
        Ok(Self {
            count: decode::positive("count", request.count)?,
            model: request.model,
            min_memory_bytes: request.min_memory_bytes,
            same_link_group: request.same_link_group,
            share_milli: decode::positive("share_milli", request.share_milli)?,
            memory_bytes: request.memory_bytes,
            link: request.link.map(|link| decode::closed("link", link)).transpose()?,
        })
    }
}

impl From<&model::Inventory> for wire::Inventory {
    fn from(inventory: &model::Inventory) -> Self {
        Self {
            cpu_milli: inventory.cpu_milli,
            memory_bytes: inventory.memory_bytes,
            disk_bytes: inventory.disk_bytes,
            gpus: inventory.gpus.iter().map(Into::into).collect(),
            tokens: by_text(&inventory.tokens, |count| *count),
            labels: by_text(&inventory.labels, String::clone),
            abilities: Some((&inventory.abilities).into()),
            rendezvous: inventory.rendezvous.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::Inventory> for model::Inventory {
    type Error = DecodeError;

    fn try_from(inventory: wire::Inventory) -> Decoded<Self> {
        Ok(Self {
            cpu_milli: inventory.cpu_milli,
            memory_bytes: inventory.memory_bytes,
            disk_bytes: inventory.disk_bytes,
            gpus: decode::list("gpus", inventory.gpus)?,
            tokens: decode::named("tokens", inventory.tokens)?,
            labels: decode::named("labels", inventory.labels)?,
            abilities: decode::required("abilities", inventory.abilities)?,
            rendezvous: decode::optional("rendezvous", inventory.rendezvous)?,
        })
    }
}

impl From<&model::Rendezvous> for wire::Rendezvous {
    fn from(rendezvous: &model::Rendezvous) -> Self {
        let model::PortRange { first, last } = rendezvous.ports;
        Self { address: rendezvous.address.clone(), first_port: first.into(), last_port: last.into() }
    }
}

impl TryFrom<wire::Rendezvous> for model::Rendezvous {
    type Error = DecodeError;

    fn try_from(rendezvous: wire::Rendezvous) -> Decoded<Self> {
        let first = decode::port("first_port", rendezvous.first_port)?;
        let last = decode::port("last_port", rendezvous.last_port)?;
        if last < first {
            return Err(Problem::Contradiction("the last port is not below the first")).under("last_port");
        }
        Ok(Self { address: rendezvous.address, ports: model::PortRange { first, last } })
    }
}

impl From<&model::Abilities> for wire::Abilities {
    fn from(abilities: &model::Abilities) -> Self {
        Self {
            containers: abilities.containers,
            process_isolation: abilities.process_isolation,
            host_image: abilities.host_image,
            private_networks: abilities.private_networks,
            separation: abilities.separation.clone(),
            enforcement: abilities.enforcement.clone(),
            agent_version: abilities.agent_version.clone(),
            system: abilities.system.clone(),
        }
    }
}

impl From<wire::Abilities> for model::Abilities {
    fn from(abilities: wire::Abilities) -> Self {
        Self {
            containers: abilities.containers,
            process_isolation: abilities.process_isolation,
            host_image: abilities.host_image,
            private_networks: abilities.private_networks,
            separation: abilities.separation,
            enforcement: abilities.enforcement,
            agent_version: abilities.agent_version,
            system: abilities.system,
        }
    }
}

impl From<&model::Gpu> for wire::Gpu {
    fn from(gpu: &model::Gpu) -> Self {
        Self {
            id: gpu.id.clone(),
            model: gpu.model.clone(),
            memory_bytes: gpu.memory_bytes,
            numa_node: gpu.numa_node,
            link_group: gpu.link_group,
            healthy: gpu.healthy,
            fake: gpu.fake,
            part: gpu.part.as_ref().map(|part| wire::GpuPart {
                of: part.of.clone(),
                instance: part.instance,
                compute: part.compute,
            }),
            pcie_group: gpu.pcie_group,
        }
    }
}

impl TryFrom<wire::Gpu> for model::Gpu {
    type Error = DecodeError;

    fn try_from(gpu: wire::Gpu) -> Decoded<Self> {
        Ok(Self {
            id: decode::positive("id", gpu.id)?,
            model: gpu.model,
            memory_bytes: gpu.memory_bytes,
            numa_node: gpu.numa_node,
            link_group: gpu.link_group,
            healthy: gpu.healthy,
            fake: gpu.fake,
            part: gpu.part.map(to_part).transpose().under("part")?,
            pcie_group: gpu.pcie_group,
        })
    }
}

fn to_part(part: wire::GpuPart) -> Decoded<model::GpuPart> {
    let wire::GpuPart { of, instance, compute } = part;
    Ok(model::GpuPart { of: decode::positive("of", of)?, instance, compute })
}

/// Something by the models of devices.
pub(super) fn by_model<T>(field: &str, values: BTreeMap<String, T>) -> Decoded<BTreeMap<model::GpuClass, T>> {
    let in_lower_case = |model: &String| model::GpuClass::model(model) == model::GpuClass::Model(model.clone());
    if !values.keys().all(in_lower_case) {
        return Err(Problem::Contradiction("models are in lower case")).under(field);
    }
    Ok(values.into_iter().map(|(model, value)| (model::GpuClass::Model(model), value)).collect())
}

/// The same as it is written: devices of any model have no name there.
pub(super) fn of_models<T, W>(values: &BTreeMap<model::GpuClass, T>, value: impl Fn(&T) -> W) -> BTreeMap<String, W> {
    let of_models = values.iter().filter_map(|(class, it)| match class {
        model::GpuClass::Any => None,
        model::GpuClass::Model(model) => Some((model.clone(), value(it))),
    });
    of_models.collect()
}

impl From<&model::QueueAmounts> for wire::QueueAmounts {
    fn from(amounts: &model::QueueAmounts) -> Self {
        Self {
            cpu_milli: amounts.cpu_milli,
            memory_bytes: amounts.memory_bytes,
            disk_bytes: amounts.disk_bytes,
            gpu_milli: amounts.gpu_milli.get(&model::GpuClass::Any).copied(),
            gpu_model_milli: of_models(&amounts.gpu_milli, |milli| *milli),
            tokens: by_text(&amounts.tokens, |count| *count),
        }
    }
}

impl TryFrom<wire::QueueAmounts> for model::QueueAmounts {
    type Error = DecodeError;

    fn try_from(amounts: wire::QueueAmounts) -> Decoded<Self> {
        let of_models = by_model("gpu_model_milli", amounts.gpu_model_milli)?;
        let of_all = amounts.gpu_milli.map(|milli| (model::GpuClass::Any, milli));
        Ok(Self {
            cpu_milli: amounts.cpu_milli,
            memory_bytes: amounts.memory_bytes,
            disk_bytes: amounts.disk_bytes,
            gpu_milli: of_all.into_iter().chain(of_models).collect(),
            tokens: decode::named("tokens", amounts.tokens)?,
        })
    }
}
