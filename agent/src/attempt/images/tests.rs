//! What is unpacked, kept and removed.

use std::time::Duration;

use super::*;
use crate::image::tests::sample;
use crate::runtime::spec::{ContainerSpec, Limits, Network, User};

/// Images and attempts in a folder of their own.
fn images() -> (tempfile::TempDir, Images) {
    let home = tempfile::tempdir().expect("a folder");
    let images = Images::in_folder(home.path().join("images"), home.path().join("attempts"));
    (home, images)
}

/// Some digest that only this text has.
fn digest(text: &str) -> Digest {
    let mut hash = [0; 32];
    hash[..text.len()].copy_from_slice(text.as_bytes());
    Digest { hash, length: text.len() as u64 }
}

async fn bring(images: &Images, text: &str) -> Unpacked {
    let (_folder, packed) = sample(text);
    images.unpacked(&packed, &digest(text)).await.expect("an image")
}

/// Unpacks as many images as are kept, all used after everything before, and one more.
async fn crowd(images: &Images) {
    for number in 0..=UNUSED_MAX {
        bring(images, &format!("other {number}")).await;
        // Files' times are as coarse as the kernel's tick.
        tokio::time::sleep(Duration::from_millis(8)).await;
    }
}

#[tokio::test]
async fn an_image_that_nobody_uses_goes_when_others_come() {
    let (_home, images) = images();
    let first = bring(&images, "first").await;
    let (tree, config) = (first.tree.clone(), first.tree.with_extension("json"));
    assert_eq!(std::fs::read_to_string(tree.join("file")).expect("a file"), "first");
    crowd(&images).await;
    assert!(tree.exists() && config.exists(), "it is held");
    drop(first);
    bring(&images, "last").await;
    assert!(!tree.exists() && !config.exists());
    let again = bring(&images, "first").await;
    assert!(again.tree.join("file").exists());
}

#[tokio::test]
async fn an_image_of_an_adopted_attempt_stays() {
    let (home, images) = images();
    let tree = bring(&images, "first").await.tree;
    let attempt = home.path().join("attempts/1");
    std::fs::create_dir_all(&attempt).expect("a folder");
    let launch = LaunchSpec {
        secret_env: Vec::new(),
        name: "1/run/0#1".into(),
        folder: attempt.clone(),
        argv: vec!["true".into()],
        env: Vec::new(),
        workdir: "/".into(),
        limits: Limits { cpu_milli: 0, memory_bytes: 0, pids: 0, shm_bytes: 0, disk_bytes: 0 },
        sandbox: Sandbox::Container(Box::new(ContainerSpec {
            root: Root::Tree { lower: tree.clone(), mapped: false },
            mounts: Vec::new(),
            network: Network::Host,
            devices: Vec::new(),
            user: User::itself(0, 0),
            oci_runtime: None,
        })),
        timeout_ms: None,
        kill_grace_ms: 0,
        stop_signal: Default::default(),
        notice_signal: None,
        log_limit_bytes: 0,
        lease_file: None,
    };
    crate::attempt::Handed { spec: launch, launcher: None }.write().expect("a note");
    crowd(&images).await;
    assert!(tree.exists());
}

#[tokio::test]
async fn what_a_killed_agent_left_half_unpacked_goes() {
    let (home, images) = images();
    let torn = home.path().join("images/abc.partial-1");
    std::fs::create_dir_all(torn.join("usr")).expect("a folder");
    std::fs::write(home.path().join("images/abc.tmp"), "{").expect("a file");
    bring(&images, "first").await;
    assert!(!torn.exists() && !home.path().join("images/abc.tmp").exists());
}

#[test]
fn whoever_gives_up_waiting_does_not_stop_the_unpacking() {
    let (_home, images) = images();
    let (_folder, packed) = sample("first");
    let digest = digest("first");
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
    runtime.block_on(async {
        // The only thread for such work is taken, so the unpacking cannot have begun when its caller gives up.
        let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
        drop(tokio::task::spawn_blocking(move || gate.recv()));
        {
            let asked = std::pin::pin!(images.unpacked(&packed, &digest));
            assert!(poll_once(asked).is_none());
        }
        assert!(images.uses.try_lock().is_err(), "the unpacking was given up with its caller");
        drop(open);
        let found = images.unpacked(Path::new("/nothing"), &digest).await.expect("it was unpacked all the same");
        assert!(found.tree.join("file").exists());
    });
}

/// One poll of a future.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
