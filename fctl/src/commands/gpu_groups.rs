//! Which GPUs of a node are near to each other, in words.

use std::collections::BTreeMap;

use flowyard_model::GpuLink;
use flowyard_proto::api;

/// Those that are near to others, by level, by their numbers: `nvlink 0-3, 4-7; pcie 0-1, 2-3, 4-5, 6-7`. Nothing if none is.
pub(super) fn in_words(gpus: &[api::Gpu]) -> String {
    let levels = GpuLink::ALL.iter().filter_map(|link| {
        let groups: Vec<_> = groups(gpus, *link).into_iter().filter(|group| group.len() > 1).collect();
        let groups: Vec<_> = groups.iter().map(|group| numbers(group)).collect();
        (!groups.is_empty()).then(|| format!("{} {}", link.as_str(), groups.join(", ")))
    });
    levels.collect::<Vec<_>>().join("; ")
}

/// The groups of a level by the first of each.
fn groups(gpus: &[api::Gpu], link: GpuLink) -> Vec<Vec<usize>> {
    let of = |gpu: &api::Gpu| match link {
        GpuLink::Nvlink => gpu.link_group,
        GpuLink::Pcie => gpu.pcie_group,
        GpuLink::Numa => gpu.numa_node,
    };
    let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, gpu) in gpus.iter().enumerate() {
        if let Some(group) = of(gpu) {
            groups.entry(group).or_default().push(at);
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort();
    groups
}

/// Ascending numbers, those that follow each other as a range: `0-3+7`.
fn numbers(ascending: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for at in ascending {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *at => *last = *at,
            _ => ranges.push((*at, *at)),
        }
    }
    let range = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(range).collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_by_level_and_only_where_somebody_is_near_to_somebody() {
        let gpu =
            |link_group, pcie_group, numa_node| api::Gpu { link_group, pcie_group, numa_node, ..api::Gpu::default() };
        let gpus = [
            gpu(None, Some(7), Some(1)),
            gpu(None, Some(7), Some(1)),
            gpu(None, Some(0), Some(0)),
            gpu(None, Some(1), Some(1)),
            gpu(None, Some(0), Some(0)),
        ];
        assert_eq!(in_words(&gpus), "pcie 0-1, 2+4; numa 0-1+3, 2+4");
        assert_eq!(in_words(&gpus[..1]), "");
        assert_eq!(in_words(&[]), "");
    }
}
