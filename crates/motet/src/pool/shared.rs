//! The state that all handles, guards and tasks of a pool share, and the work that follows once the lock is released.

use std::error::Error;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Wake;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::error::{AcquireError, ConnectError, Refusal};
use super::manager::{Manager, Recycle};
use super::state::{PoolEntry, PoolState, PoolTodo, QueueEnd};
use super::stats::Holder;
use crate::observe::Registration;
use crate::sync::{Class, Quiet, WakerSet, catch, panic_words, quietly_drop, wake_each};
use crate::task::ambient::shielded;
use crate::task::caught::Caught;
use crate::task::cause::with_sources;
use crate::task::child::{Plain, Spec, Stop, launch};
use crate::task::core::Core;
use crate::task::{CancelToken, Either, Name, Reason, race, timeout};
use crate::{mutant, rng};

/// The number of holders that an error names: a caller that times out needs the first of them.
const SHOWN_HOLDERS: usize = 3;

/// A connection, idle or lent.
pub(super) type Member<M> = Box<PoolEntry<PoolConnection<<M as Manager>::Connection>>>;

pub(super) type Work<M> = PoolTodo<PoolConnection<<M as Manager>::Connection>, <M as Manager>::Error>;

pub(super) struct PoolConnection<C> {
    pub(super) connection: C,
    pub(super) is_poisoned: bool,
    /// The key of its holder, if holders are recorded.
    pub(super) held: Option<(Instant, u64)>,
}

pub(super) struct PoolShared<M: Manager> {
    state: Mutex<PoolState<PoolConnection<M::Connection>, M::Error>>,
    /// `true` if a caller had to wait recently: a hint, which can cost time but never correctness.
    pub(super) is_busy: AtomicBool,
    pub(super) manager: M,
    pub(super) settings: PoolSettings,
    pub(super) core: Arc<Core>,
    /// Cancels connects when the pool closes.
    closed: CancelToken,
    /// Callers that wait for the pool to become warm or closed.
    pub(super) changed: Arc<WakerSet>,
    /// The id of the pending release in the scope.
    pub(super) release_id: OnceLock<u64>,
    pub(super) shown: Mutex<Option<Registration>>,
}

pub(super) struct PoolSettings {
    pub(super) name: Name,
    /// The names of the tasks that connect and close.
    pub(super) connects: Name,
    pub(super) closes: Name,
    pub(super) site: &'static Location<'static>,
    pub(super) check_after: Option<Duration>,
    pub(super) check_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) close_timeout: Duration,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) keeps_holders: bool,
}

impl<M: Manager> PoolShared<M> {
    pub(super) fn new(
        state: PoolState<PoolConnection<M::Connection>, M::Error>,
        manager: M,
        settings: PoolSettings,
        core: Arc<Core>,
    ) -> Self {
        Self {
            state: Mutex::new(state),
            is_busy: AtomicBool::new(false),
            manager,
            settings,
            core,
            closed: CancelToken::new(),
            changed: Arc::default(),
            release_id: OnceLock::new(),
            shown: Mutex::default(),
        }
    }

    /// No code of the user runs under this lock, so the state of a poisoned lock is sound.
    #[inline]
    pub(super) fn state(&self) -> MutexGuard<'_, PoolState<PoolConnection<M::Connection>, M::Error>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and does the work that follows from the change.
    pub(super) fn change<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut PoolState<PoolConnection<M::Connection>, M::Error>, &mut Work<M>) -> T,
    ) -> T {
        let mut todo = PoolTodo::default();
        let result = change(&mut self.state(), &mut todo);
        if !todo.is_empty() {
            self.run(todo);
        }
        result
    }

    /// Takes a connection back from its user. It does not wait, and starts a task only to close a connection.
    #[inline]
    pub(super) fn release(self: &Arc<Self>, mut entry: Member<M>) {
        let mut is_fit = !entry.what.is_poisoned && !thread::panicking() && self.recycles(&mut entry);
        if mutant!("pool.keep_broken") {
            is_fit = true;
        }
        let held = entry.what.held.take();
        let mut state = self.state();
        if let Some(held) = held {
            state.release_holder(held);
        }
        let kept = if is_fit { state.give_back(entry) } else { Err(entry) };
        drop(state);
        match kept {
            Ok(Some(waker)) => wake_each([waker]),
            // Written only when it changes, since all workers read it.
            Ok(None) if self.is_busy.load(Ordering::Relaxed) => self.is_busy.store(false, Ordering::Relaxed),
            Ok(None) => {}
            Err(entry) => self.discard(entry),
        }
    }

    fn recycles(&self, entry: &mut Member<M>) -> bool {
        let recycled = || self.manager.recycle(&mut entry.what.connection);
        match catch(recycled) {
            Ok(recycle) => recycle == Recycle::Keep,
            Err(panic) => {
                self.report_panic("recycling", &panic);
                false
            }
        }
    }

    /// Takes back a connection that was not used after it was handed out.
    pub(super) fn put_back(self: &Arc<Self>, at: QueueEnd, entry: Member<M>) {
        let kept = self.state().put_back(at, entry);
        match kept {
            Ok(waker) => {
                wake_each(waker);
            }
            Err(entry) => self.discard(entry),
        }
    }

    /// The error of a caller that has waited since `began`.
    #[cold]
    pub(super) fn refused(
        &self,
        refusal: Refusal<M::Error>,
        began: Option<Instant>,
    ) -> AcquireError<M::Error> {
        let now = Instant::now();
        let waited = began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let holders = match refusal {
            Refusal::TimedOut { .. } => self.state().longest_holders(SHOWN_HOLDERS, now),
            _ => Vec::new(),
        };
        let holders = holders.into_iter().map(Holder::new).collect();
        let is_recorded = self.settings.keeps_holders;
        AcquireError::new(refusal, &self.settings.name, waited, holders, is_recorded)
    }

    pub(super) fn discard(self: &Arc<Self>, entry: Member<M>) {
        self.change(|state, todo| state.discard(entry, todo));
    }

    /// Refuses callers, closes idle connections and cancels connects.
    pub(super) fn begin_close(self: &Arc<Self>) {
        self.change(|state, todo| state.close(todo));
        self.closed.cancel(Reason::requested("the pool is closed"));
    }

    fn run(self: &Arc<Self>, todo: Work<M>) {
        let PoolTodo { connect, close, wake, changed, garbage, overdue } = todo;
        for entry in close {
            self.start_close(entry);
        }
        for _ in 0..connect {
            self.start_connect();
        }
        for (site, held_for) in overdue {
            let pool = &self.settings.name;
            crate::log::warn!(%pool, %site, ?held_for, "a connection has been held for too long");
        }
        if changed {
            self.changed.wake_by_ref();
        }
        wake.wake();
        quietly_drop(garbage);
    }

    fn start_connect(self: &Arc<Self>) {
        let attempt = Attempt { shared: Arc::clone(self), is_over: false };
        let spec = Spec::new(self.settings.connects.clone(), self.settings.site, Class::Service, Stop::Drop);
        // If the scope refuses the task, the attempt is dropped, which reports it.
        drop(launch::<_, Plain>(&self.core, spec, connect(attempt)));
    }

    fn start_close(self: &Arc<Self>, entry: Member<M>) {
        let closing = Closing { shared: Arc::clone(self), entry: Some(entry) };
        // The scope waits for this task, and does not cancel it.
        let spec = Spec::new(self.settings.closes.clone(), self.settings.site, Class::Work, Stop::Never);
        let spec = spec.in_span_of_scope();
        drop(launch::<_, Plain>(&self.core, spec, shielded(close(closing))));
    }

    pub(super) fn report_panic(&self, doing: &str, message: &str) {
        let pool = &self.settings.name;
        crate::log::error!(%pool, message, "{doing} a connection panicked");
    }
}

