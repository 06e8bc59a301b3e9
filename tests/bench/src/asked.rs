//! What is to be measured, how long, and where.

use std::path::{Path, PathBuf};

pub(crate) const USAGE: &str = "\
usage: cluster-bench [PART] --program FCTL --folder FOLDER [--quick] [--minutes N]

parts: submit, failover, restart, cancel, agents, soak; all but the soak if none is named";

/// One thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Submit,
    Failover,
    Restart,
    Cancel,
    Agents,
    Soak,
}

impl Part {
    const ALL: [Self; 6] = [Self::Submit, Self::Failover, Self::Restart, Self::Cancel, Self::Agents, Self::Soak];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Failover => "failover",
            Self::Restart => "restart",
            Self::Cancel => "cancel",
            Self::Agents => "agents",
            Self::Soak => "soak",
        }
    }
}

/// The wish.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    part: Option<Part>,
    /// The program under measurement.
    pub(crate) program: PathBuf,
    folder: PathBuf,
    /// Few repetitions: to see that it works, not to learn figures.
    pub(crate) quick: bool,
    /// How long a soak lasts.
    pub(crate) minutes: u64,
}

impl Asked {
    /// Reads the words of the command.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let (mut part, mut program, mut folder, mut quick, mut minutes) = (None, None, None, false, 60);
        let mut left = words.iter();
        while let Some(word) = left.next() {
            let mut value = || left.next().cloned().ok_or_else(|| format!("{word} wants a value"));
            match word.as_str() {
                "--program" => program = Some(PathBuf::from(value()?)),
                "--folder" => folder = Some(PathBuf::from(value()?)),
                "--minutes" => {
                    let text = value()?;
                    minutes = text.parse().map_err(|_| format!("--minutes wants a whole number, not `{text}`"))?;
                }
                "--quick" => quick = true,
                name => {
                    let known = Part::ALL.into_iter().find(|known| known.name() == name);
                    part = Some(known.ok_or_else(|| format!("there is no part `{name}`"))?);
                }
            }
        }
        let program = program.ok_or("--program is missing")?;
        let folder = folder.ok_or("--folder is missing")?;
        Ok(Self { part, program, folder, quick, minutes })
    }

    /// The parts in their order.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let wished = |part: &Part| self.part.map_or(*part != Part::Soak, |only| only == *part);
        Part::ALL.into_iter().filter(wished).collect()
    }

    /// An empty folder for a part.
    pub(crate) fn place(&self, part: Part) -> Result<PathBuf, String> {
        let place = self.folder.join(part.name());
        self.clear(&place);
        std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        Ok(place)
    }

    /// Removes what a part left.
    pub(crate) fn clear(&self, place: &Path) {
        if let Err(error) = std::fs::remove_dir_all(place)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("cannot remove {}: {error}", place.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Asked, String> {
        Asked::parse(&words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_soak_runs_only_when_it_is_named() {
        let all = parse("--program p --folder f").unwrap();
        assert!(!all.parts().contains(&Part::Soak) && all.parts().contains(&Part::Submit));
        let soak = parse("soak --minutes 3 --program p --folder f").unwrap();
        assert_eq!((soak.parts(), soak.minutes), (vec![Part::Soak], 3));
    }

    #[test]
    fn what_is_wrong_with_the_words_is_said() {
        assert!(parse("sumbit --program p --folder f").unwrap_err().contains("no part `sumbit`"));
        assert!(parse("--minutes x --program p --folder f").unwrap_err().contains("not `x`"));
        assert!(parse("submit").unwrap_err().contains("--program"));
    }
}
