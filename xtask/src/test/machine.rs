//! What the suites need from the machine, and how it is got: packages where we are root, tools built beside the build.
//!
//! Nothing here fails a run. What is still missing shows as skipped tests, each with its reason.

use crate::program::{build_tool, find, find_tool, is_root, succeeds};
use crate::workspace::Workspace;

/// A program the suites use, the Debian package that holds it, and why it is wanted.
struct Need {
    program: &'static str,
    package: &'static str,
    reason: &'static str,
}

const NEEDS: &[Need] = &[
    Need { program: "busybox", package: "busybox-static", reason: "the one file of the images that tests build" },
    Need { program: "curl", package: "curl", reason: "machines of a cloud get the program with it" },
    Need { program: "crun", package: "crun", reason: "an OCI runtime behind the runtime trait; the bench's yardstick" },
    Need { program: "ip", package: "iproute2", reason: "hosts with networks of their own, for the chaos suite" },
    Need { program: "nft", package: "nftables", reason: "private networks, and what tasks may not reach" },
    Need { program: "iptables", package: "iptables", reason: "partitions, for the chaos suite" },
    Need { program: "python3", package: "python3", reason: "the example flows" },
    Need { program: "runc", package: "runc", reason: "a second OCI runtime behind the runtime trait" },
    Need { program: "ssh", package: "openssh-client", reason: "hosts that Terraform's scripts reach" },
    Need { program: "sshd", package: "openssh-server", reason: "hosts that Terraform's scripts reach" },
    Need { program: "strace", package: "strace", reason: "counts the log's disk barriers" },
    Need { program: "systemd-analyze", package: "systemd", reason: "checks the unit files" },
    Need { program: "unshare", package: "util-linux", reason: "mount namespaces for tests and benches" },
    Need { program: "useradd", package: "passwd", reason: "the tests as a freshly added ordinary user" },
];

/// A cargo extension the gate uses, at the version it was written against.
const TOOLS: &[(&str, &str)] = &[("cargo-machete", "0.9.2"), ("cargo-deny", "0.20.2")];

/// Installs what is missing, where it may, and says what it does.
pub(super) fn prepare(workspace: &Workspace) {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| find(need.program).is_none()).collect();
    if !missing.is_empty() {
        install(workspace, &missing);
    }
    for (tool, version) in TOOLS {
        if find_tool(workspace, tool).is_none()
            && let Err(reason) = build_tool(workspace, tool, version)
        {
            println!("could not build {tool}: {reason}");
        }
    }
}

fn install(workspace: &Workspace, missing: &[&Need]) {
    for need in missing {
        println!("missing: {} (package {}): {}", need.program, need.package, need.reason);
    }
    if !is_root() || find("apt-get").is_none() {
        println!("installing packages needs root and apt-get; the tests that need them will be skipped");
        return;
    }
    let packages = missing.iter().map(|need| need.package);
    let mut update = workspace.command("apt-get");
    let mut install = workspace.command("apt-get");
    // No daemon that a package brings is to be started on this machine: at this run level none is.
    install.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
    let done = succeeds(update.args(["update", "--quiet"])).and_then(|()| succeeds(&mut install));
    if let Err(reason) = done {
        println!("could not install packages: {reason}");
    }
}
