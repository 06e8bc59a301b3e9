//! What the scripts show.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use flowyard_model::*;
use flowyard_state::{State, UsedSpan, as_of, points_at};

pub(crate) fn effects(effects: &Effects) -> String {
    let mut text = match &effects.reply {
        Reply::Submitted { job, existing: false } => format!("job {job}\n"),
        Reply::Submitted { job, existing: true } => format!("job {job}, as before\n"),
        Reply::Registered { node, incarnation } => format!("node {node}, incarnation {incarnation}\n"),
        Reply::PlanCommitted { refused, refused_claims } if refused.is_empty() && refused_claims.is_empty() => {
            "placed\n".to_owned()
        }
        Reply::PlanCommitted { refused, refused_claims } => {
            let lines = refused.iter().map(|(at, refusal)| format!("refused line {at}: {refusal:?}\n"));
            let claims = refused_claims.iter().map(|(at, refusal)| format!("refused claim {at}: {refusal:?}\n"));
            lines.chain(claims).collect()
        }
        Reply::TokenCreated { token } => format!("token {token}\n"),
        Reply::TokenUsed { grant } => format!("lets in: {}\n", grant_of(grant)),
        Reply::Done => "done\n".to_owned(),
        Reply::Rejected(rejection) => format!("rejected: {rejection}\n"),
    };
    let changed = &effects.changed;
    let mut parts = Vec::new();
    parts.extend(changed.nodes.iter().map(|node| format!("node {node}")));
    parts.extend(changed.jobs.iter().map(|job| format!("job {job}")));
    parts.extend(changed.placement.then(|| "placement".to_owned()));
    parts.extend(changed.deadline.then(|| "deadline".to_owned()));
    parts.extend(changed.access.then(|| "access".to_owned()));
    if !parts.is_empty() {
        writeln!(text, "changed: {}", parts.join(", ")).unwrap();
    }
    text
}

pub(crate) fn deadline(state: &State, now: u64) -> String {
    match state.next_deadline() {
        None => format!("{now}; nothing is due\n"),
        Some(TimeMs(due)) => format!("{now}; next deadline {due}\n"),
    }
}

fn counts(counts: &TaskCounts) -> String {
    let all = [
        (counts.blocked, "blocked"),
        (counts.ready, "ready"),
        (counts.waiting, "waiting"),
        (counts.active, "active"),
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.skipped, "skipped"),
    ];
    let shown: Vec<_> = all.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if shown.is_empty() { "no tasks".to_owned() } else { shown.join(", ") }
}

pub(crate) fn job(state: &State, id: JobId) -> String {
    let Some(job) = state.job(id) else { return "forgotten\n".to_owned() };
    let mut text = format!("{} `{}`", job.spec.queue, job.spec.name);
    match (job.ended, job.desired) {
        (Some(end), _) => write!(text, ": {:?} at {}", end.outcome, end.at).unwrap(),
        (None, JobDesired::Stop(outcome)) => write!(text, ": stopping as {outcome:?}").unwrap(),
        (None, JobDesired::Run) => write!(text, ": {} steps open", job.open_steps).unwrap(),
    }
    if let Some(overdue) = job.overdue {
        write!(text, ", overdue: {}", overdue.as_str()).unwrap();
    }
    if job.waits_for > 0 {
        write!(text, ", waits for {} jobs", job.waits_for).unwrap();
    }
    text.push('\n');
    for (index, step) in state.steps(id) {
        show_step(state, id, index, &step, &mut text);
    }
    text
}

fn show_step(state: &State, id: JobId, index: StepIndex, step: &Step, text: &mut String) {
    let spec = state.step_spec(id, index).unwrap();
    write!(text, "  {}: {}", spec.name, counts(&step.counts)).unwrap();
    if step.count.is_none() {
        text.push_str(", number not known yet");
    }
    if step.open_needs > 0 {
        write!(text, ", {} needs open", step.open_needs).unwrap();
    }
    for segment in &step.segments {
        write!(text, "; from {} on: list of task {}", segment.start, segment.parent).unwrap();
    }
    text.push('\n');
    for (index, task) in state.tasks_from(id, index, TaskIndex(0)) {
        show_task(index, task, text);
    }
}

