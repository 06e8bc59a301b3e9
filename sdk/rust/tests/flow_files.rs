//! What a user reads when a flow is wrong, word for word, and what the examples become.
//!
//! `UPDATE=1 cargo test -p flowyard-sdk --test flow_files` rewrites the expected texts; read the difference before committing.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use flowyard_cas::items::ItemsReader;
use flowyard_model::{Digest, FanOut, Name};
use flowyard_sdk::flags;
use flowyard_sdk::flow::{ArtifactError, Artifacts, Flow, FlowStep, Packing, base_of};
use proptest::prelude::*;

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tree() -> PathBuf {
    here().join("testdata/tree")
}

/// Compares with the committed text, or rewrites it.
fn assert_golden(path: &Path, found: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(expected == found, "{} differs; expected:\n{expected}\nfound:\n{found}", path.display());
}

/// The parameters of the first line, `#! -P NAME=VALUE ...`.
fn params_of(text: &str) -> Vec<(String, String)> {
    let first = text.lines().next().and_then(|line| line.strip_prefix("#! -P ")).unwrap_or_default();
    first.split(" -P ").filter(|param| !param.is_empty()).map(|param| flags::param(param).unwrap()).collect()
}

fn message_of(text: &[u8], params: &[(String, String)], base: &Path) -> String {
    let flow = Flow::parse("flow.toml", text);
    let result = flow.and_then(|flow| flow.resolve(base, params, &mut Packing::default()));
    let message = result.expect_err("the flow was accepted").to_string();
    assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "hostile to a terminal: {message:?}");
    message.replace(&base.display().to_string(), "BASE")
}

#[test]
fn every_bad_flow_has_its_message() {
    let mut cases: Vec<_> =
        fs::read_dir(here().join("testdata/bad")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    cases.sort();
    assert!(cases.len() > 30);
    for case in cases {
        let text = fs::read_to_string(&case).unwrap();
        let message = std::panic::catch_unwind(|| message_of(text.as_bytes(), &params_of(&text), &tree()))
            .unwrap_or_else(|_| panic!("{}", case.display()));
        assert_golden(&case.with_extension("txt"), &format!("{message}\n"));
    }
}

#[test]
fn a_file_that_is_not_text_says_where() {
    let message = message_of(b"name = \"a\"\n[steps.\xff\x1b[31m]\nrun = []", &[], &tree());
    assert!(message.starts_with("flow.toml:2:8: the flow file is not UTF-8: byte 0xff at offset 18\n"), "{message}");
}

#[test]
fn a_file_that_cannot_be_read_says_what_might_be_meant() {
    let missing = Flow::load(Path::new("/nowhere/flow\u{1b}.toml")).unwrap_err().to_string();
    assert_eq!(missing, "/nowhere/flow\\u{1b}.toml: cannot read the flow file: No such file or directory (os error 2)");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("flow.toml"), "").unwrap();
    let message = Flow::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("Is a directory") && message.contains("flow.toml?"), "{message}");
}

#[test]
fn sockets_pipes_and_links_out_of_the_tree_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("out/link")).unwrap();
    let flow = "name = \"a\"\n[steps.a]\nrun = [\"x\"]\ninputs = { a = \"./socket\", b = \"./out\" }\n";
    let message = message_of(flow.as_bytes(), &[], folder.path());
    let expected = "flow.toml:4:16: `BASE/socket` is a socket; only files, folders and links can be stored: remove it, or \
                    leave it out";
    assert!(message.contains(expected), "{message}");
    assert!(message.contains("`BASE/out/link` is a symbolic link to `/etc/passwd`"), "{message}");
}

