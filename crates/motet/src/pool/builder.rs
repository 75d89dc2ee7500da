use std::fmt;
use std::panic::Location;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::end::{Handles, PendingClose};
use super::error::PoolConfigError;
use super::keeper::{Keeper, keep};
use super::manager::Manager;
use super::pool::Pool;
use super::shared::{PoolSettings, PoolShared};
use super::state::{PoolRules, PoolState};
use super::stats::PoolStats;
use crate::observe::Stats;
use crate::sync::Class;
use crate::task::child::{Plain, Spec, Stop, launch};
use crate::task::member::Member;
use crate::task::{Name, Scope, finalizer};
use crate::{Backoff, Jitter};

/// Sets the options of a [`Pool`].
///
/// # Defaults
/// | Setting | Default | Reason |
/// |---|---|---|
/// | [`max`](Self::max) | 10 | most databases do best with a few connections for each of their cores |
/// | [`min`](Self::min) | 0 | |
/// | [`max_waiting`](Self::max_waiting) | 10 000 | bounds the memory; a longer queue seldom empties before its callers time out |
/// | [`acquire_timeout`](Self::acquire_timeout) | 30 s | how long a user waits; callers with less time set their own timeout |
/// | [`connect_timeout`](Self::connect_timeout) | 10 s | three lost packets of a handshake |
/// | [`connects`](Self::connects) | 4 | |
/// | [`backoff`](Self::backoff) | 100 ms to 5 s | half of each delay is jitter |
/// | [`check_after`](Self::check_after) | 500 ms | as in `HikariCP`: a connection that was just used is alive |
/// | [`check_timeout`](Self::check_timeout) | 3 s | |
/// | [`idle_timeout`](Self::idle_timeout) | 10 min | |
/// | [`max_lifetime`](Self::max_lifetime) | 30 min | |
/// | [`close_timeout`](Self::close_timeout) | 5 s | |
/// | [`leak_after`](Self::leak_after) | off | |
///
/// A setting of [`Duration::MAX`] means never.
#[must_use = "the pool is created by `build`"]
pub struct PoolBuilder<M> {
    scope: Scope,
    manager: M,
    site: &'static Location<'static>,
    name: Option<Name>,
    min: usize,
    max: usize,
    connects: usize,
    backoff: Backoff,
    max_waiting: usize,
    acquire_timeout: Option<Duration>,
    connect_timeout: Duration,
    check_after: Option<Duration>,
    check_timeout: Duration,
    close_timeout: Duration,
    idle_timeout: Option<Duration>,
    max_lifetime: Option<Duration>,
    leak_after: Option<Duration>,
}

const fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

impl<M: Manager> PoolBuilder<M> {
    #[track_caller]
    pub(super) fn new(scope: &Scope, manager: M) -> Self {
        Self {
            scope: scope.clone(),
            manager,
            site: Location::caller(),
            name: None,
            min: 0,
            max: 10,
            connects: 4,
            // A delay near zero would put load on a backend that has just failed.
            backoff: Backoff::doubling(Duration::from_millis(100), Duration::from_secs(5))
                .with_jitter(Jitter::Equal),
            max_waiting: 10_000,
            acquire_timeout: seconds(30),
            connect_timeout: Duration::from_secs(10),
            check_after: Some(Duration::from_millis(500)),
            check_timeout: Duration::from_secs(3),
            close_timeout: Duration::from_secs(5),
            idle_timeout: seconds(600),
            max_lifetime: seconds(1800),
            leak_after: None,
        }
    }

    /// Sets the name, and shows the pool in the snapshots of its scope.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the minimum number of connections. The pool opens them in the background, from the start, and replaces those
    /// that [`idle_timeout`](Self::idle_timeout) or [`max_lifetime`](Self::max_lifetime) closes.
    pub fn min(mut self, connections: usize) -> Self {
        self.min = connections;
        self
    }

    /// Sets the maximum number of connections at any instant, including those that are being opened or closed.
    pub fn max(mut self, connections: usize) -> Self {
        self.max = connections;
        self
    }

    /// Sets how many connections may be opened at the same time.
    pub fn connects(mut self, connects: usize) -> Self {
        self.connects = connects;
        self
    }

    /// Sets the delay after a failed connect, before the next one.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how many callers may wait for a connection. Further callers fail at once with
    /// [`TooManyWaiting`](super::AcquireError::TooManyWaiting).
    pub fn max_waiting(mut self, callers: usize) -> Self {
        self.max_waiting = callers;
        self
    }

