//! Whether one member fits on one node as it is now, and by which devices.

use crate::problem::{Amounts, Device, Node, Problem, Shape, Wish};

/// Whether the divisible amounts suffice.
pub(crate) fn amounts_fit(needs: &Amounts, free: &Amounts) -> bool {
    needs.cpu_milli <= free.cpu_milli
        && needs.memory_bytes <= free.memory_bytes
        && needs.disk_bytes <= free.disk_bytes
        && needs.tokens.iter().enumerate().all(|(at, count)| *count <= free.token(at))
}

/// How many members fit beside each other as far as the divisible amounts go, at most `most`.
pub(crate) fn amounts_capacity(needs: &Amounts, free: &Amounts, most: u64) -> u64 {
    let times = |need: u64, free: u64| free.checked_div(need).unwrap_or(most);
    let plain = times(needs.cpu_milli, free.cpu_milli)
        .min(times(needs.memory_bytes, free.memory_bytes))
        .min(times(needs.disk_bytes, free.disk_bytes));
    let tokens = needs.tokens.iter().enumerate().map(|(at, count)| times(u64::from(*count), u64::from(free.token(at))));
    tokens.fold(plain, u64::min).min(most)
}

/// How many tasks of a shape may fit at most, by amounts and by devices looked at apart. Cheap; for not asking for more.
pub fn bound(problem: &Problem, shape: &Shape) -> u64 {
    let most = u64::from(shape.count) * u64::from(shape.size);
    let slots = |wish: &Wish, node: &Node| -> u64 {
        let free = node.devices.iter().filter(|device| wish.can_take(device));
        free.map(|device| u64::from(device.free_milli / wish.share_milli.max(1))).sum::<u64>() / u64::from(wish.count)
    };
    let members = problem.eligible[shape.eligible].iter().map(|at| {
        let node = &problem.nodes[at];
        let devices = shape.wishes.iter().map(|wish| slots(wish, node)).sum();
        let devices = if shape.wishes.is_empty() { most } else { devices };
        amounts_capacity(&shape.needs, &node.free, most).min(devices)
    });
    (members.fold(0, u64::saturating_add) / u64::from(shape.size)).min(u64::from(shape.count))
}

/// The devices one member would take, best fit first; `None` if they are not there. No wish takes none.
pub(crate) fn choose_devices(wish: Option<&Wish>, devices: &[Device]) -> Option<Vec<u32>> {
    let Some(wish) = wish else { return Some(Vec::new()) };
    let wanted = wish.count as usize;
    let mut free: Vec<usize> = (0..devices.len()).filter(|at| wish.can_take(&devices[*at])).collect();
    if wish.same_link_group && wanted > 1 {
        free = smallest_group(&free, devices, wanted)?;
    }
    if free.len() < wanted {
        return None;
    }
    let in_group = |at: usize| free.iter().filter(|other| linked(&devices[at], &devices[**other])).count();
    let mut ranked: Vec<_> = free.iter().map(|at| (rank(wish, &devices[*at]), in_group(*at), *at)).collect();
    ranked.sort_unstable();
    Some(ranked.into_iter().take(wanted).map(|(_, _, at)| at as u32).collect())
}

/// Devices that waste least come first: those already shared out most, then the smallest that will do. When several devices
/// of one share are asked for at once, the emptiest come first instead, so that as many sets as possible can be made.
fn rank(wish: &Wish, device: &Device) -> (u32, u64) {
    let free = if wish.count == 1 { device.free_milli } else { u32::MAX - device.free_milli };
    (free, device.memory_bytes)
}

fn linked(one: &Device, other: &Device) -> bool {
    one.link_group.is_some() && one.link_group == other.link_group
}

/// The devices of the link group with the fewest free ones that still suffice; groups by number among equals.
fn smallest_group(free: &[usize], devices: &[Device], wanted: usize) -> Option<Vec<usize>> {
    let mut groups: Vec<u32> = free.iter().filter_map(|at| devices[*at].link_group).collect();
    groups.sort_unstable();
    groups.dedup();
    let members = |group: u32| -> Vec<usize> {
        free.iter().copied().filter(|at| devices[*at].link_group == Some(group)).collect()
    };
    groups.into_iter().map(members).filter(|group| group.len() >= wanted).min_by_key(Vec::len)
}