#[test]
fn a_flow_larger_than_the_limit_names_its_largest_step() {
    let long = "x".repeat(300_000);
    let flow = format!("name = \"a\"\n[steps.a]\nrun = [\"x\", \"{long}\", \"{long}\"]\n[steps.b]\nrun = [\"x\"]\n");
    let message = message_of(flow.as_bytes(), &[], &tree());
    let expected =
        "flow.toml:2:8: the flow is too large: about 586 KiB, at most 512 KiB; the largest step is `a` with 586 KiB";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_thousand_steps_in_one_line_are_ordered_and_one_more_is_refused() {
    let chain = |count: usize| {
        let step = |at: usize| match at {
            0 => "[steps.s0]\nrun = [\"x\"]\n".to_owned(),
            _ => format!("[steps.s{at}]\nrun = [\"x\"]\nneeds = [\"s{}\"]\n", at - 1),
        };
        format!("name = \"a\"\n{}", (0..count).rev().map(step).collect::<String>())
    };
    let flow = Flow::parse("flow.toml", chain(1_000).as_bytes()).unwrap();
    let spec = flow.resolve(&tree(), &[], &mut Packing::default()).unwrap();
    assert_eq!(spec.steps[999].name.as_str(), "s999");
    let message = message_of(chain(1_001).as_bytes(), &[], &tree());
    assert!(message.contains("at most 1000 steps, these are 1001"), "{message}");
}

#[test]
fn literal_lists_may_be_empty_and_may_be_large() {
    let resolved = |items: String| {
        let flow = format!("name = \"a\"\n[steps.a]\nrun = [\"x\"]\nforeach = [{items}]\n");
        let mut packing = Packing::default();
        let flow = Flow::parse("flow.toml", flow.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let spec = flow.resolve(&tree(), &[], &mut packing).unwrap();
        let FanOut::Items(list) = &spec.steps[0].fan_out else { panic!("not a list: {:?}", spec.steps[0].fan_out) };
        (list.count, packing.lists[&list.items].clone())
    };
    assert_eq!(resolved(String::new()).0, 0);
    let (count, blob) = resolved((0..100_000).map(|at| format!("{{ at = {at} }},")).collect());
    assert_eq!(count, 100_000);
    assert_eq!(ItemsReader::from_bytes(&blob).unwrap().item(99_999).unwrap(), "{\"at\":99999}");
}

#[test]
fn many_problems_are_counted_and_not_all_told() {
    let flow = format!("name = \"a\"\n{}", (0..200).map(|at| format!("key{at} = 1\n")).collect::<String>());
    let error = Flow::parse("flow.toml", flow.as_bytes()).unwrap_err();
    assert_eq!((error.problems.len(), error.left_out), (50, 151));
    assert!(error.to_string().ends_with("and 151 more problems"));
}

/// Digests that depend on the path only, so that examples may be edited.
struct ByPath {
    base: PathBuf,
    calls: usize,
}

impl ByPath {
    fn digest(&mut self, kind: &str, path: &Path) -> Result<Digest, ArtifactError> {
        self.calls += 1;
        let path = path.strip_prefix(&self.base)?;
        Ok(flowyard_cas::digest_bytes(format!("{kind} {}", path.display()).as_bytes()))
    }
}

impl Artifacts for ByPath {
    fn path(&mut self, path: &Path) -> Result<Digest, ArtifactError> {
        self.digest("path", path)
    }

    fn code(&mut self, folder: &Path) -> Result<Digest, ArtifactError> {
        self.digest("code", folder)
    }

    fn items(&mut self, blob: Vec<u8>) -> Result<Digest, ArtifactError> {
        Ok(flowyard_cas::digest_bytes(&blob))
    }
}

#[test]
fn the_iris_flow_becomes_the_expected_job() {
    let file = here().join("../../examples/iris/flow.toml");
    let flow = Flow::load(&file).unwrap();
    let mut artifacts = ByPath { base: base_of(&file).to_owned(), calls: 0 };
    let folds = [("folds".to_owned(), "10".to_owned())];
    let spec = flow.resolve(base_of(&file), &folds, &mut artifacts).unwrap();
    assert_eq!(artifacts.calls, 2, "the same folder of code is stored once");
    let json = serde_json::to_string_pretty(&spec).unwrap();
    assert_golden(&here().join("testdata/iris.json"), &format!("{json}\n"));
    let expected = "flow iris\nparameters (give with -P NAME=VALUE)\n  folds  int     default 5\nsteps\n  split  1 task\n  \
                    train  1 task per item of split/grid, after split\n  pick   1 task, after train\n";
    assert_eq!(flow.describe().unwrap().to_string(), expected);
}

#[test]
fn a_flow_with_every_field_becomes_the_expected_job() {
    let text = fs::read_to_string(here().join("testdata/full.toml")).unwrap();
    let flow = Flow::parse("full.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let mut artifacts = ByPath { base: tree(), calls: 0 };
    let spec = flow.resolve(&tree(), &[], &mut artifacts).unwrap_or_else(|error| panic!("{error}"));
    assert_golden(&here().join("testdata/full.json"), &format!("{}\n", serde_json::to_string_pretty(&spec).unwrap()));
}

#[test]
fn every_example_is_a_flow() {
    let mut count = 0;
    for entry in fs::read_dir(here().join("../../examples")).unwrap() {
        let file = entry.unwrap().path().join("flow.toml");
        if file.is_file() {
            let flow = Flow::load(&file).unwrap_or_else(|error| panic!("{error}"));
            flow.resolve(base_of(&file), &[], &mut Packing::default()).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
    }
    assert!(count >= 4, "only {count} examples were found");
}

#[test]
fn a_one_step_job_takes_its_words_as_they_are_and_names_flags_when_it_is_wrong() {
    let name: Name = "echo".parse().unwrap();
    let run = ["sh", "-c", "echo ${HOME} ${params.x}"].map(str::to_owned).to_vec();
    let step = FlowStep { run: run.clone(), foreach: Some(flags::array("0-99").unwrap()), ..FlowStep::default() };
    let flow = Flow::one_step(name.clone(), step.clone());
    let spec = flow.resolve(&tree(), &[], &mut Packing::default()).unwrap();
    assert_eq!(spec.steps[0].command, run);

    let inputs = [flags::input("data=./missing.csv").unwrap(), flags::input("up=../x").unwrap()].into();
    let step = FlowStep { inputs, ..step };
    let error = Flow::one_step(name.clone(), step).resolve(Path::new("."), &[], &mut Packing::default()).unwrap_err();
    let expected = "--input data: there is no file or folder `./missing.csv` in `.`\n--input up: `../x` climbs out of the folder \
                    of the flow with `..`\n   = write its absolute path, or move it below that folder";
    assert_eq!(error.to_string(), expected);
    let error = Flow::one_step(name, FlowStep::default()).resolve(Path::new("."), &[], &mut Packing::default());
    assert_eq!(error.unwrap_err().to_string(), "the command: `run`: name a program to run");
}

#[test]
fn the_reference_is_the_one_in_docs() {
    let path = here().join("../../docs/flow-file.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    assert_golden(&path, &flowyard_sdk::flow::reference_markdown());
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,300}|[\\[\\]{}=\"'.,#a-z0-9\\n\\t -]{0,300}") {
        if let Err(error) = Flow::parse("flow.toml", text.as_bytes()) {
            let message = error.to_string();
            prop_assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
        }
    }

    #[test]
    fn no_damage_to_a_flow_makes_the_reader_panic(
        cuts in proptest::collection::vec((any::<u16>(), 0_usize..40, "\\PC{0,6}|[\\x00-\\x1f\\[\\]{}\"=./$0-9-]{0,6}"), 1..6),
    ) {
        let mut text = fs::read_to_string(here().join("testdata/full.toml")).unwrap();
        for (at, length, put) in cuts {
            let floor = |mut at: usize| { while !text.is_char_boundary(at) { at -= 1 } at };
            let start = floor(usize::from(at) % text.len());
            let end = floor((start + length).min(text.len()));
            text.replace_range(start..end, &put);
        }
        let result = Flow::parse("flow.toml", text.as_bytes());
        let result = result.and_then(|flow| flow.resolve(&tree(), &[], &mut Packing::default()));
        if let Err(error) = result {
            let message = error.to_string();
            prop_assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
        }
    }
}
