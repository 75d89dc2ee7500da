use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::factory::BoxError;
use super::key::Key;
use super::provider::Lifetime;
use super::{CheckError, StopReport};
use crate::task::{Name, Reason};

/// The error of a component that could not be built. Cheap to clone: all waiters receive the same error.
#[derive(Debug, Clone)]
pub struct ComponentBuildError(pub(crate) Arc<BuildFailure>);

#[derive(Debug)]
pub(crate) struct BuildFailure {
    pub(crate) name: Name,
    pub(crate) site: &'static Location<'static>,
    /// The path from a component that no other component needs down to this one.
    pub(crate) path: Vec<Name>,
    pub(crate) phase: LifecyclePhase,
    pub(crate) cause: BuildFailureCause,
}

/// A phase of a component's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LifecyclePhase {
    /// The factory.
    Factory,
    /// The `on_start` hook.
    OnStart,
}

#[derive(Debug)]
pub(crate) enum BuildFailureCause {
    Returned(BoxError),
    Panicked(String),
    TimedOut(Duration),
    Cancelled(Reason),
    /// The component is an input, and the scope has no value for it.
    NoInput,
    /// The factory can be called only once, and an earlier start of the plan has called it.
    FactoryUsed,
    /// The container, or the scope of a `Scoped`, has ended.
    Closed,
}

impl ComponentBuildError {
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

    /// Returns `true` if `on_start` failed, and `false` if the factory failed.
    #[must_use]
    pub fn is_on_start(&self) -> bool {
        self.0.phase == LifecyclePhase::OnStart
    }

    /// Returns `true` if the phase exceeded its time limit.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.cause, BuildFailureCause::TimedOut(_))
    }

    /// Returns `true` if the phase panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.0.cause, BuildFailureCause::Panicked(_))
    }

    /// Returns `true` if the build was cancelled, because another component failed or the scope ended.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.cause, BuildFailureCause::Cancelled(_) | BuildFailureCause::Closed)
    }
}

impl fmt::Display for ComponentBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BuildFailure { name, site, path, phase, cause } = &*self.0;
        let what = match phase {
            LifecyclePhase::Factory => "the factory",
            LifecyclePhase::OnStart => "`on_start`",
        };
        match cause {
            BuildFailureCause::Returned(_) => write!(f, "{what} of `{name}` failed")?,
            BuildFailureCause::Panicked(message) => write!(f, "{what} of `{name}` panicked: {message}")?,
            BuildFailureCause::TimedOut(limit) => write!(f, "{what} of `{name}` took longer than {limit:?}")?,
            BuildFailureCause::Cancelled(reason) => {
                write!(f, "the start of `{name}` was cancelled: {reason}")?
            }
            BuildFailureCause::FactoryUsed => write!(
                f,
                "{what} of `{name}` can be called only once, and an earlier start of the plan has called it: provide it \
                 with `provide_each_start`"
            )?,
            BuildFailureCause::NoInput => {
                write!(f, "`{name}` is an input, and the scope has no value for it")?
            }
            BuildFailureCause::Closed => write!(f, "`{name}` cannot be built: its scope has ended")?,
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

impl Error for ComponentBuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.cause {
            BuildFailureCause::Returned(error) => Some(&**error),
            _ => None,
        }
    }
}

/// The error of a container that did not start. All built components have been stopped, or are being stopped by the
/// scope.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The graph has problems; nothing was run.
    Check(CheckError),
    /// A component could not be built.
    Build {
        /// The first failure.
        first: ComponentBuildError,
        /// Further failures before the start was cancelled, in order.
        others: Vec<ComponentBuildError>,
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
    Unavailable(GetError),
    /// The scope has ended; nothing was run.
    Closed,
}

impl StartError {
    /// The first component that failed, if one did.
    #[must_use]
    pub fn build_failed(&self) -> Option<&ComponentBuildError> {
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

impl fmt::Display for StartError {
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
        write!(f, "; components stopped: {}", rollback.components().len())?;
        match rollback.failures().count() {
            0 => Ok(()),
            failed => write!(f, ", with failures: {failed}"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Check(failed) => Some(failed),
            Self::Build { first, .. } => Some(first),
            Self::Unavailable(unavailable) => Some(unavailable),
            Self::Cancelled { .. } | Self::Closed => None,
        }
    }
}

/// The error of a component that a [`Running`](super::Running) or a [`Scoped`](super::Scoped) cannot return.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum GetError {
    /// The component is not provided.
    NotProvided {
        /// The component.
        component: String,
        /// Suggestions for the intended component.
        hints: Vec<String>,
    },
    /// The component is provided, but was not part of this start.
    NotStarted {
        /// The component.
        component: String,
    },
    /// The component is scoped or transient: only a [`Scoped`](super::Scoped) returns it.
    NotSingleton {
        /// The component.
        component: String,
        /// Its lifetime: scoped or transient.
        lifetime: Lifetime,
    },
    /// The component or one of its dependencies could not be built. A further request for a scoped or
    /// transient component tries again; a singleton that failed is not built again.
    Build(ComponentBuildError),
}

impl GetError {
    pub(crate) fn not_provided(key: Key, hints: Vec<String>) -> Self {
        Self::NotProvided { component: key.to_string(), hints }
    }

    pub(crate) fn not_started(key: Key) -> Self {
        Self::NotStarted { component: key.to_string() }
    }

    pub(crate) fn not_singleton(key: Key, lifetime: Lifetime) -> Self {
        Self::NotSingleton { component: key.to_string(), lifetime }
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProvided { component, hints } => {
                write!(f, "`{component}` is not provided")?;
                hints.iter().try_for_each(|hint| write!(f, "; {hint}"))
            }
            Self::NotStarted { component } => write!(f, "`{component}` was not part of this start"),
            Self::NotSingleton { component, lifetime } => {
                write!(f, "`{component}` is {lifetime}: get it from a `Scoped`")
            }
            Self::Build(_) => f.write_str("the component could not be built"),
        }
    }
}

impl Error for GetError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Build(failed) => Some(failed),
            Self::NotProvided { .. } | Self::NotStarted { .. } | Self::NotSingleton { .. } => None,
        }
    }
}
