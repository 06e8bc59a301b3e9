//! Values of command-line flags, in the same words as the flow file: `--retry times=2,backoff=5s`, `--input data=./x.csv`.
//!
//! Every parser takes the text of one flag and returns a typed value or an error that says what would be accepted, so that it
//! can be handed to the argument parser as it is.

use flowyard_model::{
    GpuLink, GpuRequest, HostMount, Name, NameError, NetworkMode, Retry, RetryOn, StopSignal, limits,
};

use crate::flow::{Foreach, ImageSource, fallback};
use crate::shown::{did_you_mean, shown};
use crate::units::{self, QuantityError};

pub use crate::flow::{ConstraintError, constraint};
pub use crate::units::{bytes, cpu_milli, duration_ms, positive_duration_ms};

/// Why the value of a flag is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// Not of the form `A=B`.
    #[error("`{text}` is not of the form {form}")]
    Form {
        /// What was written, made harmless.
        text: String,
        /// What is accepted.
        form: &'static str,
    },
    /// Not a name.
    #[error("`{text}` cannot be a name: {source}")]
    Name {
        /// What was written, made harmless.
        text: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// Not the name of a variable that may be set.
    #[error("`{text}` cannot be a variable: {problem}")]
    Variable {
        /// What was written, made harmless.
        text: String,
        /// Why not.
        problem: &'static str,
    },
    /// A path that is not below the working directory.
    #[error("`{text}` cannot be an output: a path below the working directory, without `..` and without `/` in front")]
    OutputPath {
        /// What was written, made harmless.
        text: String,
    },
    /// A quantity.
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    /// A number out of bounds.
    #[error("`{text}` is not a whole number from {low} to {high}")]
    Number {
        /// What was written, made harmless.
        text: String,
        /// The least.
        low: u32,
        /// The most.
        high: u32,
    },
    /// An unknown word.
    #[error("`{text}` is unknown{suggestion}; {form}")]
    Word {
        /// What was written, made harmless.
        text: String,
        /// `; did you mean ...` or nothing.
        suggestion: String,
        /// What is accepted.
        form: &'static str,
    },
    /// An empty or too long range.
    #[error("`{text}` is not a range of tasks: FIRST-LAST with LAST not below FIRST and at most {most} numbers, such as 0-99", most = limits::TASKS_PER_STEP)]
    Range {
        /// What was written, made harmless.
        text: String,
    },
    /// Alternatives of GPUs that do not go together.
    #[error(
        "{problem}; each `--gpu` is an alternative, the first preferred: --gpu count=2,model=H100 --gpu count=4,model=A100"
    )]
    Alternatives {
        /// What is wrong with them.
        problem: String,
    },
    /// A mount that is not an absolute path.
    #[error("`{text}` is not a mount: an absolute path without `..`, then `:ro` or `:rw`, such as /data:ro")]
    Mount {
        /// What was written, made harmless.
        text: String,
    },
    /// An image that would have to be pulled.
    #[error(
        "image `{text}` is not a path (write ./{text} if it is one), and pulling from a registry is not supported yet; save \
         it with `skopeo copy docker://{text} oci-archive:image.tar` and write \"./image.tar\", or write \"host\" for the \
         node's own system"
    )]
    Registry {
        /// What was written, made harmless, without scheme.
        text: String,
    },
}

/// Ends that a retry rule can name.
pub const RETRY_ON: [(&str, RetryOn); 3] =
    [("failed", RetryOn::Failed), ("oom", RetryOn::Oom), ("timeout", RetryOn::Timeout)];

const RETRY_FORM: &str = "write 2, or times=2,backoff=5s,on=failed+oom+timeout";
const GPU_FORM: &str = "write 2, or count=2,model=H100,memory=40GiB";

const LINK_FORM: &str = "write link=nvlink, link=pcie or link=numa";

/// How near to each other GPUs have to be.
pub(crate) const LINKS: [(&str, GpuLink); GpuLink::ALL.len()] =
    [("nvlink", GpuLink::Nvlink), ("pcie", GpuLink::Pcie), ("numa", GpuLink::Numa)];

