//! Agents and launchers that die under running attempts.

use super::*;

#[tokio::test]
async fn nothing_is_lost_when_the_agent_goes_and_comes_back() {
    let mut yard = Yard::open().await;
    let slow = yard.shell("n=0; while [ $n -lt 100 ]; do echo line $n; n=$((n+1)); sleep 0.005; done; exit 5");
    let quick = yard.shell("sleep 0.1; exit 6");
    let endless = yard.shell("sleep 1000");
    let folders = [slow.folder.clone(), quick.folder.clone(), endless.folder.clone()];
    for spec in [slow, quick, endless] {
        yard.start(spec).await;
    }
    yard.reconnect().await;
    assert_eq!(yard.running.len(), 3);
    tokio::time::sleep(Duration::from_millis(300)).await;
    yard.reconnect().await;
    let runs = |yard: &Yard, folder: &Path| yard.running.iter().any(|running| running.folder == folder);
    assert!(!runs(&yard, &folders[1]) && runs(&yard, &folders[2]));
    assert_eq!(crate::launcher::read_exit(&folders[1]).expect("record").expect("ended").cause, exited(6));
    let ended = match runs(&yard, &folders[0]) {
        true => yard.end_of(&folders[0]).await,
        false => crate::launcher::read_exit(&folders[0]).expect("record").expect("ended"),
    };
    assert_eq!(ended.cause, exited(5));
    let expected: Vec<String> = (0..100).map(|number| format!("line {number}")).collect();
    assert_eq!(stdout_of(&folders[0]), expected.join("\n"));
    yard.client.stop(&folders[2], Stopping::within(None)).await.expect("launcher");
    assert_eq!(yard.end_of(&folders[2]).await.cause, ExitCause::Stopped);
}

#[tokio::test]
async fn requests_of_a_dead_agent_are_still_obeyed() {
    let mut yard = Yard::open().await;
    let specs: Vec<LaunchSpec> = (0..50).map(|_| yard.shell("exit 2")).collect();
    let mut stream = socket::connect(&home(yard.folder.path())).expect("launcher");
    let mut bytes = Vec::new();
    specs.iter().for_each(|spec| encode(&Request::Start(Box::new(spec.clone())), &mut bytes));
    stream.write_all(&bytes).expect("send");
    drop(stream);
    yard.reconnect().await;
    for spec in &specs {
        while crate::launcher::read_exit(&spec.folder).expect("record").is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_launcher_with_attempts_refuses_to_end_unless_told_to_kill() {
    let mut yard = Yard::open().await;
    let spec = yard.shell("sleep 1000");
    let folder = spec.folder.clone();
    yard.start(spec).await;
    yard.client.shutdown(false).await.expect("launcher");
    assert_eq!(yard.events.recv().await, Some(Event::ShutdownRefused { running: 1 }));
    yard.client.shutdown(true).await.expect("launcher");
    assert_eq!(yard.end_of(&folder).await.cause, ExitCause::Stopped);
    assert_eq!(yard.events.recv().await, None);
}

#[tokio::test]
async fn two_that_start_a_launcher_get_the_same() {
    let folder = tempfile::tempdir().expect("folder");
    // Longer than a socket address can hold.
    let home = folder.path().join("d".repeat(120));
    let (first, second) = tokio::join!(connect(&home, false), connect(&home, false));
    drop(first);
    drop(second);
    let (client, mut events, ..) = connect(&home, false).await;
    client.shutdown(true).await.expect("launcher");
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn process_attempts_do_not_outlive_their_launcher_even_without_cgroups() {
    let mut yard = Yard::open_as_ordinary().await;
    let spec = yard.shell("sleep 1000");
    let folder = spec.folder.clone();
    let lost = yard.start(spec).await;
    let launcher = launcher_pid(&yard);
    // SAFETY: kill has no memory effects; the launcher is ours.
    unsafe { libc::kill(launcher as i32, libc::SIGKILL) };
    while is_alive(launcher) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    yard.reconnect().await;
    assert!(yard.running.is_empty());
    while is_alive(lost) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(crate::launcher::read_exit(&folder).expect("readable"), None);
}
