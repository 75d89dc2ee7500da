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
use super::builder::PoolBuilder;
use super::end::{self, Handles};
use super::error::{AcquireError, PoolConfigError};
use super::manager::Manager;
use super::pooled::Pooled;
use super::shared::{Member, PoolShared};
use super::state::{QueueEnd, Warmth};
use super::stats::{CloseReport, Holder, PoolStats};
use crate::sim;
use crate::sim::Site;
use crate::sync::WakerSetEntry;
use crate::task::Scope;

/// A pool of connections that many tasks use in turn. The handle is cheap to clone.
///
/// # Ordering and fairness
/// Waiting callers are served in order, and no caller overtakes another: a returned connection goes to the caller that
/// has waited longest, and is idle only if no caller waits. Of the idle connections, the one that was used last is lent
/// first, so that connections which are not needed become old and are closed.
///
/// # Drop
/// The drop of the last handle closes the pool: idle connections are closed at once, held connections when they come
/// back.
pub struct Pool<M: Manager> {
    pub(super) shared: Arc<PoolShared<M>>,
    pub(super) handles: Arc<Handles<M>>,
}

impl<M: Manager> Pool<M> {
    /// Creates a pool with the [defaults](PoolBuilder) in a scope. In a scope that has ended, the pool is closed from the
    /// start.
    #[track_caller]
    #[must_use]
    pub fn new(scope: &Scope, manager: M) -> Self {
        PoolBuilder::new(scope, manager).open()
    }

    /// Creates a builder for a pool in a scope.
    ///
    /// # Examples
    /// ```
    /// use motet::pool::{PoolConfigError, Manager, Pool};
    /// use motet::task::Scope;
    /// use std::time::Duration;
    ///
    /// fn pool<M: Manager>(scope: &Scope, manager: M) -> Result<Pool<M>, PoolConfigError> {
    ///     Pool::builder(scope, manager).name("db").min(2).max(20).idle_timeout(Duration::from_secs(60)).build()
    /// }
    /// ```
    #[track_caller]
    pub fn builder(scope: &Scope, manager: M) -> PoolBuilder<M> {
        PoolBuilder::new(scope, manager)
    }

