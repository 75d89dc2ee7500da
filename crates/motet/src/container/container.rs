use std::convert::Infallible;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::factory::{BoxError, Maker, needs};
use super::plan::plan;
use super::provider::{Limits, Provider};
use super::{CheckFailed, Factory, Key, Lifetime, Plan, Provided, Running, StartFailed, Value};
use crate::sim::Site;
use crate::task::{Name, Scope};

/// Collects providers: what there is, what each needs, how it begins and ends.
///
/// Nothing runs before [`start`](Self::start). A provider's dependencies are the types of its factory's arguments, so
/// the whole graph is known before that.
///
/// # Defaults
/// Unnamed; 15 s for each component to start, what a cold database may need; 5 s for its `on_stop`, as for any release
/// of a scope; 1 s for a health check, short enough for a probe.
///
/// # Examples
/// See [the module](super).
#[must_use = "a container does nothing until it is started"]
pub struct Container {
    name: Option<Name>,
    providers: Vec<Provider>,
    limits: Limits,
    /// The module that is being added.
    module: Option<Name>,
    overriding: bool,
}

impl Container {
    /// Makes an empty container.
    pub fn new() -> Self {
        let limits = Limits {
            start: Duration::from_secs(15),
            stop: Duration::from_secs(5),
            health: Duration::from_secs(1),
        };
        Self { name: None, providers: Vec::new(), limits, module: None, overriding: false }
    }

    /// Names the container, which shows it in the snapshots of its scope.
    pub fn named(&mut self, name: impl Into<Name>) -> &mut Self {
        self.name = Some(name.into());
        self
    }

    /// Limits the start of each component that is provided after this; see [`Provided::start_timeout`]. Here and below, zero
    /// refuses what is not ready at once, and [`Duration::MAX`] is no limit.
    pub fn start_timeout(&mut self, limit: Duration) -> &mut Self {
        self.limits.start = limit;
        self
    }

    /// Limits the stop of each component that is provided after this; see [`Provided::stop_timeout`].
    pub fn stop_timeout(&mut self, limit: Duration) -> &mut Self {
        self.limits.stop = limit;
        self
    }

    /// Limits the health check of each component that is provided after this.
    pub fn health_timeout(&mut self, limit: Duration) -> &mut Self {
        self.limits.health = limit;
        self
    }

    /// Provides what there is already.
    #[track_caller]
    pub fn value<T: Send + Sync + 'static>(&mut self, value: T) -> Provided<'_, T> {
        self.shared(Arc::new(value))
    }

    /// Provides what there is already, behind an `Arc`: a trait object, a mock that the test keeps.
    #[track_caller]
    pub fn shared<T: ?Sized + Send + Sync + 'static>(&mut self, value: Arc<T>) -> Provided<'_, T> {
        let maker = Maker::ready(Value::new(value));
        self.add(Key::of::<(), T>(), Lifetime::Singleton, Vec::new(), maker)
    }

    /// Provides a singleton, by a factory that cannot fail.
    ///
    /// A factory that returns a `Result` makes a component of that type; [`try_provide`](Self::try_provide) makes one of
    /// what is in it.
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

    /// Provides a singleton, by a factory that can fail.
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

    /// Provides a component of each [`Scoped`](super::Scoped), built when it is first asked for.
    #[track_caller]
    pub fn provide_scoped<T, A, F>(&mut self, factory: F) -> Provided<'_, T>
    where
        F: Factory<A, Output = T> + Clone + Sync,
        T: Send + Sync + 'static,
        A: 'static,
    {
        self.add(Key::of::<(), T>(), Lifetime::Scoped, needs::<A, F>(), Maker::each(factory, infallible::<T>))
    }

    /// Provides a component of each [`Scoped`](super::Scoped), by a factory that can fail.
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

    /// Provides a component of which everyone who needs it has one of its own.
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

    /// Provides a component of which everyone who needs it has one of its own, by a factory that can fail.
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

    /// Says that every [`Scoped`](super::Scoped) is given a value of this type, with
    /// [`Scoped::value`](super::Scoped::value): a request, who sent it. Of several of one type, each
    /// [has a tag](Provided::named).
    #[track_caller]
    pub fn input<T: Send + Sync + 'static>(&mut self) -> Provided<'_, T> {
        self.add(Key::of::<(), T>(), Lifetime::Scoped, Vec::new(), Maker::Input)
    }

    /// Adds a module: a function that provides what belongs together. The name stands before those of its components,
    /// and around them in drawings.
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

    /// Takes what is provided within `replace` in place of what was provided before under the same key: for tests.
    ///
    /// What only the replaced ones needed is left out as well: with a mock of the repository, no database is started.
    /// An override for which there is nothing to replace is a problem that [`check`](Self::check) finds.
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

    /// Finds everything that is wrong with the graph, before anything runs.
    ///
    /// # Errors
    /// [`CheckFailed`] with all that is missing, goes in circles, outlives what it needs, is there twice or overrides
    /// nothing.
    pub fn check(self) -> Result<Plan, CheckFailed> {
        plan(self.name, self.providers)
    }

    /// Checks the graph, and starts it in the scope: [`check`](Self::check) and [`Plan::start`].
    ///
    /// # Cancel safety
    /// Safe: as [`Plan::start`].
    ///
    /// # Errors
    /// [`StartFailed`]; [`StartFailed::Check`] if the graph is wrong.
    #[track_caller]
    pub fn start(self, scope: &Scope) -> impl Future<Output = Result<Running, StartFailed>> + Send + use<> {
        let site = Site::new("container", "start").around();
        let starting = self.check().map(|plan| plan.start(scope));
        site.of(async move {
            match starting {
                Ok(starting) => starting.await,
                Err(failed) => Err(StartFailed::Check(failed)),
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
        Provided::new(self.providers.last_mut().expect("one was pushed"))
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
