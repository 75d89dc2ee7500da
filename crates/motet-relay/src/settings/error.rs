use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The reason why the settings could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The command line or the environment is not valid, or `--help` or `--version` was given.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// The file cannot be read.
    #[error("cannot read the settings in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file has mistakes.
    #[error("{} is not valid:{}", path.display(), Lines(mistakes))]
    File {
        /// The file.
        path: PathBuf,
        /// All mistakes, in the order of their lines.
        mistakes: Vec<Mistake>,
    },
}

/// A mistake in a settings file or in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    line: Option<usize>,
    what: String,
}

impl Mistake {
    pub(super) fn in_line(line: usize, what: impl Into<String>) -> Self {
        Self { line: Some(line), what: what.into() }
    }

    pub(super) fn unknown_setting(line: usize, name: &str, known: &[String]) -> Self {
        Self::in_line(line, no_setting(name, known))
    }

    pub(super) fn unknown_variable(name: &str, known: &[String]) -> Self {
        Self { line: None, what: no_setting(name, known) }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// Reports that no setting has this name, with the known name that is most like it.
fn no_setting(name: &str, known: &[String]) -> String {
    /// Names that are less alike have nothing to do with each other.
    const ALIKE: f64 = 0.8;
    let alike = known.iter().map(|known| (strsim::jaro_winkler(name, known), known));
    let best = alike.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(alike, _)| *alike > ALIKE);
    match best {
        Some((_, best)) => format!("there is no setting `{name}`; did you mean `{best}`?"),
        None => format!("there is no setting `{name}`; `motet-relay config show` lists all"),
    }
}

struct Lines<'a>(&'a [Mistake]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}
