//! Container attempts: the shim's part. What a task sees inside is tested with the runtime.

use std::os::unix::fs::PermissionsExt;

use super::limits::{DEAF, SAVES, evict_three};
use super::*;
use crate::runtime::default_hidden;
use crate::runtime::spec::{ContainerSpec, Network, Root, User};

impl Yard {
    /// A spec that runs `script` in a container over the host's files.
    fn container(&mut self, script: &str) -> LaunchSpec {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.folder.path(), mode).expect("an open folder");
        let mut spec = self.shell(script);
        let (uid, gid) = match self.ordinary {
            true => (ORDINARY, ORDINARY),
            false => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
        };
        spec.workdir = "/tmp".into();
        spec.limits.pids = 64;
        spec.sandbox = Sandbox::Container(Box::new(ContainerSpec {
            root: Root::Host { hidden: default_hidden(None, &home(self.folder.path())) },
            mounts: Vec::new(),
            network: Network::Host,
            devices: Vec::new(),
            user: User::itself(uid, gid),
            oci_runtime: None,
        }));
        spec
    }

    /// Whether containers can be made here at all.
    async fn has_containers(&mut self) -> bool {
        let spec = self.container("true");
        match self.run(spec).await.cause {
            ExitCause::StartFailed { message } if message.starts_with("containers cannot be made here") => {
                skipped(&message);
                false
            }
            cause => {
                assert_eq!(cause, exited(0));
                true
            }
        }
    }
}

#[tokio::test]
async fn a_container_leaves_its_exit_code_and_its_output() {
    let mut yard = Yard::open().await;
    if !yard.has_containers().await {
        return;
    }
    let spec = yard.container("seq 1 3000; echo wrong >&2; exit 21");
    let folder = spec.folder.clone();
    let record = yard.run(spec).await;
    assert_eq!(record.cause, exited(21));
    assert!(record.started_at_ms.is_some());
    assert_eq!(stdout_of(&folder).lines().count(), 3_000);
    assert_eq!(lines(&folder.join(crate::logs::STDERR_LOG))[0].bytes, b"wrong");
    assert_eq!(crate::launcher::read_exit(&folder).expect("readable"), Some(record));
    let mut missing = yard.container("");
    missing.argv = vec!["no-such-program".into()];
    let cause = yard.run(missing).await.cause;
    assert!(matches!(cause, ExitCause::CommandFailed { code: 127, .. }), "{cause:?}");
}

#[tokio::test]
async fn a_container_is_held_to_its_limits() {
    let mut yard = Yard::open().await;
    if !yard.has_containers().await {
        return;
    }
    let limit_bytes = 48 << 20;
    let mut hog = yard.container("dd if=/dev/zero of=/dev/null bs=300M count=1; exit 1");
    hog.limits.memory_bytes = limit_bytes;
    assert_eq!(yard.run(hog).await.cause, ExitCause::OutOfMemory { limit_bytes });
    let mut slow = yard.container("sleep 1000");
    slow.timeout_ms = Some(150);
    assert_eq!(yard.run(slow).await.cause, ExitCause::TimedOut { limit_ms: 150 });
    let mut deaf = yard.container("trap '' TERM; echo up; while :; do sleep 0.02; done");
    deaf.kill_grace_ms = 60_000;
    let folder = deaf.folder.clone();
    yard.start(deaf).await;
    yard.client.stop(&folder, Stopping::within(Some(200))).await.expect("launcher");
    assert_eq!(yard.end_of(&folder).await.cause, ExitCause::Stopped);
}

#[tokio::test]
async fn a_container_that_is_evicted_is_given_notice_and_leaves_in_time_whoever_lives() {
    let mut yard = Yard::open().await;
    if !yard.has_containers().await {
        return;
    }
    let specs = [yard.container(SAVES), yard.container(DEAF), yard.container(SAVES)];
    evict_three(&mut yard, specs).await;
}

#[tokio::test]
async fn containers_outlive_the_launcher_and_the_next_one_takes_them_over() {
    let mut yard = Yard::open().await;
    if !yard.has_containers().await {
        return;
    }
    let ends = yard.container("n=0; while [ $n -lt 100 ]; do echo line $n; n=$((n+1)); sleep 0.03; done; exit 5");
    let stays = yard.container("sleep 1000");
    let process = yard.shell("sleep 1000");
    let folders = [ends.folder.clone(), stays.folder.clone(), process.folder.clone()];
    yard.start(ends).await;
    yard.start(stays).await;
    let lost = yard.start(process).await;
    let launcher = launcher_pid(&yard);
    // SAFETY: kill has no memory effects; the launcher is ours.
    unsafe { libc::kill(launcher as i32, libc::SIGKILL) };
    while is_alive(launcher) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    yard.reconnect().await;
    assert_ne!(launcher_pid(&yard), launcher);
    yard.reconnect().await;
    let mut running: Vec<&Path> = yard.running.iter().map(|running| &*running.folder).collect();
    running.sort_unstable();
    assert_eq!(running, [&*folders[0], &*folders[1]]);
    assert!(yard.running.iter().all(|running| running.started_at_ms.is_some()));
    assert_eq!(yard.end_of(&folders[0]).await.cause, exited(5));
    let expected: Vec<String> = (0..100).map(|number| format!("line {number}")).collect();
    assert_eq!(stdout_of(&folders[0]), expected.join("\n"));
    yard.client.stop(&folders[1], Stopping::within(Some(0))).await.expect("launcher");
    assert_eq!(yard.end_of(&folders[1]).await.cause, ExitCause::Stopped);
    // A process attempt cannot outlive the launcher, for nobody would learn its exit code.
    while is_alive(lost) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(crate::launcher::read_exit(&folders[2]).expect("readable"), None);
}

#[tokio::test]
async fn a_container_whose_shim_is_killed_ends_with_it() {
    let mut yard = Yard::open().await;
    if !yard.has_containers().await {
        return;
    }
    let spec = yard.container("sleep 1000");
    let folder = spec.folder.clone();
    yard.start(spec).await;
    yard.client.list().await.expect("launcher");
    yard.running.clear();
    while yard.running.is_empty() {
        yard.read_event().await;
    }
    // SAFETY: kill has no memory effects; the shim is ours.
    unsafe { libc::kill(yard.running[0].pid as i32, libc::SIGKILL) };
    assert_eq!(yard.end_of(&folder).await.cause, ExitCause::Signalled { signal: libc::SIGKILL });
}

#[tokio::test]
async fn an_ordinary_user_gets_containers_and_watched_memory() {
    let mut yard = Yard::open_as_ordinary().await;
    if !yard.has_containers().await {
        return;
    }
    let limit_bytes = 48 << 20;
    let mut hog = yard.container("dd if=/dev/zero bs=200M count=1 | sleep 1000");
    hog.limits.memory_bytes = limit_bytes;
    hog.timeout_ms = Some(20_000);
    let cause = yard.run(hog).await.cause;
    match yard.enforcement.memory {
        Enforced::Watched => assert_eq!(cause, ExitCause::OutOfMemory { limit_bytes }),
        _ => assert!(matches!(cause, ExitCause::TimedOut { .. }), "{cause:?}"),
    }
}