/// A connect in progress. If it is dropped before its end, it was cut off.
struct Attempt<M: Manager> {
    shared: Arc<PoolShared<M>>,
    is_over: bool,
}

async fn connect<M: Manager>(mut attempt: Attempt<M>) {
    let shared = Arc::clone(&attempt.shared);
    let limit = shared.settings.connect_timeout;
    let connecting = timeout(limit, Quiet::new(Caught::new(async { shared.manager.connect().await })));
    let Either::Right(outcome) = race(shared.closed.cancelled(), connecting).await else { return };
    attempt.is_over = true;
    let error = match outcome {
        Ok(Ok(Ok(connection))) => {
            let now = Instant::now();
            let expires = shared.settings.max_lifetime.and_then(|lifetime| {
                // So that connections that were opened together are not all replaced together.
                now.checked_add(rng::with(|rng| rng.duration(lifetime - lifetime / 10..=lifetime)))
            });
            let inner = PoolConnection { connection, is_poisoned: false, held: None };
            return shared.change(|state, todo| state.connected(inner, expires, now, todo));
        }
        Ok(Ok(Err(error))) => ConnectError::Failed(error),
        Ok(Err(payload)) => {
            let message = panic_words(payload);
            shared.report_panic("opening", &message);
            ConnectError::Panicked(message)
        }
        Err(_) => ConnectError::TimedOut(limit),
    };
    let error = Arc::new(error);
    let cause = Arc::clone(&error);
    shared.change(|state, todo| state.connect_failed(cause, Instant::now(), todo));
    // Last, and with panics caught: formatting the error runs code of the user.
    let shown = catch(|| {
        // The error of a driver is often only "cannot connect", and its causes contain the reason.
        let shown = error.source().map_or_else(|| error.to_string(), with_sources);
        crate::log::warn!(pool = %shared.settings.name, error = shown, "a connection could not be opened");
    });
    if let Err(panic) = shown {
        shared.report_panic("formatting the error of", &panic);
    }
    quietly_drop(error);
}

impl<M: Manager> Drop for Attempt<M> {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.change(|state, todo| state.connect_cut_off(todo));
        }
    }
}

/// A connection that is being closed. It counts towards the maximum until it is closed, or dropped if the scope has ended.
struct Closing<M: Manager> {
    shared: Arc<PoolShared<M>>,
    entry: Option<Member<M>>,
}

async fn close<M: Manager>(mut closing: Closing<M>) {
    let Some(entry) = closing.entry.take() else { return };
    let shared = Arc::clone(&closing.shared);
    if mutant!("pool.forget_close") {
        return;
    }
    let close = Quiet::new(Caught::new(async { shared.manager.close(entry.what.connection).await }));
    match timeout(shared.settings.close_timeout, close).await {
        Ok(Ok(())) => {}
        Ok(Err(payload)) => shared.report_panic("closing", &panic_words(payload)),
        Err(_) => {
            let (pool, limit) = (&shared.settings.name, shared.settings.close_timeout);
            crate::log::warn!(%pool, ?limit, "a connection took too long to close, and was dropped");
        }
    }
}

impl<M: Manager> Drop for Closing<M> {
    fn drop(&mut self) {
        quietly_drop(self.entry.take());
        self.shared.change(|state, todo| state.connection_closed(Instant::now(), todo));
    }
}
