//! From a desired member and what was fetched to what the launcher is asked to run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flowyard_model::{
    DesiredMember, End, Gpu, Image, Isolation, Name, NetworkMode, OnDisconnect, Reason, Resources, StepContext,
};

use super::ending::{bare, platforms, users};
use super::environment::{ITEM_BYTES, Places, environment};
use super::fetch::{Fetched, ITEM_FILE, WORK};
use super::secrets::Laid;
use super::{Desk, FOLDER, disk_failure, gang, stages, write_shown};
use crate::inventory::gpu;
use crate::runtime::spec::{ContainerSpec, LaunchSpec, Limits, Mount, Network, Root, Sandbox};
use crate::runtime::{self, default_hidden};

/// Where a container finds its working directory.
const CONTAINER_WORK: &str = "/flowyard/work";
/// Where a container finds its inputs.
const CONTAINER_INPUTS: &str = "/flowyard/in";
/// Where programs find who resolves names.
const RESOLVER: &str = "/etc/resolv.conf";
/// Where a container finds a long item.
const CONTAINER_ITEM: &str = "/flowyard/item.json";
/// Where a container finds what is told of its gang: a folder, since a file that is put in place of another is not seen by who sees only
/// that one.
const CONTAINER_GANG: &str = "/flowyard/gang";
/// Where a container finds its secrets.
const CONTAINER_SECRETS: &str = "/flowyard/secrets";

/// What the launcher is asked to run.
///
/// # Errors
/// The end of an attempt that this agent may not run.
pub(super) fn spec(
    desk: &Desk,
    context: &StepContext,
    member: &DesiredMember,
    folder: &Path,
    fetched: &Fetched,
    secrets: Option<Laid>,
) -> Result<LaunchSpec, End> {
    let step = &context.spec;
    let gpus = granted(desk, member)?;
    let container = step.isolation == Isolation::Container;
    let inputs: BTreeMap<Name, PathBuf> = match container {
        true => {
            fetched.inputs.keys().map(|name| (name.clone(), Path::new(CONTAINER_INPUTS).join(name.as_str()))).collect()
        }
        false => fetched.inputs.clone(),
    };
    let inside = |path: &str, name: &str| if container { PathBuf::from(path) } else { folder.join(name) };
    let (work, item_file) = (inside(CONTAINER_WORK, WORK), inside(CONTAINER_ITEM, ITEM_FILE));
    // A process has no other private place than its working directory; making one would cost as much as starting it.
    let home = if container { PathBuf::from(runtime::HOME) } else { work.clone() };
    let gang_files = inside(CONTAINER_GANG, gang::FOLDER);
    if let Some(gang) = &member.gang {
        gang::write(folder, gang).map_err(|error| disk_failure(FOLDER, &error))?;
    }
    let places = Places { work: &work, home: &home, item_file: &item_file, inputs: &inputs, gang: &gang_files };
    let image_env = fetched.image.as_ref().map_or(&[][..], |(_, config)| &config.env);
    let mut env = environment(context, member, places, fetched.item.as_deref(), image_env);
    env.extend(gpu::variables(&gpus, step.resources.gpus.get(member.gpu_alternative as usize)));
    let cluster = desk.cluster.borrow().clone();
    if desk.exporter.is_some() && !cluster.is_empty() {
        let (name, value) = stages::handed_on(&cluster, member.key);
        // A step that is part of a trace of its user's stays so.
        if !step.env.contains_key(&name) {
            env.push((name, value));
        }
    }
    let mut sandbox = match step.isolation {
        Isolation::Process => process_sandbox(desk)?,
        Isolation::Container => {
            Sandbox::Container(Box::new(container_spec(desk, (context, member), folder, fetched, &gpus)?))
        }
    };
    let mut secret_env = Vec::new();
    if let Some(laid) = secrets {
        let seen = see_secrets(&mut sandbox, &laid)?;
        env.push(("FLOWYARD_SECRETS".to_owned(), seen.display().to_string()));
        secret_env = laid.variables;
    }
    let key = member.key;
    let rank = member.gang.as_ref().map_or_else(String::new, |_| format!(".{}", key.rank));
    Ok(LaunchSpec {
        name: format!("{}/{}/{}#{}{rank}", key.task.job, step.name, key.task.task, key.attempt),
        folder: folder.to_owned(),
        argv: step.command.clone(),
        env,
        secret_env,
        workdir: work,
        limits: limits(desk, &step.resources),
        sandbox,
        timeout_ms: step.timeout_ms,
        kill_grace_ms: step.kill_grace_ms,
        stop_signal: step.stop_signal,
        notice_signal: step.notice.map(|notice| notice.signal),
        log_limit_bytes: desk.config.log_limit_bytes,
        lease_file: (step.on_disconnect == OnDisconnect::Stop).then(|| desk.config.lease_file()),
    })
}

