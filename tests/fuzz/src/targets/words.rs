//! What people write: flow files, values of flags, names and references.

use flowyard_model::{Digest, Name, QueuePath, Reference};
use flowyard_sdk::flow::Flow;
use flowyard_sdk::{flags, units};

use super::{Target, quick, text, texts};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "flow-file", run: flow_file, corpus: flow_files, inputs: 1_000 },
    quick("flags", flag_values, flags_written),
    quick("units", quantities, || texts(&["256MiB", "10m", "0.5", "18446744073709551615TiB", "1e9s"])),
    quick("names", names, || texts(&["17/train/3#2.5", "train", "a.b/c", "team/ml"])),
];

fn flow_file(bytes: &[u8]) -> bool {
    Flow::parse("flow.toml", bytes).is_ok()
}

fn flow_files() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../../../examples/iris/flow.toml").to_vec()]
}

fn flag_values(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let accepted = [
        flags::param(text).is_ok(),
        flags::env(text).is_ok(),
        flags::variable_name(text).is_ok(),
        flags::input(text).is_ok(),
        flags::output(text).is_ok(),
        flags::output_path(text).is_ok(),
        flags::label(text).is_ok(),
        flags::retry(text).is_ok(),
        flags::gpu(text).is_ok(),
        flags::array(text).is_ok(),
        flags::mount(text).is_ok(),
        flags::network(text).is_ok(),
        flags::image(text).is_ok(),
    ];
    accepted.contains(&true)
}

fn flags_written() -> Vec<Vec<u8>> {
    texts(&["a=b", "3", "1-20", "2xA100:40GiB", "model=train/out", "/data:ro", "host", "registry/name@sha256:aa"])
}

fn quantities(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let read = [units::bytes(text).is_ok(), units::duration_ms(text).is_ok(), units::cpu_milli(text).is_ok()];
    read.contains(&true)
}

fn names(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let mut accepted = false;
    if let Ok(name) = text.parse::<Name>() {
        assert_eq!(name.to_string().parse::<Name>().ok(), Some(name));
        accepted = true;
    }
    if let Ok(path) = text.parse::<QueuePath>() {
        assert_eq!(path.as_str().parse::<QueuePath>().ok(), Some(path));
        accepted = true;
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().ok(), Some(reference));
        accepted = true;
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse::<Digest>().ok(), Some(digest));
        accepted = true;
    }
    accepted
}
