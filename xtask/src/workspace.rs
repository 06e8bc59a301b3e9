//! Where the repository lies, which files it holds, and what cargo knows about it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::program;

/// The repository this tool was started in.
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
}

/// The part of `cargo metadata` that the gates read.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) resolve: Resolve,
    pub(crate) target_directory: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

/// One package of the resolved graph and the edges that leave it.
#[derive(Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<Edge>,
}

#[derive(Deserialize)]
pub(crate) struct Edge {
    pub(crate) pkg: String,
    pub(crate) dep_kinds: Vec<EdgeKind>,
}

/// `kind` is absent for a normal dependency, otherwise `dev` or `build`.
#[derive(Deserialize)]
pub(crate) struct EdgeKind {
    pub(crate) kind: Option<String>,
}

impl Workspace {
    /// Cargo tells a program it runs where its manifest lies; a program started by hand falls back on where it was built.
    pub(crate) fn find() -> Result<Self, String> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest).parent().ok_or("the manifest has no parent folder")?;
        if !root.join("Cargo.toml").is_file() {
            return Err(format!("no workspace at {}", root.display()));
        }
        Ok(Self { root: root.to_path_buf() })
    }

    /// A command that runs in the root.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// The cargo that runs us.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        command.args(arguments);
        command
    }

    /// The packages, who depends on whom, and where builds go.
    pub(crate) fn metadata(&self) -> Result<Metadata, String> {
        let text = program::stdout_of(&mut self.cargo(&["metadata", "--format-version=1", "--locked"]))?;
        serde_json::from_slice(&text).map_err(|error| format!("cannot read cargo metadata: {error}"))
    }

    /// Every file that git tracks or would track, relative to the root, sorted.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, String> {
        let mut command = self.command("git");
        command.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listing = program::stdout_of(&mut command)?;
        let names = String::from_utf8(listing).map_err(|_| "a tracked file has a name that is not UTF-8")?;
        let mut files: Vec<PathBuf> = names.split_terminator('\0').map(PathBuf::from).collect();
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The text of one file of [`Workspace::files`].
    pub(crate) fn read(&self, file: &Path) -> Result<String, String> {
        std::fs::read_to_string(self.root.join(file)).map_err(|error| format!("{}: {error}", file.display()))
    }
}

impl Metadata {
    /// The members of this workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// The package with this id; cargo lists every id it names.
    pub(crate) fn package(&self, id: &str) -> &Package {
        self.packages.iter().find(|package| package.id == id).expect("cargo lists every package it names")
    }

    /// The ids that `package` depends on by an edge of one of `kinds` (`None` is a normal dependency).
    pub(crate) fn dependencies<'a>(&'a self, package: &str, kinds: &'a [Option<&str>]) -> Vec<&'a str> {
        let node = self.resolve.nodes.iter().find(|node| node.id == package).expect("every package is resolved");
        let wanted = |edge: &&Edge| edge.dep_kinds.iter().any(|kind| kinds.contains(&kind.kind.as_deref()));
        node.deps.iter().filter(wanted).map(|edge| edge.pkg.as_str()).collect()
    }
}
