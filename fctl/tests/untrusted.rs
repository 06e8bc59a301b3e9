//! Tasks are not trusted: what a task of a fleet can reach, tried by tasks of a real fleet whose hosts have networks of their
//! own.
//!
//! On the switch beside the cluster are a web server, a neighbour that stands for the world, and an address of cloud metadata;
//! each is shown to be reachable from the node before tasks are shown not to reach it.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::fleet::{CLIENT, Fleet};
use common::network::Network;
use common::{is_root, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where clouds have what a machine may know of itself.
const METADATA: &str = "169.254.169.254";
/// An address that leads to no other network.
const LINK_LOCAL: &str = "169.254.7.7";
/// The lowest id of tasks' users.
const FIRST_ID: u32 = 0x7000_0000;

/// Says to whoever connects from where they came; answers datagrams the same way.
const SERVER: &str = r#"
import socket, sys, threading
def tcp(port):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("", port)); s.listen()
    while True:
        c, a = s.accept(); c.sendall(a[0].encode()); c.close()
def udp(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", port))
    while True:
        _, a = s.recvfrom(100); s.sendto(a[0].encode(), a)
for p in sys.argv[1:]:
    threading.Thread(target=udp if p == "53" else tcp, args=[int(p)]).start()
"#;

/// Tries places named `name=address:port`, and prints who it seemed to come from, or `no`.
const TRY: &str = r#"
import socket, sys
for word in sys.argv[1:]:
    name, place = word.split("="); host, port = place.rsplit(":", 1)
    kind = socket.SOCK_DGRAM if port == "53" else socket.SOCK_STREAM
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind); s.settimeout(2)
    try:
        s.connect((host, int(port)))
        if port == "53": s.send(b"?")
        print(name, s.recv(100).decode(), flush=True)
    except OSError:
        print(name, "no", flush=True)
"#;

/// Reads files, connects to sockets and looks at processes, below each of the roots; says what it reached.
const REACH: &str = r#"
import os, socket, sys
for root in os.environ["ROOTS"].split(":"):
    for word in sys.argv[1:]:
        how, path = word.split("=", 1)
        try:
            if how == "call":
                s = socket.socket(socket.AF_UNIX); s.settimeout(2); s.connect(root + path)
            else:
                open(root + path, "rb").read(1)
            print("reached", root + path, flush=True)
        except OSError as error:
            print("tried", root + path, error.strerror, flush=True)
"#;

/// A fleet of one node, and what is around it.
struct Site {
    fleet: Fleet,
    servers: Vec<Server>,
}

