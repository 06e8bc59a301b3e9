//! The file of machines that `fctl whatif` takes: kinds of them, and how many there are of each.
//!
//! ```toml
//! [machines.gpu]            # their names are gpu-1, gpu-2, ...
//! count = 64
//! cpu = 96
//! memory = "1TiB"
//! disk = "10TiB"            # none if not given
//! gpus = "8,model=A100,memory=80GiB,linked=8"
//! labels = { rack = "r1" }
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use flowyard_history::Machines;
use flowyard_model::{Abilities, Inventory, Name, PortRange, Rendezvous};
use flowyard_sdk::units;
use serde::Deserialize;

use crate::cli::bench::NodeGpus;
use crate::failure::Failure;

/// Most machines of one file.
const MOST: u32 = 100_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    machines: BTreeMap<String, Kind>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    count: Option<u32>,
    cpu: toml::Value,
    memory: String,
    disk: Option<String>,
    gpus: Option<toml::Value>,
    labels: Option<BTreeMap<Name, String>>,
}

/// The machines of a file.
pub(super) fn read(path: &Path) -> Result<Vec<Machines>, Failure> {
    let text = std::fs::read_to_string(path).map_err(Failure::local(path.display()))?;
    parse(&text).map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))
}

fn parse(text: &str) -> Result<Vec<Machines>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    if file.machines.is_empty() {
        return Err("there is no machine in it".to_owned());
    }
    file.machines.iter().map(|(name, kind)| kind.read(name)).collect()
}

impl Kind {
    fn read(&self, name: &str) -> Result<Machines, String> {
        let wrong = |field: &str, why: &dyn std::fmt::Display| format!("machines.{name}.{field}: {why}");
        let count = self.count.unwrap_or(1);
        if count == 0 || count > MOST {
            return Err(wrong("count", &format!("write 1 to {MOST}")));
        }
        let gpus = match &self.gpus {
            None => Vec::new(),
            Some(gpus) => plain(gpus).parse::<NodeGpus>().map_err(|error| wrong("gpus", &error))?.devices(),
        };
        let bytes = |field: &str, text: &str| units::bytes(text).map_err(|error| wrong(field, &error));
        let inventory = Inventory {
            cpu_milli: units::cpu_milli(&plain(&self.cpu)).map_err(|error| wrong("cpu", &error))?,
            memory_bytes: bytes("memory", &self.memory)?,
            disk_bytes: self.disk.as_ref().map_or(Ok(0), |disk| bytes("disk", disk))?,
            gpus,
            tokens: BTreeMap::new(),
            labels: self.labels.clone().unwrap_or_default(),
            abilities: abilities(),
            rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
        };
        let numbered =
            |at: u32| format!("{name}-{at}").parse::<Name>().map_err(|error| format!("machines.{name}: {error}"));
        let names = (1..=count).map(numbered).collect::<Result<_, _>>()?;
        Ok(Machines { names, inventory: Arc::new(inventory) })
    }
}

/// A value as it would be written on a command line.
fn plain(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// They can do whatever a task may ask for.
fn abilities() -> Abilities {
    Abilities {
        containers: true,
        process_isolation: true,
        host_image: true,
        private_networks: true,
        separation: String::new(),
        enforcement: String::new(),
        agent_version: String::new(),
        system: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_become_machines_with_names_of_their_own() {
        let machines = parse(
            "[machines.gpu]\ncount = 2\ncpu = 96\nmemory = \"1TiB\"\ngpus = \"8,model=A100\"\nlabels = { rack = \"r1\" }\n\
             [machines.cpu]\ncpu = \"0.5\"\nmemory = \"1GiB\"\n",
        )
        .unwrap();
        assert_eq!(machines.len(), 2);
        let (cpu, gpu) = (&machines[0], &machines[1]);
        assert_eq!(gpu.names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["gpu-1", "gpu-2"]);
        assert_eq!((gpu.inventory.gpus.len(), gpu.inventory.cpu_milli, cpu.inventory.cpu_milli), (8, 96_000, 500));
        assert_eq!(gpu.inventory.labels.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("", "machines"),
            ("[machines]\n", "no machine"),
            ("[machines.a]\ncpu = 1\nmemory = 5\n", "memory"),
            ("[machines.a]\ncpu = 1\nmemory = \"5\"\n", "machines.a.memory"),
            ("[machines.a]\ncpu = -1\nmemory = \"5GiB\"\n", "machines.a.cpu"),
            ("[machines.a]\ncpu = 1\nmemory = \"5GiB\"\ncount = 0\n", "machines.a.count"),
            ("[machines.a]\ncpu = 1\nmemory = \"5GiB\"\ngpus = \"x\"\n", "machines.a.gpus"),
            ("[machines.a]\ncpu = 1\nmemory = \"5GiB\"\ncolour = 1\n", "colour"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(word), "{text:?}: {why}");
        }
    }
}
