use std::convert::Infallible;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::factory::{BoxError, Factory, Maker, needs};
use super::key::{Key, Value};
use super::plan::plan;
use super::provider::{ComponentLimits, Lifetime, Provider};
use super::{CheckError, Plan, Provided, Running, StartError};
use crate::sim::Site;
use crate::task::{Name, Scope};

/// A list of providers, each with its dependencies, hooks and limits.
///
/// No code of a provider runs before [`start`](Self::start). The dependencies of a provider are the types of its
/// factory's arguments, so the whole graph is known before that.
///
/// # Defaults
/// No name; 15 s for each component to start, which a cold database may need; 5 s for its `on_stop`, as for any release
/// of a scope; 1 s for a health check, which is short enough for a probe.
///
/// # Examples
/// See [the module](super).
#[must_use = "a container does nothing until it is started"]
pub struct Container {
    name: Option<Name>,
    providers: Vec<Provider>,
    limits: ComponentLimits,
    /// The module whose providers are being added.
    module: Option<Name>,
    overriding: bool,
}

impl Container {
    /// Creates a container without providers.
    pub fn new() -> Self {
        let limits = ComponentLimits {
            start: Duration::from_secs(15),
            stop: Duration::from_secs(5),
            health: Duration::from_secs(1),
        };
        Self { name: None, providers: Vec::new(), limits, module: None, overriding: false }
    }

    /// Sets the name of the container, and shows the container in the snapshots of its scope.
    pub fn name(&mut self, name: impl Into<Name>) -> &mut Self {
        self.name = Some(name.into());
        self
    }

