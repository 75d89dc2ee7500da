use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::factory::BoxError;
use super::{CheckFailed, Key, StopReport};
use crate::task::{Name, Reason};

/// The error of a component that could not be built. Cheap to clone: all waiters receive the same error.
#[derive(Debug, Clone)]
pub struct BuildFailed(pub(crate) Arc<Failed>);

#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) name: Name,
    pub(crate) site: &'static Location<'static>,
    /// The path from a component that no other component needs down to this one.
    pub(crate) path: Vec<Name>,
    pub(crate) phase: Phase,
    pub(crate) cause: Cause,
}

/// A phase of a component's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The factory.
    Factory,
    /// The `on_start` hook.
    OnStart,
}

#[derive(Debug)]
pub(crate) enum Cause {
    Returned(BoxError),
    Panicked(String),
    TimedOut(Duration),
    Cancelled(Reason),
    /// The component is an input, and the scope has no value for it.
    NoInput,
    /// The container, or the scope of a `Scoped`, has ended.
    Closed,
}

impl BuildFailed {
    /// The name of the component.
    #[must_use]
    pub fn component(&self) -> &str {
        self.0.name.as_str()
    }

    /// The place in the source where the component was provided.
    #[must_use]
    pub fn site(&self) -> &'static Location<'static> {
        self.0.site
    }

    /// The names on the path from a component that no other component needs down to this one.
    pub fn path(&self) -> impl Iterator<Item = &str> {
        self.0.path.iter().map(Name::as_str)
    }

    /// The phase that failed.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// Returns `true` if the phase exceeded its time limit.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.cause, Cause::TimedOut(_))
    }

    /// Returns `true` if the phase panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.0.cause, Cause::Panicked(_))
    }

    /// Returns `true` if the build was cancelled, because another component failed or the scope ended.
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
            Cause::Cancelled(reason) => write!(f, "the start of `{name}` was cancelled: {reason}")?,
            Cause::NoInput => write!(f, "`{name}` is an input, and the scope has no value for it")?,
            Cause::Closed => write!(f, "`{name}` cannot be built: its scope has ended")?,
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

/// The error of a container that did not start. All built components have been stopped, or are being stopped by the
/// scope.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartFailed {
    /// The graph has problems; nothing was run.
    Check(CheckFailed),
    /// A component could not be built.
    Build {
        /// The first failure.
        first: BuildFailed,
        /// Further failures before the start was cancelled, in order.
        others: Vec<BuildFailed>,
        /// The report of the stop of the components that had been built.
        rollback: StopReport,
    },
    /// The scope was cancelled during the start.
    Cancelled {
        /// The reason of the cancellation.
        reason: Reason,
        /// The report of the stop of the components that had been built.
        rollback: StopReport,
    },
    /// The component that was requested by `start_only` cannot be started; nothing was run.
    Unavailable(Unavailable),
    /// The scope has ended; nothing was run.
    Closed,
}

impl StartFailed {
    /// The first component that failed, if one did.
    #[must_use]
    pub fn build_failed(&self) -> Option<&BuildFailed> {
        match self {
            Self::Build { first, .. } => Some(first),
            _ => None,
        }
    }

    /// The report of the stop of the components that had been built; `None` if nothing was run.
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
            Self::Closed => return f.write_str("the scope has ended, so the container cannot start in it"),
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
            return f.write_str("; the stop of the built components did not finish");
        }
        write!(f, "; stopped {} built components", rollback.components().len())?;
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

/// The error of a component that a container cannot return.
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

    /// Returns `true` if there is no provider of the component.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self.why, Why::Unknown(_))
    }

    /// Returns `true` if the component has a provider, but was not part of this start.
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
                write!(f, "`{what}` is not provided")?;
                hints.iter().try_for_each(|hint| write!(f, "; {hint}"))
            }
            Why::NotStarted => write!(f, "`{what}` was not part of this start"),
            Why::NotSingleton(lifetime) => {
                write!(f, "`{what}` is {lifetime}: get it from a `Scoped`")
            }
        }
    }
}

impl Error for Unavailable {}

/// The error of [`Scoped::get`](super::Scoped::get).
#[derive(Debug)]
#[non_exhaustive]
pub enum GetFailed {
    /// The component is not available.
    Unavailable(Unavailable),
    /// The component or one of its dependencies could not be built. The next request tries again.
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
