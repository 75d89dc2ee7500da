//! The machine behind its lock, and the listeners.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::builder::DroppedCalls;
use super::counts::EndedCall;
use super::machine::{AdmittedCall, BreakerMachine};
use super::published::PublishedState;
use super::{BreakerState, StateChange};
use crate::mutant;
use crate::observe::Registration;
use crate::resilience::listeners::{self, Listeners};
use crate::task::Name;

pub(super) struct BreakerShared {
    published: PublishedState,
    locked: Mutex<LockedMachine>,
    /// The calls that were rejected without the lock.
    rejected: AtomicU64,
    /// The instant from which published times count, in nanoseconds.
    since: Instant,
    pub(super) slow_call: Option<Duration>,
    pub(super) dropped_calls: DroppedCalls,
    /// Whether a permit needs the time at which it was given.
    pub(super) times_permits: bool,
    pub(super) name: Option<Name>,
    listeners: Listeners<StateChange>,
    watch: watch::Sender<BreakerState>,
    pub(super) registration: OnceLock<Registration>,
}

struct LockedMachine {
    machine: BreakerMachine,
    /// Whether a thread is calling listeners; it will also report the changes that are made until it has finished.
    reports: bool,
}

impl BreakerShared {
    pub(super) fn new(
        machine: BreakerMachine,
        slow_call: Option<Duration>,
        dropped_calls: DroppedCalls,
        name: Option<Name>,
        listeners: Listeners<StateChange>,
    ) -> Self {
        let state = machine.state();
        Self {
            published: PublishedState::new(machine.word()),
            locked: Mutex::new(LockedMachine { machine, reports: false }),
            rejected: AtomicU64::new(0),
            since: Instant::now(),
            slow_call,
            dropped_calls,
            times_permits: slow_call.is_some() || matches!(dropped_calls, DroppedCalls::FailedAfter(_)),
            name,
            listeners,
            watch: watch::Sender::new(state),
            registration: OnceLock::new(),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<BreakerState> {
        self.watch.subscribe()
    }

    /// Admits a call without the lock, which is possible while the breaker is closed; `None` if the machine must
    /// decide.
    #[inline]
    pub(super) fn admit(&self) -> Option<AdmittedCall> {
        let word = self.published.word();
        word.admits().then_some(AdmittedCall { generation: word.generation(), probe: None })
    }

    /// Rejects a call without the lock, which is possible while the breaker is open, and returns the rest of its open
    /// time; `None` if the machine must decide.
    #[inline]
    pub(super) fn reject(&self, now: Instant) -> Option<Duration> {
        let left = self.published.open_until()?.saturating_sub(self.nanos(now)?);
        if left == 0 {
            return None;
        }
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Some(Duration::from_nanos(left))
    }

    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Returns the nanoseconds until `at`, for 584 years; `None` after that, and for a time before the breaker was
    /// created, which the clock of another runtime can return.
    #[inline]
    fn nanos(&self, at: Instant) -> Option<u64> {
        let since = at.checked_duration_since(self.since)?;
        since.as_secs().checked_mul(1_000_000_000)?.checked_add(since.subsec_nanos().into())
    }

    /// Records a success that was not slow, if the machine need not record it.
    #[inline]
    pub(super) fn succeeds(&self, call: AdmittedCall) -> bool {
        if call.probe.is_some() {
            return false;
        }
        let word = self.published.word();
        // The most frequent case by far.
        let is_settled = word.is_settled() && word.generation() == call.generation;
        is_settled || self.published.count_success(call.generation)
    }

    fn is_current(&self, call: AdmittedCall) -> bool {
        self.published.word().generation() == call.generation
    }

    /// Records the outcome of a call; `now` if the time is known.
    pub(super) fn record(&self, call: AdmittedCall, ended: Option<EndedCall>, now: Option<Instant>) {
        match ended {
            Some(EndedCall { failed: false, slow: false }) if self.succeeds(call) => return,
            None if call.probe.is_none() && self.is_current(call) => return,
            _ => {}
        }
        self.with(|machine| machine.record(call, ended, || now.unwrap_or_else(Instant::now)));
    }

    /// Runs a closure with the machine, and then reports the changes with no lock held.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&mut BreakerMachine) -> T) -> T {
        let mut locked = self.lock();
        let successes = self.published.take_successes();
        if successes > 0 {
            locked.machine.succeeded(successes);
        }
        let answer = ask(&mut locked.machine);
        let machine = &locked.machine;
        let until = || machine.open_until().and_then(|until| self.nanos(until));
        self.published.publish(machine.word(), || until().unwrap_or_default());
        if !locked.machine.changes.is_empty() && !locked.reports {
            locked.reports = true;
            drop(locked);
            self.report();
        }
        answer
    }

    pub(super) fn peek(&self) -> BreakerState {
        self.lock().machine.state()
    }

    /// Reports all changes in their order: one at a time, by one thread at a time.
    fn report(&self) {
        loop {
            let mut locked = self.lock();
            let Some(change) = locked.machine.changes.pop_front() else {
                if mutant!("breaker.tell_once") {
                    return;
                }
                locked.reports = false;
                return;
            };
            drop(locked);
            let name = self.name.as_ref();
            let breaker = name.map(tracing::field::display);
            let StateChange { from, to, cause, open_for } = change;
            match to {
                BreakerState::Open => {
                    crate::log::warn!(breaker, %from, ?cause, ?open_for, "a circuit breaker opened");
                }
                _ if from == to => crate::log::warn!(breaker, ?cause, "a circuit breaker would have opened"),
                _ => crate::log::info!(breaker, %from, %to, ?cause, "a circuit breaker changed its state"),
            }
            listeners::guarded(name, || {
                self.watch.send_replace(change.to);
            });
            self.listeners.notify(name, &change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LockedMachine> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for BreakerShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerShared").finish_non_exhaustive()
    }
}