/// Where the task sees the files of its secrets.
fn see_secrets(sandbox: &mut Sandbox, laid: &Laid) -> Result<PathBuf, End> {
    let Sandbox::Container(container) = sandbox else { return Ok(laid.files.clone()) };
    // Another runtime is told its variables in a file on the disk.
    if container.oci_runtime.is_some() && !laid.variables.is_empty() {
        return Err(refused(
            "this node's agent uses another OCI runtime, which keeps variables on its disk; use `secret_files`",
        ));
    }
    let target = PathBuf::from(CONTAINER_SECRETS);
    container.mounts.push(Mount { source: laid.files.clone(), target: target.clone(), read_only: true, mapped: false });
    Ok(target)
}

fn limits(desk: &Desk, resources: &Resources) -> Limits {
    Limits {
        cpu_milli: resources.cpu_milli,
        memory_bytes: resources.memory_bytes,
        pids: desk.config.pids,
        shm_bytes: resources.shm_bytes,
        disk_bytes: resources.disk_bytes,
    }
}

fn process_sandbox(desk: &Desk) -> Result<Sandbox, End> {
    match desk.config.allow_process {
        true => Ok(Sandbox::Process),
        false => Err(refused("this node's agent does not allow `isolation = \"process\"`; use a container")),
    }
}

fn container_spec(
    desk: &Desk,
    (context, member): (&StepContext, &DesiredMember),
    folder: &Path,
    fetched: &Fetched,
    gpus: &[Gpu],
) -> Result<ContainerSpec, End> {
    let step = &context.spec;
    let bind = |source: PathBuf, target: PathBuf, read_only| Mount { source, target, read_only, mapped: false };
    let mut mounts = vec![bind(folder.join(WORK), CONTAINER_WORK.into(), false)];
    for (name, path) in &fetched.inputs {
        let target = Path::new(CONTAINER_INPUTS).join(name.as_str());
        mounts.push(Mount { mapped: true, ..bind(path.clone(), target, true) });
    }
    if fetched.item.as_ref().is_some_and(|item| item.len() > ITEM_BYTES) {
        mounts.push(Mount { mapped: true, ..bind(folder.join(ITEM_FILE), CONTAINER_ITEM.into(), true) });
    }
    if member.gang.is_some() {
        mounts.push(Mount { mapped: true, ..bind(folder.join(gang::FOLDER), CONTAINER_GANG.into(), true) });
    }
    for mount in &step.mounts {
        let path = allowed_mount(&desk.config.allow_mounts, &mount.path)?;
        mounts.push(bind(path.clone(), path, mount.read_only));
    }
    let root = match (&step.image, &fetched.image) {
        (Image::Stored { .. }, Some((lower, _))) => Root::Tree { lower: lower.clone(), mapped: true },
        (Image::Host, _) if desk.config.allow_host_image => {
            let mut hidden = default_hidden(desk.config.user_home.as_deref(), &desk.config.folder);
            hidden.extend(desk.config.hidden.iter().cloned());
            Root::Host { hidden }
        }
        _ => return Err(refused("this node's agent does not allow `image = \"host\"`; name an image")),
    };
    let access = gpu::access(gpus);
    if matches!(root, Root::Tree { .. }) {
        mounts.extend(access.mounts);
    }
    let network = match step.network {
        NetworkMode::Host => Network::Host,
        NetworkMode::None => Network::None,
        NetworkMode::Private => private_network(desk, folder, &root, &mut mounts)?,
        NetworkMode::Usual => {
            return Err(platforms(Reason::Sandbox, "nobody decided which network the task is to have"));
        }
    };
    Ok(ContainerSpec {
        root,
        mounts,
        network,
        devices: access.devices,
        user: fetched.user,
        oci_runtime: desk.config.oci_runtime.clone(),
    })
}

