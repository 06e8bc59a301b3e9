//! The figures that a real cluster tells, compared with the page that explains them; and what is built on that page.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use common::fleet::Fleet;
use common::{Yard, until};

/// A figure: its type and the names of its labels.
type Figures = BTreeMap<String, (String, BTreeSet<String>)>;

/// A page that was read, checked line by line as Prometheus' text format.
#[derive(Debug, Default)]
struct Page {
    figures: Figures,
    /// Figures that have a row.
    told: BTreeSet<String>,
    values: BTreeMap<String, f64>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn fetch(url: &str) -> String {
    let address = url.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// `name{a="b",c="d"} 1` in its parts.
fn sample(line: &str) -> (String, Vec<String>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = match value {
        "+Inf" => f64::INFINITY,
        value => value.parse().unwrap_or_else(|error| panic!("{error}: {line}")),
    };
    let Some((name, labels)) = series.split_once('{') else { return (series.to_owned(), vec![], value) };
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no end of labels: {line}"));
    let names = labels.split("\",").map(|label| label.split_once("=\"").expect("a label").0.to_owned());
    (name.to_owned(), names.collect(), value)
}

/// The figure that a row belongs to.
fn figure_of<'a>(figures: &Figures, row: &'a str) -> &'a str {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| row.strip_suffix(end));
    match of_histogram {
        Some(figure) if figures.get(figure).is_some_and(|(kind, _)| kind == "histogram") => figure,
        _ => row,
    }
}

fn read(text: &str) -> Page {
    let mut page = Page::default();
    let mut explained = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("help");
            assert!(help.ends_with('.') && !help.is_empty(), "{line}");
            assert!(explained.insert(name.to_owned()), "told twice: {name}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(explained.contains(name), "no help for {name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            page.figures.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else {
            let (row, labels, value) = sample(line);
            let figure = figure_of(&page.figures, &row).to_owned();
            let known = page.figures.get_mut(&figure).unwrap_or_else(|| panic!("a row before its figure: {line}"));
            known.1.extend(labels.into_iter().filter(|label| label != "le"));
            page.told.insert(figure);
            page.values.insert(line.rsplit_once(' ').unwrap().0.to_owned(), value);
        }
    }
    page
}

/// The figures of the page for people.
fn documented() -> Figures {
    let text = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, meaning, _, _] = cells[..] else { panic!("not five columns: {row}") };
        assert!(!meaning.is_empty(), "{row}");
        (quoted(name).remove(0), (kind.to_owned(), quoted(labels).into_iter().collect()))
    })
    .collect()
}

/// Runs a cluster of one coordinator and one agent that tell figures, and where.
fn observed() -> (Fleet, [String; 2]) {
    let mut fleet = Fleet::formed(None);
    drop(fleet.coordinators[0].take().map(common::Running::interrupt));
    let path = PathBuf::from(fleet.at("c0")).join("coordinator.toml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("\n[metrics]\nlisten = \"127.0.0.1:0\"\n");
    std::fs::write(&path, text).unwrap();
    fleet.run_coordinator(0);
    fleet.add_agent_with(
        "n1",
        "[agent]\ncpu = \"2\"\nfilter = false\nfake_gpus = 1\n[metrics]\nlisten = \"127.0.0.1:0\"\n",
    );
    let url = |running: &mut common::Running| {
        running.wait_until("where its metrics are", |it| it.stderr().contains("/metrics"));
        let said = running.stderr();
        said.split_whitespace().find(|word| word.ends_with("/metrics")).unwrap().to_owned()
    };
    let coordinator = url(fleet.coordinators[0].as_mut().unwrap());
    let agent = url(fleet.agents[0].1.as_mut().unwrap());
    (fleet, [coordinator, agent])
}

