//! GPUs that are pretended, for development.

use std::str::FromStr;

use flowyard_model::{Gpu, GpuLink, limits};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// How they are written.
const FORM: &str = "write a count, or 8,nvlink=4,pcie=2,numa=4 with how many are in one group";

/// Memory of each.
const MEMORY_BYTES: u64 = 16 << 30;

/// How many GPUs to pretend, and which of them are near to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FakeGpus {
    count: u32,
    /// By level how many that follow each other are in one group; all of them if it is not said, none in any if 0.
    together: [Option<u32>; GpuLink::ALL.len()],
}

impl FakeGpus {
    /// None.
    pub const NONE: Self = Self { count: 0, together: [None; GpuLink::ALL.len()] };

    /// How many.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The devices; by level the first number that is given to a group.
    pub(super) fn devices(self, first: [u32; GpuLink::ALL.len()]) -> impl Iterator<Item = Gpu> {
        (0..self.count).map(move |at| {
            let group = |level: usize| {
                let position = at.checked_div(self.together[level].unwrap_or(u32::MAX))?;
                Some(first[level].saturating_add(position))
            };
            let [link_group, pcie_group, numa_node] = std::array::from_fn(group);
            Gpu { link_group, pcie_group, numa_node, ..pretended(&format!("fake-{at}")) }
        })
    }
}

impl Default for FakeGpus {
    fn default() -> Self {
        Self::NONE
    }
}

/// One that is near to all others.
pub(crate) fn pretended(id: &str) -> Gpu {
    Gpu {
        id: id.to_owned(),
        model: "fake".to_owned(),
        memory_bytes: MEMORY_BYTES,
        numa_node: Some(0),
        link_group: Some(0),
        healthy: true,
        fake: true,
        part: None,
        pcie_group: Some(0),
    }
}

impl FromStr for FakeGpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.parse::<u32>() {
            Ok(number) if number as usize <= limits::NODE_GPUS => Ok(number),
            _ => Err(format!("`{}` is not a whole number up to {}; {FORM}", text.escape_debug(), limits::NODE_GPUS)),
        };
        let mut parts = text.split(',');
        let mut gpus = Self { count: number(parts.next().unwrap_or_default())?, ..Self::NONE };
        for part in parts {
            let level = part
                .split_once('=')
                .and_then(|(word, size)| Some((GpuLink::ALL.iter().position(|link| link.as_str() == word)?, size)));
            let (level, size) =
                level.ok_or_else(|| format!("`{}` says nothing of a GPU; {FORM}", part.escape_debug()))?;
            if gpus.together[level].replace(number(size)?).is_some() {
                return Err(format!("{} is said twice; {FORM}", GpuLink::ALL[level].as_str()));
            }
        }
        Ok(gpus)
    }
}

impl<'de> Deserialize<'de> for FakeGpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = FakeGpus;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a count, or \"8,nvlink=4,pcie=2,numa=4\"")
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<FakeGpus, E> {
                self.visit_str(&count.to_string())
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<FakeGpus, E> {
                self.visit_str(&count.to_string())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<FakeGpus, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(text: &str) -> Vec<[Option<u32>; 3]> {
        let gpus: FakeGpus = text.parse().unwrap();
        gpus.devices([0; 3]).map(|gpu| GpuLink::ALL.map(|link| gpu.group(link))).collect()
    }

    #[test]
    fn those_that_follow_each_other_are_in_one_group_and_all_are_if_nothing_is_said() {
        assert_eq!(groups("0"), [[None; 3]; 0]);
        assert_eq!(groups("2"), [[Some(0); 3]; 2]);
        let some = [[Some(0), None, Some(0)], [Some(0), None, Some(0)], [Some(1), None, Some(0)]];
        assert_eq!(groups("3,nvlink=2,pcie=0"), some);
        assert_eq!(groups("3,numa=1,nvlink=1")[2], [Some(2), Some(0), Some(2)]);
    }

    #[test]
    fn what_says_nothing_of_gpus_is_refused_with_the_form() {
        for (text, said) in [
            ("", "`` is not a whole number up to 1024"),
            ("many", "`many` is not"),
            ("1025", "`1025` is not"),
            ("-1", "`-1` is not"),
            ("2,colour=red", "`colour=red` says nothing of a GPU"),
            ("2,nvlink", "`nvlink` says nothing"),
            ("2,numa=x", "`x` is not"),
            ("2,pcie=1,pcie=2", "pcie is said twice"),
        ] {
            let error = text.parse::<FakeGpus>().unwrap_err();
            assert!(error.contains(said) && error.contains("8,nvlink=4,pcie=2,numa=4"), "{text}: {error}");
        }
    }
}
