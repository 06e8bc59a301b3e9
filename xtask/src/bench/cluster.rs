//! `bench cluster`: three coordinators beside three members of etcd, all on loopback and on one disk.
//!
//! The clients are a program of their own (`tests/bench`), built in release like the product; this builds both and starts it.

use super::fctl::Fctl;
use crate::program::{find, succeeds};
use crate::workspace::Workspace;

/// Builds, and hands the words on: a part, `--quick`, `--minutes N`.
pub(super) fn run(workspace: &Workspace, words: &[String]) -> Result<(), String> {
    if find("etcd").is_none() {
        return Err(
            "etcd is not on this machine, and its figures belong beside ours: apt-get install etcd-server".to_owned()
        );
    }
    let fctl = Fctl::build(workspace)?;
    let build = ["build", "--quiet", "--locked", "--release", "--package", "flowyard-bench"];
    succeeds(&mut workspace.cargo(&build))?;
    let program = workspace.metadata()?.target_directory.join("release/cluster-bench");
    let mut bench = std::process::Command::new(program);
    bench.arg("--program").arg(fctl.binary()).arg("--folder").arg(fctl.home()).args(words);
    succeeds(&mut bench)
}
