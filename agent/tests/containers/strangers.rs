//! Tasks that have users of the host to themselves: root inside is nobody outside, and a stranger to every other task.

use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use super::*;

/// First ids of ranges, none of which an agent would take. Tests run at the same time, and one looks for all processes of its
/// range: no two tests have the same.
const RANGES: [u32; 6] = [0x6000_0000, 0x6001_0000, 0x6002_0000, 0x6003_0000, 0x6004_0000, 0x6005_0000];

/// The root of a range.
fn stranger(first: u32) -> User {
    User { uid: 0, gid: 0, host_uid: first, host_gid: first, range: 65_536 }
}

fn root() -> bool {
    let root = Uid::effective().is_root();
    if !root {
        eprintln!("skipped: users for each task need root");
    }
    root
}

/// A case whose task has a range, and a working directory that is its own and nobody else's.
fn case(script: &str, first: u32) -> (Case, PathBuf) {
    let mut case = Case::shell(script, false);
    case.container.user = stranger(first);
    let work = case.launch.folder.join("work");
    fs::create_dir(&work).expect("a folder");
    fs::set_permissions(&work, fs::Permissions::from_mode(0o700)).expect("a closed folder");
    chown(&work, Some(first), Some(first)).expect("an owner");
    let mount = Mount { source: work.clone(), target: "/flowyard/work".into(), read_only: false, mapped: false };
    case.container.mounts = vec![mount];
    case.launch.workdir = "/flowyard/work".into();
    (case, work)
}

/// Processes of the host that have this user, by their number.
fn processes_of(uid: u32) -> Vec<i32> {
    let all = fs::read_dir("/proc").expect("procfs").flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_theirs = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with(&format!("Uid:\t{uid}\t{uid}\t{uid}\t")))
    };
    numbers.filter(is_theirs).collect()
}

fn wait_for(path: &Path) {
    for _ in 0..2_000 {
        if path.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("{} never came", path.display());
}

/// Runs something as another user of the host, outside of any container; whether it says yes.
fn as_user(uid: u32, act: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child makes system calls and ends.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child => {
            let id = (Uid::from_raw(uid), Gid::from_raw(uid));
            let became =
                setgroups(&[]).and_then(|()| setresgid(id.1, id.1, id.1)).and_then(|()| setresuid(id.0, id.0, id.0));
            // SAFETY: ends this copy of the test process without running anything of the original.
            unsafe { libc::_exit(i32::from(became.is_err() || !act())) }
        }
        ForkResult::Parent { child } => {
            matches!(waitpid(child, None), Ok(nix::sys::wait::WaitStatus::Exited(_, 0)))
        }
    }
}

#[test]
fn root_inside_is_nobody_outside_and_a_stranger_to_other_tasks() {
    if !root() {
        return;
    }
    let script = "id -u; echo secret > mine; until [ -e go ]; do sleep 0.02; done; stat -c %u mine";
    let (case, work) = case(script, RANGES[0]);
    let running = thread::spawn(move || {
        let kept = case.launch.folder.join("work/mine");
        (case.run(), kept)
    });
    wait_for(&work.join("mine"));
    let processes = processes_of(RANGES[0]);
    assert!(!processes.is_empty(), "nobody has the user outside");
    assert_eq!(fs::metadata(work.join("mine")).expect("its file").uid(), RANGES[0]);
    let (path, pid) = (work.join("mine"), processes[0]);
    for (uid, may) in [(RANGES[0], true), (RANGES[1], false), (ORDINARY, false)] {
        let path = path.clone();
        assert_eq!(as_user(uid, move || fs::read(path).is_ok()), may, "user {uid} reads");
        // SAFETY: signal 0 only asks, and touches no memory.
        assert_eq!(as_user(uid, move || unsafe { libc::kill(pid, 0) } == 0), may, "user {uid} signals");
    }
    // SAFETY: an attempt to trace, which touches no memory of ours.
    let traces = as_user(RANGES[1], move || unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) } == 0);
    assert!(!traces, "another task traces it");
    fs::write(work.join("go"), "").expect("a file");
    let (outcome, _) = running.join().expect("its end");
    assert_eq!(outcome.stdout, "0\n0\n", "{outcome:?}");
    assert!(processes_of(RANGES[0]).is_empty(), "something is left");
}

