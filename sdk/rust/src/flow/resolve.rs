//! Third phase: values of parameters chosen, paths and lists stored.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use flowyard_cas::items::encode_items;
use flowyard_model::{Digest, Image, Input, ItemList, Name, StepIndex};

use super::artifacts::{ArtifactError, Artifacts};
use super::links::{Graph, InputLink, is_plainly_path};
use super::params::{ParamValue, unknown_param};
use super::problem::Problems;
use super::spec::{Flow, FlowStep, Foreach, ImageSource};
use crate::shown::{chain, did_you_mean, shown, shown_whole};

/// Characters of a message from below that are repeated.
const MESSAGE_CHARS: usize = 4_096;

/// What one step reads, stored.
pub(crate) struct Stored {
    pub(crate) code: Option<Digest>,
    pub(crate) image: Image,
    pub(crate) inputs: BTreeMap<Name, Input>,
    pub(crate) items: Option<ItemList>,
}

/// The value of every parameter: given, or its default.
pub(crate) fn choose_params(
    flow: &Flow,
    given: &[(String, String)],
    problems: &mut Problems<'_>,
) -> BTreeMap<Name, ParamValue> {
    let mut values = BTreeMap::new();
    for (index, (name, text)) in given.iter().enumerate() {
        let place = format!("-P {}={}", shown(name), shown(text));
        let Some(param) = flow.params.iter().find(|param| param.name.as_str() == name) else {
            problems.outside(place, unknown_param(name, &flow.params).to_string());
            continue;
        };
        if given[..index].iter().any(|(earlier, _)| earlier == name) {
            problems.outside(place, format!("parameter `{name}` is given twice"));
            continue;
        }
        let Some(value) = param.kind.read(text) else {
            let message = format!("expected {} (the parameter is of type {})", param.kind.expects(), param.kind);
            problems.outside(place, message);
            continue;
        };
        if !param.choices.is_empty() && !param.choices.contains(&value) {
            let choices: Vec<_> = param.choices.iter().map(|choice| shown(&choice.to_text())).collect();
            problems.outside(place, format!("expected one of {}", choices.join(", ")));
            continue;
        }
        values.insert(param.name.clone(), value);
    }
    fill_defaults(flow, given, &mut values, problems);
    values
}

fn fill_defaults(
    flow: &Flow,
    given: &[(String, String)],
    values: &mut BTreeMap<Name, ParamValue>,
    problems: &mut Problems<'_>,
) {
    for param in &flow.params {
        let named = given.iter().any(|(name, _)| param.name.as_str() == name);
        match &param.default {
            Some(default) => drop(values.entry(param.name.clone()).or_insert_with(|| default.clone())),
            None if named => {}
            None => {
                let message = format!("parameter `{}` has no default and was given no value", param.name);
                let help = format!("give it with -P {}=VALUE ({})", param.name, param.kind.expects());
                problems.at_path(&format!("params.{}", param.name), message).help(help);
            }
        }
    }
}

/// Stores what the steps of one flow name; each path once.
pub(crate) struct Storing<'a, 'p> {
    pub(crate) flow: &'a Flow,
    pub(crate) base: &'a Path,
    pub(crate) artifacts: &'a mut dyn Artifacts,
    pub(crate) problems: &'a mut Problems<'p>,
    pub(crate) done: BTreeMap<(PathBuf, bool), Option<Digest>>,
}

impl Storing<'_, '_> {
    /// Everything that step number `at` reads. `ranks` gives each step's place in the job.
    pub(crate) fn step(&mut self, graph: &Graph, at: usize, ranks: &[StepIndex]) -> Stored {
        let (name, step) = &self.flow.steps[at];
        let mut inputs = BTreeMap::new();
        for (input, link) in &graph.links[at].inputs {
            let path = format!("steps.{name}.inputs.{input}");
            let text = &step.inputs[input];
            let stored = match link {
                InputLink::Path => self.path(&path, text, false).map(|manifest| Input::Stored { manifest }),
                InputLink::Output(source, output) => {
                    self.refuse_ambiguous(&path, text);
                    Some(Input::Output { step: ranks[*source], output: output.clone() })
                }
            };
            inputs.extend(stored.map(|stored| (input.clone(), stored)));
        }
        let code = step.code.as_ref().and_then(|text| self.path(&format!("steps.{name}.code"), text, true));
        Stored { code, image: self.image(name, step), inputs, items: self.items(name, step) }
    }

