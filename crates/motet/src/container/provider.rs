//! A registered provider, before it is connected with other providers.

use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::factory::{BoxError, Maker};
use super::inject::Need;
use super::{Health, Key, Lifetime, Value};
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
    pub(crate) limits: Limits,
    /// The policy of its scope for the panic of a task.
    pub(crate) policy: Policy,
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
pub(crate) struct Limits {
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
        limits: Limits,
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
            overrides: false,
        }
    }

    /// All keys of the provider, with the place where each was declared.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (Key, Site)> {
        [(self.key, self.site)].into_iter().chain(self.binds.iter().map(|bind| (bind.key, bind.site)))
    }
}
