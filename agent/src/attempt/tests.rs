//! An agent is killed at each step of an attempt's way to its process and back, and the next one takes up what lies there: here each of
//! these states is made as the dead agent would have left it, beside a real launcher.

use std::io::Write;

use flowyard_cas::{LocalOptions, LocalStore, Origin};
use flowyard_model::{AttemptNumber, GangNode, Notice, StopSignal};
use kameo::actor::Spawn;
use tempfile::TempDir;

use super::*;
use crate::config::EmbeddedChoices;
use crate::inventory;
use crate::journal::tests as journal;
use crate::launcher::protocol::{Event, Request, encode};
use crate::launcher::tests::{dying_agent, start_command};
use crate::launcher::{EXIT_RECORD, LauncherClient};
use crate::network::NetworkChoices;
use crate::runtime::spec::{LaunchSpec, Limits, Sandbox};

const PATIENCE: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

/// An agent's folder, with a launcher that outlives its agents.
struct Yard {
    folder: TempDir,
    config: AgentConfig,
}

impl Yard {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let choices = EmbeddedChoices {
            fake_gpus: crate::inventory::fake::FakeGpus::NONE,
            fake_mig: Vec::new(),
            oci_runtime: None,
            labels: Default::default(),
            allow_mounts: Vec::new(),
            cpu_milli: None,
            memory_bytes: None,
            user: None,
            users: None,
            networks: NetworkChoices { filter: false, ..NetworkChoices::default() },
            address: None,
            gang_ports: None,
        };
        let (home, exe) = (folder.path().to_owned(), Path::new("/nothing"));
        let mut config = AgentConfig::embedded(home.clone(), home.join("agent"), exe, choices);
        config.launcher = start_command(&config.folder.join("launcher"), false);
        std::fs::create_dir_all(config.attempts()).expect("made");
        Self { folder, config }
    }

    fn launcher(&self) -> PathBuf {
        self.config.folder.join("launcher")
    }

    /// The first agent's connection to its launcher, and how the launcher is called.
    async fn connect(&self) -> (LauncherClient, mpsc::Receiver<Event>, Option<String>) {
        let connected = LauncherClient::connect_or_start(&self.launcher(), self.config.launcher.clone()).await;
        let (client, mut events) = connected.expect("a launcher");
        match events.recv().await.expect("an event") {
            Event::Running { launcher, .. } => (client, events, launcher),
            other => panic!("the first event was {other:?}"),
        }
    }

    /// Where a task leaves a line each time it runs.
    fn trace(&self, task: u32) -> PathBuf {
        self.folder.path().join(format!("ran-{task}"))
    }

    fn times_run(&self, task: u32) -> usize {
        std::fs::read_to_string(self.trace(task)).map_or(0, |text| text.lines().count())
    }

    fn command(&self, task: u32) -> Vec<String> {
        let gate = self.folder.path().join(format!("closed-{task}"));
        let script =
            format!("echo ran >> {}; while [ -e {} ]; do sleep 0.01; done", self.trace(task).display(), gate.display());
        ["/bin/sh".to_owned(), "-c".to_owned(), script].into()
    }

    /// The attempt's folder as far as it is made before the launcher is asked, and what it is to be asked.
    fn fetched(&self, task: u32) -> LaunchSpec {
        let folder = self.config.attempts().join(format!("1-0-{task}-1.0"));
        std::fs::create_dir_all(folder.join(WORK)).expect("made");
        LaunchSpec {
            name: format!("1/train/{task}#1"),
            workdir: folder.join(WORK),
            folder,
            argv: self.command(task),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            secret_env: Vec::new(),
            limits: Limits { cpu_milli: 0, memory_bytes: 0, pids: 0, shm_bytes: 0, disk_bytes: 0 },
            sandbox: Sandbox::Process,
            timeout_ms: None,
            kill_grace_ms: 0,
            stop_signal: Default::default(),
            notice_signal: None,
            log_limit_bytes: MIB,
            lease_file: None,
        }
    }

    /// The next agent.
    async fn agent(&self) -> Arc<Desk> {
        let (sender, mut serving) = watch::channel(None);
        let launches = Launches::spawn(Launches::new(self.launcher(), self.config.launcher.clone(), sender));
        let first = serving.wait_for(Option::is_some).await.expect("a launcher").clone().expect("it serves");
        let networks = Arc::new(Networks::none(&self.config.folder, "a test"));
        let local = LocalStore::open(&self.folder.path().join("blobs"), LocalOptions::with_budget(64 * MIB));
        let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        Arc::new(Desk {
            store: Store::new(local.expect("a store"), Origin::in_memory()),
            launches,
            heard: watch::Sender::new(true),
            serving,
            images: Images::in_folder(self.config.folder.join("images"), self.config.attempts()),
            tasks: Tasks::default(),
            users: None,
            inventory: Arc::new(inventory::probe(&self.config, &first.enforcement, &networks)),
            health: crate::inventory::health::Health::new(),
            networks,
            stuck: watch::Sender::new(StuckLimits::PAUSED),
            reach: Reach::Embedded(channel),
            counts: Arc::default(),
            exporter: None,
            cluster: watch::Sender::new(String::new()),
            config: self.config.clone(),
        })
    }

    /// What the next agent says of a task that the one before had taken.
    async fn taken_up(&self, desk: &Arc<Desk>, task: u32) -> End {
        let (_stop, stopping) = watch::channel(None);
        self.taken_up_until(desk, task, stopping).await
    }

    /// The same of one that may be asked to stop.
    async fn taken_up_until(&self, desk: &Arc<Desk>, task: u32, stopping: watch::Receiver<Option<StopTerms>>) -> End {
        let mut context = StepContext::clone(&journal::context());
        context.spec.command = self.command(task);
        let (news, mut told) = mpsc::channel(16);
        let attempt = Attempt::new(Arc::clone(desk), Arc::new(context), journal::member(task), news, alone(stopping));
        let walk = tokio::spawn(attempt.walk(Begun::Before));
        let end = async {
            while let Some(report) = told.recv().await {
                if let Some(end) = report.end {
                    return End::clone(&end);
                }
            }
            panic!("no end of task {task}")
        };
        let end = tokio::time::timeout(PATIENCE, end).await.unwrap_or_else(|_| panic!("no end of task {task} in time"));
        walk.await.expect("a walk");
        end
    }

    async fn close(self, desk: Arc<Desk>) {
        let (asked, answer) = tokio::sync::oneshot::channel();
        desk.launches.tell(LaunchRequest::Shutdown { kill: true, asked }).await.expect("asked");
        let _ = answer.await;
        desk.launches.wait_for_shutdown().await;
    }
}

