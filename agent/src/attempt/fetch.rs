//! The first phase: code, inputs, item and image are brought and laid out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flowyard_cas::items::ItemsReader;
use flowyard_cas::{Manifest, PinnedBlob, PinnedTree, StoreError};
use flowyard_model::{
    DesiredMember, Digest, End, Image, Isolation, Item, Name, Reason, ResolvedInput, StepContext, TaskIndex,
};

use super::ending::{chain, platforms, users};
use super::images::{ImageUse, UnpackError};
use super::{Desk, FOLDER, disk_failure, write_shown};
use crate::image::ImageConfig;
use crate::runtime::spec::User;

/// What was brought. Trees and blobs stay pinned as long as this lives.
pub(super) struct Fetched {
    /// Where each input is on the host.
    pub inputs: BTreeMap<Name, PathBuf>,
    /// The item as compact JSON.
    pub item: Option<String>,
    /// The unpacked image, unless it is the host's.
    pub image: Option<(PathBuf, ImageConfig)>,
    /// Who the task is.
    pub user: User,
    _trees: Vec<PinnedTree>,
    _image: Option<ImageUse>,
}

/// Names inside an attempt's folder.
pub(crate) const WORK: &str = "work";
/// Inputs that are copied.
pub(super) const INPUTS: &str = "in";
/// A long item.
pub(super) const ITEM_FILE: &str = "item.json";

/// Brings everything the attempt needs.
pub(super) async fn fetch(
    desk: &Desk,
    context: &StepContext,
    member: &DesiredMember,
    folder: &Path,
) -> Result<Fetched, End> {
    prepare_folder(folder).await?;
    if let Some(code) = &context.spec.code {
        let checkout = desk.store.checkout(code, &folder.join(WORK)).await;
        checkout.map_err(|error| input_failure("the code", &error))?;
    }
    let user = user(desk, context, folder)?;
    let (inputs, _trees) = (BTreeMap::new(), Vec::new());
    let mut fetched = Fetched { inputs, item: None, image: None, user, _trees, _image: None };
    for (name, input) in &member.inputs {
        let subject = format!("input `{name}`");
        let manifest = manifest_of(desk, input).await.map_err(|error| input_failure(&subject, &error))?;
        let path = match context.spec.isolation {
            // A container sees a shared tree through a read-only mount.
            Isolation::Container => {
                let tree = desk.store.tree(&manifest).await.map_err(|error| input_failure(&subject, &error))?;
                let path = tree.path().to_owned();
                fetched._trees.push(tree);
                path
            }
            // A process could write to it, so it gets a copy.
            Isolation::Process => {
                let path = folder.join(INPUTS).join(name.as_str());
                std::fs::create_dir_all(folder.join(INPUTS)).map_err(|error| disk_failure(FOLDER, &error))?;
                desk.store.checkout(&manifest, &path).await.map_err(|error| input_failure(&subject, &error))?;
                path
            }
        };
        fetched.inputs.insert(name.clone(), path);
    }
    if let Some(owner) = other_owner(&user) {
        give(folder.join(WORK), owner).await.map_err(|error| disk_failure(FOLDER, &error))?;
    }
    fetched.item = item(desk, member, folder).await?;
    if let Image::Stored { manifest, source } = &context.spec.image {
        unpack_image(desk, manifest, source, &mut fetched).await?;
    }
    Ok(fetched)
}

async fn prepare_folder(folder: &Path) -> Result<(), End> {
    let made = match std::fs::create_dir(folder) {
        // What an earlier agent began and did not launch is begun anew.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            tokio::fs::remove_dir_all(folder).await.and_then(|()| std::fs::create_dir(folder))
        }
        made => made,
    };
    // Nobody but us has any business in it; what is the task's, it sees through mounts.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    made.and_then(|()| std::fs::set_permissions(folder, private))
        .and_then(|()| std::fs::create_dir(folder.join(WORK)))
        .map_err(|error| disk_failure(FOLDER, &error))
}

/// Who the task is: users that it has to itself, where the agent has such.
fn user(desk: &Desk, context: &StepContext, folder: &Path) -> Result<User, End> {
    let Some(ranges) = &desk.users else { return Ok(desk.config.user) };
    // A runtime binary makes a container as the root in it, so there the task cannot be root.
    let root_inside = matches!(context.spec.image, Image::Stored { .. }) && desk.config.oci_runtime.is_none();
    let none = || "this node has no user ids left for another task; its operator can give it more with `agent.users`";
    ranges.give(folder, root_inside).ok_or_else(|| platforms(Reason::Sandbox, none()))
}