    /// Sets how long a caller may wait for a connection; `None` means no limit. A health check takes its time on top of it.
    /// With zero a caller takes an idle connection, and does not wait for another one.
    pub fn acquire_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.acquire_timeout = timeout.into();
        self
    }

    /// Sets how long a connect may take; more than zero.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets after which idle time a connection is checked before it is used again: with zero always, with `None` never.
    /// Idle times are accurate to a quarter of this time, so a check may come too early by that much.
    pub fn check_after(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.check_after = idle.into();
        self
    }

    /// Sets how long a check may take before the connection is closed; more than zero. The time of checks
    /// that were dropped before their result is included.
    pub fn check_timeout(mut self, timeout: Duration) -> Self {
        self.check_timeout = timeout;
        self
    }

    /// Sets how long closing a connection may take before the connection is dropped. With zero every connection is
    /// dropped whose close has to wait.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Sets the idle time after which a connection above the minimum is closed, accurate to a quarter of it or a
    /// millisecond; `None` means never. With zero a connection is closed as soon as it is seen to be idle.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Sets the age at which a connection is closed. For each connection, a random part of up to a tenth is subtracted. A
    /// connection that is in use at that age is closed when it comes back. `None` means never; with zero each connection
    /// is used once.
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.max_lifetime = lifetime.into();
        self
    }

    /// Reports callers that hold a connection for longer than this: with one warning per holder that contains the place
    /// of the acquire, and in [`Pool::leaks`]. It costs reading the clock and a second lock at each acquire; without it
    /// there is no cost. With zero every holder is reported.
    pub fn leak_after(mut self, held: impl Into<Option<Duration>>) -> Self {
        self.leak_after = held.into();
        self
    }

    /// Creates the pool. In a scope that has ended, the pool is closed from the start.
    ///
    /// # Errors
    /// [`PoolConfigError`]: a setting is out of its range, or two settings contradict each other.
    pub fn build(self) -> Result<Pool<M>, PoolConfigError> {
        PoolConfigError::check_size(self.min, self.max)?;
        match () {
            () if self.connects == 0 => Err(PoolConfigError::NoConnects),
            () if self.max_waiting == 0 => Err(PoolConfigError::NoneWaiting),
            () if self.connect_timeout.is_zero() => Err(PoolConfigError::NoTimeToConnect),
            () if self.check_timeout.is_zero() => Err(PoolConfigError::NoTimeToCheck),
            () => Ok(self.open()),
        }
    }

    pub(super) fn open(self) -> Pool<M> {
        let is_named = self.name.is_some();
        let name = self.name.clone().unwrap_or_else(|| Name::from("pool"));
        let task = |does: &'static str| match &self.name {
            Some(name) => Name::from(format!("{name}: {does}")),
            None => Name::from(does),
        };
        let keeper = task("keep the pool");
        let rules = PoolRules {
            connects: self.connects,
            max_waiting: self.max_waiting,
            acquire_timeout: self.acquire_timeout,
            idle_timeout: self.idle_timeout,
            tick: tick(self.check_after, self.idle_timeout),
            leak_after: self.leak_after,
            backoff: self.backoff,
        };
        let settings = PoolSettings {
            connects: task("connect"),
            closes: task("close a connection"),
            name: name.clone(),
            site: self.site,
            check_after: self.check_after,
            check_timeout: self.check_timeout,
            connect_timeout: self.connect_timeout,
            close_timeout: self.close_timeout,
            max_lifetime: self.max_lifetime,
            keeps_holders: self.leak_after.is_some(),
        };
        let core = Arc::clone(&self.scope.0);
        let state = PoolState::new(self.min, self.max, rules);
        let shared = Arc::new(PoolShared::new(state, self.manager, settings, Arc::clone(&core)));
        if is_named {
            let seen = Arc::downgrade(&shared);
            let stats = move || {
                let counts = seen.upgrade().map(|shared| shared.state().counts());
                counts.map_or_else(Stats::new, |counts| PoolStats::new(counts).show())
            };
            let shown = self.scope.register("pool", name.clone(), stats);
            *shared.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        }
        let pending = Box::new(PendingClose { shared: Arc::clone(&shared), has_begun: false });
        // A member of the scope for the moment, so that the scope cannot close before the registration.
        match Member::enter(&core, Class::Work) {
            Some(_member) => {
                let id = finalizer::push(&core, name, self.site, None, pending);
                // A pool registers once.
                let _was_empty = shared.release_id.set(id);
            }
            None => shared.begin_close(),
        }
        let spec = Spec::new(keeper, self.site, Class::Service, Stop::Drop);
        // If the scope refuses the keeper, the keeper is dropped, which ends the pool.
        drop(launch::<_, Plain>(&core, spec, keep(Keeper(Arc::clone(&shared)))));
        Pool { handles: Arc::new(Handles(Arc::clone(&shared))), shared }
    }
}

/// The accuracy of idle times: a quarter of the shortest one, but at least the resolution of the timer.
fn tick(check_after: Option<Duration>, idle_timeout: Option<Duration>) -> Option<Duration> {
    let asked = check_after.filter(|after| !after.is_zero()).into_iter().chain(idle_timeout).min()?;
    Some((asked / 4).max(Duration::from_millis(1)))
}

impl<M> fmt::Debug for PoolBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("name", &self.name)
            .field("min", &self.min)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}
