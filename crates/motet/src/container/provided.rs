use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::factory::Maker;
use super::health::HealthOutcome;
use super::key::{Key, Value};
use super::provider::{Bind, Lifetime, Provider};

use crate::task::Policy;
use crate::task::outcome::IntoResult;

/// Sets the options of a provider: its hooks, limits, tag and further types.
///
/// Each hook can be set once: [`Container::check`](super::Container::check) reports a second one.
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
    /// Provides the component with a tag, for arguments of type [`Named<Tag, T>`](super::Named), so that several
    /// components of one type can be provided. Types that are bound after this call have the tag, too.
    pub fn named<Tag: 'static>(self, tag: Tag) -> Provided<'c, T, Tag> {
        drop(tag);
        self.provider.key = Key::of::<Tag, T>();
        Provided { provider: self.provider, types: PhantomData }
    }
}

#[allow(
    clippy::return_self_not_must_use,
    clippy::must_use_candidate,
    reason = "the container keeps the settings, which `Provided` borrows"
)]
impl<T: ?Sized + Send + Sync + 'static, Tag: 'static> Provided<'_, T, Tag> {
    /// Also provides the component as the trait `D`: `bind::<dyn Repo>(|repo| repo)`.
    #[track_caller]
    pub fn bind<D: ?Sized + Send + Sync + 'static>(self, cast: fn(Arc<T>) -> Arc<D>) -> Self {
        self.provider.binds.push(Bind {
            key: Key::of::<Tag, D>(),
            site: Location::caller(),
            cast: Arc::new(move |value| Value::new(cast(value.arc()))),
        });
        self
    }

    /// Runs `hook` after the factory, before any component that depends on this one is built, for example for a
    /// migration or a warm-up.
    ///
    /// If the hook fails, the start fails, and the component is stopped like one that had started.
    ///
    /// [`Container::check`](super::Container::check) reports a hook that is set twice or for an
    /// [`input`](super::Container::input).
    pub fn on_start<H, Fut>(mut self, hook: H) -> Self
    where
        H: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        if !self.accepts("on_start", self.provider.on_start.is_some()) {
            return self;
        }
        self.provider.on_start = Some(Box::new(move |value| {
            let starting = hook(value.arc());
            Box::pin(async move { starting.await.into_result() })
        }));
        self
    }

    /// Runs `hook` once when the component is stopped: after everything that depends on the component, before its
    /// dependencies.
    ///
    /// It runs whenever the factory has returned a component, even if the start failed later.
    ///
    /// [`Container::check`](super::Container::check) reports a hook that is set twice or for an
    /// [`input`](super::Container::input).
    pub fn on_stop<H, Fut>(mut self, hook: H) -> Self
    where
        H: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        if !self.accepts("on_stop", self.provider.on_stop.is_some()) {
            return self;
        }
        self.provider.on_stop = Some(Box::new(move |value| {
            let stopping = hook(value.arc());
            Box::pin(async move { stopping.await.into_result() })
        }));
        self
    }

    /// Sets the health check of the component, for [`Running::health`](super::Running::health). Without a check, the
    /// component is healthy as long as none of its tasks has panicked.
    ///
    /// [`Container::check`](super::Container::check) reports a health check that is set twice, or for a component that
    /// is not a singleton.
    pub fn health<H, Fut>(mut self, check: H) -> Self
    where
        H: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HealthOutcome> + Send + 'static,
    {
        let (key, lifetime) = (self.provider.key, self.provider.lifetime);
        if lifetime != Lifetime::Singleton {
            let misuse = format!("`{key}` is {lifetime}: only a singleton can have a `health` check");
            self.provider.misuse.push(misuse);
            return self;
        }
        if !self.accepts("health", self.provider.health.is_some()) {
            return self;
        }
        self.provider.health = Some(Box::new(move |value| {
            let asking = check(value.arc());
            Box::pin(async move { asking.await.into_health() })
        }));
        self
    }

    /// Passes the panic of a task in the component's scope only to the caller that awaits the task: the component's
    /// other tasks continue, and the health of the component is that of its check. Without this setting, such a panic
    /// cancels the other tasks, and the component is unhealthy.
    ///
    /// For a component that runs jobs for several callers, such as a pool of readers, in which one bad query must not
    /// affect the others.
    pub fn isolated(self) -> Self {
        self.provider.policy = Policy::Isolate;
        self
    }

    /// Limits the factory and `on_start` together, from the time at which all dependencies have started. After `timeout`
    /// they are dropped, and the start fails.
    pub fn start_timeout(self, timeout: Duration) -> Self {
        self.provider.limits.start = timeout;
        self
    }

    /// Limits `on_stop`, and each cleanup that the component deferred; its tasks and cleanups together have twice as
    /// long. After that the next component is stopped, and the scope that the container is in waits for the remaining
    /// tasks.
    pub fn stop_timeout(self, timeout: Duration) -> Self {
        self.provider.limits.stop = timeout;
        self
    }

    /// Limits the health check: after `timeout` the component counts as unhealthy. For this limit and those of the start and
    /// the stop, zero allows no wait at all, and [`Duration::MAX`] is no limit.
    pub fn health_timeout(self, timeout: Duration) -> Self {
        self.provider.limits.health = timeout;
        self
    }

    /// Returns `true` if a hook can be set, and notes a problem if not.
    fn accepts(&mut self, hook: &str, is_set: bool) -> bool {
        let key = self.provider.key;
        let misuse = if matches!(self.provider.maker, Maker::Input) {
            format!("`{key}` is an input, which is not built, so its `{hook}` would never run")
        } else if is_set {
            format!("`{hook}` of `{key}` is set twice: put both into one closure")
        } else {
            return true;
        };
        self.provider.misuse.push(misuse);
        false
    }
}

impl<T: ?Sized, Tag> fmt::Debug for Provided<'_, T, Tag> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Provided").field(&self.provider.key).finish()
    }
}
