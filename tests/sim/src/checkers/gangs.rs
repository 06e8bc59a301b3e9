//! A gang starts whole. As soon as one member ends otherwise than well, the rest is asked to stop; unless the gang goes on without
//! members that were lost: then it has at least one, for each that is missing somebody is looked for, and for no longer than its step says.

use flowyard_model::{Attempt, AttemptDesired, AttemptOutcome, Blame, Command, Member, Rank, Reason};

use super::{Checker, Seen, changed_tasks, is_live, require};

pub(super) struct GangsRunWhole;

impl Checker for GangsRunWhole {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        for (key, task) in changed_tasks(seen) {
            let spec = seen.state.step_spec(key.job, key.step);
            let (least, size) = spec.map_or((0, 0), |spec| (spec.placing.min_size.unwrap_or(spec.size), spec.size));
            let replaces = spec.is_some_and(|spec| spec.placing.replace.is_some());
            for attempt in &task.attempts {
                let number = attempt.number;
                let whole = (least as usize..=size as usize).contains(&attempt.members.len());
                require(whole, || format!("{key:?}#{number} is not whole"))?;
                let missing: Vec<u32> = (0..)
                    .zip(&attempt.members)
                    .filter(|(_, member)| is_missing(member))
                    .map(|(rank, _)| rank)
                    .collect();
                let others = attempt.members.len() - missing.len();
                let spare = |rank: u32| rank > 0 && others >= least as usize && attempt.is_vacant(Rank(rank));
                let is_let_go = |rank| (replaces && is_open(attempt, rank)) || spare(rank);
                let broken = !missing.into_iter().all(is_let_go);
                let goes_on = is_live(attempt) && attempt.desired == AttemptDesired::Run;
                require(!(broken && goes_on), || {
                    let ends = attempt.members.iter().map(|it| it.end.as_ref().map(|end| (end.outcome, end.reason)));
                    format!("{key:?}#{number} runs on without a member: {:?}", ends.collect::<Vec<_>>())
                })?;
                let waits = attempt.repair().is_some();
                require(goes_on || !waits, || format!("{key:?}#{number} waits for members and does not run"))?;
            }
        }
        // One tick may leave some for the next.
        let overdue = seen.state.repairs().filter(|(until, _)| *until <= seen.state.time()).count();
        let ticked = matches!(seen.entry.command, Command::Tick);
        require(!ticked || overdue == 0, || format!("{overdue} gangs go on without members for too long"))
    }
}

fn is_missing(member: &Member) -> bool {
    member.end.as_ref().is_some_and(|end| end.outcome != AttemptOutcome::Succeeded)
}

/// Whether somebody is looked for in the place of a member that was lost through no fault of the user's.
fn is_open(attempt: &Attempt, rank: u32) -> bool {
    let lost = attempt.members[rank as usize].end.as_ref().is_some_and(|end| {
        let with_its_device = end.outcome == AttemptOutcome::Failed && end.reason == Reason::Device;
        let went = matches!(end.outcome, AttemptOutcome::Lost | AttemptOutcome::Preempted) || with_its_device;
        went && end.blame != Blame::User
    });
    lost && attempt.repair().is_some_and(|repair| repair.open.contains_key(&Rank(rank)))
}