fn show_task(index: TaskIndex, task: &Task, text: &mut String) {
    write!(text, "    {index}: {:?}", task.state).unwrap();
    if task.spent + task.unblamed > 0 {
        write!(text, ", {} spent, {} unblamed", task.spent, task.unblamed).unwrap();
    }
    text.push('\n');
    for attempt in &task.attempts {
        let members = attempt.members.iter().map(|member| {
            let end = member.end.as_ref();
            let phase = end.map_or(format!("{:?}", member.phase), |end| {
                let outputs: Vec<_> = end.outputs.keys().map(|name| format!(" +{name}")).collect();
                format!("{:?}({:?}, {:?}){}", end.outcome, end.reason, end.blame, outputs.concat())
            });
            let gpus: Vec<_> = member.gpus.iter().map(|gpu| format!(":gpu{}", gpu.0)).collect();
            let stuck = member.stuck.map_or_else(String::new, |stuck| format!(" stuck {}", stuck.as_str()));
            let after = if member.replacement > 0 { format!("r{}", member.replacement) } else { String::new() };
            let leaving = member.leaving.map_or_else(String::new, |leaving| format!(" leaving ({leaving:?})"));
            format!("{}.{}{after}{} {phase}{stuck}{leaving}", member.node, member.incarnation, gpus.concat())
        });
        let members: Vec<_> = members.collect();
        let desired = match attempt.desired {
            AttemptDesired::Run => "",
            AttemptDesired::Stop => " (to stop)",
            AttemptDesired::Preempt => " (to preempt)",
            AttemptDesired::GiveUp => " (to give up)",
        };
        let port = attempt.main_port.map_or_else(String::new, |port| format!(", port {port}"));
        let evicted = attempt.preempted.map_or_else(String::new, |Preempted { kind, by, at }| {
            format!(", evicted at {at} for {}/{}/{} ({})", by.job, by.step, by.task, kind.as_str())
        });
        let saved = attempt.saved_at.map_or_else(String::new, |at| format!(", saved at {at}"));
        let generation =
            if attempt.generation() > 0 { format!(", generation {}", attempt.generation()) } else { String::new() };
        let repair = attempt.repair().map_or_else(String::new, |Repair { until, open }| {
            let open: Vec<_> = open.keys().map(ToString::to_string).collect();
            format!(", ranks {} open until {until}", open.join(" "))
        });
        let vacant =
            attempt.surgery.iter().flat_map(|surgery| &surgery.vacant).map(|rank| format!(", rank {rank} vacant"));
        let saved = format!("{saved}{generation}{repair}{}", vacant.collect::<String>());
        writeln!(text, "      #{}{desired} on {}{port}{evicted}{saved}", attempt.number, members.join(" | ")).unwrap();
    }
}

pub(crate) fn nodes(state: &State) -> String {
    let mut text = String::new();
    for (id, node) in state.nodes() {
        let used = &node.used;
        write!(
            text,
            "{id} {} incarnation {}: {:?}, {:?}; {} members use {} cpu",
            node.name, node.incarnation, node.health, node.scheduling, used.members, used.cpu_milli
        )
        .unwrap();
        if let Some(closure) = &node.closure {
            let Closure { drain, by, reason, at } = &**closure;
            write!(text, "; closed at {at} by {by} ({reason}), drain {drain:?}").unwrap();
        }
        if let Some(discredit) = &node.discredit {
            let Discredit { standing, until, recent, .. } = &**discredit;
            let charges = recent.iter().map(|charge| match charge.member {
                Some(key) => format!("{:?} of {}/{}#{}", charge.reason, key.task.job, key.task.task, key.attempt),
                None => format!("{:?}", charge.reason),
            });
            let (milli, charges) = (points_at(discredit, state.time()), charges.collect::<Vec<_>>().join(", "));
            write!(text, "; {standing:?} until {until} with {milli} for {charges}").unwrap();
        }
        if !used.gpu_milli.is_empty() {
            write!(text, ", gpus {:?}", used.gpu_milli).unwrap();
        }
        if !used.declared.is_empty() {
            let declared = used.declared.iter().map(|it| format!("{}:{}", it.share_milli, it.memory_bytes));
            write!(text, ", declared {}", declared.collect::<Vec<_>>().join(" ")).unwrap();
        }
        for (device, Condition { state, reason, since, out }) in &node.devices {
            let out = out.as_ref().map_or_else(String::new, |out| format!(", out by {} ({})", out.by, out.reason));
            write!(text, ", {device} {} since {since} ({reason}){out}", state.as_str()).unwrap();
        }
        if !used.tokens.is_empty() {
            let tokens: Vec<_> = used.tokens.iter().map(|(name, count)| format!("{name}:{count}")).collect();
            write!(text, ", tokens {}", tokens.join(" ")).unwrap();
        }
        text.push('\n');
    }
    if text.is_empty() { "no nodes\n".to_owned() } else { text }
}

