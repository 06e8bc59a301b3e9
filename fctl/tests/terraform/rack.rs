//! Hosts that are reached by SSH: each with a network, processes and disks of its own, and nothing on it but sshd and a stand-in for the
//! service manager. Everything ends with it.
#![allow(unreachable_pub, reason = "it is a part of the test binary")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::common::network::Network;
use crate::common::{is_root, program, remove_cgroups, until};

/// Where terraform and ssh run.
pub const OPERATOR: &str = "operator";
const HOST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/terraform/host.sh");
const SYSTEMCTL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/terraform/systemctl");

pub struct Rack {
    network: Network,
    folder: tempfile::TempDir,
    hosts: BTreeMap<String, Child>,
    /// A connection to each host, which what the test itself asks goes through.
    connections: Vec<Child>,
}

/// What is needed of the machine, in the order in which its lack is told.
pub fn lacks() -> Option<String> {
    if !is_root() {
        return Some("hosts with networks of their own need root".to_owned());
    }
    let there = |program: &&&str| {
        let places = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/bin";
        places.split(':').any(|place| Path::new(place).join(program).is_file())
    };
    let missing = ["sshd", "ssh", "ssh-keygen", "python3", "curl", "terraform"].iter().find(|program| !there(program));
    missing.map(|program| format!("{program} is not installed"))
}

impl Rack {
    /// Hosts of these names, switched on, once they are reached.
    pub fn of(names: &[&str]) -> Result<Self, String> {
        let network = Network::of(&[names, &[OPERATOR]].concat())?;
        let folder = tempfile::Builder::new().prefix("flowyard-rack-").tempdir().unwrap();
        let mut rack = Self { network, folder, hosts: BTreeMap::new(), connections: Vec::new() };
        rack.write_files(names);
        for name in names {
            rack.switch_on(name);
        }
        for name in names {
            until(&format!("{name} to be reached"), || rack.ssh(name, "true").status.success());
            rack.connect(name);
        }
        Ok(rack)
    }

    fn write_files(&self, names: &[&str]) {
        let at = |name: &str| self.path(name).display().to_string();
        for key in ["key", "host_key"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]).status();
            assert!(made.unwrap().success());
        }
        let host_key = fs::read_to_string(at("host_key.pub")).unwrap();
        let host_key = host_key.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let (mut config, mut known) = (String::new(), String::new());
        for name in names {
            let address = self.network.address(name);
            config += &format!("Host {name}\n  HostName {address}\n");
            known += &format!("{address} {host_key}\n");
        }
        config += &format!(
            "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  \
             StrictHostKeyChecking yes\n",
            at("key"),
            at("known_hosts")
        );
        let daemon = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             PermitRootLogin prohibit-password\nMaxStartups 100\n\
             SetEnv PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
            at("host_key"),
            at("key.pub")
        );
        for (name, text) in [("ssh_config", config), ("known_hosts", known), ("sshd_config", daemon)] {
            fs::write(at(name), text).unwrap();
        }
        fs::copy(SYSTEMCTL, at("systemctl")).unwrap();
        fs::set_permissions(at("systemctl"), PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(at("services"), "").unwrap();
    }

    fn switch_on(&mut self, name: &str) {
        let mut command = Command::new("setpriv");
        // It ends with the test, however that ends.
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"]);
        command.args(["--mount-proc", "sh", HOST, name]).arg(self.folder.path());
        let mut command = self.network.on(name, &command);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.hosts.insert(name.to_owned(), command.spawn().unwrap());
    }

    fn connect(&mut self, name: &str) {
        let config = self.path("ssh_config").display().to_string();
        let mut command = self.operator("ssh", &["-F", &config, "-M", "-N", "-S", &self.connection(name), name]);
        let connection = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.connections.push(connection.unwrap());
    }

    fn connection(&self, host: &str) -> String {
        self.path(&format!("{host}.ssh")).display().to_string()
    }

    /// The program under test without what only a debugger reads, where that can be taken off: each host gets a copy.
    pub fn program(&self) -> PathBuf {
        let (whole, small) = (program(), self.path("fctl"));
        let stripped = Command::new("strip").arg("--strip-debug").arg("-o").arg(&small).arg(&whole).status();
        if stripped.is_ok_and(|status| status.success()) { small } else { whole }
    }

    /// A path that all hosts see.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn address(&self, host: &str) -> String {
        self.network.address(host)
    }

    /// A program where the operator is.
    pub fn operator(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.folder.path());
        self.network.on(OPERATOR, &command)
    }

    /// Runs a script on a host, by SSH.
    pub fn ssh(&self, host: &str, script: &str) -> Output {
        let config = self.path("ssh_config").display().to_string();
        let options = ["-F", &config, "-o", "ConnectTimeout=5", "-S", &self.connection(host)];
        self.operator("ssh", &[&options[..], &[host, script]].concat()).output().unwrap()
    }

    /// Runs a script on a host that must succeed, and gives what it wrote.
    pub fn on(&self, host: &str, script: &str) -> String {
        let out = self.ssh(host, script);
        assert!(out.status.success(), "{host}: {script}: {out:?}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Runs the program on a coordinator, as its owner.
    pub fn fctl(&self, host: &str, arguments: &str) -> String {
        self.on(host, &format!("cd /tmp; fctl --endpoint unix:///var/lib/flowyard/coordinator/api.sock {arguments}"))
    }

    pub fn json(&self, host: &str, arguments: &str) -> serde_json::Value {
        let said = self.fctl(host, &format!("-o json {arguments}"));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments}: {error}: {said}"))
    }

    /// What the service managers did since the last time, in order: `HOST start|stop UNIT`.
    pub fn services(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("services")).unwrap();
        fs::write(self.path("services"), "").unwrap();
        text.lines().map(|line| line.replace("flowyard-", "").replace(".service", "")).collect()
    }

    /// What was written to files that all see, by name; but for the keys of SSH.
    pub fn written(&self) -> Vec<(String, String)> {
        let files = fs::read_dir(self.folder.path()).unwrap().flatten().filter(|entry| entry.path().is_file());
        let texts = files.map(|file| (file.file_name().to_string_lossy().into_owned(), fs::read(file.path()).unwrap()));
        let small = texts.filter(|(_, bytes)| bytes.len() < 1 << 20);
        small.map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned())).collect()
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        let names: Vec<String> = self.hosts.keys().cloned().collect();
        // Where a test has failed, launchers are left.
        let records = names.iter().map(|name| self.ssh(name, "cat /var/lib/flowyard/agent/launcher/cgroups").stdout);
        let records: Vec<Vec<u8>> = records.collect();
        for host in self.hosts.values_mut().chain(&mut self.connections) {
            // What runs there ends with its first process, which this one takes along.
            let _ = host.kill();
            let _ = host.wait();
        }
        records.iter().for_each(|record| remove_cgroups(&String::from_utf8_lossy(record)));
    }
}
