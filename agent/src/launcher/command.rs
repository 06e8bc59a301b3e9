//! The command of a process attempt: where the program may be, and in which words a user learns that it is nowhere.

use std::ffi::{CString, NulError, c_char};
use std::path::Path;
use std::ptr::null;

use crate::runtime::spec::{ExitCause, LaunchSpec};

/// What shells use when the environment has no PATH.
const STANDARD_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Strings as `execve` wants them.
#[derive(Debug)]
pub(crate) struct CStrings {
    owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CStrings {
    fn new(strings: impl Iterator<Item = Vec<u8>>) -> Result<Self, NulError> {
        let owned = strings.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let pointers = owned.iter().map(|one| one.as_ptr()).chain([null()]).collect();
        Ok(Self { owned, pointers })
    }

    /// The array, ended by a null pointer; valid as long as `self`.
    pub(crate) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// A command made ready for a child that must not allocate.
#[derive(Debug)]
pub(crate) struct Command {
    /// The files to try, in this order.
    pub(crate) candidates: CStrings,
    pub(crate) argv: CStrings,
    pub(crate) env: CStrings,
    pub(crate) workdir: CString,
}

impl Command {
    /// Prepares the spec's command with what of its environment is secret; fails on a NUL byte.
    pub(crate) fn new(spec: &LaunchSpec, secrets: Vec<Vec<u8>>) -> Result<Self, NulError> {
        let program = spec.argv.first().map_or("", String::as_str);
        let env = spec.env.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
        Ok(Self {
            candidates: CStrings::new(candidates(program, path_of(spec)).into_iter().map(String::into_bytes))?,
            argv: CStrings::new(spec.argv.iter().map(|argument| argument.clone().into_bytes()))?,
            env: CStrings::new(env.chain(secrets))?,
            workdir: CString::new(spec.workdir.as_os_str().as_encoded_bytes())?,
        })
    }

    /// Why none of the candidates ran; `errno` is what the kernel said.
    pub(crate) fn failure(&self, spec: &LaunchSpec, errno: i32) -> ExitCause {
        let program = spec.argv.first().map_or("", String::as_str);
        let found = self.candidates.owned.iter().find(|candidate| {
            let candidate = String::from_utf8_lossy(candidate.to_bytes()).into_owned();
            spec.workdir.join(candidate).is_file()
        });
        let found = found.map(|path| String::from_utf8_lossy(path.to_bytes()).into_owned());
        let (code, message) = match (errno, found) {
            (libc::E2BIG, _) => (126, format!("command `{program}`: arguments and environment are too large")),
            (libc::ENOEXEC, Some(path)) => (
                126,
                format!("command `{program}`: {path} is no program; a script begins with a line such as #!/bin/sh"),
            ),
            (libc::ENOENT, Some(path)) => {
                (126, format!("command `{program}`: the interpreter of {path} does not exist"))
            }
            (libc::ENOENT | libc::ENOTDIR, None) if program.contains('/') => {
                (127, format!("command `{program}` not found; the working directory was {}", spec.workdir.display()))
            }
            (libc::ENOENT | libc::ENOTDIR, _) => {
                (127, format!("command `{program}` not found; PATH was {}", path_of(spec)))
            }
            (libc::EACCES, found) => {
                let path = found.unwrap_or_else(|| program.to_owned());
                (126, format!("command `{program}`: {path} is not executable"))
            }
            (errno, _) => {
                (126, format!("command `{program}` cannot be run: {}", std::io::Error::from_raw_os_error(errno)))
            }
        };
        ExitCause::CommandFailed { code, message }
    }
}

fn path_of(spec: &LaunchSpec) -> &str {
    spec.env.iter().rev().find(|(name, _)| name == "PATH").map_or(STANDARD_PATH, |(_, path)| path)
}

/// The files that `program` may mean. An empty entry of PATH is the working directory, as shells have it.
fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.is_empty() || program.contains('/') {
        return vec![program.to_owned()];
    }
    let within = |directory: &str| match directory {
        "" => format!("./{program}"),
        directory => Path::new(directory).join(program).to_string_lossy().into_owned(),
    };
    path.split(':').map(within).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_searched_as_shells_do() {
        assert_eq!(candidates("ls", "/bin::/usr/bin"), ["/bin/ls", "./ls", "/usr/bin/ls"]);
        assert_eq!(candidates("./ls", "/bin"), ["./ls"]);
        assert_eq!(candidates("", "/bin"), [""]);
    }
}