/// Members that the node can hold beside each other, at most `most`. Exact but for shares of several devices at once, where
/// it is what taking the emptiest first gives.
pub(crate) fn capacity(shape: &Shape, wish: Option<&Wish>, node: &Node, most: u64) -> u64 {
    let amounts = amounts_capacity(&shape.needs, &node.free, most);
    let Some(wish) = wish else { return amounts };
    let slots = |device: &Device| u64::from(device.free_milli / wish.share_milli.max(1));
    let (wanted, free) = (u64::from(wish.count), node.devices.iter().filter(|device| wish.can_take(device)));
    let devices = if wanted == 1 {
        free.map(slots).sum()
    } else if wish.share_milli > 500 && !wish.same_link_group {
        free.count() as u64 / wanted
    } else {
        seats_by_trial(wish, node, amounts)
    };
    devices.min(amounts)
}

fn seats_by_trial(wish: &Wish, node: &Node, most: u64) -> u64 {
    let mut devices = node.devices.clone();
    let mut seats = 0;
    while seats < most
        && let Some(chosen) = choose_devices(Some(wish), &devices)
    {
        for at in chosen {
            devices[at as usize].free_milli -= wish.share_milli;
        }
        seats += 1;
    }
    seats
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(link_group: Option<u32>, free_milli: u32) -> Device {
        Device { model: 0, memory_bytes: 1, link_group, healthy: true, free_milli }
    }

    fn wish(count: u32, same_link_group: bool, share_milli: u32) -> Wish {
        Wish { count, model: None, min_memory_bytes: 0, same_link_group, share_milli }
    }

    #[test]
    fn a_single_device_comes_from_the_most_broken_group() {
        let devices = [device(Some(0), 1_000), device(Some(0), 1_000), device(Some(1), 1_000), device(Some(1), 0)];
        assert_eq!(choose_devices(Some(&wish(1, false, 1_000)), &devices), Some(vec![2]));
    }

    #[test]
    fn linked_devices_come_from_the_smallest_group_that_suffices() {
        let group = |number, count| std::iter::repeat_n(device(Some(number), 1_000), count);
        let devices: Vec<_> = group(0, 4).chain(group(1, 2)).chain(group(2, 1)).collect();
        assert_eq!(choose_devices(Some(&wish(2, true, 1_000)), &devices), Some(vec![4, 5]));
        assert_eq!(choose_devices(Some(&wish(3, true, 1_000)), &devices), Some(vec![0, 1, 2]));
        assert_eq!(choose_devices(Some(&wish(5, true, 1_000)), &devices), None);
        assert_eq!(choose_devices(Some(&wish(5, false, 1_000)), &devices).map(|chosen| chosen.len()), Some(5));
    }

    #[test]
    fn a_share_goes_where_the_least_is_left() {
        let devices = [device(None, 1_000), device(None, 400), device(None, 300)];
        assert_eq!(choose_devices(Some(&wish(1, false, 400)), &devices), Some(vec![1]));
        assert_eq!(choose_devices(Some(&wish(2, false, 300)), &devices), Some(vec![0, 1]));
    }

    #[test]
    fn capacity_counts_members_beside_each_other() {
        let free = Amounts { cpu_milli: 10, memory_bytes: 100, disk_bytes: 0, tokens: vec![3] };
        let devices = vec![device(Some(0), 1_000), device(Some(0), 1_000), device(Some(1), 1_000)];
        let node = Node { all: free.clone(), free, devices };
        let needs = Amounts { cpu_milli: 2, memory_bytes: 10, disk_bytes: 0, tokens: vec![1] };
        let shape = Shape { needs, wishes: vec![], size: 1, eligible: 0, quota: None, count: 1 };
        assert_eq!(capacity(&shape, None, &node, 99), 3, "tokens");
        assert_eq!(capacity(&shape, None, &node, 2), 2, "the bound");
        assert_eq!(capacity(&shape, Some(&wish(2, false, 1_000)), &node, 99), 1);
        assert_eq!(capacity(&shape, Some(&wish(1, false, 500)), &node, 99), 3, "tokens again");
        assert_eq!(capacity(&shape, Some(&wish(2, true, 400)), &node, 99), 2, "two shares of one linked pair");
    }
}
