//! The one way in: an entry of the log changes the state and gives effects.

use flowyard_model::{Changed, ClusterVersion, Command, Effects, Entry, Epoch, Rejection, Reply};

use crate::state::State;
use crate::{
    access, after, closing, device, forget, job, ledger, mix, near, node, past, plan, queue, report, secret, submit,
    tick,
};

/// Applies one entry.
///
/// # Panics
/// When an invariant of the state is broken, or the entry asks for a behaviour that this build does not know: the replica
/// must stop rather than go on with a state that others do not have.
pub fn apply(state: &mut State, entry: Entry) -> Effects {
    assert!(entry.index > state.meta.revision, "entries are applied once and in order");
    state.meta.revision = entry.index;
    state.meta.time = state.meta.time.max(entry.time);
    mix::look(state);
    let (deadline, agents) = (state.next_deadline(), entry.command.reports().len());
    let mut changed = Changed::nothing();
    let reply = perform(state, &mut changed, entry.command);
    after::settle_waits(state, &mut changed);
    forget::enforce_cap(state, &mut changed, agents);
    changed.deadline = deadline != state.next_deadline();
    Effects { reply, changed }
}

fn perform(state: &mut State, changed: &mut Changed, command: Command) -> Reply {
    if let Err(rejection) = state.supports(&command) {
        return Reply::Rejected(rejection);
    }
    match command {
        Command::SubmitJob(wish) => submit::submit(state, changed, wish),
        Command::CancelJob { job } => job::cancel(state, changed, job),
        Command::PutQueue(queue) => queue::put(state, changed, queue),
        Command::DropQueue { path } => queue::drop_queue(state, changed, &path),
        Command::RegisterNode(wish) => node::register(state, changed, wish),
        Command::SetNodeHealth { node, incarnation, health } => {
            node::set_health(state, changed, node, incarnation, health)
        }
        Command::SetNodeScheduling { node, scheduling } => closing::set_scheduling(state, changed, node, scheduling),
        Command::CommitPlan(plan) => plan::commit(state, changed, plan),
        Command::ReportAttempts(reports) => report::take(state, changed, reports),
        Command::ReportMany(agents) => report::take_many(state, changed, agents),
        Command::Tick => tick::tick(state, changed),
        Command::RaiseVersion { version } => raise_version(state, version),
        Command::ForgetJobs { jobs } => forget::forget_all(state, changed, jobs),
        Command::CreateToken(wish) => access::create_token(state, wish),
        Command::RevokeToken { token } => access::revoke_token(state, changed, token),
        Command::UseToken { token, by, who } => access::use_token(state, token, by, who),
        Command::RevokeIdentity { identity, until, by } => access::revoke_identity(state, changed, identity, until, by),
        Command::ChangeNode(wish) => closing::change(state, changed, wish),
        Command::BeginEpoch { epoch } => begin_epoch(state, epoch),
        Command::ArchiveJobs(wish) => past::archive_jobs(state, changed, wish),
        Command::SealSegments(wish) => past::seal_segments(state, &wish),
        Command::PutSecret(wish) => secret::put(state, wish),
        Command::DropSecret { name } => secret::drop_secret(state, &name),
        Command::PutPolicy(policy) => near::put(state, changed, policy),
        Command::SetDevices(wish) => device::set(state, changed, wish),
        Command::ChangeDevice(wish) => device::change(state, changed, wish),
    }
}

impl State {
    /// Whether a command may be used yet. Asked before it is proposed, because a replica of an older release stops at an entry
    /// it does not know; and again when it is applied.
    ///
    /// # Errors
    /// [`Rejection::NeedsVersion`] if not.
    pub fn supports(&self, command: &Command) -> Result<(), Rejection> {
        let (needs, current) = (command.needs(), self.meta.version);
        if current < needs { Err(Rejection::NeedsVersion { needs, current }) } else { Ok(()) }
    }
}

/// Versions are raised one by one; the same one again says nothing new.
fn raise_version(state: &mut State, wished: ClusterVersion) -> Reply {
    let current = state.meta.version;
    if wished == current {
        return Reply::Done;
    }
    if wished.0 != current.0 + 1 {
        return Reply::Rejected(Rejection::BadVersion { wished, current });
    }
    assert!(wished <= ClusterVersion::NEWEST, "this build does not know cluster version {wished}: it must be upgraded");
    state.meta.version = wished;
    if wished == ClusterVersion::ACCESS {
        ledger::open(state);
    }
    Reply::Done
}

/// Attempts placed from now on belong to another history, and cannot be taken for one of the same number that was placed before. An
/// epoch that is not higher says nothing new.
fn begin_epoch(state: &mut State, epoch: Epoch) -> Reply {
    state.meta.epoch = state.meta.epoch.max(epoch);
    Reply::Done
}
