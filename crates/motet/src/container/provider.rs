//! A registered provider, before it is connected with other providers.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Health;
use super::factory::{BoxError, Maker};
use super::inject::Need;
use super::key::{Key, Value};
use crate::task::{Name, Policy};

pub(crate) type Site = &'static Location<'static>;
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(crate) type Hook = Box<dyn Fn(Value) -> BoxFuture<Result<(), BoxError>> + Send + Sync>;
pub(crate) type HealthHook = Box<dyn Fn(Value) -> BoxFuture<Result<Health, BoxError>> + Send + Sync>;
pub(crate) type Cast = Arc<dyn Fn(&Value) -> Value + Send + Sync>;

pub(crate) struct Provider {
    pub(crate) key: Key,
    pub(crate) binds: Vec<Bind>,
    pub(crate) lifetime: Lifetime,
    pub(crate) site: Site,
    pub(crate) module: Option<Name>,
    pub(crate) needs: Vec<Need>,
    pub(crate) maker: Maker,
    pub(crate) on_start: Option<Hook>,
    pub(crate) on_stop: Option<Hook>,
    pub(crate) health: Option<HealthHook>,
    pub(crate) limits: ComponentLimits,
    /// The policy of its scope for the panic of a task.
    pub(crate) policy: Policy,
    /// Hooks that were set where they have no effect.
    pub(crate) misuse: Vec<String>,
    /// `true` if it replaces providers that were added before it.
    pub(crate) overrides: bool,
}

/// A further type under which the provider is found.
pub(crate) struct Bind {
    pub(crate) key: Key,
    pub(crate) site: Site,
    pub(crate) cast: Cast,
}

/// The time limits of a component's start, stop and health check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ComponentLimits {
    pub(crate) start: Duration,
    pub(crate) stop: Duration,
    pub(crate) health: Duration,
}

impl Provider {
    pub(crate) fn new(
        key: Key,
        lifetime: Lifetime,
        site: Site,
        needs: Vec<Need>,
        maker: Maker,
        limits: ComponentLimits,
    ) -> Self {
        Self {
            key,
            binds: Vec::new(),
            lifetime,
            site,
            module: None,
            needs,
            maker,
            on_start: None,
            on_stop: None,
            health: None,
            limits,
            policy: Policy::FailFast,
            misuse: Vec::new(),
            overrides: false,
        }
    }

    /// All keys of the provider, with the place where each was declared.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (Key, Site)> {
        [(self.key, self.site)].into_iter().chain(self.binds.iter().map(|bind| (bind.key, bind.site)))
    }
}

/// The lifetime of a component, and which components share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(unnameable_types, reason = "users see it in reports")]
pub enum Lifetime {
    /// The container has one instance, which is built at its start and stopped at its end.
    Singleton,
    /// Each [`Scoped`](super::Scoped) has one instance, which is built when it is first requested, and stopped at the
    /// end of its scope.
    Scoped,
    /// Each component that depends on it has its own instance, which is stopped right after that component.
    Transient,
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Singleton => "singleton",
            Self::Scoped => "scoped",
            Self::Transient => "transient",
        })
    }
}
