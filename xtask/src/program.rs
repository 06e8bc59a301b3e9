//! Programs that chores start: found, run, and their end turned into a sentence.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::workspace::Workspace;

/// Whether this process may install packages.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Whether a continuous-integration machine runs us: there, nothing may be left out in silence.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// The folder where tools that we build ourselves are kept, beside the build so that nothing of the user's is touched.
pub(crate) fn tools_folder(workspace: &Workspace) -> Result<PathBuf, String> {
    Ok(workspace.metadata()?.target_directory.join("tools"))
}

/// Looks for `program` in `PATH`, then in the places where a package manager puts what only root runs.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Looks for a cargo extension such as `cargo-deny`, also among the tools we built.
pub(crate) fn find_tool(workspace: &Workspace, tool: &str) -> Option<PathBuf> {
    let ours = || tools_folder(workspace).ok().map(|folder| folder.join("bin").join(tool));
    find(tool).or_else(|| ours().filter(|file| file.is_file()))
}

/// Builds a cargo extension into [`tools_folder`]. The unoptimised build is much the quicker to make and quick enough.
pub(crate) fn build_tool(workspace: &Workspace, tool: &str, version: &str) -> Result<(), String> {
    let folder = tools_folder(workspace)?;
    println!("building {tool} {version} into {}", folder.display());
    let mut command = workspace.cargo(&["install", "--locked", "--debug", "--quiet", "--version", version, "--root"]);
    command.arg(&folder).arg(tool);
    // Kept out of the workspace's own target folder settings: the tool's objects are of no use to our builds.
    command.env("CARGO_TARGET_DIR", folder.join("build"));
    // Nobody debugs them, and it is a third of the work.
    command.env("CARGO_PROFILE_DEV_DEBUG", "0");
    let built = succeeds(&mut command);
    remove_folder(&folder.join("build"));
    built
}

fn remove_folder(folder: &Path) {
    if folder.is_dir()
        && let Err(error) = std::fs::remove_dir_all(folder)
    {
        eprintln!("cannot remove {}: {error}", folder.display());
    }
}

/// Runs `command` with our terminal; an error says what ran and how it ended.
pub(crate) fn succeeds(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cannot run {}: {error}", name_of(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", line_of(command))) }
}

/// Runs `command` and returns what it wrote to its standard output.
pub(crate) fn stdout_of(command: &mut Command) -> Result<Vec<u8>, String> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {}: {error}", name_of(command)))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} ended with {}\n{}", line_of(command), output.status, said.trim_end()))
}

fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn line_of(command: &Command) -> String {
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    std::iter::once(name_of(command).into()).chain(arguments).collect::<Vec<_>>().join(" ")
}