async fn ends(events: &mut mpsc::Receiver<Event>, count: usize) {
    let mut left = count;
    while left > 0 {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("in time").expect("a launcher");
        left -= usize::from(matches!(event, Event::Ended { .. }));
    }
}

#[tokio::test]
async fn wherever_an_agent_was_killed_the_attempt_runs_once_and_its_end_is_told() {
    let yard = Yard::new();
    let (client, mut events, launcher) = yard.connect().await;
    let noted = |task| {
        let handed = Handed { spec: yard.fetched(task), launcher: launcher.clone() };
        handed.write().expect("written");
        handed.spec
    };
    // Of task 0 there is nothing. Of 1, what was fetched; of 2, half of the note.
    std::fs::write(yard.fetched(1).workdir.join("code.py"), "half").expect("written");
    std::fs::write(yard.fetched(2).folder.join("launched.part"), "{\"name\":").expect("written");
    // 3 ended and wrote that down; 4 ended, and its end could not be written down; 5 runs.
    std::fs::create_dir(yard.fetched(4).folder.join("exit.part")).expect("made");
    std::fs::write(yard.folder.path().join("closed-5"), "").expect("written");
    for task in [3, 4, 5] {
        client.start(noted(task)).await.expect("a launcher");
    }
    ends(&mut events, 2).await;
    assert!(noted(3).folder.join(EXIT_RECORD).exists() && !noted(4).folder.join(EXIT_RECORD).exists());
    // 6 was asked for as its agent died, 7 with half a request; of 8 there is only the note.
    let (mut bytes, mut half) = (Vec::new(), Vec::new());
    encode(&Request::Start(Box::new(noted(6))), &mut bytes);
    encode(&Request::Start(Box::new(noted(7))), &mut half);
    bytes.extend_from_slice(&half[..half.len() / 2]);
    dying_agent(&yard.launcher()).write_all(&bytes).expect("sent");
    noted(8);
    drop((client, events));

    let desk = yard.agent().await;
    std::fs::remove_file(yard.folder.path().join("closed-5")).expect("opened");
    let mut disturbed = Vec::new();
    for task in 0..=8 {
        let end = yard.taken_up(&desk, task).await;
        if (end.outcome, yard.times_run(task)) != (AttemptOutcome::Succeeded, 1) {
            disturbed.push(format!(
                "task {task}: run {} times, {:?}: {}",
                yard.times_run(task),
                end.reason,
                end.message
            ));
        }
    }
    assert_eq!(disturbed, [""; 0]);
    yard.close(desk).await;
}