/// A retry rule for all ends of user blame.
pub(crate) fn retry_all(times: u32) -> Retry {
    Retry::plain(times, fallback::BACKOFF_MS, RETRY_ON.map(|(_, end)| end))
}

/// `NAME=TEXT`, the text kept as it is.
fn pair<'t>(text: &'t str, form: &'static str) -> Result<(&'t str, &'t str), FlagError> {
    text.split_once('=').ok_or_else(|| FlagError::Form { text: shown(text), form })
}

fn name(text: &str) -> Result<Name, FlagError> {
    text.parse().map_err(|source| FlagError::Name { text: shown(text), source })
}

/// `-P NAME=VALUE`.
///
/// # Errors
/// [`FlagError`].
pub fn param(text: &str) -> Result<(String, String), FlagError> {
    pair(text, "NAME=VALUE, such as folds=10").map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// `--env NAME=VALUE`.
///
/// # Errors
/// [`FlagError`].
pub fn env(text: &str) -> Result<(String, String), FlagError> {
    let (name, value) = pair(text, "NAME=VALUE, such as LEVEL=3")?;
    variable_name(name)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Whether a variable of this name may be set.
///
/// # Errors
/// [`FlagError::Variable`].
pub fn variable_name(text: &str) -> Result<(), FlagError> {
    let refused = |problem| Err(FlagError::Variable { text: shown(text), problem });
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return refused("its name consists of letters, digits and `_`, and does not start with a digit");
    }
    if text.len() > limits::TEXT_BYTES {
        return refused("its name has at most 256 bytes");
    }
    if text.starts_with("FLOWYARD_") {
        return refused("those starting with FLOWYARD_ are set by Flowyard");
    }
    Ok(())
}

/// `--input NAME=PATH`.
///
/// # Errors
/// [`FlagError`].
pub fn input(text: &str) -> Result<(Name, String), FlagError> {
    let (label, path) = pair(text, "NAME=PATH, such as data=./iris.csv")?;
    Ok((name(label)?, path.to_owned()))
}

/// `--output NAME=PATH`.
///
/// # Errors
/// [`FlagError`].
pub fn output(text: &str) -> Result<(Name, String), FlagError> {
    let (label, path) = pair(text, "NAME=PATH, such as model=model.json")?;
    output_path(path)?;
    Ok((name(label)?, path.to_owned()))
}

/// Whether a path can be an output.
///
/// # Errors
/// [`FlagError::OutputPath`].
pub fn output_path(path: &str) -> Result<(), FlagError> {
    let inside = !path.starts_with('/') && !path.split('/').any(|part| part == "..");
    let whole = !path.is_empty() && path.len() <= 4_096 && !path.contains('\0');
    if inside && whole { Ok(()) } else { Err(FlagError::OutputPath { text: shown(path) }) }
}

/// `--label NAME=VALUE`: the node must have it.
///
/// # Errors
/// [`FlagError`].
pub fn label(text: &str) -> Result<(Name, String), FlagError> {
    const FORM: &str = "NAME=VALUE, such as rack=r1";
    let (label, value) = pair(text, FORM)?;
    let fits = !value.is_empty() && value.len() <= limits::TEXT_BYTES && !value.chars().any(char::is_control);
    if !fits {
        return Err(FlagError::Form { text: shown(text), form: FORM });
    }
    Ok((name(label)?, value.to_owned()))
}

/// `--token NAME` or `--token NAME=COUNT`.
///
/// # Errors
/// [`FlagError`].
pub fn token(text: &str) -> Result<(Name, u32), FlagError> {
    const FORM: &str = "NAME=COUNT, such as matlab=1";
    let (token, count) = text.split_once('=').unwrap_or((text, "1"));
    let count = count.parse().ok().filter(|count| (1..=limits::QUEUE_TOKENS).contains(&u64::from(*count)));
    Ok((name(token)?, count.ok_or(FlagError::Form { text: shown(text), form: FORM })?))
}

/// `--retry 2` or `--retry times=2,backoff=5s,on=failed+oom`.
///
/// # Errors
/// [`FlagError`].
pub fn retry(text: &str) -> Result<Retry, FlagError> {
    let mut retry = retry_all(0);
    if !text.contains('=') {
        retry.times = number(text, 0, limits::RETRIES)?;
        return Ok(retry);
    }
    let mut times = None;
    for part in text.split(',') {
        match pair(part, "times=2,backoff=5s,on=failed+oom+timeout")? {
            ("times", value) => times = Some(number(value, 0, limits::RETRIES)?),
            ("backoff", value) => retry.backoff_ms = units::duration_ms(value)?,
            ("on", value) => retry.on = value.split('+').map(retry_on).collect::<Result<_, _>>()?,
            (other, _) => return Err(word(other, ["times", "backoff", "on"], RETRY_FORM)),
        }
    }
    retry.times = times.ok_or_else(|| FlagError::Form { text: shown(text), form: "times=2,backoff=5s" })?;
    Ok(retry)
}

fn retry_on(text: &str) -> Result<RetryOn, FlagError> {
    let found = RETRY_ON.iter().find(|(word, _)| *word == text).map(|(_, end)| *end);
    found.ok_or_else(|| word(text, RETRY_ON.map(|(word, _)| word), RETRY_FORM))
}

/// `--gpu 2`, `--gpu count=2,model=H100,memory=40GiB`, `--gpu count=2,link=pcie` or `--gpu share=0.25,memory=10GiB`; `0` for none.
///
/// # Errors
/// [`FlagError`].
pub fn gpu(text: &str) -> Result<Option<GpuRequest>, FlagError> {
    let mut request = any_gpus(1);
    if !text.contains('=') {
        let count = number(text, 0, limits::GPUS)?;
        return Ok((count > 0).then(|| any_gpus(count)));
    }
    for part in text.split(',') {
        match pair(part, "count=2,model=H100,memory=40GiB")? {
            ("count", value) => request.count = number(value, 1, limits::GPUS)?,
            ("model", value) => request.model = Some(value.to_owned()),
            ("memory", value) => request.min_memory_bytes = units::bytes(value)?,
            ("share", value) => request.share_milli = u32::try_from(units::share_milli(value)?).unwrap_or(1_000),
            ("link", value) => {
                let link = LINKS.iter().find(|(word, _)| *word == value).map(|(_, link)| *link);
                request.link = Some(link.ok_or_else(|| word(value, LINKS.map(|(word, _)| word), LINK_FORM))?);
            }
            (other, _) => return Err(word(other, ["count", "model", "memory", "share", "link"], GPU_FORM)),
        }
    }
    Ok(Some(of_share(request)))
}

/// All that `--gpu` was given, each an alternative, the first preferred: what a step asks for; empty for no GPU.
///
/// # Errors
/// [`FlagError::Alternatives`].
pub fn gpu_alternatives(given: &[Option<GpuRequest>]) -> Result<Vec<GpuRequest>, FlagError> {
    let refused = |problem: String| Err(FlagError::Alternatives { problem });
    let requests: Vec<GpuRequest> = given.iter().flatten().cloned().collect();
    if requests.len() < given.len() && given.len() > 1 {
        return refused("0, which is none, is no alternative to others".to_owned());
    }
    if requests.len() > limits::GPU_ALTERNATIVES {
        return refused(format!("at most {} alternatives, these are {}", limits::GPU_ALTERNATIVES, requests.len()));
    }
    match GpuRequest::repeated(&requests) {
        Some((again, first)) => {
            refused(format!("alternative {} asks for the same as alternative {}", again + 1, first + 1))
        }
        None => Ok(requests),
    }
}

/// So many whole devices of any kind.
pub(crate) fn any_gpus(count: u32) -> GpuRequest {
    GpuRequest {
        count,
        model: None,
        min_memory_bytes: 0,
        same_link_group: false,
        share_milli: 1_000,
        memory_bytes: 0,
        link: None,
    }
}

/// The same request where memory that was said beside a share is the share's: the device has at least that much anyway.
pub(crate) fn of_share(request: GpuRequest) -> GpuRequest {
    let memory_bytes = if request.share_milli < 1_000 { request.min_memory_bytes } else { 0 };
    GpuRequest { memory_bytes, min_memory_bytes: request.min_memory_bytes - memory_bytes, ..request }
}

/// `--array FIRST-LAST`, both included.
///
/// # Errors
/// [`FlagError::Range`].
pub fn array(text: &str) -> Result<Foreach, FlagError> {
    let refused = || FlagError::Range { text: shown(text) };
    let (first, last) = text.split_once('-').ok_or_else(refused)?;
    let plain = |text: &str| text.parse::<i64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let (start, last) = plain(first).zip(plain(last)).ok_or_else(refused)?;
    let count = last.checked_sub(start).and_then(|rest| rest.checked_add(1)).filter(|count| *count > 0);
    let count = count.and_then(|count| u32::try_from(count).ok()).filter(|count| *count <= limits::TASKS_PER_STEP);
    Ok(Foreach::Range { start, count: count.ok_or_else(refused)? })
}

/// `--mount PATH[:ro|:rw]`.
///
/// # Errors
/// [`FlagError::Mount`].
pub fn mount(text: &str) -> Result<HostMount, FlagError> {
    let (path, read_only) = match text.rsplit_once(':') {
        Some((path, "ro")) => (path, true),
        Some((path, "rw")) => (path, false),
        Some(_) => return Err(FlagError::Mount { text: shown(text) }),
        None => (text, true),
    };
    let plain = path.starts_with('/') && !path.split('/').any(|part| part == "..") && !path.contains('\0');
    if !plain {
        return Err(FlagError::Mount { text: shown(text) });
    }
    Ok(HostMount { path: path.to_owned(), read_only })
}

/// `--network private`, `--network host` or `--network none`.
///
/// # Errors
/// [`FlagError`].
pub fn network(text: &str) -> Result<NetworkMode, FlagError> {
    const FORM: &str = "write private for a network of its own, host for the node's network, or none for loopback only";
    match text {
        "private" => Ok(NetworkMode::Private),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        other => Err(word(other, ["private", "host", "none"], FORM)),
    }
}

/// The signals of [`stop_signal`].
const STOP_SIGNALS: [(&str, StopSignal); 6] = [
    ("SIGTERM", StopSignal::Term),
    ("SIGINT", StopSignal::Int),
    ("SIGHUP", StopSignal::Hup),
    ("SIGQUIT", StopSignal::Quit),
    ("SIGUSR1", StopSignal::Usr1),
    ("SIGUSR2", StopSignal::Usr2),
];

/// `--stop-signal SIGINT`, with or without `SIG`.
///
/// # Errors
/// [`FlagError`].
pub fn stop_signal(text: &str) -> Result<StopSignal, FlagError> {
    const FORM: &str = "write SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 or SIGUSR2";
    let named = |word: &str| text == word || Some(text) == word.strip_prefix("SIG");
    let found = STOP_SIGNALS.iter().find(|(word, _)| named(word)).map(|(_, signal)| *signal);
    found.ok_or_else(|| word(text, STOP_SIGNALS.map(|(word, _)| word), FORM))
}

/// `--image host` or `--image ./image.tar`.
///
/// # Errors
/// [`FlagError::Registry`].
pub fn image(text: &str) -> Result<ImageSource, FlagError> {
    if text == "host" {
        return Ok(ImageSource::Host);
    }
    if text.starts_with("./") || text.starts_with("../") || text.starts_with('/') {
        return Ok(ImageSource::Path(text.to_owned()));
    }
    let name = text.split_once("://").map_or(text, |(_, name)| name);
    Err(FlagError::Registry { text: shown(name) })
}

fn number(text: &str, low: u32, high: u32) -> Result<u32, FlagError> {
    let number = text.parse().ok().filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| FlagError::Number { text: shown(text), low, high })
}

