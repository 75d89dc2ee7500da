use std::fmt;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::keyed::Keyed;
use crate::observe::Stats;
use crate::resilience::register::RegisterWith;
use crate::resilience::{PolicyConfigError, RateLimiter, RateLimiterBuilder};
use crate::task::{Name, Scope};

/// A [`RateLimiter`] for each key - a client, a tenant, a host - created when it is first asked for.
///
/// At most `max` limiters are kept. A further key evicts a limiter: preferably one whose cells have all come back, which
/// forgets nothing; another one only if there is no such one among the few dozen that are examined. If the key of an
/// evicted limiter comes again, its limiter starts with all of its cells: choose a `max` above the number of keys that
/// call at the same time.
///
/// It is a handle: clones share one registry. Keys are compared under its lock. A panic of a comparison, of a hash or
/// of a clone reaches the caller, and changes nothing.
///
/// # Examples
/// ```
/// use motet::resilience::{RateLimiter, RateLimiters};
/// use std::num::NonZeroUsize;
/// use std::time::Duration;
///
/// let each = RateLimiter::builder(10, Duration::from_secs(1)).burst(2);
/// let clients = RateLimiters::with_builder(NonZeroUsize::new(10_000).unwrap(), each)?;
/// let a = clients.get(&"a");
/// a.try_acquire(2)?;
/// let rejected = clients.get(&"a").try_acquire(1).unwrap_err(); // a 429 with this `Retry-After`
/// assert!(rejected.retry_after().is_some());
/// clients.get(&"b").try_acquire(1)?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct RateLimiters<K>(Arc<Keyed<K, RateLimiter>>);

impl<K: Clone + Eq + Hash> RateLimiters<K> {
    /// Creates a registry that keeps up to `max` limiters. `make` creates each limiter, with no lock held.
    pub fn new(max: NonZeroUsize, make: impl Fn(&K) -> RateLimiter + Send + Sync + 'static) -> Self {
        Self(Keyed::new(max, make, worth))
    }

    /// Creates a registry whose limiters have the same settings. They are not shown one by one.
    ///
    /// # Errors
    /// [`PolicyConfigError`], as for [`RateLimiterBuilder::build`].
    pub fn with_builder(max: NonZeroUsize, builder: RateLimiterBuilder) -> Result<Self, PolicyConfigError> {
        let each = builder.check()?;
        Ok(Self::new(max, move |_| each.limiter()))
    }

    /// Returns the limiter of the key.
    #[must_use]
    pub fn get(&self, key: &K) -> RateLimiter {
        self.0.get(key)
    }

    /// Removes the limiter of the key. Its other handles stay valid.
    pub fn remove(&self, key: &K) -> Option<RateLimiter> {
        self.0.remove(key)
    }

    /// The number of limiters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no limiters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        self.0.register(with, "rate limiters", name, |keyed| Self(keyed).shown());
        self
    }

    fn shown(&self) -> Stats {
        let all = self.0.all();
        let in_use = all.iter().filter(|(_, limiter)| !limiter.is_full()).count() as u64;
        Stats::new().count("limiters", all.len() as u64).count("in_use", in_use)
    }
}

fn worth(limiter: &RateLimiter) -> u8 {
    match limiter.is_full() {
        true if limiter.handles() == 1 => 0,
        true => 1,
        false => 2,
    }
}

impl<K> Clone for RateLimiters<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for RateLimiters<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiters").finish_non_exhaustive()
    }
}