#[tokio::test]
async fn what_an_earlier_launcher_may_have_run_is_lost_and_not_run_again() {
    let yard = Yard::new();
    drop(yard.connect().await);
    let of = |task, launcher: Option<&str>| Handed { spec: yard.fetched(task), launcher: launcher.map(str::to_owned) };
    of(0, Some("an earlier one")).write().expect("written");
    of(1, None).write().expect("written");
    // After a power cut the note may be there without what was in it.
    std::fs::write(yard.fetched(2).folder.join(LAUNCHED), "").expect("written");
    let desk = yard.agent().await;
    for task in 0..=2 {
        let end = yard.taken_up(&desk, task).await;
        assert_eq!((end.reason, yard.times_run(task)), (Reason::NodeLost, 0), "task {task}: {end:?}");
    }
    yard.close(desk).await;
}

#[tokio::test]
async fn what_was_not_started_yet_waits_for_word_that_it_is_still_wanted() {
    let yard = Yard::new();
    let (_client, _events, launcher) = yard.connect().await;
    // The note of tasks 0 and 1 is there, and nothing of 2 and 3; 1 and 3 are not wanted any more.
    for task in [0, 1] {
        Handed { spec: yard.fetched(task), launcher: launcher.clone() }.write().expect("written");
    }
    let desk = yard.agent().await;
    desk.heard.send_replace(false);
    let (cancel, cancelled) = watch::channel(None);
    let (_keep, kept) = watch::channel(None);
    let stops = [&kept, &cancelled, &kept, &cancelled].map(watch::Receiver::clone);
    let ends = (0..4).zip(stops).map(|(task, stop)| yard.taken_up_until(&desk, task, stop));
    let told = async {
        // Long enough for all of them to have run.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!([0, 1, 2, 3].map(|task| yard.times_run(task)), [0; 4], "nobody has said that it is wanted");
        cancel.send_replace(Some(StopTerms::default()));
        desk.heard.send_replace(true);
    };
    let (ends, ()) = tokio::join!(futures::future::join_all(ends), told);
    let outcomes: Vec<_> = ends.iter().map(|end| end.outcome).collect();
    let (ran, not) = (AttemptOutcome::Succeeded, AttemptOutcome::Stopped);
    assert_eq!(outcomes, [ran, not, ran, not], "{ends:?}");
    assert_eq!([0, 1, 2, 3].map(|task| yard.times_run(task)), [1, 0, 1, 0]);
    yard.close(desk).await;
}

/// Counts until it is noticed, and goes on where an earlier attempt was.
const COUNTS: &str =
    "n=$(cat $STORE 2>/dev/null || echo 0); [ $n -gt 0 ] && { echo went on at $n > $STORE.next; exit 0; }
    trap 'echo $n > $STORE; touch $FLOWYARD_SAVED; exit 0' USR1
    while :; do n=$((n+1)); echo up > $STORE.up; sleep 0.02; done";

