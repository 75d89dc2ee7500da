use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::task::coop;
use tokio::time::Instant;

use super::acquire;
use super::builder::Builder;
use super::end::{self, Handles};
use super::error::AcquireError;
use super::manager::Manager;
use super::pooled::Pooled;
use super::shared::{Member, Shared};
use super::state::{At, Warmth};
use super::stats::{CloseReport, Holder, PoolStats};
use crate::sim;
use crate::sim::Site;
use crate::task::Scope;
use crate::task::wakers::Place;

/// Keeps connections for many to use in turn; a handle, cheap to clone.
///
/// # Ordering and fairness
/// Who waits is served in order, and nobody overtakes: a connection that comes back goes to whoever has waited
/// longest, and is idle only if nobody waits. Of those that are idle, the one used last is used next, so that those
/// which are not needed grow old and are closed.
///
/// # Drop
/// With its last handle the pool closes: what is idle at once, what is held when it comes back.
pub struct Pool<M: Manager> {
    pub(super) shared: Arc<Shared<M>>,
    pub(super) handles: Arc<Handles<M>>,
}

impl<M: Manager> Pool<M> {
    /// Opens a pool with the [defaults](Builder) in a scope. In a scope that has ended, it is closed from the start.
    #[track_caller]
    #[must_use]
    pub fn new(scope: &Scope, manager: M) -> Self {
        Builder::new(scope, manager).open()
    }

    /// Sets up a pool in a scope.
    ///
    /// # Examples
    /// ```
    /// use motet::pool::{InvalidPool, Manager, Pool};
    /// use motet::task::Scope;
    /// use std::time::Duration;
    ///
    /// fn pool<M: Manager>(scope: &Scope, manager: M) -> Result<Pool<M>, InvalidPool> {
    ///     Pool::builder(scope, manager).named("db").min(2).max(20).idle_timeout(Duration::from_secs(60)).build()
    /// }
    /// ```
    #[track_caller]
    pub fn builder(scope: &Scope, manager: M) -> Builder<M> {
        Builder::new(scope, manager)
    }