#[test]
fn a_task_cannot_become_another_user_of_its_range() {
    if !root() || !python() {
        return;
    }
    let script = "python3 -c 'import os\ntry: os.setuid(7)\nexcept OSError as e: print(e.errno)\n\
                  try: os.chown(\"f\", 7, 7)\nexcept OSError as e: print(e.errno)'; cat /proc/self/uid_map";
    let (case, work) = case(script, RANGES[2]);
    fs::write(work.join("f"), "").expect("a file");
    chown(work.join("f"), Some(RANGES[2]), Some(RANGES[2])).expect("an owner");
    let outcome = case.run();
    let lines: Vec<&str> = outcome.stdout.lines().map(str::trim).collect();
    assert_eq!(lines[..2], ["1", "1"], "{outcome:?}");
    let map: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!((map[0], map[2]), ("0", "65536"), "{outcome:?}");
}

#[test]
fn what_is_shared_belongs_to_the_tasks_root_and_to_root_outside() {
    if !root() {
        return;
    }
    let script = "cat ../in/x/data; stat -c %u ../in/x/data; cat ../in/y; echo new 2>/dev/null > ../in/x/new; \
                  chmod 777 ../in/x/data 2>/dev/null; ls ../in/x";
    let (mut case, _) = case(script, RANGES[3]);
    let shared = case.launch.folder.join("shared");
    fs::create_dir(&shared).expect("a folder");
    for (name, text) in [("data", "folder "), ("file", "file\n")] {
        fs::write(shared.join(name), text).expect("a file");
        fs::set_permissions(shared.join(name), fs::Permissions::from_mode(0o600)).expect("a mode");
    }
    let mapped = |source: &Path, target: &str| Mount {
        source: source.into(),
        target: target.into(),
        read_only: true,
        mapped: true,
    };
    case.container.mounts.push(mapped(&shared, "/flowyard/in/x"));
    case.container.mounts.push(mapped(&shared.join("file"), "/flowyard/in/y"));
    let outcome = case.run();
    assert_eq!(outcome.stdout, "folder 0\nfile\ndata\nfile\n", "{outcome:?}");
}

#[test]
fn an_image_belongs_to_its_tasks_root_and_stays_as_it_is() {
    if !root() {
        return;
    }
    let image = tempfile::tempdir().expect("a folder");
    for folder in ["bin", "etc", "usr/share"] {
        fs::create_dir_all(image.path().join(folder)).expect("a folder");
    }
    if !static_program(&image.path().join("bin/words")) {
        return;
    }
    fs::write(image.path().join("etc/secret"), "only root's\n").expect("a file");
    fs::set_permissions(image.path().join("etc/secret"), fs::Permissions::from_mode(0o600)).expect("a mode");
    let mut case = Case::command(&["words", "cat:/etc/secret", "put:/usr/share/new", "put:/etc/secret"], false);
    case.container.user = stranger(RANGES[4]);
    case.container.root = Root::Tree { lower: image.path().into(), mapped: true };
    let outcome = case.run();
    assert_eq!(outcome.stdout, "only root's\nput\nput\n", "{outcome:?}");
    assert!(!image.path().join("usr/share/new").exists(), "the image was changed");
    assert_eq!(fs::metadata(image.path().join("etc/secret")).expect("a file").uid(), 0);
}

#[test]
fn a_runtime_binary_makes_strangers_too() {
    let crun = Path::new("/usr/bin/crun");
    if !root() || !crun.exists() {
        eprintln!("skipped: needs root and /usr/bin/crun");
        return;
    }
    let nobody = 65_534;
    let (mut case, work) = case("id -u; echo x > mine; cat ../in/x; stat -c %u mine", RANGES[5]);
    let id = RANGES[5] + nobody;
    case.container.user = User { uid: nobody, gid: nobody, host_uid: id, host_gid: id, range: 65_536 };
    chown(&work, Some(id), Some(id)).expect("an owner");
    let shared = case.launch.folder.join("shared");
    fs::write(&shared, "shared\n").expect("a file");
    let mount = Mount { source: shared, target: "/flowyard/in/x".into(), read_only: true, mapped: true };
    case.container.mounts.push(mount);
    case.container.oci_runtime = Some(crun.into());
    let outcome = case.run();
    assert_eq!(outcome.stdout, "65534\nshared\n65534\n", "{outcome:?}");
}
