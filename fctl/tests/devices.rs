//! GPUs that fail while they are used, through the command line, on the embedded cluster with pretended devices.

mod common;

use common::{Running, Yard, until};
use serde_json::{Value, json};

fn with_gpus(count: u32) -> (Yard, Running) {
    let yard = Yard::new();
    let dev = yard.dev(&["--fake-gpus", &count.to_string()]);
    (yard, dev)
}

/// What is pretended of devices from now on.
fn pretend(yard: &Yard, faults: &str) {
    let file = yard.home().join("agent/fake-faults");
    let part = file.with_extension("part");
    std::fs::write(&part, faults).unwrap();
    std::fs::rename(part, file).unwrap();
}

/// Submits a process with a GPU and without a retry.
fn submit(yard: &Yard, gpus: &str, script: &str) {
    let flags = ["submit", "--isolation", "process", "--cpu", "0.1", "--memory", "64MiB", "--kill-grace", "1s"];
    yard.ok(&[&flags[..], &["--gpu", gpus, "--", "sh", "-c", script]].concat());
}

fn node(yard: &Yard) -> Value {
    yard.json(&["node", "show", "local"])
}

fn attempts(yard: &Yard, job: &str) -> Value {
    yard.json(&["show", job])["tasks_shown"][0]["attempts"].clone()
}