    /// Returns a connection: an idle one, or the next one that comes back or is opened.
    ///
    /// With an idle connection that needs no check, it does not allocate and sets no timer. It reads the clock only if the
    /// caller has to wait, if the connection has been idle for a while, or for `leak_after`.
    ///
    /// # Cancel safety
    /// Safe. A connect that was started for this caller continues, for the next caller. A connection that was handed to
    /// this caller and not returned yet goes to the next one. If the future is dropped during the health check, the
    /// connection returns to the pool unchecked. The position in the queue is lost.
    ///
    /// # Errors
    /// [`AcquireError`]: no connection can be opened, none became free in time, too many callers wait, or the pool is
    /// closed. While the backend is down and the pool has no connection left, the call fails at once with the last
    /// cause; after each back-off, one caller at a time waits for the outcome of another connect instead. While the
    /// pool has some connections, callers wait for those.
    ///
    /// # Panics
    /// Rethrows a panic of [`Manager::check`]; the connection is then closed.
    #[track_caller]
    pub fn acquire(
        &self,
    ) -> impl Future<Output = Result<Pooled<M>, AcquireError<M::Error>>> + Send + use<'_, M> {
        let site = Site::named("pool", "acquire", || Some(self.shared.settings.name.to_string()));
        site.of(acquire::acquire(&self.shared, Location::caller()))
    }

    /// Returns a connection if one is idle and needs no check. It never waits, and opens no connection.
    #[track_caller]
    #[must_use]
    pub fn try_acquire(&self) -> Option<Pooled<M>> {
        acquire::try_acquire(&self.shared, Location::caller())
    }

    /// Waits until the [minimum](PoolBuilder::min) number of connections is open.
    ///
    /// # Cancel safety
    /// Safe: the pool continues to connect.
    ///
    /// # Errors
    /// [`AcquireError`]: a connect failed, or the pool is closed. The pool continues to connect.
    #[track_caller]
    pub fn warm_up(&self) -> impl Future<Output = Result<(), AcquireError<M::Error>>> {
        sim::at_named("pool", "warm up", || Some(self.shared.settings.name.to_string()), async move {
            let mut place = WakerSetEntry::of(&self.shared.changed);
            poll_fn(|cx| {
                let coop = ready!(coop::poll_proceed(cx));
                // Registered before the state is read, so that no change is missed.
                place.set(cx.waker());
                let outcome = match self.shared.change(|state, todo| state.warm_up(Instant::now(), todo)) {
                    Warmth::Warm => Ok(()),
                    Warmth::Cold(refusal) => Err(self.shared.refused(refusal, None)),
                    Warmth::Warming => return Poll::Pending,
                };
                coop.made_progress();
                Poll::Ready(outcome)
            })
            .await
        })
    }

    /// Changes the maximum number of connections at once.
    ///
    /// With a larger maximum, the pool connects for the callers that wait. With a smaller one, it closes idle
    /// connections, those that have been idle longest first, and held connections when they come back; until then there
    /// are more than the maximum.
    ///
    /// # Errors
    /// [`PoolConfigError`] if `max` is zero or less than the minimum. The maximum is unchanged.
    pub fn resize(&self, max: usize) -> Result<(), PoolConfigError> {
        PoolConfigError::check_size(self.stats().min, max)?;
        self.shared.change(|state, todo| state.resize(max, Instant::now(), todo));
        Ok(())
    }

    /// Closes the idle connections for which `keep` returns `false`, and returns their number.
    ///
    /// Connections in use are not passed to `keep`. While `retain` runs, no connection is idle: a caller waits for the next
    /// one that `keep` accepts, or for a new one. If `keep` panics, the connection that it was called with is closed, and
    /// the others stay.
    pub fn retain(&self, mut keep: impl FnMut(&mut M::Connection) -> bool) -> usize {
        let mut scan = IdleScan { pool: self, left: self.shared.state().take_all(), judged: None };
        let mut closed = 0;
        while let Some(entry) = scan.left.pop_front() {
            // The connection is closed unless `keep` returns `true`.
            let judged = scan.judged.insert(entry);
            if keep(&mut judged.what.connection) {
                scan.keep();
            } else {
                scan.close();
                closed += 1;
            }
        }
        closed
    }

    /// Closes the pool: new and waiting callers fail, idle connections are closed, and holders have the time `within`
    /// to return their connections.
    ///
    /// Connections that are left after that are in the report, and are closed as they come back. With zero the call
    /// waits for no holder; with [`Duration::MAX`] it waits until every connection is closed.
    ///
    /// # Cancel safety
    /// Safe: the pool is closed at the first poll, and continues to close its connections. A further call waits for the
    /// connections that are left.
    #[track_caller]
    pub fn close(&self, within: Duration) -> impl Future<Output = CloseReport> {
        sim::at_named("pool", "close", || Some(self.shared.settings.name.to_string()), async move {
            end::close(&self.shared, within).await
        })
    }

    /// Returns `true` if the pool is closed, or its scope opens no more connections.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.state().is_closed()
    }

    /// The current numbers of the pool.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats::new(self.shared.state().counts())
    }

    /// The holders that have held a connection for longer than [`leak_after`](PoolBuilder::leak_after), the longest first.
    #[must_use]
    pub fn leaks(&self) -> Vec<Holder> {
        let now = Instant::now();
        let overdue = self.shared.state().overdue(now);
        overdue.into_iter().map(Holder::new).collect()
    }
}

/// Idle connections that `retain` looks at. Those that are left return to the pool.
struct IdleScan<'a, M: Manager> {
    pool: &'a Pool<M>,
    left: VecDeque<Member<M>>,
    /// The connection that `keep` is called with. If it stays here, it is closed.
    judged: Option<Member<M>>,
}

impl<M: Manager> IdleScan<'_, M> {
    fn keep(&mut self) {
        if let Some(entry) = self.judged.take() {
            self.pool.shared.put_back(QueueEnd::Back, entry);
        }
    }

    fn close(&mut self) {
        if let Some(entry) = self.judged.take() {
            self.pool.shared.discard(entry);
        }
    }
}

impl<M: Manager> Drop for IdleScan<'_, M> {
    fn drop(&mut self) {
        self.close();
        while let Some(entry) = self.left.pop_front() {
            self.pool.shared.put_back(QueueEnd::Back, entry);
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