fn word<const N: usize>(text: &str, known: [&'static str; N], form: &'static str) -> FlagError {
    FlagError::Word { text: shown(text), suggestion: did_you_mean(text, known), form }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_take_the_same_words_as_the_flow_file() {
        assert_eq!(retry("2"), Ok(retry_all(2)));
        let rule = retry("times=2,backoff=5s,on=failed+oom").unwrap();
        assert_eq!((rule.times, rule.backoff_ms, rule.on.len()), (2, 5_000, 2));
        assert_eq!(array("0-99"), Ok(Foreach::Range { start: 0, count: 100 }));
        assert_eq!(array("5-5"), Ok(Foreach::Range { start: 5, count: 1 }));
        assert_eq!(mount("/data:rw"), Ok(HostMount { path: "/data".into(), read_only: false }));
        assert_eq!(env("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(gpu("count=2,model=H100,memory=40GiB").unwrap().unwrap().min_memory_bytes, 40 << 30);
        assert_eq!(gpu("count=2,link=pcie").unwrap().unwrap().link, Some(GpuLink::Pcie));
        let none = gpu("count=2,link=pci").unwrap_err().to_string();
        assert!(none.contains("`pci`") && none.contains("link=nvlink, link=pcie or link=numa"), "{none}");
        let share = gpu("share=0.25,memory=10GiB").unwrap().unwrap();
        assert_eq!((share.share_milli, share.memory_bytes, share.min_memory_bytes), (250, 10 << 30, 0));
        assert_eq!(gpu("share=0.5").unwrap().unwrap().memory_bytes, 0, "as large a part as the share");
        assert!(gpu("share=1.5").is_err() && gpu("share=0").is_err());
        assert_eq!((stop_signal("INT"), stop_signal("SIGINT")), (Ok(StopSignal::Int), Ok(StopSignal::Int)));
        assert_eq!(image("./a.tar"), Ok(ImageSource::Path("./a.tar".into())));
    }

    #[test]
    fn each_gpu_flag_is_an_alternative_in_the_order_given() {
        let given = |texts: &[&str]| texts.iter().map(|text| gpu(text).unwrap()).collect::<Vec<_>>();
        let both = gpu_alternatives(&given(&["count=2,model=H100", "count=4,model=A100"])).unwrap();
        let told: Vec<_> = both.iter().map(|it| (it.count, it.model.as_deref())).collect();
        assert_eq!(told, [(2, Some("H100")), (4, Some("A100"))]);
        assert_eq!(gpu_alternatives(&given(&["0"])), Ok(vec![]));
        let many: Vec<_> = (1..=9).map(|count: u32| count.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (texts, expected) in [
            (&["0", "1"][..], "0, which is none, is no alternative"),
            (&["1", "count=2", "count=1"], "alternative 3 asks for the same as alternative 1"),
            (&["count=1,model=h100", "model=H100"], "alternative 2 asks for the same as alternative 1"),
            (&many, "at most 8 alternatives, these are 9"),
        ] {
            let error = gpu_alternatives(&given(texts)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("the first preferred"), "{error}");
        }
    }

    #[test]
    fn what_is_refused_says_what_would_be_accepted() {
        for (error, expected) in [
            (retry("often").unwrap_err(), "`often` is not a whole number from 0 to 1000"),
            (retry("times=2,of=oom").unwrap_err(), "write 2, or times=2,backoff=5s,on=failed+oom+timeout"),
            (retry("times=2,on=fail").unwrap_err(), "`fail` is unknown; did you mean `failed`?; write 2"),
            (array("9-3").unwrap_err(), "LAST not below FIRST"),
            (array("100").unwrap_err(), "FIRST-LAST"),
            (array("0-99999999").unwrap_err(), "at most 10000000 numbers"),
            (array("-3-4").unwrap_err(), "FIRST-LAST"),
            (env("1A=x").unwrap_err(), "does not start with a digit"),
            (env("FLOWYARD_X=1").unwrap_err(), "are set by Flowyard"),
            (env("A").unwrap_err(), "`A` is not of the form NAME=VALUE"),
            (input("data").unwrap_err(), "`data` is not of the form NAME=PATH"),
            (input("=x").unwrap_err(), "a name must not be empty"),
            (output("m=../m").unwrap_err(), "a path below the working directory"),
            (mount("data:ro").unwrap_err(), "an absolute path"),
            (mount("/a:rx").unwrap_err(), "`:ro` or `:rw`"),
            (stop_signal("SIGKILL").unwrap_err(), "write SIGTERM, SIGINT"),
            (network("hots").unwrap_err(), "did you mean `host`?; write private for a network of its own"),
            (image("docker://python:3.12").unwrap_err(), "skopeo copy docker://python:3.12 oci-archive:image.tar"),
        ] {
            assert!(error.to_string().contains(expected), "{error}\nlacks\n{expected}");
        }
    }
}
