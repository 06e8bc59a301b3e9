//! How attempts end by themselves, and what they find when they begin.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn an_exit_code_and_a_signal_are_recorded() {
    let mut yard = Yard::open().await;
    let spec = yard.shell("exit 7");
    let folder = spec.folder.clone();
    let record = yard.run(spec).await;
    assert_eq!(record.cause, exited(7));
    assert!(record.started_at_ms.expect("it started") <= record.ended_at_ms);
    assert_eq!(crate::launcher::read_exit(&folder).expect("readable"), Some(record));
    let spec = yard.shell("kill -USR1 $$");
    assert_eq!(yard.run(spec).await.cause, ExitCause::Signalled { signal: libc::SIGUSR1 });
}

#[tokio::test]
async fn a_missing_command_is_127_and_tells_the_path() {
    let mut yard = Yard::open().await;
    let spec = yard.spec(&["no-such-program"]);
    let message = "command `no-such-program` not found; PATH was /usr/bin:/bin".to_owned();
    let record = yard.run(spec).await;
    assert_eq!((record.cause, record.started_at_ms), (ExitCause::CommandFailed { code: 127, message }, None));
    let spec = yard.spec(&["./absent"]);
    let cause = yard.run(spec).await.cause;
    assert!(matches!(cause, ExitCause::CommandFailed { code: 127, .. }), "{cause:?}");
}

#[tokio::test]
async fn a_file_that_cannot_run_is_126_and_says_why() {
    let mut yard = Yard::open().await;
    let cases = [
        ("plain", 0o644, "text", "not executable"),
        ("bare", 0o755, "text", "#!/bin/sh"),
        ("lost", 0o755, "#!/no/such/interpreter\n", "interpreter"),
    ];
    for (name, mode, content, expected) in cases {
        let spec = yard.spec(&[&format!("./{name}")]);
        let path = spec.folder.join(name);
        std::fs::write(&path, content).expect("file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        match yard.run(spec).await.cause {
            ExitCause::CommandFailed { code: 126, message } => assert!(message.contains(expected), "{message}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_missing_working_directory_is_not_the_users_fault() {
    let mut yard = Yard::open().await;
    let mut spec = yard.spec(&["true"]);
    spec.workdir = "/no/such/place".into();
    let cause = yard.run(spec).await.cause;
    assert!(matches!(&cause, ExitCause::StartFailed { message } if message.contains("/no/such/place")), "{cause:?}");
}

#[tokio::test]
async fn an_attempt_inherits_nothing_but_its_spec() {
    let mut yard = Yard::open().await;
    let script = "/usr/bin/env; ls -l /proc/self/fd | wc -l; ulimit -c; ulimit -n; \
                  grep -E 'NoNewPrivs|SigBlk|SigIgn' /proc/self/status; cat; pwd";
    let mut spec = yard.shell(script);
    spec.env.push(("ONLY".into(), "this".into()));
    let folder = spec.folder.clone();
    let own_files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("limit").0;
    assert_eq!(yard.run(spec).await.cause, exited(0));
    let output = stdout_of(&folder);
    // The shell adds these itself.
    let lines: Vec<&str> = output.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("_=")).collect();
    assert_eq!(lines[..2], ["PATH=/usr/bin:/bin", "ONLY=this"]);
    // The total, the three standard ones, and the directory that ls reads.
    assert_eq!(lines[2..4], ["5", "0"]);
    assert_eq!(lines[4], own_files.to_string());
    assert!(output.contains("NoNewPrivs:\t1") && output.contains("SigBlk:\t0000000000000000"), "{output}");
    assert!(output.contains("SigIgn:\t0000000000000000"), "{output}");
    assert_eq!(lines.last().copied(), folder.to_str());
}

#[tokio::test]
async fn what_a_task_leaves_behind_is_killed() {
    let mut yard = Yard::open().await;
    let spec = yard.shell("sleep 1000 & echo $!");
    let folder = spec.folder.clone();
    assert_eq!(yard.run(spec).await.cause, exited(0));
    let left: u32 = stdout_of(&folder).parse().expect("a pid");
    for _ in 0..200 {
        if !is_alive(left) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {left} is still there");
}

#[tokio::test]
async fn a_folder_is_run_only_once() {
    let mut yard = Yard::open().await;
    let spec = yard.shell("echo once >> ran; exit 3");
    assert_eq!(yard.run(spec.clone()).await.cause, exited(3));
    yard.ended.clear();
    assert_eq!(yard.run(spec.clone()).await.cause, exited(3));
    assert_eq!(std::fs::read_to_string(spec.folder.join("ran")).expect("file"), "once\n");
}