/// What an attempt of a step that counts reports, from its beginning to its end.
async fn counts(
    desk: &Arc<Desk>,
    store: &Path,
    number: u32,
    stopping: watch::Receiver<Option<StopTerms>>,
) -> Vec<AttemptReport> {
    let mut context = StepContext::clone(&journal::context());
    context.spec.command = ["/bin/sh", "-c", COUNTS].map(str::to_owned).to_vec();
    context.spec.env.insert("STORE".to_owned(), store.display().to_string());
    context.spec.notice = Some(Notice { signal: StopSignal::Usr1, ms: 20_000 });
    context.spec.kill_grace_ms = 20_000;
    let mut member = journal::member(0);
    member.key.attempt = AttemptNumber(number);
    let (news, mut told) = mpsc::channel(64);
    let walk =
        tokio::spawn(Attempt::new(Arc::clone(desk), Arc::new(context), member, news, alone(stopping)).walk(Begun::Not));
    let mut reports = Vec::new();
    let all = async {
        while let Some(report) = told.recv().await {
            reports.push(report)
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("an end in time");
    walk.await.expect("a walk");
    reports
}

#[tokio::test]
async fn a_task_that_is_evicted_saves_and_is_seen_to_have_and_its_next_attempt_goes_on_from_there() {
    let yard = Yard::new();
    let desk = yard.agent().await;
    let store = yard.folder.path().join("store");
    let (evict, evicted) = watch::channel(None);
    let noticed = async {
        while !store.with_extension("up").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        evict.send_replace(Some(StopTerms { notice_ms: Some(10_000), kill_within_ms: Some(10_000) }));
    };
    let begun = flowyard_clock::wall_ms();
    let (reports, ()) = tokio::join!(counts(&desk, &store, 1, evicted), noticed);
    let end = reports.last().and_then(|report| report.end.as_ref()).expect("an end");
    assert_eq!((end.outcome, end.reason), (AttemptOutcome::Stopped, Reason::Cancelled), "{end:?}");
    assert!(flowyard_clock::wall_ms() - begun < 9_000, "it went when it had saved");
    let saved = reports.last().and_then(|report| report.saved_at).expect("it saved");
    assert!(saved.0 + 1_000 >= begun, "{saved:?} is before {begun}");
    let (_keep, kept) = watch::channel(None);
    let reports = counts(&desk, &store, 2, kept).await;
    let end = reports.last().and_then(|report| report.end.as_ref()).expect("an end");
    assert_eq!(end.outcome, AttemptOutcome::Succeeded, "{end:?}");
    let went_on = std::fs::read_to_string(store.with_extension("next")).expect("it went on");
    let before = std::fs::read_to_string(&store).expect("what it saved");
    assert_eq!(went_on, format!("went on at {before}"));
    yard.close(desk).await;
}

#[tokio::test]
async fn a_task_that_ignores_its_eviction_is_killed_within_its_contract() {
    let yard = Yard::new();
    let desk = yard.agent().await;
    let mut context = StepContext::clone(&journal::context());
    let up = yard.folder.path().join("up");
    let deaf = format!("trap '' USR1 TERM; echo up > {}; while :; do sleep 0.02; done", up.display());
    context.spec.command = ["/bin/sh".to_owned(), "-c".to_owned(), deaf].to_vec();
    context.spec.notice = Some(Notice { signal: StopSignal::Usr1, ms: 60_000 });
    context.spec.kill_grace_ms = 60_000;
    let (evict, evicted) = watch::channel(None);
    let (news, mut told) = mpsc::channel(64);
    let attempt = Attempt::new(Arc::clone(&desk), Arc::new(context), journal::member(0), news, alone(evicted));
    let walk = tokio::spawn(attempt.walk(Begun::Not));
    while !up.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let asked = flowyard_clock::monotonic();
    evict.send_replace(Some(StopTerms { notice_ms: Some(300), kill_within_ms: Some(300) }));
    let all = async { while told.recv().await.is_some() {} };
    tokio::time::timeout(PATIENCE, all).await.expect("an end in time");
    walk.await.expect("a walk");
    let lasted = flowyard_clock::elapsed(asked);
    assert!(lasted >= Duration::from_millis(550) && lasted < Duration::from_secs(20), "{lasted:?}");
    yard.close(desk).await;
}

/// What asks it to stop, for one that has no gang that could change.
fn alone(
    stop: watch::Receiver<Option<StopTerms>>,
) -> (watch::Receiver<Option<StopTerms>>, watch::Receiver<Option<Gang>>) {
    (stop, watch::channel(None).1)
}

#[tokio::test]
async fn the_process_of_a_member_finds_its_gang_as_it_is_now() {
    let yard = Yard::new();
    let desk = yard.agent().await;
    let mut context = StepContext::clone(&journal::context());
    let up = yard.folder.path().join("up");
    // It goes once the file names another generation than it was started in.
    let waits = "echo $FLOWYARD_GANG_GENERATION > $UP.new && mv $UP.new $UP; \
                 until grep -q '\"generation\": 2' $FLOWYARD_GANG_FILE; do sleep 0.02; done; cp $FLOWYARD_HOSTFILE $UP.hosts";
    context.spec.command = ["/bin/sh".to_owned(), "-c".to_owned(), waits.to_owned()].to_vec();
    context.spec.env.insert("UP".to_owned(), up.display().to_string());
    let node =
        |name: &str, address: &str| GangNode { name: name.parse().unwrap(), address: address.to_owned(), members: 1 };
    let gang = |second, generation| Gang {
        nodes: vec![node("n1", "10.0.0.1"), node("n2", second)],
        main_port: 28_000,
        generation,
        vacant: Default::default(),
    };
    let member = DesiredMember { gang: Some(gang("10.0.0.2", 1)), ..journal::member(0) };
    let (news, mut told) = mpsc::channel(64);
    let ((_keep, stop), (regroup, regrouped)) = (watch::channel(None), watch::channel(None));
    let attempt = Attempt::new(Arc::clone(&desk), Arc::new(context), member, news, (stop, regrouped));
    let walk = tokio::spawn(attempt.walk(Begun::Not));
    while !up.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(std::fs::read_to_string(&up).unwrap(), "1\n");
    regroup.send_replace(Some(gang("10.0.0.3", 2)));
    let mut last = None;
    let all = async {
        while let Some(report) = told.recv().await {
            last = report.end.or(last.take());
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("an end in time");
    walk.await.expect("a walk");
    assert_eq!(last.map(|end| end.outcome), Some(AttemptOutcome::Succeeded));
    let hosts = std::fs::read_to_string(up.with_extension("hosts")).unwrap();
    assert_eq!(hosts, "10.0.0.1 slots=1\n10.0.0.3 slots=1\n");
    yard.close(desk).await;
}