    /// Gives a connection: an idle one, or else the first that comes back or is made.
    ///
    /// Nothing is allocated, no timer is armed, and the clock is read only if it has to wait or the connection has been
    /// idle for a while.
    ///
    /// # Cancel safety
    /// Safe. A connect that this caller was the reason for goes on, for whoever comes next. A connection it was
    /// handed but did not see yet goes to the next. One that is being checked goes back unchecked. Its place in the
    /// queue is lost.
    ///
    /// # Errors
    /// [`AcquireError`]: nothing can be connected, nothing came free in time, too many wait, or the pool is closed. While the backend
    /// is down and the pool has no connection left, it fails at once with the last cause, but for one caller at a
    /// time, after each back-off, who waits for the outcome of another attempt. While it has some, it waits for those.
    ///
    /// # Panics
    /// With the panic of [`Manager::check`]; the connection is closed then.
    #[track_caller]
    pub fn acquire(
        &self,
    ) -> impl Future<Output = Result<Pooled<M>, AcquireError<M::Error>>> + Send + use<'_, M> {
        let site = Site::named("pool", "acquire", || Some(self.shared.settings.name.to_string()));
        site.of(acquire::acquire(&self.shared, Location::caller()))
    }

    /// Gives a connection if one is idle that needs no check. Never waits, and makes none.
    #[track_caller]
    #[must_use]
    pub fn try_acquire(&self) -> Option<Pooled<M>> {
        acquire::try_acquire(&self.shared, Location::caller())
    }

    /// Waits until the [minimum](Builder::min) is open.
    ///
    /// # Cancel safety
    /// Safe: the pool goes on.
    ///
    /// # Errors
    /// [`AcquireError`]: a connect failed, or the pool is closed. The pool goes on trying.
    #[track_caller]
    pub fn warm_up(&self) -> impl Future<Output = Result<(), AcquireError<M::Error>>> {
        sim::at_named("pool", "warm up", || Some(self.shared.settings.name.to_string()), async move {
            let mut place = Place::among(&self.shared.changed);
            poll_fn(|cx| {
                let coop = ready!(coop::poll_proceed(cx));
                // Before the question, so that no answer is missed.
                place.set(cx.waker());
                let outcome = match self.shared.change(|state, todo| state.warm_up(Instant::now(), todo)) {
                    Warmth::Warm => Ok(()),
                    Warmth::Cold(error) => Err(error),
                    Warmth::Warming => return Poll::Pending,
                };
                coop.made_progress();
                Poll::Ready(outcome)
            })
            .await
        })
    }

    /// Changes how many connections there may be, at once.
    ///
    /// Made larger, the pool connects for those who wait. Made smaller, it closes what is idle, that which has been
    /// idle longest first, and what is held when it comes back; until then there are more than the maximum.
    ///
    /// # Panics
    /// If `max` is zero or less than the minimum.
    #[track_caller]
    pub fn resize(&self, max: usize) {
        let min = self.stats().min;
        assert!(
            max > 0 && max >= min,
            "a pool that keeps {min} connections needs a maximum of more than {max}"
        );
        self.shared.change(|state, todo| state.resize(max, Instant::now(), todo));
    }

    /// Closes the idle connections that `keep` does not want, and gives their number.
    ///
    /// Those in use are not looked at. Who comes meanwhile waits for one of them to be looked at. Should `keep` panic,
    /// the connection it was looking at is closed, and the others stay.
    pub fn retain(&self, mut keep: impl FnMut(&mut M::Connection) -> bool) -> usize {
        let mut looking = Looking { pool: self, left: self.shared.state().take_all(), judged: None };
        let mut closed = 0;
        while let Some(entry) = looking.left.pop_front() {
            // Closed, unless it is found to be good.
            let judged = looking.judged.insert(entry);
            if keep(&mut judged.what.connection) {
                looking.left_alone();
            } else {
                looking.closed();
                closed += 1;
            }
        }
        closed
    }

    /// Closes the pool: refuses whoever comes or waits, closes what is idle, and gives those who hold a connection so
    /// long to return it.
    ///
    /// What is left then is in the report, and is closed as it comes back. Zero waits for no holder, and [`Duration::MAX`] for
    /// as long as it takes.
    ///
    /// # Cancel safety
    /// Safe: the pool is closed as soon as this is polled, and goes on closing its connections. Called again, it waits
    /// for the rest.
    #[track_caller]
    pub fn close(&self, within: Duration) -> impl Future<Output = CloseReport> {
        sim::at_named("pool", "close", || Some(self.shared.settings.name.to_string()), async move {
            end::close(&self.shared, within).await
        })
    }

    /// Asks whether the pool refuses newcomers: it was closed, or its scope makes no more connections.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.state().is_closed()
    }

    /// Counts what there is.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats::new(self.shared.state().counts())
    }

    /// Gives those who have held a connection for longer than [`leak_after`](Builder::leak_after), the longest first.
    #[must_use]
    pub fn leaks(&self) -> Vec<Holder> {
        let now = Instant::now();
        let overdue = self.shared.state().overdue(now);
        overdue.into_iter().map(Holder::new).collect()
    }
}

/// Idle connections that are looked at. What is left goes back.
struct Looking<'a, M: Manager> {
    pool: &'a Pool<M>,
    left: VecDeque<Member<M>>,
    /// The one that is looked at now. If it stays here, it is not wanted.
    judged: Option<Member<M>>,
}

impl<M: Manager> Looking<'_, M> {
    fn left_alone(&mut self) {
        if let Some(entry) = self.judged.take() {
            self.pool.shared.put_back(At::Back, entry);
        }
    }

    fn closed(&mut self) {
        if let Some(entry) = self.judged.take() {
            self.pool.shared.discard(entry);
        }
    }
}

impl<M: Manager> Drop for Looking<'_, M> {
    fn drop(&mut self) {
        self.closed();
        while let Some(entry) = self.left.pop_front() {
            self.pool.shared.put_back(At::Back, entry);
        }
    }
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), handles: Arc::clone(&self.handles) }
    }
}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.shared.settings.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
