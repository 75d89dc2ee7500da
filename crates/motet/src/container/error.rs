use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::factory::BoxError;
use super::{CheckFailed, Key, StopReport};
use crate::task::{Name, Reason};

/// Says why a component could not be built. Cheap to clone: all who waited for it get the same.
#[derive(Debug, Clone)]
pub struct BuildFailed(pub(crate) Arc<Failed>);

#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) name: Name,
    pub(crate) site: &'static Location<'static>,
    /// From a component that nobody needs down to this one.
    pub(crate) path: Vec<Name>,
    pub(crate) phase: Phase,
    pub(crate) cause: Cause,
}

/// Which part of a component's start it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Its factory.
    Factory,
    /// Its `on_start`.
    OnStart,
}

#[derive(Debug)]
pub(crate) enum Cause {
    Returned(BoxError),
    Panicked(String),
    TimedOut(Duration),
    Cancelled(Reason),
    /// It is one that a scope is opened with, and was not.
    NoInput,
    /// The container, or the scope of a `Scoped`, has ended.
    Closed,
}

impl BuildFailed {
    /// Gives the name of the component.
    #[must_use]
    pub fn component(&self) -> &str {
        self.0.name.as_str()
    }

    /// Gives the place where it was provided.
    #[must_use]
    pub fn site(&self) -> &'static Location<'static> {
        self.0.site
    }

    /// Gives the names from a component that nobody needs down to this one: who wanted it.
    pub fn path(&self) -> impl Iterator<Item = &str> {
        self.0.path.iter().map(Name::as_str)
    }

    /// Says whether it was the factory or `on_start`.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// Asks whether it took longer than it was allowed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.cause, Cause::TimedOut(_))
    }

    /// Asks whether it panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.0.cause, Cause::Panicked(_))
    }

    /// Asks whether it was given up, since something else failed or its scope ended.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.cause, Cause::Cancelled(_) | Cause::Closed)
    }
}

impl fmt::Display for BuildFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed { name, site, path, phase, cause } = &*self.0;
        let what = match phase {
            Phase::Factory => "the factory",
            Phase::OnStart => "`on_start`",
        };
        match cause {
            Cause::Returned(_) => write!(f, "{what} of `{name}` failed")?,
            Cause::Panicked(message) => write!(f, "{what} of `{name}` panicked: {message}")?,
            Cause::TimedOut(limit) => write!(f, "{what} of `{name}` took longer than {limit:?}")?,
            Cause::Cancelled(reason) => write!(f, "the start of `{name}` was given up: {reason}")?,
            Cause::NoInput => write!(f, "`{name}` is an input that the scope was not given")?,
            Cause::Closed => write!(f, "`{name}` cannot be built any more: its scope has ended")?,
        }
        write!(f, " ({site})")?;
        if path.len() > 1 {
            f.write_str(", needed by ")?;
            for (at, above) in path.iter().rev().skip(1).enumerate() {
                write!(f, "{}`{above}`", if at == 0 { "" } else { " for " })?;
            }
        }
        Ok(())
    }
}

impl Error for BuildFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.cause {
            Cause::Returned(error) => Some(&**error),
            _ => None,
        }
    }
}

/// Says why a container did not start. Whatever was built is stopped, or is being stopped by the scope.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartFailed {
    /// The graph is wrong; nothing was run.
    Check(CheckFailed),
    /// A component could not be built.
    Build {
        /// What failed first.
        first: BuildFailed,
        /// What else failed before the rest could be given up, in order.
        others: Vec<BuildFailed>,
        /// How the components that had been built were stopped.
        rollback: StopReport,
    },
    /// The scope was cancelled meanwhile.
    Cancelled {
        /// Why.
        reason: Reason,
        /// How the components that had been built were stopped.
        rollback: StopReport,
    },
    /// The component that alone was to be started cannot be; nothing was run.
    Unavailable(Unavailable),
    /// The scope has ended; nothing was run.
    Closed,
}

impl StartFailed {
    /// Gives what failed first, if a component did.
    #[must_use]
    pub fn build_failed(&self) -> Option<&BuildFailed> {
        match self {
            Self::Build { first, .. } => Some(first),
            _ => None,
        }
    }

    /// Says how the components that had been built were stopped; `None` if nothing was run.
    #[must_use]
    pub fn rollback(&self) -> Option<&StopReport> {
        match self {
            Self::Build { rollback, .. } | Self::Cancelled { rollback, .. } => Some(rollback),
            _ => None,
        }
    }
}

impl fmt::Display for StartFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rollback = match self {
            Self::Check(_) => return f.write_str("the container cannot start"),
            Self::Unavailable(_) => return f.write_str("the component cannot be started alone"),
            Self::Closed => return f.write_str("the scope has ended and takes no container"),
            Self::Build { others, rollback, .. } => {
                f.write_str("the container did not start")?;
                if !others.is_empty() {
                    write!(f, " ({} more failed)", others.len())?;
                }
                rollback
            }
            Self::Cancelled { reason, rollback } => {
                write!(f, "the start of the container was cancelled: {reason}")?;
                rollback
            }
        };
        if rollback.is_cut_off() {
            return f.write_str("; the stop of what had been built was cut off");
        }
        write!(f, "; stopped {} that had been built", rollback.components().len())?;
        match rollback.failures().count() {
            0 => Ok(()),
            failed => write!(f, ", {failed} of them with failures"),
        }
    }
}

impl Error for StartFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Check(failed) => Some(failed),
            Self::Build { first, .. } => Some(first),
            Self::Unavailable(unavailable) => Some(unavailable),
            Self::Cancelled { .. } | Self::Closed => None,
        }
    }
}

/// Says why a container does not give a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    what: String,
    why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    Unknown(Vec<String>),
    NotStarted,
    NotSingleton(super::Lifetime),
}

impl Unavailable {
    pub(crate) fn unknown(key: Key, hints: Vec<String>) -> Self {
        Self { what: key.to_string(), why: Why::Unknown(hints) }
    }

    pub(crate) fn not_started(key: Key) -> Self {
        Self { what: key.to_string(), why: Why::NotStarted }
    }

    pub(crate) fn not_singleton(key: Key, lifetime: super::Lifetime) -> Self {
        Self { what: key.to_string(), why: Why::NotSingleton(lifetime) }
    }

    /// Asks whether nobody provides it.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self.why, Why::Unknown(_))
    }

    /// Asks whether it is provided, but was left out of this start.
    #[must_use]
    pub fn is_not_started(&self) -> bool {
        self.why == Why::NotStarted
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match &self.why {
            Why::Unknown(hints) => {
                write!(f, "nobody provides `{what}`")?;
                hints.iter().try_for_each(|hint| write!(f, "; {hint}"))
            }
            Why::NotStarted => write!(f, "`{what}` was left out of this start"),
            Why::NotSingleton(lifetime) => {
                write!(f, "`{what}` is {lifetime}: a `Scoped` builds it")
            }
        }
    }
}

impl Error for Unavailable {}

/// Says why a [`Scoped`](super::Scoped) does not give a component.
#[derive(Debug)]
#[non_exhaustive]
pub enum GetFailed {
    /// There is none.
    Unavailable(Unavailable),
    /// It, or something that it needs, could not be built. Asked again, it is tried again.
    Build(BuildFailed),
}

impl fmt::Display for GetFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable(_) => "the component is not available",
            Self::Build(_) => "the component could not be built",
        })
    }
}

impl Error for GetFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(unavailable) => Some(unavailable),
            Self::Build(failed) => Some(failed),
        }
    }
}