#[test]
fn what_runs_on_a_device_that_fails_runs_again_on_another_and_spends_no_retry() {
    let (yard, dev) = with_gpus(2);
    submit(&yard, "1", "if [ $FLOWYARD_ATTEMPT = 1 ]; then exec sleep 600; fi; echo second");
    yard.wait_running("1", &[]);
    let held = attempts(&yard, "1")[0]["gpus"][0]["id"].as_str().unwrap().to_owned();
    pretend(&yard, &format!("{held} xid 79\n"));
    // The step has no retry: had one been spent, it would have failed.
    assert_eq!(yard.run(&["wait", "1"]).code(), 0);
    assert_eq!(yard.ok(&["logs", "1"]), "second\n");
    let tried = attempts(&yard, "1");
    let first = [&tried[0]["outcome"], &tried[0]["reason"], &tried[0]["blame"]];
    assert_eq!(json!(first), json!(["lost", "device", "hardware"]), "{tried}");
    assert!(tried[0]["message"].as_str().unwrap().contains("XID 79: it has fallen off the bus"), "{tried}");
    assert!(tried[1]["gpus"][0]["id"] != held.as_str(), "{tried}");

    let shown = node(&yard);
    let gpus = shown["gpus"].as_array().unwrap();
    let gpu = gpus.iter().find(|gpu| gpu["id"] == held.as_str()).unwrap();
    assert_eq!((&gpu["state"], &gpu["healthy"]), (&json!("faulty"), &json!(false)), "{shown}");
    let charge = &shown["discredit"]["recent"][0];
    assert_eq!((&charge["reason"], &charge["attempt"]), (&json!("device"), &json!("1/sh/0#1")), "{shown}");
    assert_eq!(shown["discredit"]["standing"], "avoided", "{shown}");
    let text = yard.ok(&["node", "show", "local"]);
    assert!(text.contains(&format!("({held}) faulty since")) && text.contains("XID 79"), "{text}");
    assert!(text.contains("open, avoided") && text.contains("1/sh/0#1 ended: device (hardware)"), "{text}");

    // Both devices are asked for, and one is out.
    submit(&yard, "2", "true");
    let why = yard.ok(&["why", "2"]);
    assert!(why.contains("1 of 2 free and healthy"), "{why}");
    pretend(&yard, "");
    assert_eq!(yard.run(&["wait", "2"]).code(), 0, "it is well again");
    yard.ok(&["node", "forgive", "local"]);
    assert_eq!(node(&yard)["discredit"], Value::Null);
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn a_program_is_not_blamed_for_what_it_made_of_an_error_of_its_device() {
    let (yard, dev) = with_gpus(2);
    let gate = yard.path("gate");
    let script = format!(
        "if [ $FLOWYARD_ATTEMPT = 1 ]; then until [ -e {} ]; do sleep 0.05; done; exit 7; fi; echo second",
        gate.display()
    );
    submit(&yard, "1", &script);
    yard.wait_running("1", &[]);
    let held = attempts(&yard, "1")[0]["gpus"][0]["id"].as_str().unwrap().to_owned();
    pretend(&yard, &format!("{held} xid 94\n"));
    let degraded = || node(&yard)["gpus"].as_array().unwrap().iter().any(|gpu| gpu["state"] == "degraded");
    until("the error to be told", degraded);
    assert_eq!(yard.json(&["show", "1"])["steps"][0]["tasks"]["active"], 1, "what holds it goes on");
    yard.write("gate", "");
    assert_eq!(yard.run(&["wait", "1"]).code(), 0);
    let tried = attempts(&yard, "1");
    let first = [&tried[0]["outcome"], &tried[0]["reason"], &tried[0]["blame"], &tried[0]["exit_code"]];
    assert_eq!(json!(first), json!(["failed", "device", "hardware", 7]), "{tried}");
    // Whoever fails on a device that is well is to blame as ever.
    submit(&yard, "1", "exit 3");
    assert_eq!(yard.run(&["wait", "2"]).code(), 3);
    assert_eq!(attempts(&yard, "2")[0]["blame"], "user");
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn an_operator_takes_a_device_out_of_use_and_what_holds_it_stays() {
    let (yard, dev) = with_gpus(2);
    let gate = yard.path("gate");
    submit(&yard, "2", &format!("until [ -e {} ]; do sleep 0.05; done", gate.display()));
    yard.wait_running("1", &[]);
    let said = yard.ok(&["node", "cordon", "local", "--gpu", "1", "--reason", "loud fan"]);
    assert!(said.contains("GPU fake-1 of node local is given to nobody new"), "{said}");
    let shown = node(&yard);
    assert_eq!(
        (&shown["scheduling"], &shown["gpus"][1]["out"]["reason"]),
        (&json!("open"), &json!("loud fan")),
        "{shown}"
    );
    assert_eq!((&shown["gpus"][1]["healthy"], &shown["gpus"][0]["healthy"]), (&json!(false), &json!(true)), "{shown}");
    submit(&yard, "2", "true");
    submit(&yard, "1", "true");
    yard.write("gate", "");
    assert_eq!(yard.run(&["wait", "1"]).code(), 0, "what held it was left alone");
    assert_eq!(yard.run(&["wait", "3"]).code(), 0, "the other one is used");
    assert_eq!(attempts(&yard, "3")[0]["gpus"][0]["id"], "fake-0");
    assert!(yard.ok(&["nodes"]).contains("GPU 1 (fake-1) healthy since"), "with who took it out");
    yard.refused(113, &["has no GPU `7`", "fake-0, fake-1"], &["node", "cordon", "local", "--gpu", "7"]);
    yard.ok(&["node", "uncordon", "local", "--gpu", "fake-1"]);
    assert_eq!(yard.run(&["wait", "2"]).code(), 0);
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn memory_of_a_device_is_shared_out_and_each_task_is_told_its_part() {
    let (yard, dev) = with_gpus(1);
    let gate = yard.path("gate");
    let wait = format!(
        "echo $FLOWYARD_GPU_SHARE $FLOWYARD_GPU_MEMORY_BYTES; until [ -e {} ]; do sleep 0.05; done",
        gate.display()
    );
    // It has 16 GiB.
    submit(&yard, "share=0.25,memory=10GiB", &wait);
    yard.wait_running("1", &[]);
    submit(&yard, "share=0.25,memory=10GiB", "true");
    submit(&yard, "share=0.25,memory=6GiB", "true");
    assert_eq!(yard.run(&["wait", "3"]).code(), 0, "there is as much left of the memory");
    let why = yard.ok(&["why", "2"]);
    assert!(why.contains("0.25 of a GPU and 10GiB of its memory"), "{why}");
    submit(&yard, "share=0.5", "true");
    let why = yard.ok(&["why", "4"]);
    assert!(why.contains("room is kept for it on local; it starts once 1 attempt there has ended"), "{why}");
    yard.write("gate", "");
    for job in ["1", "2", "4"] {
        assert_eq!(yard.run(&["wait", job]).code(), 0, "job {job}");
    }
    assert_eq!(yard.ok(&["logs", "1"]), "0.250 10737418240\n");
    yard.refused(
        112,
        &["0.5 of 1 GPU with 17GiB of its memory", "no node could ever give"],
        &["submit", "--gpu", "share=0.5,memory=17GiB", "--", "true"],
    );
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn a_part_of_a_device_is_given_to_who_asks_for_it_and_to_nobody_else() {
    let yard = Yard::new();
    let dev = yard.dev(&["--fake-gpus", "1", "--fake-mig", "1g.10gb,3g.40gb"]);
    let gate = yard.path("gate");
    let wait = format!("until [ -e {} ]; do sleep 0.05; done", gate.display());
    submit(&yard, "1", &wait);
    yard.wait_running("1", &[]);
    assert_eq!(attempts(&yard, "1")[0]["gpus"][0]["id"], "fake-0", "a GPU is a whole one");
    submit(&yard, "1", "true");
    let why = yard.ok(&["why", "2"]);
    assert!(why.contains("no room for it now"), "no part will do: {why}");
    submit(&yard, "model=fake mig 1g.10gb", &wait);
    submit(&yard, "memory=30GiB", &wait);
    for (job, part) in [("3", "fake-1-mig-0"), ("4", "fake-1-mig-1")] {
        yard.wait_running(job, &[]);
        let given = attempts(&yard, job)[0]["gpus"][0].clone();
        assert_eq!((&given["id"], &given["part_of"]), (&json!(part), &json!("fake-1")), "{given}");
    }
    // What befalls the whole befalls its parts.
    pretend(&yard, "fake-1 xid 94\n");
    let degraded =
        || node(&yard)["gpus"].as_array().unwrap().iter().filter(|gpu| gpu["state"] == "degraded").count() == 2;
    until("both parts to be degraded", degraded);
    yard.write("gate", "");
    for job in ["1", "2", "3", "4"] {
        assert_eq!(yard.run(&["wait", job]).code(), 0, "job {job}");
    }
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn devices_of_a_task_are_as_near_to_each_other_as_it_asks() {
    let yard = Yard::new();
    let dev = yard.dev(&["--fake-gpus", "8,nvlink=4,pcie=2"]);
    let text = yard.ok(&["node", "show", "local"]);
    assert!(text.contains("nvlink 0-3, 4-7; pcie 0-1, 2-3, 4-5, 6-7; numa 0-7"), "{text}");
    let groups =
        |gpus: &Value, level: &str| gpus.as_array().unwrap().iter().map(|gpu| gpu[level].clone()).collect::<Vec<_>>();
    assert_eq!(groups(&node(&yard)["gpus"], "pcie_group"), [0, 0, 1, 1, 2, 2, 3, 3]);

    // One of each two is out: four are free, and no two of them below one switch.
    let each_second = ["0", "2", "4", "6"];
    each_second.iter().for_each(|gpu| drop(yard.ok(&["node", "cordon", "local", "--gpu", gpu])));
    submit(&yard, "count=2,link=pcie", "true");
    submit(&yard, "count=2,link=nvlink", "true");
    submit(&yard, "count=4,link=numa", "true");
    for (job, level) in [("2", "nvlink_group"), ("3", "numa_node")] {
        assert_eq!(yard.run(&["wait", job]).code(), 0, "job {job}");
        let given = groups(&attempts(&yard, job)[0]["gpus"], level);
        assert!(given.iter().all(|group| *group == given[0] && group.is_number()), "{given:?}");
    }
    let why = yard.ok(&["why", "1"]);
    assert!(
        why.contains("2 GPUs in one PCIe group") && why.contains("1 node: free GPUs too far from each other"),
        "{why}"
    );
    assert!(why.contains("at most 1 free and healthy GPU in one PCIe group, and 2 have to be"), "{why}");
    assert!(why.contains("GPUs without link pcie"), "{why}");
    let refused = ["3 GPU in one PCIe group", "no node could ever give", "at most 2 in one PCIe group"];
    yard.refused(112, &refused, &["submit", "--gpu", "count=3,link=pcie", "--", "true"]);

    // What the machine has is otherwise when it comes again.
    assert_eq!(dev.interrupt().code(), 0);
    let dev = yard.dev(&["--fake-gpus", "8,nvlink=4,pcie=0"]);
    let why = yard.ok(&["why", "1"]);
    assert!(why.contains("1 node: no GPUs so near to each other"), "{why}");
    assert!(why.contains("no GPU that would do is in any PCIe group, and 2 have to be in one"), "{why}");
    assert_eq!(dev.interrupt().code(), 0);
    let dev = yard.dev(&["--fake-gpus", "8,nvlink=4,pcie=2"]);
    yard.ok(&["node", "uncordon", "local", "--gpu", "4"]);
    assert_eq!(yard.run(&["wait", "1"]).code(), 0);
    let given = attempts(&yard, "1")[0]["gpus"].clone();
    assert_eq!((&given[0]["id"], &given[1]["id"]), (&json!("fake-4"), &json!("fake-5")), "{given}");
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

const ALTERNATIVES: &str = r#"
name = "either"
[steps.train]
run = ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES $FLOWYARD_FAKE_GPUS; until [ -e GATE ]; do sleep 0.05; done"]
isolation = "process"
cpu = 0.1
memory = "64MiB"
gpu = [{ count = 2, model = "h100" }, { count = 4, model = "fake" }]
"#;

#[test]
fn where_the_first_alternative_is_impossible_the_second_runs_and_each_is_told_of() {
    let (yard, dev) = with_gpus(4);
    let gate = yard.path("gate").display().to_string();
    yard.write("flow.toml", ALTERNATIVES.replace("GATE", &gate));
    let dry = yard.json(&["submit", "--dry-run", "flow.toml"]);
    assert_eq!(dry["findings"][0]["explanation"]["alternative"], 1, "{dry}");
    let text = yard.ok(&["submit", "--dry-run", "flow.toml"]);
    assert!(text.contains("GPUs by alternative 2, 4 GPUs of model fake"), "{text}");
    yard.ok(&["submit", "flow.toml"]);
    yard.wait_running("1", &[]);
    let given = attempts(&yard, "1")[0].clone();
    assert_eq!(given["gpus"].as_array().map(Vec::len), Some(4), "{given}");
    let taken = [&given["gpu_alternative"], &given["gpu_request"]];
    assert_eq!(json!(taken), json!([1, "4 GPUs of model fake"]), "{given}");
    let shown = yard.ok(&["show", "1/train/0"]);
    assert!(shown.contains("alternative 2, 4 GPUs of model fake"), "{shown}");
    let why = yard.ok(&["why", "1"]);
    assert!(why.contains("it has GPUs by alternative 2, 4 GPUs of model fake"), "{why}");

    // Whoever waits is told what keeps it from each.
    let either = ["--gpu", "count=2,model=h100", "--gpu", "count=3,model=fake"];
    let process = ["--isolation", "process", "--cpu", "0.1", "--memory", "64MiB"];
    yard.ok(&[&["submit"][..], &process, &either, &["--", "true"]].concat());
    let dry = [&["submit", "--dry-run"][..], &process, &either, &["--", "true"]].concat();
    for told in [yard.ok(&["why", "2"]), yard.ok(&dry)] {
        let first = "alternative 1, 2 GPUs of model h100: 1 node: no such GPUs, such as local: it has 4 GPUs";
        assert!(told.contains(first), "{told}");
        let second = "alternative 2, 3 GPUs of model fake: 1 node: GPUs taken or unhealthy, such as local: 0 of 4 free and healthy";
        assert!(told.contains(second), "{told}");
        assert!(told.contains("2 GPUs of model h100 or 3 GPUs of model fake"), "{told}");
    }
    submit(&yard, "1", "true");
    assert!(!yard.ok(&["why", "3"]).contains("alternative"), "who has no choice is told of none");
    yard.write("gate", "");
    for job in ["1", "2", "3"] {
        assert_eq!(yard.run(&["wait", job]).code(), 0, "job {job}");
    }
    assert_eq!(attempts(&yard, "2")[0]["gpu_alternative"], 1);
    assert_eq!(attempts(&yard, "3")[0]["gpu_alternative"], Value::Null);

    let refused = ["2 GPU of model h100 or 5 GPU", "no node could ever give"];
    yard.refused(112, &refused, &["submit", "--gpu", "count=2,model=h100", "--gpu", "5", "--", "true"]);
    for (flags, words) in [
        (&["--gpu", "1", "--gpu", "count=1"][..], "alternative 2 asks for the same as alternative 1"),
        (&["--gpu", "0", "--gpu", "1"], "0, which is none, is no alternative"),
    ] {
        yard.refused(110, &["--gpu", words], &[&["submit"], flags, &["--", "true"]].concat());
    }
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn where_several_alternatives_are_possible_the_first_is_taken() {
    let yard = Yard::new();
    let dev = yard.dev(&["--fake-gpus", "1", "--fake-mig", "3g.40gb"]);
    let flags = ["submit", "--isolation", "process", "--cpu", "0.1", "--memory", "64MiB"];
    // By default a whole device goes first; here a part is said to be better, and then a share of a whole one.
    let either = ["--gpu", "model=fake mig 3g.40gb", "--gpu", "share=0.5,model=fake"];
    for job in ["1", "2", "3", "4"] {
        let gate = yard.path(if job == "1" { "first" } else { "gate" });
        let wait = format!("until [ -e {} ]; do sleep 0.05; done", gate.display());
        yard.ok(&[&flags[..], &either, &["--", "sh", "-c", &wait]].concat());
        if job != "4" {
            yard.wait_running(job, &[]);
        }
    }
    let given = |job: &str| {
        let given = attempts(&yard, job)[0].clone();
        (given["gpu_alternative"].clone(), given["gpus"][0]["id"].clone())
    };
    assert_eq!(given("1"), (json!(0), json!("fake-1-mig-0")));
    assert_eq!([given("2"), given("3")], [(json!(1), json!("fake-0")), (json!(1), json!("fake-0"))]);
    let why = yard.ok(&["why", "4"]);
    assert!(why.contains("alternative 2, 0.5 of a GPU of model fake: 1 node: GPUs taken"), "{why}");
    yard.write("first", "");
    yard.wait_running("4", &[]);
    assert_eq!(given("4"), (json!(0), json!("fake-1-mig-0")), "it is free again");
    yard.write("gate", "");
    for job in ["1", "2", "3", "4"] {
        assert_eq!(yard.run(&["wait", job]).code(), 0, "job {job}");
    }
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}
