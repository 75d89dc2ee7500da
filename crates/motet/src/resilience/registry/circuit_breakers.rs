use std::fmt;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::keyed::Keyed;
use crate::observe::Stats;
use crate::resilience::register::RegisterWith;
use crate::resilience::{BreakerState, CircuitBreaker, CircuitBreakerBuilder, PolicyConfigError};
use crate::task::{Name, Scope};

/// A [`CircuitBreaker`] for each key - a host, a tenant, an endpoint - created when it is first asked for.
///
/// At most `max` breakers are kept. A further key evicts a breaker: preferably one that is closed and has no other
/// handle, and that was not asked for lately; an open breaker only if there is no other one among the few dozen that
/// are examined, and a breaker with a forced state last. An evicted breaker is forgotten: if its key comes again, its
/// breaker starts closed.
///
/// It is a handle: clones share one registry. Keys are compared under its lock. A panic of a comparison, of a hash or
/// of a clone reaches the caller, and changes nothing.
///
/// # Examples
/// ```
/// use motet::resilience::{CircuitBreaker, CircuitBreakers};
/// use std::num::NonZeroUsize;
///
/// let max = NonZeroUsize::new(1000).unwrap();
/// let hosts = CircuitBreakers::new(max, |host: &String| {
///     let failures = if host.ends_with(".internal") { 20 } else { 5 };
///     let builder = CircuitBreaker::builder().consecutive_failures(failures);
///     builder.build().expect("the settings are valid")
/// });
/// hosts.get(&"a.example".to_owned()).force_open();
/// assert!(hosts.get(&"a.example".to_owned()).try_acquire().is_err());
/// assert!(hosts.get(&"b.example".to_owned()).try_acquire().is_ok());
/// ```
pub struct CircuitBreakers<K>(Arc<Keyed<K, CircuitBreaker>>);

impl<K: Clone + Eq + Hash> CircuitBreakers<K> {
    /// Creates a registry that keeps up to `max` breakers. `make` creates each breaker, with no lock held.
    pub fn new(max: NonZeroUsize, make: impl Fn(&K) -> CircuitBreaker + Send + Sync + 'static) -> Self {
        Self(Keyed::new(max, make, worth))
    }

    /// Creates a registry whose breakers have the same settings. They are not shown one by one.
    ///
    /// # Errors
    /// [`PolicyConfigError`], as for [`CircuitBreakerBuilder::build`].
    pub fn with_builder(
        max: NonZeroUsize,
        builder: CircuitBreakerBuilder,
    ) -> Result<Self, PolicyConfigError> {
        let builder = builder.check()?;
        Ok(Self::new(max, move |_| builder.clone().checked(RegisterWith::NoScope)))
    }

    /// Returns the breaker of the key.
    #[must_use]
    pub fn get(&self, key: &K) -> CircuitBreaker {
        self.0.get(key)
    }

    /// Removes the breaker of the key. Its other handles stay valid.
    pub fn remove(&self, key: &K) -> Option<CircuitBreaker> {
        self.0.remove(key)
    }

    /// The number of breakers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no breakers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all keys with the states of their breakers, in an arbitrary order that stays the same.
    #[must_use]
    pub fn states(&self) -> Vec<(Arc<K>, BreakerState)> {
        let all = self.0.all();
        // Without the lock: a breaker whose state changes calls its listeners.
        all.into_iter().map(|(key, breaker)| (key, breaker.state())).collect()
    }

    /// Sets the name, with which the snapshots of the scope of the running task show the registry. The first name is
    /// kept.
    #[must_use]
    pub fn name(self, name: impl Into<Name>) -> Self
    where
        K: Send + Sync + 'static,
    {
        self.register(RegisterWith::AmbientScope, name.into())
    }

    /// Sets the name, with which the snapshots of `scope` show the registry. The first name is kept.
    #[must_use]
    pub fn name_in(self, scope: &Scope, name: impl Into<Name>) -> Self
    where
        K: Send + Sync + 'static,
    {
        self.register(RegisterWith::Scope(scope), name.into())
    }

    fn register(self, with: RegisterWith<'_>, name: Name) -> Self
    where
        K: Send + Sync + 'static,
    {
        self.0.register(with, "circuit breakers", name, |keyed| Self(keyed).shown());
        self
    }

    fn shown(&self) -> Stats {
        let states = self.states();
        let count = |wanted: &[BreakerState]| {
            states.iter().filter(|(_, state)| wanted.contains(state)).count() as u64
        };
        Stats::new()
            .count("breakers", states.len() as u64)
            .count("closed", count(&[BreakerState::Closed]))
            .count("open", count(&[BreakerState::Open, BreakerState::ForcedOpen]))
            .count("half_open", count(&[BreakerState::HalfOpen]))
    }
}

fn worth(breaker: &CircuitBreaker) -> u8 {
    match breaker.peek() {
        BreakerState::Closed if breaker.handles() == 1 => 0,
        BreakerState::Closed => 1,
        BreakerState::Open | BreakerState::HalfOpen => 2,
        BreakerState::ForcedOpen
        | BreakerState::ForcedClosed
        | BreakerState::MetricsOnly
        | BreakerState::Disabled => 3,
    }
}

impl<K> Clone for CircuitBreakers<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for CircuitBreakers<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakers").finish_non_exhaustive()
    }
}
