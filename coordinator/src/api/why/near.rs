//! Why a gang is not placed that has to be in one domain of a level: how much room there is so near.

use flowyard_model::{Policy, StepSpec};
use flowyard_scheduling::NearRoom;

use super::words::count;

/// What keeps a gang from starting, if no domain of the level that it needs has room for all of it now.
pub(super) fn short(policy: &Policy, spec: &StepSpec, near: &NearRoom) -> Option<String> {
    let NearRoom { level, domains, most, most_when_empty } = near;
    let (size, domains) = (spec.least_size(), *domains);
    let (size, needs) = (u64::from(size), format!("it needs all {size} members in one {level}"));
    if policy.depth(level).is_none() {
        let levels = policy.levels();
        return Some(format!("{needs}, and that is no level of the topology any more; there are: {levels}"));
    }
    let (domain, now) = most.clone().unwrap_or_default();
    if now >= size {
        return None;
    }
    let of = match domains {
        0 => return Some(format!("{needs}, and no node in any of them suits it and takes new work")),
        1 => format!("the only {level} that it may go to"),
        several => {
            format!("of {} that it may go to, the one with the most room for it", count(several as u64, level.as_str()))
        }
    };
    let domain = match (now, domain.is_empty()) {
        (0, _) => String::new(),
        (_, true) => format!(" (a node without the label {level})"),
        (_, false) => format!(" ({})", domain.join("/")),
    };
    let empty = match *most_when_empty {
        most if most < size => {
            format!("none would hold more than {most} if nothing ran, so that it waits for more nodes")
        }
        most => format!("{most} would fit in one if nothing ran"),
    };
    Some(format!("{needs}; {of}{domain} has room for {now} now; {empty}"))
}