    fn refuse_ambiguous(&mut self, path: &str, text: &str) {
        if fs::symlink_metadata(self.base.join(text)).is_ok() {
            let message = format!("`{text}` is both an output of a step and a file or folder here");
            let help = format!("write ./{text} to mean the path; to mean the output, rename the step or the folder");
            self.problems.at_path(path, message).help(help);
        }
    }

    fn image(&mut self, name: &Name, step: &FlowStep) -> Image {
        let Some(ImageSource::Path(text)) = &step.image else { return Image::Host };
        let path = format!("steps.{name}.image");
        let place = self.base.join(text);
        if place.is_dir() && !place.join("oci-layout").exists() {
            let message = format!("`{}` is a folder without the file `oci-layout`: not an OCI layout", shown(text));
            let help = "make one with `skopeo copy docker://IMAGE oci:FOLDER`, or one file with oci-archive:image.tar";
            self.problems.at_path(&path, message).help(help);
            return Image::Host;
        }
        match self.path(&path, text, false) {
            Some(manifest) => Image::Stored { manifest, source: text.clone() },
            None => Image::Host,
        }
    }

    fn items(&mut self, name: &Name, step: &FlowStep) -> Option<ItemList> {
        let Some(Foreach::Items(items)) = &step.foreach else { return None };
        let path = format!("steps.{name}.foreach");
        let encoded = encode_items(items.iter().map(String::as_str)).map_err(ArtifactError::from);
        match encoded.and_then(|blob| self.artifacts.items(blob)) {
            Ok(digest) => Some(ItemList { items: digest, count: u32::try_from(items.len()).unwrap_or(u32::MAX) }),
            Err(error) => {
                self.problems.at_path(&path, said(error.as_ref()));
                None
            }
        }
    }

    /// Stores a path of the user. A failure is reported at each place that names it.
    fn path(&mut self, path: &str, text: &str, is_code: bool) -> Option<Digest> {
        let place: PathBuf = self.base.join(text).components().collect();
        if let Some(Some(digest)) = self.done.get(&(place.clone(), is_code)) {
            return Some(*digest);
        }
        if let Err((message, help)) = self.look(text, &place) {
            let reported = self.problems.at_path(path, message);
            if let Some(help) = help {
                reported.help(help);
            }
            return None;
        }
        let stored = if is_code { self.artifacts.code(&place) } else { self.artifacts.path(&place) };
        let digest = match stored {
            Ok(digest) => Some(digest),
            Err(error) => {
                self.problems.at_path(path, said(error.as_ref()));
                None
            }
        };
        self.done.insert((place, is_code), digest);
        digest
    }

    /// What can be said of a path before it is read.
    fn look(&self, text: &str, place: &Path) -> Result<(), (String, Option<String>)> {
        if climbs_out(text) {
            let message = format!("`{}` climbs out of the folder of the flow with `..`", shown(text));
            return Err((message, Some("write its absolute path, or move it below that folder".to_owned())));
        }
        match fs::symlink_metadata(place) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                let folder = shown_whole(&self.base.display().to_string(), MESSAGE_CHARS);
                let folder = if folder.is_empty() { ".".to_owned() } else { folder };
                let message = match text.starts_with('/') {
                    true => format!("there is no file or folder `{}`", shown(text)),
                    false => format!("there is no file or folder `{}` in `{folder}`", shown(text)),
                };
                Err((message, self.perhaps_a_step(text)))
            }
            _ => Ok(()),
        }
    }

    /// For `trian/model`: a path by its form, a misspelt step by its meaning.
    fn perhaps_a_step(&self, text: &str) -> Option<String> {
        let (step, _) = text.split_once('/').filter(|_| !is_plainly_path(text))?;
        let suggestion = did_you_mean(step, self.flow.steps.iter().map(|(name, _)| name.as_str()));
        Some(format!("there is no step `{}` either{suggestion}", shown(step)))
    }
}

/// Whether a relative path leaves the folder it starts from, by its text alone.
fn climbs_out(text: &str) -> bool {
    let mut depth = 0_i64;
    for part in Path::new(text).components() {
        match part {
            Component::RootDir | Component::Prefix(_) => return false,
            Component::CurDir => {}
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

/// An error with its causes, made harmless.
fn said(error: &(dyn Error + 'static)) -> String {
    shown_whole(&chain(error), MESSAGE_CHARS)
}