impl Site {
    fn open() -> Option<Self> {
        if !is_root() {
            flowyard_skip::skip("users and networks for each task need root");
            return None;
        }
        for program in ["nft", "python3"] {
            if Command::new(program).arg("--version").output().is_err() {
                flowyard_skip::skip(&format!("{program} is not installed"));
                return None;
            }
        }
        let network = match Network::of(&["c0", "n0", "web", CLIENT]) {
            Ok(network) => network,
            Err(reason) => {
                flowyard_skip::skip(&reason);
                return None;
            }
        };
        let mut site = Self { fleet: Fleet::formed(Some(network)), servers: vec![] };
        // A bare machine, whatever the one is that the tests run on.
        let bare = site.program("n0", "sh", &["-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]).status();
        assert!(bare.expect("sh runs").success());
        site.ip("web", &["address", "add", &format!("{METADATA}/32"), "dev", "eth0"]);
        site.ip("n0", &["route", "add", METADATA, "dev", "eth0"]);
        site.serve("web", &["80", "53"]);
        site.serve("n0", &["8080"]);
        Some(site)
    }

    fn network(&self) -> &Network {
        self.fleet.network.as_ref().expect("a network")
    }

    /// Runs a program on a host.
    fn program(&self, host: &str, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args);
        self.network().on(host, &command)
    }

    fn ip(&self, host: &str, args: &[&str]) -> String {
        let out = self.program(host, "ip", args).output().expect("ip runs");
        assert!(out.status.success(), "{args:?}: {out:?}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Has the node pass on what comes to its port 8081 to another machine, as those do that run containers of other kinds.
    fn publish(&self, node: &str, web: &str) {
        let to_web = format!("ip daddr {node} tcp dport 8081 dnat to {web}:80");
        let chain =
            |name: &str, hook: &str| format!("chain {name} {{\ntype nat hook {hook} priority -100;\n{to_web}\n}}\n");
        let rules = format!("table ip published {{\n{}{}}}\n", chain("into", "prerouting"), chain("own", "output"));
        let loaded = self.program("n0", "nft", &[&rules]).output().expect("nft runs");
        assert!(loaded.status.success(), "{loaded:?}");
    }

    fn serve(&mut self, host: &str, ports: &[&str]) {
        let mut command = self.program(host, "python3", &[&["-c", SERVER], ports].concat());
        self.servers.push(Server(command.stdout(Stdio::null()).spawn().expect("a server")));
    }

    /// What can be reached from a host itself.
    fn tries(&self, host: &str, places: &[String]) -> String {
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let out = self.program(host, "python3", &[&["-c", TRY], &places[..]].concat()).output().expect("python runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// What a task reaches; `flags` are of the submit.
    fn task_tries(&self, flags: &[&str], places: &[String]) -> String {
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let submit = ["submit", "--wait", "--cpu", "0.1", "--memory", "128MiB"];
        let ran = self.fleet.client(&[&submit, flags, &["--", "python3", "-c", TRY], &places[..]].concat());
        assert_eq!(ran.code(), 0, "{ran:#?}");
        self.logs(&last_job(&ran.stderr, &ran.stdout))
    }

    fn submit(&self, flags: &[&str], script: &str) -> String {
        let submit = ["submit", "--cpu", "0.1", "--memory", "128MiB"];
        let ran = self.fleet.client(&[&submit, flags, &["--", "sh", "-c", script]].concat());
        assert_eq!(ran.code(), 0, "{ran:#?}");
        last_job(&ran.stderr, &ran.stdout)
    }

    fn logs(&self, job: &str) -> String {
        self.fleet.client(&["logs", job]).stdout
    }

    /// Waits until a job has printed something.
    fn says(&self, job: &str, word: &str) {
        until(&format!("job {job} to say {word}"), || self.logs(job).contains(word));
    }

    fn ends(&self, job: &str) {
        let ran = self.fleet.client(&["wait", job]);
        assert_eq!(ran.code(), 0, "{ran:#?} {}", self.logs(job));
    }

    /// The interfaces and the table that the agent has made on its host.
    fn left(&self) -> (usize, bool) {
        let links = self.ip("n0", &["-o", "link"]).lines().filter(|line| line.contains(": fy")).count();
        let listed = self.program("n0", "nft", &["list", "tables"]).output().expect("nft runs");
        (links, String::from_utf8_lossy(&listed.stdout).contains("flowyard"))
    }

    /// Users that have a task's folder on the node and processes now. Other tests run beside this one.
    fn task_users(&self) -> BTreeSet<u32> {
        let folders = owners(&self.agent_folder().join("attempts"), "/work");
        let all = fs::read_dir("/proc").expect("procfs").flatten();
        let statuses = all.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
        let uid = |status: String| {
            status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())
        };
        statuses.filter_map(uid).filter(|uid| *uid >= FIRST_ID && folders.contains(uid)).collect()
    }

    fn agent_folder(&self) -> PathBuf {
        self.fleet.at("n0").into()
    }

    fn stop(self) {
        let Self { fleet, servers } = self;
        drop(servers);
        fleet.stop();
    }
}

/// A server beside the cluster, which ends with the test, however that ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number of the job that a submit speaks of.
fn last_job(stderr: &str, stdout: &str) -> String {
    let text = format!("{stderr}\n{stdout}");
    let after = text.split("job ").nth(1).unwrap_or_else(|| panic!("no job in {text}"));
    after.chars().take_while(char::is_ascii_digit).collect()
}

/// The owners of everything in a folder whose path has this part.
fn owners(folder: &Path, part: &str) -> BTreeSet<u32> {
    let (mut found, mut left) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(path) = left.pop() {
        if path.to_string_lossy().contains(part) {
            found.insert(fs::symlink_metadata(&path).map_or(0, |looks| looks.uid()));
        }
        left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    found
}

#[test]
fn tasks_reach_other_machines_and_nothing_that_is_the_nodes_the_clouds_or_another_tasks() {
    let Some(mut site) = Site::open() else { return };
    let (web, node) = (site.network().address("web"), site.network().address("n0"));
    let settings = format!("[agent]\ncpu = \"4\"\nnameservers = [\"{web}\"]\ndeny_addresses = [\"10.77.0.200\"]\n");
    site.fleet.add_agent_with("n0", &settings);
    site.ip("web", &["address", "add", "10.77.0.200/24", "dev", "eth0"]);
    site.ip("web", &["address", "add", &format!("{LINK_LOCAL}/32"), "dev", "eth0"]);
    site.ip("n0", &["route", "add", LINK_LOCAL, "dev", "eth0"]);
    site.publish(&node, &web);
    let ann = site.fleet.token(&["--role", "submitter", "--queue", "default", "--name", "ann"]);
    site.fleet.log_in(&ann);
    let nodes = site.fleet.client(&["nodes"]).stdout;
    for words in
        ["each has users of its own", "shared files mapped", "cloud metadata closed", "private networks 198.19.0.0/16"]
    {
        assert!(nodes.contains(words), "{words}: {nodes}");
    }

    // Root alone may enter what holds keys and sockets, and no socket is anywhere else.
    for host in ["n0", "c0"] {
        let mode = fs::metadata(site.fleet.at(host)).expect("its folder").mode();
        assert_eq!(mode & 0o077, 0, "{host}: {mode:o}");
        let sockets = site.program(host, "cat", &["/proc/net/unix"]).output().expect("cat runs").stdout;
        let sockets = String::from_utf8_lossy(&sockets).into_owned();
        assert!(!sockets.contains(" @"), "{host} has an abstract socket: {sockets}");
    }

    let places = [
        format!("web={web}:80"),
        format!("metadata={METADATA}:80"),
        format!("node={node}:8080"),
        format!("names={web}:53"),
        "denied=10.77.0.200:80".to_owned(),
        format!("link={LINK_LOCAL}:80"),
        format!("published={node}:8081"),
    ];
    let rest = format!("names {node}\ndenied {node}\nlink {node}\npublished {node}\n");
    let all = format!("web {node}\nmetadata {node}\nnode {node}\n{rest}");
    until("the servers", || site.tries("n0", &places) == all);
    // Its own network is what a task gets that asks for none. Behind the node's address, and only to others.
    let private = site.task_tries(&[], &places);
    assert_eq!(private, format!("web {node}\nmetadata no\nnode no\nnames {node}\ndenied no\nlink no\npublished no\n"));
    assert_eq!(site.task_tries(&["--network", "private"], &places), private);
    let host = site.task_tries(&["--network", "host"], &places);
    assert_eq!(host, format!("web {node}\nmetadata no\nnode {node}\n{rest}"));
    let none = site.task_tries(&["--network", "none"], &places);
    assert_eq!(none, "web no\nmetadata no\nnode no\nnames no\ndenied no\nlink no\npublished no\n");

    two_tasks_are_strangers(&site, &web, &node);
    site.stop();
}

#[test]
fn no_path_leads_from_a_task_to_the_agent_its_keys_or_other_tasks() {
    let Some(mut site) = Site::open() else { return };
    site.fleet.add_agent_with("n0", "[agent]\ncpu = \"4\"\n");
    let ann = site.fleet.token(&["--role", "submitter", "--queue", "default", "--name", "ann"]);
    site.fleet.log_in(&ann);
    let other = site
        .submit(&["--network", "host"], "echo secret > mine; echo here; while [ ! -e /tmp/gate ]; do sleep 0.1; done");
    site.says(&other, "here");
    let (agent, coordinator) = (site.fleet.at("n0"), site.fleet.at("c0"));
    let work = fs::read_dir(site.agent_folder().join("attempts")).expect("its attempts").flatten().next();
    let work = work.expect("one").path().join("work/mine").display().to_string();
    let processes = site.fleet.yard.processes();
    let (pid, _) = processes.iter().find(|(_, line)| line.contains("agent run")).expect("the agent");
    // By its path, and by the roots of whatever processes can be seen.
    let files = ["credential.pem", "member.json", "launcher/launcher.log"].map(|name| format!("{agent}/{name}"));
    let files = [&files[..], &[format!("{coordinator}/authority.pem"), work]].concat();
    let sockets = [format!("{agent}/launcher/launcher.sock"), format!("{coordinator}/api.sock")];
    let try_all = |roots: &str| {
        let words =
            files.iter().map(|file| format!("read={file}")).chain(sockets.iter().map(|at| format!("call={at}")));
        let words: Vec<String> = words.chain([format!("look=/proc/{pid}/environ")]).collect();
        let roots = format!("ROOTS={roots}");
        [&["env".to_owned(), roots, "python3".to_owned(), "-c".to_owned(), REACH.to_owned()], &words[..]].concat()
    };
    let reached = |said: &str| said.lines().filter(|line| line.starts_with("reached ")).count();
    // Root of the node reaches all of it, so the paths are right.
    let words = try_all("");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let out = site.program("n0", words[0], &words[1..]).output().expect("python runs");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(reached(&said), files.len() + sockets.len() + 1, "{said}{out:?}");
    let words = try_all(":/proc/1/root:/proc/self/root:/proc/self/cwd/../..");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for network in ["private", "host"] {
        let submit = ["submit", "--wait", "--cpu", "0.1", "--memory", "128MiB", "--network", network, "--"];
        let ran = site.fleet.client(&[&submit[..], &words].concat());
        assert_eq!(ran.code(), 0, "{ran:#?}");
        let said = site.logs(&last_job(&ran.stderr, &ran.stdout));
        assert!(reached(&said) == 0 && said.contains("tried"), "{network}: {said}");
    }
    site.fleet.client(&["exec", &other, "--", "touch", "/tmp/gate"]).has_opened();
    site.ends(&other);
    site.stop();
}

/// Two tasks at once: strangers outside, and out of each other's reach.
fn two_tasks_are_strangers(site: &Site, web: &str, node: &str) {
    let listening = "cat /etc/resolv.conf; id -u; echo secret > mine; python3 -c 'import socket
s = socket.socket(); s.connect((\"WEB\", 80)); print(\"at\", s.getsockname()[0], flush=True)
t = socket.socket(); t.bind((\"\", 9000)); t.listen(); t.settimeout(60); t.accept()'"
        .replace("WEB", web);
    let one = site.submit(&[], &format!("{listening} & while [ ! -e /tmp/gate ]; do sleep 0.1; done; kill $!"));
    site.says(&one, "at 198.19.");
    let said = site.logs(&one);
    assert!(said.contains(&format!("nameserver {web}\n")) && said.contains("65534\n"), "{said}");
    let users = site.task_users();
    assert_eq!(users.len(), 1, "{users:?}");
    assert_eq!(owners(&site.agent_folder().join("attempts"), "/work/mine"), users, "its files are its own outside");
    let at = said.lines().find_map(|line| line.strip_prefix("at ")).expect("its address").to_owned();
    let gateway = {
        let mut octets: Vec<u8> = at.split('.').filter_map(|octet| octet.parse().ok()).collect();
        octets[3] -= 1;
        octets.iter().map(u8::to_string).collect::<Vec<_>>().join(".")
    };
    let around = [format!("task={at}:9000"), format!("gateway={gateway}:8080"), format!("web={web}:80")];
    assert_eq!(site.task_tries(&[], &around), format!("task no\ngateway no\nweb {node}\n"));
    // Also from a machine that knows the way there.
    site.ip("web", &["route", "add", "198.19.0.0/16", "via", node]);
    assert_eq!(site.tries("web", &around[..1]), "task no\n", "nobody outside begins a connection to a task");
    let two = site.submit(&[], "echo here; while [ ! -e /tmp/gate ]; do sleep 0.1; done");
    site.says(&two, "here");
    assert_eq!(site.task_users().len(), 2, "each its own");
    assert_eq!(site.left().0, 2, "a wire for each");
    for job in [&one, &two] {
        site.fleet.client(&["exec", job, "--", "touch", "/tmp/gate"]).has_opened();
        site.ends(job);
    }
    assert!(site.task_users().is_empty());
    until("the wires to be gone", || site.left() == (0, true));
}

#[test]
fn an_agents_death_leaves_its_tasks_their_network_and_nothing_else() {
    let Some(mut site) = Site::open() else { return };
    site.fleet.add_agent_with("n0", "[agent]\ncpu = \"4\"\n");
    let web = format!("web={}:80", site.network().address("web"));
    let ann = site.fleet.token(&["--role", "submitter", "--queue", "default", "--name", "ann"]);
    site.fleet.log_in(&ann);
    let again = "echo ready; while [ ! -e /tmp/gate ]; do sleep 0.1; done; python3 -c \"$TRY\" $WEB";
    let env = [format!("TRY={TRY}"), format!("WEB={web}")];
    let job = site.submit(&["--env", &env[0], "--env", &env[1]], again);
    site.says(&job, "ready");
    let users = site.task_users();
    site.fleet.agents[0].1.take().expect("it runs").kill();
    assert_eq!(site.left(), (1, true), "what runs keeps its network and its filter");
    site.fleet.run_agent(0);
    until("its session", || site.fleet.client(&["exec", &job, "--", "true"]).code() == 0);
    // What runs keeps its users and its address, and nobody else gets them.
    let other = site.submit(&[], "echo ready; while [ ! -e /tmp/gate ]; do sleep 0.1; done");
    site.says(&other, "ready");
    assert!(site.task_users().is_superset(&users) && site.task_users().len() == 2, "{:?} {users:?}", site.task_users());
    assert_eq!(site.left(), (2, true));
    for job in [&job, &other] {
        site.fleet.client(&["exec", job, "--", "touch", "/tmp/gate"]).has_opened();
        site.ends(job);
    }
    assert!(site.logs(&job).ends_with(&format!("web {}\n", site.network().address("n0"))), "{}", site.logs(&job));
    // The last one out takes the filter with it, and the machine is no router any more.
    site.fleet.agents[0].1.take().expect("it runs").kill();
    let folder = site.agent_folder().join("launcher").display().to_string();
    let launchers: Vec<i32> = site
        .fleet
        .yard
        .processes()
        .into_iter()
        .filter(|(_, line)| line.contains(&folder))
        .map(|(pid, _)| pid)
        .collect();
    assert!(!launchers.is_empty(), "no launcher");
    for pid in launchers {
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it is told to leave");
    }
    until("nothing to be left", || site.left() == (0, false));
    until("its host to pass nothing on any more", || {
        let forwards = site.program("n0", "cat", &["/proc/sys/net/ipv4/ip_forward"]).output().expect("cat runs");
        forwards.stdout == b"0\n"
    });
    site.stop();
}
