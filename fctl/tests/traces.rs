//! One job from submit to artifact, as an OpenTelemetry collector hears of it from all parts.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use common::{Yard, until};
use flowyard_telemetry::traces::{Received, TraceId, decode};

/// A collector on loopback.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Received>>>,
}

/// Reads one request and answers it.
fn serve(mut stream: TcpStream) -> Option<Vec<Received>> {
    let mut bytes = Vec::new();
    let mut part = [0; 4_096];
    let head = loop {
        let read = stream.read(&mut part).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&part[..read]);
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    assert!(text.starts_with("post /v1/traces http/1.1\r\n"), "{text}");
    assert!(text.contains("content-type: application/x-protobuf\r\n"), "{text}");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let length: usize = length.parse().unwrap();
    while bytes.len() < head + length {
        let read = stream.read(&mut part).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&part[..read]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
    Some(decode(&bytes[head..]).unwrap())
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans: Arc<Mutex<Vec<Received>>> = Arc::default();
        let heard = Arc::clone(&spans);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                heard.lock().unwrap().extend(serve(stream).unwrap_or_default());
            }
        });
        Self { url, spans }
    }

    fn of(&self, trace: &str) -> Vec<Received> {
        let spans = self.spans.lock().unwrap();
        spans.iter().filter(|span| span.trace.to_string() == trace).cloned().collect()
    }
}

fn trace_of(text: &str) -> TraceId {
    let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    TraceId(std::array::from_fn(byte))
}

/// The one span of this name.
fn only<'a>(all: &'a [Received], name: &str) -> &'a Received {
    let found: Vec<&Received> = all.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {all:#?}");
    found[0]
}

/// What was done for a job, in the order in which it went: each begins no sooner than the one before.
fn in_order<'a>(one: &dyn Fn(&str) -> &'a Received) {
    let order =
        ["fctl submit", "submit", "propose and apply", "place", "fetch", "prepare", "start", "run", "store", "report"];
    for pair in order.windows(2) {
        let (before, after) = (one(pair[0]), one(pair[1]));
        assert!(before.times_ns.0 <= after.times_ns.0, "{} began after {}", pair[0], pair[1]);
    }
    for pair in ["fetch", "prepare", "start", "run", "store"].windows(2) {
        assert!(one(pair[0]).times_ns.1 <= one(pair[1]).times_ns.0, "{pair:?} overlap");
    }
}

#[test]
fn a_job_is_traced_from_submit_to_artifact_through_all_parts() {
    let yard = Yard::new();
    let collector = Collector::start();
    yard.refused(
        110,
        &["is on another machine", "run a collector on this one"],
        &["dev", "--otlp", "http://10.0.0.1:4318"],
    );
    let dev = yard.dev(&["--otlp", &collector.url]);
    let endpoint = format!("--endpoint=unix://{}/api.sock", yard.home().display());
    let submit = ["-o", "json", "submit", &endpoint, "--trace", "--otlp", &collector.url, "--output", "out=out.txt"];
    let script =
        ["--", "sh", "-c", "sleep 0.2; echo canary-of-output > out.txt; echo canary-of-output; echo $TRACEPARENT"];
    let said = yard.ok(&[&submit[..], &["--env", "PLAIN=canary-of-a-variable"], &script].concat());
    let said: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let trace = said["trace"].as_str().expect("the id of its trace");
    assert_eq!(trace.len(), 32);
    assert_eq!(yard.run(&["wait", "1", &endpoint]).code(), 0);
    let named = |name: &str| collector.of(trace).into_iter().filter(|span| span.name == name).collect::<Vec<_>>();
    until("the job's own span", || {
        ["job", "attempt", "store", "report", "place"].iter().all(|name| !named(name).is_empty())
    });

    let all = collector.of(trace);
    let one = |name: &str| only(&all, name);
    let parents: BTreeMap<&str, &str> = [
        ("fctl submit", "job"),
        ("submit", "job"),
        ("admit", "submit"),
        ("propose and apply", "submit"),
        ("task", "job"),
        ("attempt", "task"),
        ("place", "attempt"),
        ("fetch", "attempt"),
        ("prepare", "attempt"),
        ("start", "attempt"),
        ("run", "attempt"),
        ("store", "attempt"),
        ("report", "attempt"),
    ]
    .into();
    assert_eq!(one("job").parent, None);
    for (name, parent) in parents {
        assert_eq!(one(name).parent, Some(one(parent).id), "{name} is a part of {parent}");
    }
    assert_eq!(all.len(), 14, "nothing else is told of it: {all:#?}");
    in_order(&one);
    let run = one("run").times_ns;
    assert!(run.1 - run.0 >= 200_000_000, "the command took longer: {run:?}");
    for (name, service) in [("fctl submit", "fctl"), ("admit", "flowyard-coordinator"), ("run", "flowyard-agent")] {
        assert_eq!(one(name).service, service);
    }
    let handed_on = trace_of(trace).handed_on(one("run").id);
    let printed = yard.ok(&["logs", "1", &endpoint]);
    assert!(printed.contains(&handed_on), "what the command does is a part of `run`, {handed_on}: {printed}");
    let attempt = one("attempt");
    assert!(attempt.attributes.contains(&("flowyard.attempt".to_owned(), "1/sh/0#1".to_owned())), "{attempt:?}");
    assert!(!format!("{all:?}").contains("canary-of-"), "what a job is given or writes is nobody's business");

    // Neither a collector that is gone nor one that never answers keeps anybody waiting.
    let dumb = TcpListener::bind("127.0.0.1:0").unwrap();
    for url in ["http://127.0.0.1:1".to_owned(), format!("http://{}", dumb.local_addr().unwrap())] {
        assert_eq!(yard.run(&["submit", &endpoint, "--wait", "--otlp", &url, "--", "true"]).code(), 0, "{url}");
    }
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}