/// Who is promised which room, and what that makes of nodes.
pub(crate) fn claims(state: &State) -> String {
    let mut text = String::new();
    for (key, claim) in state.claims() {
        let Claim { attempt, members, evictions, made_at, until, awaits, starts_at } = claim;
        let seats = members.iter().map(|seat| {
            let gpus: Vec<_> = seat.gpus.iter().map(|gpu| format!(":gpu{}", gpu.0)).collect();
            format!("{}.{}{}", seat.node, seat.incarnation, gpus.concat())
        });
        let leave =
            evictions.iter().map(|it| format!("{}/{}/{}#{}", it.task.job, it.task.step, it.task.task, it.attempt));
        let (seats, leave) = (seats.collect::<Vec<_>>().join(" | "), leave.collect::<Vec<_>>().join(" "));
        let TaskKey { job, step, task } = key;
        let place = format!("{job}/{step}/{task}#{attempt} on {seats}, from {made_at}");
        if !claim.is_reservation() {
            writeln!(text, "{place} until {until}: {leave} leave").unwrap();
            continue;
        }
        let of = |it: &Awaited| format!("{}/{}/{}#{}", it.task.job, it.task.step, it.task.task, it.attempt);
        let awaited = awaits.iter().map(of).collect::<Vec<_>>().join(" ");
        let start = starts_at.map_or("at no known time".to_owned(), |at| format!("by {at}"));
        writeln!(text, "{place}, starts {start}: {awaited} awaited").unwrap();
    }
    for (id, node) in state.nodes() {
        for (what, used) in [
            ("claimed", state.claimed_on(id)),
            ("leaving", state.leaving_on(id)),
            ("reserved", state.reserved_on(id)),
            ("awaited", state.awaited_on(id)),
        ] {
            if let Some(used) = used {
                let (members, cpu, gpus) = (used.members, used.cpu_milli, &used.gpu_milli);
                writeln!(text, "{}: {what} {members} members with {cpu} cpu, gpus {gpus:?}", node.name).unwrap();
            }
        }
    }
    if text.is_empty() { "no claims\n".to_owned() } else { text }
}

fn grant_of(grant: &Grant) -> String {
    match grant {
        Grant::Join(joiner) => format!("join {joiner:?}"),
        Grant::Api { principal, role: Role::Submitter { queues } } => {
            let queues: Vec<_> = queues.iter().map(QueuePath::as_str).collect();
            format!("api {principal} submitter of {}", queues.join(","))
        }
        Grant::Api { principal, role } => format!("api {principal} {role:?}"),
    }
}

pub(crate) fn access(state: &State) -> String {
    let mut text = String::new();
    for (id, token) in state.tokens() {
        let left = token.uses_left().map_or("uncounted".to_owned(), |left| format!("{left} left"));
        let revoked = if token.revoked { ", revoked" } else { "" };
        let (grant, until) = (grant_of(&token.grant), token.expires_at);
        writeln!(text, "token {id}: {grant}, until {until}, {left}{revoked}; by {}", token.created_by).unwrap();
    }
    for (identity, it) in state.revocations() {
        let until = it.until.map_or("ever".to_owned(), |until| until.to_string());
        writeln!(text, "{identity}: void up to revision {}, until {until}; by {}", it.revision, it.by).unwrap();
    }
    if text.is_empty() { "nothing\n".to_owned() } else { text }
}

/// Each path with a queue or a load: its bounds, and what it carries with all below it.
pub(crate) fn queues(state: &State) -> String {
    let mut paths: BTreeSet<String> = state.queues().map(|queue| queue.path.to_string()).collect();
    let carrying = state.jobs().filter(|(_, job)| job.ended.is_none());
    paths.extend(carrying.flat_map(|(_, job)| job.spec.queue.levels().map(str::to_owned).collect::<Vec<_>>()));
    let mut text = String::new();
    for path in &paths {
        let path: QueuePath = path.parse().unwrap();
        let load = state.load(&path);
        write!(text, "{path}: {} jobs, {} active, holds {}", load.jobs, load.active, held(&load.held)).unwrap();
        for (what, portion) in [
            ("leaving", &load.leaving),
            ("claimed", &load.claimed),
            ("awaited", &load.awaited),
            ("reserved", &load.reserved),
        ] {
            if portion.tasks > 0 {
                write!(text, ", {what} {} tasks with {}", portion.tasks, held(&portion.held)).unwrap();
            }
        }
        if !load.held_for_good.is_none() {
            write!(text, ", for good {}", held(&load.held_for_good)).unwrap();
        }
        match state.queue(&path) {
            None => text.push_str("; no record"),
            Some(queue) => bounds(queue, &mut text),
        }
        text.push('\n');
    }
    text
}

