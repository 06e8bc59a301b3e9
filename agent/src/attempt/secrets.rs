//! The secrets of one task: asked for when it is about to start, kept in memory only, gone with its end.
//!
//! They lie in a folder of a file system that is memory (tmpfs), outside the attempt's own folder, which is on a disk. What is handed to
//! the launcher, and written down for the next agent, are the paths.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flowyard_model::{DesiredMember, End, Name, Reason, SecretPlace, StepContext};
use tonic::Code;

use super::ending::{platforms, users};
use super::{Desk, disk_failure};
use crate::runtime::spec::User;

/// Magic numbers of file systems that are memory: tmpfs and ramfs.
const MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
/// How often a coordinator is asked before the attempt is given up, and the wait between.
const ASKED: u32 = 30;
const WAIT: Duration = Duration::from_secs(1);
/// Below a task's folder: what is mounted, and what becomes variables.
const FILES: &str = "files";
const VARIABLES: &str = "env";

/// Where the secrets of a task are.
pub(super) struct Laid {
    /// The folder with the files, for the task to see.
    pub files: PathBuf,
    /// Variables, each with the file that holds its value.
    pub variables: Vec<(String, PathBuf)>,
}

/// Brings the secrets that the step is given; `None` if it is given none.
///
/// # Errors
/// When it may not have one of them, or this node has no memory to keep them in.
pub(super) async fn bring(
    desk: &Desk,
    context: &StepContext,
    member: &DesiredMember,
    user: User,
) -> Result<Option<Laid>, End> {
    if context.spec.secrets.is_empty() {
        return Ok(None);
    }
    let values = ask(desk, member).await?;
    let folder = folder_of(desk, member).map_err(|error| failed(&error))?;
    lay(&folder, context, &values, (user.host_uid, user.host_gid)).map(Some)
}

/// Forgets the secrets of a task, whether it was given any or not.
pub(super) fn forget(desk: &Desk, member: &DesiredMember) {
    if let Ok(root) = root(&desk.config.folder, false) {
        let _ = std::fs::remove_dir_all(root.join(name_of(desk, member)));
    }
}

/// Forgets the secrets of tasks whose folders are not among these.
pub(crate) fn sweep(agent_folder: &Path, known: impl Fn(&str) -> bool) {
    let Ok(root) = root(agent_folder, false) else { return };
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(&known) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn failed(error: &io::Error) -> End {
    platforms(Reason::Input, format!("its secrets: {error}"))
}

async fn ask(desk: &Desk, member: &DesiredMember) -> Result<BTreeMap<Name, Vec<u8>>, End> {
    let mut left = ASKED;
    loop {
        let status = match desk.reach.secrets(member.key).await {
            Ok(values) => return Ok(values),
            Err(status) => status,
        };
        // Without a session nobody can be asked: that time is not the task's.
        if desk.stuck.borrow().fetching_ms != u64::MAX {
            left -= 1;
        }
        match status.code() {
            Code::FailedPrecondition | Code::PermissionDenied => {
                return Err(users(Reason::Input, status.message().to_owned()));
            }
            _ if left == 0 => return Err(platforms(Reason::Input, format!("its secrets: {}", status.message()))),
            _ => tokio::time::sleep(WAIT).await,
        }
    }
}

fn name_of(desk: &Desk, member: &DesiredMember) -> String {
    let folder = desk.folder(member.key);
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn folder_of(desk: &Desk, member: &DesiredMember) -> io::Result<PathBuf> {
    Ok(root(&desk.config.folder, true)?.join(name_of(desk, member)))
}

/// The folder in memory of all secrets of this agent, which only its user may enter.
fn root(agent_folder: &Path, make: bool) -> io::Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let of = flowyard_cas::digest_bytes(agent_folder.as_os_str().as_encoded_bytes()).to_string();
    let name = format!("flowyard-{uid}-{}", &of[..16]);
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // First those that are mounted from boot on: the others come and go as their user logs in and out.
    let places = ["/dev/shm".into(), "/run".into()].into_iter().chain(own).chain([format!("/run/user/{uid}").into()]);
    let mut why = io::Error::other("this node has no file system in memory (tmpfs) to keep them in");
    for place in places.filter(|place| is_memory(place)) {
        let root = place.join(&name);
        match open_root(&root, uid, make) {
            Ok(()) => return Ok(root),
            Err(error) => why = io::Error::new(error.kind(), format!("{}: {error}", root.display())),
        }
    }
    Err(why)
}

fn is_memory(place: &Path) -> bool {
    rustix::fs::statfs(place).is_ok_and(|found| MEMORY.contains(&found.f_type))
}

/// Anybody may make a folder in some of these places, so what is there is looked at before it is used.
fn open_root(root: &Path, uid: u32, make: bool) -> io::Result<()> {
    if make {
        match DirBuilder::new().mode(0o700).create(root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let found = std::fs::symlink_metadata(root)?;
    if found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to somebody else, or others may enter it"))
}

/// Writes the values where the task will find them, readable by its user alone.
fn lay(
    folder: &Path,
    context: &StepContext,
    values: &BTreeMap<Name, Vec<u8>>,
    (uid, gid): (u32, u32),
) -> Result<Laid, End> {
    let io = |error: io::Error| disk_failure("its secrets", &error);
    let _ = std::fs::remove_dir_all(folder);
    let (files, env) = (folder.join(FILES), folder.join(VARIABLES));
    for path in [folder, &files, &env] {
        DirBuilder::new().mode(0o700).create(path).map_err(io)?;
    }
    let mut laid = Laid { files: files.clone(), variables: Vec::new() };
    for used in &context.spec.secrets {
        let name = &used.secret;
        let value =
            values.get(name).ok_or_else(|| platforms(Reason::Input, format!("secret `{name}` was not told")))?;
        match &used.place {
            SecretPlace::File(file) => {
                let path = files.join(file);
                write(&path, value).and_then(|()| std::os::unix::fs::chown(&path, Some(uid), Some(gid))).map_err(io)?;
            }
            SecretPlace::Variable(variable) => {
                // As shells do: the line end that every editor adds is not part of a value.
                let value = value.strip_suffix(b"\n").unwrap_or(value);
                if value.contains(&0) || std::str::from_utf8(value).is_err() {
                    let message = format!("secret `{name}` cannot be a variable: it is no text; use `secret_files`");
                    return Err(users(Reason::Input, message));
                }
                let path = env.join(variable);
                write(&path, value).map_err(io)?;
                laid.variables.push((variable.clone(), path));
            }
        }
    }
    std::os::unix::fs::chown(&files, Some(uid), Some(gid)).map_err(io)?;
    Ok(laid)
}

fn write(path: &Path, value: &[u8]) -> io::Result<()> {
    File::options().write(true).create_new(true).mode(0o400).open(path)?.write_all(value)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_kept_in_memory_where_only_their_user_may_look() {
        let agent = tempfile::tempdir().expect("a folder");
        let Ok(place) = root(agent.path(), true) else {
            flowyard_skip::skip("no file system in memory");
            return;
        };
        assert!(is_memory(&place));
        assert_eq!(std::fs::metadata(&place).expect("made").permissions().mode() & 0o777, 0o700);
        std::fs::create_dir(place.join("old")).expect("made");
        std::fs::create_dir(place.join("live")).expect("made");
        sweep(agent.path(), |name| name == "live");
        assert!(!place.join("old").exists() && place.join("live").exists());
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).expect("set");
        assert!(open_root(&place, rustix::process::geteuid().as_raw(), true).is_err(), "others may enter it");
        std::fs::remove_dir_all(&place).expect("removed");
    }
}