#[test]
fn the_page_for_people_and_the_page_of_a_cluster_have_the_same_figures() {
    let (fleet, [coordinator, agent]) = observed();
    let yard = &fleet.yard;
    until("the node", || yard.json(&["nodes", &fleet.owner(0)])["nodes"].as_array().unwrap().len() == 1);
    let submit = |script: &str| {
        let args = ["submit", &fleet.owner(0), "--wait", "--cpu", "0.5", "--gpu", "1", "--", "sh", "-c", script];
        yard.run(&args).code()
    };
    assert_eq!((submit("echo good"), submit("exit 3")), (0, 3));
    // What happened is what is told. The answer to a client does not wait until it is counted.
    let value = |page: &Page, row: &str| page.values.get(row).copied();
    let counted = |url: &str, rows: &[(&str, f64)]| {
        let mut differ = Vec::new();
        let agree = flowyard_clock::patiently(common::PATIENCE, || {
            let page = read(&fetch(url));
            differ = rows.iter().map(|(row, wanted)| (*row, *wanted, value(&page, row))).collect();
            differ.retain(|(_, wanted, found)| Some(*wanted) != *found);
            differ.is_empty().then_some(())
        });
        assert!(agree.is_some(), "{differ:?}");
    };
    counted(
        &coordinator,
        &[
            ("flowyard_coordinator_leader", 1.0),
            ("flowyard_coordinator_nodes{health=\"up\",scheduling=\"open\"}", 1.0),
            ("flowyard_coordinator_sessions", 1.0),
            ("flowyard_coordinator_tasks{queue=\"default\",state=\"active\"}", 0.0),
            ("flowyard_coordinator_place_latency_seconds_count", 2.0),
            ("flowyard_coordinator_placements_total{result=\"placed\"}", 2.0),
            ("flowyard_coordinator_calls_total{method=\"Flowyard/Submit\",code=\"ok\"}", 2.0),
            ("flowyard_coordinator_attempts_ended_total{outcome=\"failed\",reason=\"exit\",blame=\"user\"}", 1.0),
            ("flowyard_coordinator_granted_gpus{model=\"fake\"}", 0.0),
            ("flowyard_coordinator_free_gpus", 1.0),
            ("flowyard_coordinator_fragmented_gpus", 0.0),
        ],
    );
    counted(
        &agent,
        &[
            ("flowyard_agent_connected", 1.0),
            ("flowyard_agent_attempts{phase=\"running\"}", 0.0),
            ("flowyard_agent_attempts_ended_total{outcome=\"succeeded\",reason=\"exit\",blame=\"user\"}", 1.0),
            ("flowyard_agent_launch_seconds_count{stage=\"start\"}", 2.0),
            ("flowyard_agent_granted_cpu_cores", 0.0),
            ("flowyard_agent_capacity_gpus", 1.0),
        ],
    );
    let (told, of_agent) = (read(&fetch(&coordinator)), read(&fetch(&agent)));
    let mut figures = told.figures.clone();
    for (name, (kind, labels)) in &of_agent.figures {
        let known = figures.entry(name.clone()).or_insert_with(|| (kind.clone(), labels.clone()));
        assert_eq!(known.0, *kind);
        known.1.extend(labels.clone());
    }
    let documented = documented();
    for (name, (kind, labels)) in &figures {
        let (said, named) = documented.get(name).unwrap_or_else(|| panic!("docs/metrics.md does not know {name}"));
        assert_eq!(said, kind, "{name}");
        if told.told.contains(name) || of_agent.told.contains(name) {
            assert_eq!(named, labels, "{name}");
        }
    }
    let gone: Vec<_> = documented.keys().filter(|name| !figures.contains_key(*name)).collect();
    assert!(gone.is_empty(), "docs/metrics.md has what no part tells: {gone:?}");
    assert!(value(&of_agent, "flowyard_agent_lease_remaining_seconds") > Some(0.0));
    assert!(value(&told, "flowyard_coordinator_log_fsync_seconds_count") > Some(0.0));
    assert!(value(&told, "flowyard_coordinator_certificate_expires_timestamp_seconds") > Some(1.7e9));
    fleet.stop();
}

#[test]
fn nobody_listens_for_readers_unless_told_to_and_other_machines_are_refused() {
    let yard = Yard::new();
    let dev = yard.dev(&[]);
    assert!(!dev.stderr().contains("metrics"), "{}", dev.stderr());
    assert_eq!(dev.interrupt().code(), 0);
    let refused = yard.run(&["dev", "--metrics", "0.0.0.0:0"]);
    assert_eq!(refused.code(), 110, "{refused:#?}");
    refused.says(&["other machines reach that", "token_file", "127.0.0.1"]);
    let mut dev = yard.dev(&["--metrics", "127.0.0.1:0"]);
    dev.wait_until("where its metrics are", |it| it.stderr().contains("/metrics"));
    let said = dev.stderr();
    let page = read(&fetch(said.split_whitespace().find(|word| word.ends_with("/metrics")).unwrap()));
    for figure in ["flowyard_coordinator_leader", "flowyard_agent_connected", "process_open_fds"] {
        assert!(page.told.contains(figure), "{figure} is missing");
    }
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

/// The names of figures in a text: of the dashboard's and the alerts' expressions.
fn named(text: &str) -> BTreeSet<String> {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !inner(letter));
    let ours = |word: &&str| {
        ["flowyard_coordinator_", "flowyard_agent_", "flowyard_build_", "process_"]
            .iter()
            .any(|it| word.starts_with(it))
    };
    words.filter(ours).map(str::to_owned).collect()
}

#[test]
fn dashboard_and_alerts_ask_only_for_figures_that_there_are() {
    let documented = documented();
    let known = |name: &String| documented.contains_key(figure_of(&documented, name));
    let board = std::fs::read_to_string(root().join("deploy/grafana/flowyard.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&board).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() > 40, "{}", expressions.len());
    for expression in &expressions {
        let names = named(expression);
        assert!(!names.is_empty(), "{expression} asks for nothing of ours");
        let unknown: Vec<_> = names.iter().filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?} in {expression}");
    }
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    let alerts = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).unwrap();
    // Descriptions name some as well, which holds for them, too. `log_fsync_seconds` alone is no figure.
    let unknown: Vec<_> = named(&alerts).into_iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    // The tool of Prometheus itself checks more, where it is.
    for (what, file) in [("rules", "alerts.yml"), ("config", "prometheus.yml")] {
        let file = root().join("deploy/prometheus").join(file);
        if let Ok(checked) = std::process::Command::new("promtool").args(["check", what]).arg(&file).output() {
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        }
    }
}
