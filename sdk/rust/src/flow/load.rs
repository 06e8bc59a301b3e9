//! Ways to come by a flow: a file, its text, or the flags of a one-step job.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use flowyard_model::{Name, QueuePath};

use super::links::check;
use super::problem::{FlowError, Problems};
use super::read::read;
use super::source::Source;
use super::spec::{Flow, FlowStep};
use crate::shown::shown;

/// Bytes of a flow file; more is not a flow but data.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

impl Flow {
    /// Reads and checks the flow file at `path`. Paths in it are relative to [`base_of`] it.
    ///
    /// # Errors
    /// The file cannot be read, or everything wrong that was found in it.
    pub fn load(path: &Path) -> Result<Self, FlowError> {
        let file = path.display().to_string();
        let bytes = bytes_of(path, FILE_BYTES).map_err(|error| {
            let inside = path.join("flow.toml");
            let help = inside.is_file().then(|| format!("did you mean {}?", shown(&inside.display().to_string())));
            FlowError::unreadable(&file, format!("cannot read the flow file: {error}"), help)
        })?;
        let Some(bytes) = bytes else {
            let message = format!("the flow file is larger than {} MiB", FILE_BYTES >> 20);
            let help = "let a step write the list that makes it so large, and name it in `foreach`";
            return Err(FlowError::whole(&file, message, Some(help.to_owned())));
        };
        Self::parse(&file, &bytes)
    }

    /// Reads and checks the text of a flow file; `file` is what messages call it.
    ///
    /// # Errors
    /// Everything wrong that was found.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, FlowError> {
        let flow = read(file, text_of(file, bytes, "the flow file")?)?;
        check(&flow)?;
        Ok(flow)
    }

    /// The flow of a single step, made from flags: nothing is put into its words, and problems name flags instead of lines.
    pub fn one_step(name: Name, step: FlowStep) -> Self {
        Self {
            queue: QueuePath::fallback(),
            priority: 0,
            tags: BTreeSet::new(),
            retention_ms: None,
            deadline_ms: None,
            queue_ttl_ms: None,
            after: Vec::new(),
            params: Vec::new(),
            steps: vec![(name.clone(), step)],
            name,
            substitutes: false,
            source: Source::of_flags(),
        }
    }
}

/// The bytes of a file, unless there are more than `most`.
pub(crate) fn bytes_of(path: &Path, most: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// The text of a file, which messages call `what`.
pub(crate) fn text_of<'b>(file: &str, bytes: &'b [u8], what: &str) -> Result<&'b str, FlowError> {
    std::str::from_utf8(bytes).map_err(|error| not_utf8(file, bytes, error.valid_up_to(), what))
}

/// The folder that paths in a flow file are relative to: the one the file is in.
pub fn base_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn not_utf8(file: &str, bytes: &[u8], valid: usize, what: &str) -> FlowError {
    let line_end = bytes[valid..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| valid + at);
    let text = String::from_utf8_lossy(&bytes[..line_end]).into_owned();
    let source = Source::of_file(file, &text);
    let mut problems = Problems::new(&source);
    let message = format!("{what} is not UTF-8: byte {:#04x} at offset {valid}", bytes[valid]);
    problems.at_span(valid..valid, "", message).help("save it as UTF-8");
    problems.into_result(|| ()).expect_err("a problem was reported")
}
