use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::factory::Maker;
use super::health::HealthOutcome;
use super::provider::{Bind, Provider};
use super::{Key, Lifetime, Value};
use crate::task::Policy;
use crate::task::outcome::IntoResult;

/// Says more of what was provided: how it starts and stops, what else it is known as.
///
/// Each hook can be given once.
pub struct Provided<'c, T: ?Sized, Tag = ()> {
    provider: &'c mut Provider,
    types: PhantomData<fn(Tag) -> Arc<T>>,
}

impl<'c, T: ?Sized> Provided<'c, T> {
    pub(crate) fn new(provider: &'c mut Provider) -> Self {
        Self { provider, types: PhantomData }
    }
}

impl<'c, T: ?Sized + Send + Sync + 'static> Provided<'c, T> {
    /// Provides it under a tag, for arguments of [`Named<Tag, T>`](super::Named), so that there can be several of the type.
    /// What is bound after this is under the tag, too.
    pub fn named<Tag: 'static>(self, tag: Tag) -> Provided<'c, T, Tag> {
        drop(tag);
        self.provider.key = Key::of::<Tag, T>();
        Provided { provider: self.provider, types: PhantomData }
    }
}

#[allow(
    clippy::return_self_not_must_use,
    clippy::must_use_candidate,
    reason = "what is said is kept by the container, which this borrows"
)]
impl<T: ?Sized + Send + Sync + 'static, Tag: 'static> Provided<'_, T, Tag> {
    /// Makes it known as a trait, too: `bind::<dyn Repo>(|repo| repo)`.
    #[track_caller]
    pub fn bind<D: ?Sized + Send + Sync + 'static>(self, cast: fn(Arc<T>) -> Arc<D>) -> Self {
        self.provider.binds.push(Bind {
            key: Key::of::<Tag, D>(),
            site: Location::caller(),
            cast: Arc::new(move |value| Value::new(cast(value.arc()))),
        });
        self
    }

    /// Runs this after the factory, before anything that needs the component is built: a migration, a warm-up.
    ///
    /// If it fails, so does the start, and the component is stopped like one that had started.
    ///
    /// # Panics
    /// If it is given twice, or for an [`input`](super::Container::input).
    #[track_caller]
    pub fn on_start<H, Fut>(self, hook: H) -> Self
    where
        H: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        self.of_built("on_start");
        self.once("on_start", self.provider.on_start.is_some());
        self.provider.on_start = Some(Box::new(move |value| {
            let starting = hook(value.arc());
            Box::pin(async move { starting.await.into_result() })
        }));
        self
    }

    /// Runs this once when the component is stopped: after everything that needs it, before what it needs.
    ///
    /// It runs whenever the factory returned a component, whatever came after that.
    ///
    /// # Panics
    /// If it is given twice, or for an [`input`](super::Container::input).
    #[track_caller]
    pub fn on_stop<H, Fut>(self, hook: H) -> Self
    where
        H: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        self.of_built("on_stop");
        self.once("on_stop", self.provider.on_stop.is_some());
        self.provider.on_stop = Some(Box::new(move |value| {
            let stopping = hook(value.arc());
            Box::pin(async move { stopping.await.into_result() })
        }));
        self
    }

    /// Asks the component how it is, for [`Running::health`](super::Running::health). Without this it is healthy
    /// while its tasks are.
    ///
    /// # Panics
    /// If it is given twice, or for a component that is no singleton.
    #[track_caller]
    pub fn health<H, Fut>(self, check: H) -> Self
    where
        H: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HealthOutcome> + Send + 'static,
    {
        self.once("health", self.provider.health.is_some());
        let (key, lifetime) = (self.provider.key, self.provider.lifetime);
        assert!(lifetime == Lifetime::Singleton, "`{key}` is {lifetime}: only a singleton has a `health`");
        self.provider.health = Some(Box::new(move |value| {
            let asking = check(value.arc());
            Box::pin(async move { asking.await.into_health() })
        }));
        self
    }

    /// Keeps a panic of a task in the component's scope with whoever awaits the task: the component's other tasks go on,
    /// and it stays as healthy as it says. Without this, such a panic cancels them, and the component is unhealthy.
    ///
    /// For a component that runs the jobs of others: a pool of readers, where one bad query harms no other.
    pub fn isolated(self) -> Self {
        self.provider.policy = Policy::Isolate;
        self
    }

    /// Gives factory and `on_start` together this long, from when all that they need is there; then they are dropped
    /// and the start fails.
    pub fn start_timeout(self, limit: Duration) -> Self {
        self.provider.limits.start = limit;
        self
    }

    /// Gives `on_stop` this long, and each cleanup that the component deferred; its tasks and cleanups together have twice
    /// as long. Then what comes next is stopped, and what is left is waited for by the scope that the container is in.
    pub fn stop_timeout(self, limit: Duration) -> Self {
        self.provider.limits.stop = limit;
        self
    }

    /// Gives the health check this long; then the component counts as unhealthy. Of the three limits, zero refuses what is
    /// not ready at once, and [`Duration::MAX`] is none.
    pub fn health_timeout(self, limit: Duration) -> Self {
        self.provider.limits.health = limit;
        self
    }

    #[track_caller]
    fn of_built(&self, hook: &str) {
        let is_input = matches!(self.provider.maker, Maker::Input);
        let key = self.provider.key;
        assert!(!is_input, "`{key}` is an input: it is given, not built, so its `{hook}` would never run");
    }

    #[track_caller]
    fn once(&self, hook: &str, given: bool) {
        assert!(!given, "`{hook}` of `{}` is given twice: put both into one", self.provider.key);
    }
}

impl<T: ?Sized, Tag> fmt::Debug for Provided<'_, T, Tag> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Provided").field(&self.provider.key).finish()
    }
}
