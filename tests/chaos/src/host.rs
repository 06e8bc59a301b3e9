//! One host: its own network, process and mount namespaces, and a disk of its own of limited size. Switching it off ends everything
//! on it at once, as a power cut does; what its disk holds stays.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::Network;
use crate::system::{PATIENCE, children, descendants, succeed, waited};

/// The size of a host's disk.
const DISK: &str = "256m";
/// What the first process of a host does: take in orphans. Its name is how it is told from what runs there.
const INIT: &str = "while sleep 86400; do :; done";
/// The file that fills a disk.
const FILLER: &str = "filler";

/// One host.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
    /// Where its disk is mounted.
    disk: PathBuf,
    /// The file of its network namespace.
    network: String,
    power: Option<Power>,
}

#[derive(Debug)]
struct Power {
    unshare: Child,
    /// The first process, as the suite sees it.
    init: i32,
}

impl Host {
    /// A host with an empty disk, switched on.
    pub(crate) fn new(name: &str, network: &Network, disks: &Path) -> Result<Self, String> {
        let disk = disks.join(name);
        std::fs::create_dir_all(&disk).map_err(|error| format!("{}: {error}", disk.display()))?;
        let size = format!("size={DISK},mode=755");
        succeed("mount", &["-t", "tmpfs", "-o", &size, "chaos", &disk.display().to_string()])?;
        let mut host = Self { name: name.to_owned(), disk, network: network.path(name), power: None };
        host.switch_on()?;
        Ok(host)
    }

    pub(crate) fn disk(&self) -> &Path {
        &self.disk
    }

    pub(crate) fn is_on(&self) -> bool {
        self.power.is_some()
    }

    pub(crate) fn switch_on(&mut self) -> Result<(), String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network)).args(["--", "setpriv", "--pdeathsig", "KILL"]);
        // It ends with the suite, however that ends.
        command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", INIT]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let unshare = command.spawn().map_err(|error| format!("nsenter: {error}"))?;
        let mut init = None;
        // It is there once it waits: only then /proc is its own.
        let came = waited(PATIENCE, || {
            init = children(unshare.id()).first().copied();
            init.is_some_and(|init| descendants(init).iter().any(|(_, line)| line.starts_with("sleep 86400")))
        });
        match init.filter(|_| came) {
            Some(init) => self.power = Some(Power { unshare, init }),
            None => return Err(format!("host {} does not start", self.name)),
        }
        Ok(())
    }

    /// Ends everything on it at once.
    pub(crate) fn switch_off(&mut self) {
        let Some(mut power) = self.power.take() else { return };
        // Gone already is as good.
        let _ = kill(Pid::from_raw(power.init), Signal::SIGKILL);
        let _ = power.unshare.wait();
    }

    /// A command of the program, on this host; `None` when it is off.
    pub(crate) fn command(&self, program: &Path) -> Option<Command> {
        let power = self.power.as_ref()?;
        let mut command = Command::new("nsenter");
        command.args(["--target", &power.init.to_string(), "--mount", "--pid", "--net", "--"]).arg(program);
        command.stdin(Stdio::null());
        Some(command)
    }

    /// Runs a program of the system on it.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Result<(), String> {
        let power = self.power.as_ref().ok_or_else(|| format!("host {} is off", self.name))?;
        let target = power.init.to_string();
        succeed("nsenter", &[&["--target", &target, "--mount", "--pid", "--net", "--", program], args].concat())
    }

    /// Fills its disk, or makes room again.
    pub(crate) fn fill(&self, full: bool) -> std::io::Result<()> {
        let path = self.disk.join(FILLER);
        if !full {
            return std::fs::remove_file(path);
        }
        let mut file = File::create(path)?;
        let piece = vec![0; 64 * 1024];
        // To the last byte: a whole piece may not fit where a page does.
        for size in [piece.len(), 4_096, 1] {
            while std::io::Write::write_all(&mut file, &piece[..size]).is_ok() {}
        }
        Ok(())
    }

    /// Whatever runs on it besides its first process, with its command line.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let all = self.power.as_ref().map_or_else(Vec::new, |power| descendants(power.init));
        all.into_iter().filter(|(_, line)| !line.starts_with("sleep 86400")).collect()
    }

    /// Interfaces that it did not have at first, and tables in its packet filter that are the product's.
    pub(crate) fn networks(&self) -> Vec<String> {
        let lines = |words: &[&str]| -> Vec<String> {
            let mut command = Command::new("nsenter");
            let out =
                command.arg(format!("--net={}", self.network)).arg("--").args(words).stdin(Stdio::null()).output();
            // A program that is not installed has made nothing either.
            let said = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
            said.lines().map(str::to_owned).collect()
        };
        let ours = |line: &String| line.contains(": lo:") || line.contains(": eth0");
        let mut found: Vec<String> = lines(&["ip", "-o", "link"]).into_iter().filter(|line| !ours(line)).collect();
        found.extend(lines(&["nft", "list", "tables"]).into_iter().filter(|line| line.contains("flowyard")));
        found
    }

    /// Where something is mounted on it that is not on the machine itself, by the mount's place.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let places = |process: &str| -> Vec<String> {
            let text = std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
            text.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
        };
        let Some(power) = &self.power else { return Vec::new() };
        let machine = places("self");
        places(&power.init.to_string()).into_iter().filter(|place| !machine.contains(place)).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.switch_off();
        // What is still open on it goes with its last user.
        let _ = succeed("umount", &["--lazy", &self.disk.display().to_string()]);
    }
}