    /// Limits the start of each component that is provided after this call; see [`Provided::start_timeout`]. For this limit
    /// and those of the stop and the health check, zero allows no wait at all, and [`Duration::MAX`] is no limit.
    pub fn start_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.limits.start = timeout;
        self
    }

    /// Limits the stop of each component that is provided after this call; see [`Provided::stop_timeout`].
    pub fn stop_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.limits.stop = timeout;
        self
    }

    /// Limits the health check of each component that is provided after this call.
    pub fn health_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.limits.health = timeout;
        self
    }

    /// Provides an existing value.
    #[track_caller]
    pub fn value<T: Send + Sync + 'static>(&mut self, value: T) -> Provided<'_, T> {
        self.shared(Arc::new(value))
    }

    /// Provides an existing value that is behind an `Arc`, for example a trait object or a mock that the test keeps.
    #[track_caller]
    pub fn shared<T: ?Sized + Send + Sync + 'static>(&mut self, value: Arc<T>) -> Provided<'_, T> {
        let maker = Maker::ready(Value::new(value));
        self.add(Key::of::<(), T>(), Lifetime::Singleton, Vec::new(), maker)
    }

    /// Provides a singleton with a factory that cannot fail.
    ///
    /// If the factory returns a `Result`, that `Result` is the component; [`try_provide`](Self::try_provide) unwraps
    /// it.
    #[track_caller]
    pub fn provide<T, A, F>(&mut self, factory: F) -> Provided<'_, T>
    where
        F: Factory<A, Output = T>,
        T: Send + Sync + 'static,
        A: 'static,
    {
        self.add(
            Key::of::<(), T>(),
            Lifetime::Singleton,
            needs::<A, F>(),
            Maker::once(factory, infallible::<T>),
        )
    }

    /// Provides a singleton with a factory that can fail.
    #[track_caller]
    pub fn try_provide<T, E, A, F>(&mut self, factory: F) -> Provided<'_, T>
    where
        F: Factory<A, Output = Result<T, E>>,
        T: Send + Sync + 'static,
        E: Into<BoxError> + 'static,
        A: 'static,
    {
        self.add(Key::of::<(), T>(), Lifetime::Singleton, needs::<A, F>(), Maker::once(factory, |made| made))
    }

    /// Provides a singleton whose factory is called by each start of the [`Plan`], on a clone of the factory.
    ///
    /// # When to use
    /// For a graph that is checked once and started many times, for example for each tenant or each request. A factory that
    /// moves a value out, such as a listener, can be called only once: see [`provide`](Self::provide).
    #[track_caller]
    pub fn provide_each_start<T, A, F>(&mut self, factory: F) -> Provided<'_, T>
    where
        F: Factory<A, Output = T> + Clone + Sync,
        T: Send + Sync + 'static,
        A: 'static,
    {
        self.add(
            Key::of::<(), T>(),
            Lifetime::Singleton,
            needs::<A, F>(),
            Maker::each(factory, infallible::<T>),
        )
    }

    /// Provides a singleton whose factory can fail, and is called by each start of the [`Plan`], like
    /// [`provide_each_start`](Self::provide_each_start).
    #[track_caller]
    pub fn try_provide_each_start<T, E, A, F>(&mut self, factory: F) -> Provided<'_, T>
    where
        F: Factory<A, Output = Result<T, E>> + Clone + Sync,
        T: Send + Sync + 'static,
        E: Into<BoxError> + 'static,
        A: 'static,
    {
        self.add(Key::of::<(), T>(), Lifetime::Singleton, needs::<A, F>(), Maker::each(factory, |made| made))
    }

    /// Provides a component that each [`Scoped`](super::Scoped) builds when it is first requested.
    #[track_caller]
    pub fn provide_scoped<T, A, F>(&mut self, factory: F) -> Provided<'_, T>
    where
        F: Factory<A, Output = T> + Clone + Sync,
        T: Send + Sync + 'static,
        A: 'static,
    {
        self.add(Key::of::<(), T>(), Lifetime::Scoped, needs::<A, F>(), Maker::each(factory, infallible::<T>))
    }

    /// Provides a component that each [`Scoped`](super::Scoped) builds when it is first requested, with a factory that
    /// can fail.
    #[track_caller]
    pub fn try_provide_scoped<T, E, A, F>(&mut self, factory: F) -> Provided<'_, T>
    where
        F: Factory<A, Output = Result<T, E>> + Clone + Sync,
        T: Send + Sync + 'static,
        E: Into<BoxError> + 'static,
        A: 'static,
    {
        self.add(Key::of::<(), T>(), Lifetime::Scoped, needs::<A, F>(), Maker::each(factory, |made| made))
    }

    /// Provides a component that is built anew for each component that depends on it.
    #[track_caller]
    pub fn provide_transient<T, A, F>(&mut self, factory: F) -> Provided<'_, T>
    where
        F: Factory<A, Output = T> + Clone + Sync,
        T: Send + Sync + 'static,
        A: 'static,
    {
        self.add(
            Key::of::<(), T>(),
            Lifetime::Transient,
            needs::<A, F>(),
            Maker::each(factory, infallible::<T>),
        )
    }

    /// Provides a component that is built anew for each component that depends on it, with a factory that can fail.
    #[track_caller]
    pub fn try_provide_transient<T, E, A, F>(&mut self, factory: F) -> Provided<'_, T>
    where
        F: Factory<A, Output = Result<T, E>> + Clone + Sync,
        T: Send + Sync + 'static,
        E: Into<BoxError> + 'static,
        A: 'static,
    {
        self.add(Key::of::<(), T>(), Lifetime::Transient, needs::<A, F>(), Maker::each(factory, |made| made))
    }

    /// Declares an input: a value of this type that every [`Scoped`](super::Scoped) receives through
    /// [`Scoped::value`](super::Scoped::value), such as the request or its sender. Several inputs of one type are
    /// distinguished [by a tag](Provided::named).
    #[track_caller]
    pub fn input<T: Send + Sync + 'static>(&mut self) -> Provided<'_, T> {
        self.add(Key::of::<(), T>(), Lifetime::Scoped, Vec::new(), Maker::Input)
    }

    /// Adds a module: a function that provides related components. The name of the module is put before the names of
    /// its components, and around them in drawings.
    ///
    /// # Examples
    /// ```
    /// use motet::container::Container;
    /// use std::sync::Arc;
    ///
    /// struct Invoices(Arc<String>);
    ///
    /// fn billing(c: &mut Container) {
    ///     c.provide(|currency: Arc<String>| async move { Invoices(currency) });
    /// }
    ///
    /// let mut c = Container::new();
    /// c.module("billing", billing);
    /// c.value(String::from("EUR"));
    /// assert!(c.check().unwrap().to_string().contains("billing/Invoices"));
    /// ```
    pub fn module(&mut self, name: impl Into<Name>, module: impl FnOnce(&mut Self)) -> &mut Self {
        let (name, around) = (name.into(), self.module.clone());
        self.module = Some(match &around {
            Some(around) => Name::from(format!("{around}/{name}")),
            None => name,
        });
        module(self);
        self.module = around;
        self
    }

    /// Replaces providers of the same key by the providers that `replace` adds. Meant for tests.
    ///
    /// Components that only the replaced providers needed are left out as well: with a mock of the repository, no
    /// database is started. [`check`](Self::check) reports an override that replaces nothing.
    ///
    /// # Examples
    /// ```
    /// use motet::container::Container;
    /// use std::sync::Arc;
    ///
    /// struct Database;
    /// trait Repo: Send + Sync {}
    /// struct SqlRepo(Arc<Database>);
    /// impl Repo for SqlRepo {}
    /// struct Mock;
    /// impl Repo for Mock {}
    /// struct Server(Arc<dyn Repo>);
    ///
    /// let mut c = Container::new();
    /// c.provide(|| async { Database });
    /// c.provide(|db: Arc<Database>| async move { SqlRepo(db) }).bind::<dyn Repo>(|repo| repo);
    /// c.provide(|repo: Arc<dyn Repo>| async move { Server(repo) });
    ///
    /// c.overrides(|c| { c.shared::<dyn Repo>(Arc::new(Mock)); });
    /// let plan = c.check().unwrap();
    /// assert_eq!(plan.names().collect::<Vec<_>>(), ["Server", "dyn Repo"]);
    /// ```
    pub fn overrides(&mut self, replace: impl FnOnce(&mut Self)) -> &mut Self {
        let around = std::mem::replace(&mut self.overriding, true);
        replace(self);
        self.overriding = around;
        self
    }

    /// Checks the whole graph before anything runs.
    ///
    /// # Errors
    /// [`CheckError`] with all problems: missing providers, cycles, singletons that depend on scoped components,
    /// duplicates, overrides that replace nothing, and hooks without an effect.
    pub fn check(self) -> Result<Plan, CheckError> {
        plan(self.name, self.providers)
    }

    /// Checks the graph, and starts it in `scope`: [`check`](Self::check) and then [`Plan::start`].
    ///
    /// # Cancel safety
    /// Safe: as [`Plan::start`].
    ///
    /// # Errors
    /// [`StartError`]; [`StartError::Check`] if the graph has problems.
    #[track_caller]
    pub fn start(self, scope: &Scope) -> impl Future<Output = Result<Running, StartError>> + Send + use<> {
        let site = Site::new("container", "start").around();
        let starting = self.check().map(|plan| plan.start_once(scope));
        site.of(async move {
            match starting {
                Ok(starting) => starting.await,
                Err(failed) => Err(StartError::Check(failed)),
            }
        })
    }

    #[track_caller]
    fn add<T: ?Sized>(
        &mut self,
        key: Key,
        lifetime: Lifetime,
        needs: Vec<super::inject::Need>,
        maker: Maker,
    ) -> Provided<'_, T> {
        let mut provider = Provider::new(key, lifetime, Location::caller(), needs, maker, self.limits);
        provider.module.clone_from(&self.module);
        provider.overrides = self.overriding;
        self.providers.push(provider);
        Provided::new(self.providers.last_mut().expect("a provider was just pushed"))
    }
}

fn infallible<T>(made: T) -> Result<T, Infallible> {
    Ok(made)
}

impl Default for Container {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let provided: Vec<_> = self.providers.iter().map(|provider| provider.key).collect();
        f.debug_struct("Container")
            .field("name", &self.name)
            .field("provided", &provided)
            .finish_non_exhaustive()
    }
}
