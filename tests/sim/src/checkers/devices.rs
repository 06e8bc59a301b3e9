//! A device is never granted beyond the whole of it, nor granted while it is not well.

use std::collections::BTreeMap;

use flowyard_model::Command;

use super::{Checker, Seen, require};

pub(super) struct NoDeviceIsGrantedTwice;

impl Checker for NoDeviceIsGrantedTwice {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let changed = seen.effects.changed.nodes.iter().filter_map(|id| Some((*id, seen.state.node(*id)?)));
        for (id, node) in changed {
            let mut granted: BTreeMap<u32, u32> = BTreeMap::new();
            for (key, _, member) in seen.state.live_members(id) {
                let spec = seen.state.step_spec(key.task.job, key.task.step).ok_or("a member without a step")?;
                let share = spec.resources.gpus.get(member.gpu_alternative as usize).map_or(0, |gpu| gpu.share_milli);
                let known = seen.before.attempt(key.task, key.attempt);
                let new = known.is_none_or(|attempt| attempt.member_key(key.task, key.rank) != key);
                let placed = new && matches!(seen.entry.command, Command::CommitPlan(_));
                for gpu in &member.gpus {
                    *granted.entry(gpu.0).or_insert(0) += share;
                    let well = node.inventory.gpus.get(gpu.0 as usize).is_some_and(|gpu| gpu.healthy);
                    require(well || !placed, || format!("node {id}: device {} is not well and was granted", gpu.0))?;
                }
            }
            let twice = granted.iter().find(|(_, milli)| **milli > 1_000);
            require(twice.is_none(), || format!("node {id}: device granted twice: {twice:?}"))?;
        }
        Ok(())
    }
}