/// Whom the working directory is for, if that is not who runs the agent.
fn other_owner(user: &User) -> Option<(u32, u32)> {
    let own = rustix::process::geteuid().as_raw();
    (user.host_uid != own).then_some((user.host_uid, user.host_gid))
}

/// Gives a folder with all that is in it to the task, who is to write there. Nothing in it was written by a task yet.
async fn give(folder: PathBuf, (uid, gid): (u32, u32)) -> std::io::Result<()> {
    let given = tokio::task::spawn_blocking(move || {
        let mut left = vec![folder];
        while let Some(path) = left.pop() {
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid))?;
            if std::fs::symlink_metadata(&path)?.is_dir() {
                for entry in std::fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
            }
        }
        Ok(())
    });
    given.await.map_err(std::io::Error::other)?
}

/// Pins again what an adopted attempt sees: its container has these very trees mounted.
pub(super) async fn pin(desk: &Desk, context: &StepContext, member: &DesiredMember) -> Vec<PinnedTree> {
    let mut pinned = Vec::new();
    if context.spec.isolation == Isolation::Process {
        return pinned;
    }
    for (name, input) in &member.inputs {
        let tree = match manifest_of(desk, input).await {
            Ok(manifest) => desk.store.tree(&manifest).await,
            Err(error) => Err(error),
        };
        match tree {
            Ok(tree) => pinned.push(tree),
            Err(error) => {
                tracing::warn!(key = ?member.key, %name, error = chain(&error), "an input cannot be pinned again")
            }
        }
    }
    pinned
}

async fn manifest_of(desk: &Desk, input: &ResolvedInput) -> Result<Digest, StoreError> {
    match input {
        ResolvedInput::Artifact(manifest) => Ok(*manifest),
        ResolvedInput::Join { entries, .. } => join(desk, entries).await,
    }
}

/// A directory with an entry per task, made of manifests alone: no file is read.
async fn join(desk: &Desk, entries: &[(TaskIndex, Digest)]) -> Result<Digest, StoreError> {
    let mut parts = Vec::with_capacity(entries.len());
    for (task, manifest) in entries {
        parts.push((task.to_string(), Some(desk.store.manifest(manifest).await?)));
    }
    let joined = Manifest::join(parts).map_err(|source| StoreError::Manifest { digest: entries[0].1, source })?;
    Ok(desk.store.put_manifest(&joined).await?.manifest)
}

/// The item as compact JSON; a long one is also put into a file.
async fn item(desk: &Desk, member: &DesiredMember, folder: &Path) -> Result<Option<String>, End> {
    let item = match member.item {
        None => return Ok(None),
        Some(Item::Number(number)) => number.to_string(),
        Some(Item::Listed { items, position }) => {
            let blob = desk.store.get(&items).await.map_err(|error| input_failure("the item", &error))?;
            read_item(&blob, position)?
        }
    };
    if item.len() > super::environment::ITEM_BYTES {
        let path = folder.join(ITEM_FILE);
        write_shown(&path, &item).map_err(|error| disk_failure("the item", &error))?;
    }
    Ok(Some(item))
}

fn read_item(blob: &PinnedBlob, position: u32) -> Result<String, End> {
    let broken = |error: &dyn std::fmt::Display| platforms(Reason::Input, format!("the list of items: {error}"));
    let file = std::fs::File::open(blob.path()).map_err(|error| broken(&error))?;
    let mut reader = ItemsReader::open(file).map_err(|error| broken(&error))?;
    reader.item(position).map_err(|error| broken(&error))
}

async fn unpack_image(desk: &Desk, manifest: &Digest, source: &str, fetched: &mut Fetched) -> Result<(), End> {
    let subject = format!("image `{source}`");
    let tree = desk.store.tree(manifest).await.map_err(|error| input_failure(&subject, &error))?;
    let packed = tree.path().to_owned();
    fetched._trees.push(tree);
    let unpacked = desk.images.unpacked(&packed, manifest).await.map_err(|error| match error {
        UnpackError::Image(error) => users(Reason::Image, format!("{subject}: {}", chain(&error))),
        UnpackError::Fault(message) => platforms(Reason::Image, format!("{subject}: {message}")),
    })?;
    fetched.image = Some((unpacked.tree, unpacked.config));
    fetched._image = Some(unpacked.held);
    Ok(())
}

fn input_failure(subject: &str, error: &StoreError) -> End {
    let reason = match () {
        () if error.is_disk_full() => Reason::Disk,
        () if error.is_stalled() => Reason::Stuck,
        () => Reason::Input,
    };
    platforms(reason, format!("{subject}: {}", chain(error)))
}