fn bounds(queue: &Queue, text: &mut String) {
    if let Some(most) = queue.max_active {
        write!(text, "; at most {most} active").unwrap();
    }
    if let Some(Contract { min_run_ms, notice_ms, kill_within_ms }) = queue.contract {
        write!(text, "; contract {min_run_ms} {notice_ms} {kill_within_ms}").unwrap();
    }
    let all = [
        ("limit", &queue.limit),
        ("reserve", &queue.reserve),
        ("borrow", &queue.borrow),
        ("lend", &queue.lend),
        ("no_preempt", &queue.no_preempt),
    ];
    for (field, amounts) in all.into_iter().filter(|(_, amounts)| !amounts.is_empty()) {
        let named: Vec<_> = amounts.named().map(|(column, amount)| format!("{column} {amount}")).collect();
        write!(text, "; {field} {}", named.join(", ")).unwrap();
    }
}

/// What each owner holds in each queue, and what is left of what they used.
pub(crate) fn accounts(state: &State, now: TimeMs) -> String {
    let mut text = String::new();
    for (key, account) in state.accounts() {
        let mut decayed = as_of(account, now).decayed;
        decayed.change_each(|used| used / Account::DECAYED_PARTS);
        let (AccountKey { queue, owner }, active, held) = (key, account.active, held(&account.held));
        let (hours, days) = (account.hours.len(), account.days.len());
        writeln!(
            text,
            "{owner} in {queue}: {active} active, holds {held}; decayed {}; {hours} hours, {days} days before",
            used(&decayed)
        )
        .unwrap();
    }
    if text.is_empty() { "nothing\n".to_owned() } else { text }
}

/// What was used by whom.
pub(crate) fn usage(span: &UsedSpan) -> String {
    let mut text = format!("from {} to {}\n", span.from, span.to);
    for (key, usage) in &span.rows {
        writeln!(text, "{} in {}: {}", key.owner, key.queue, used(usage)).unwrap();
    }
    text
}

/// Each resource times hours.
fn used(usage: &Usage) -> String {
    let columns = usage.columns().map(|(column, used)| (column, used / 3_600_000)).filter(|(_, used)| *used > 0);
    let columns: Vec<_> = columns.map(|(column, used)| format!("{column} {used}")).collect();
    if columns.is_empty() { "nothing".to_owned() } else { columns.join(", ") }
}

fn held(held: &Held) -> String {
    let columns = held.columns().filter(|(_, amount)| *amount > 0);
    let columns: Vec<_> = columns.map(|(column, amount)| format!("{column} {amount}")).collect();
    if columns.is_empty() { "nothing".to_owned() } else { columns.join(", ") }
}

pub(crate) fn ready(state: &State) -> String {
    let mut text = String::new();
    let mut steps: Vec<_> = state.ready_steps().collect();
    steps.sort_by_key(|step| (&step.queue, step.priority, step.job, step.step));
    for step in steps {
        let name = &state.step_spec(step.job, step.step).unwrap().name;
        let tasks: Vec<_> =
            state.ready_tasks(step.job, step.step).take(5).map(|(task, attempt)| format!("{task}#{attempt}")).collect();
        writeln!(text, "{} {}/{name} priority {}: {}", step.queue, step.job, step.priority.0, tasks.join(" ")).unwrap();
    }
    if text.is_empty() { "nothing is ready\n".to_owned() } else { text }
}

pub(crate) fn durations(state: &State) -> String {
    let mut text = String::new();
    for (key, known) in state.durations() {
        let DurationKey { owner, flow, step } = key;
        let within = |percent| known.within(percent).map_or("?".to_owned(), |ms: u64| ms.to_string());
        let (half, most) = (within(50), within(90));
        writeln!(text, "{owner} {flow}/{step}: {} runs, half within {half}, most within {most}", known.runs()).unwrap();
    }
    if text.is_empty() { "no durations\n".to_owned() } else { text }
}

pub(crate) fn mix(state: &State) -> String {
    let mut text = String::new();
    let told: Vec<_> = state.mix().told().collect();
    for kind in &state.mix().kinds {
        let GpuRequest { count, model, share_milli, .. } = &kind.request;
        let model = model.as_deref().unwrap_or("any model");
        let parts = told.iter().find(|(request, _)| **request == kind.request).map_or(0, |(_, parts)| *parts);
        let milli = kind.average >> 16;
        writeln!(text, "{count} of {model}, {share_milli} of each: {milli} on average, told {parts} of 64").unwrap();
    }
    if text.is_empty() { "no mix\n".to_owned() } else { text }
}