/// A network of the attempt's own, with the file that says who resolves names in it.
fn private_network(desk: &Desk, folder: &Path, root: &Root, mounts: &mut Vec<Mount>) -> Result<Network, End> {
    let (wire, resolver) = desk
        .networks
        .give(folder)
        .map_err(|why| platforms(Reason::Sandbox, format!("this node has no private network for the task: {why}")))?;
    // The host's own root has a place for the file only where the host has the file.
    if matches!(root, Root::Tree { .. }) || Path::new(RESOLVER).exists() {
        let source = folder.join("resolv.conf");
        write_shown(&source, &resolver).map_err(|error| disk_failure(FOLDER, &error))?;
        mounts.push(Mount { source, target: RESOLVER.into(), read_only: true, mapped: false });
    }
    Ok(Network::Private(wire))
}

/// The real path of a mount, if the agent's configuration allows it; links are followed before it is compared.
fn allowed_mount(allowed: &[PathBuf], path: &str) -> Result<PathBuf, End> {
    let real = std::fs::canonicalize(path)
        .map_err(|error| users(Reason::Refused, format!("mount `{path}`: {error} on this node")))?;
    match allowed.iter().any(|allowed| real.starts_with(allowed)) {
        true => Ok(real),
        false => Err(refused(&format!(
            "mount `{path}` is not among the folders that this node's agent allows (`allow_mounts`)"
        ))),
    }
}

fn granted(desk: &Desk, member: &DesiredMember) -> Result<Vec<Gpu>, End> {
    let find = |index: &flowyard_model::GpuIndex| desk.inventory.gpus.get(index.0 as usize).cloned();
    let gpus: Option<Vec<_>> = member.gpus.iter().map(find).collect();
    gpus.ok_or_else(|| {
        bare(
            flowyard_model::AttemptOutcome::Rejected,
            Reason::Device,
            flowyard_model::Blame::Platform,
            "a granted GPU is not in this node's inventory any more",
        )
    })
}

/// The operator's settings forbid it here: the user must change the step, so it is the user's.
/// Whether the launcher that serves, which may be of the release before, knows all that it is asked: what it does not know it would
/// leave out without a word.
pub(super) fn understood(spec: &LaunchSpec, launcher: Option<&str>) -> Result<(), End> {
    let newer = !spec.secret_env.is_empty() || spec.stop_signal != Default::default();
    if launcher.is_some() || !newer {
        return Ok(());
    }
    let message = "what runs on this node was begun by a release that knows neither secrets nor stop signals, and its launcher \
                   still serves; it goes once all of that has ended";
    Err(platforms(Reason::Refused, message))
}

fn refused(message: &str) -> End {
    users(Reason::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_in_allowed_folders_is_mounted_whatever_a_link_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().canonicalize().expect("its path");
        let at = |name: &str| folder.join(name);
        for name in ["open/data", "open-too", "closed"] {
            std::fs::create_dir_all(at(name)).expect("a folder");
        }
        std::os::unix::fs::symlink(at("closed"), at("open/out")).expect("a link");
        std::os::unix::fs::symlink(at("open/data"), at("in")).expect("a link");
        let allowed = [at("open")];
        let mount = |name: &str| allowed_mount(&allowed, &at(name).display().to_string());
        assert_eq!(mount("open/data").ok(), Some(at("open/data")));
        assert_eq!(mount("in").ok(), Some(at("open/data")), "it is where the link leads to");
        for outside in ["closed", "open-too", "open/out", "open/../closed", "open/nothing"] {
            assert_eq!(mount(outside).expect_err(outside).reason, Reason::Refused, "{outside}");
        }
    }
}
