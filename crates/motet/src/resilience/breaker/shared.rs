//! The machine behind its lock, and whom it tells of changes.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::counts::Ended;
use super::machine::{Admitted, Machine};
use super::{BreakerState, OnCancel, StateChange, Word};
use crate::mutant;
use crate::observe::Registration;
use crate::resilience::listeners::{self, Listeners};
use crate::task::Name;

pub(super) struct Shared {
    /// A copy of what the machine says, written under its lock: calls that need no lock go by it.
    word: AtomicU64,
    locked: Mutex<Locked>,
    pub(super) slow_call: Option<Duration>,
    pub(super) on_cancel: OnCancel,
    /// Whether it matters when a permit was given.
    pub(super) times_permits: bool,
    pub(super) name: Option<Name>,
    listeners: Listeners<StateChange>,
    watch: watch::Sender<BreakerState>,
    pub(super) shown: OnceLock<Registration>,
}

struct Locked {
    machine: Machine,
    /// Somebody tells of changes, and will tell of those that come meanwhile.
    telling: bool,
}

impl Shared {
    pub(super) fn new(
        machine: Machine,
        slow_call: Option<Duration>,
        on_cancel: OnCancel,
        name: Option<Name>,
        listeners: Listeners<StateChange>,
    ) -> Self {
        Self {
            word: AtomicU64::new(machine.word().0),
            locked: Mutex::new(Locked { machine, telling: false }),
            slow_call,
            on_cancel,
            times_permits: slow_call.is_some() || matches!(on_cancel, OnCancel::FailureIfLongerThan(_)),
            name,
            listeners,
            watch: watch::Sender::new(BreakerState::Closed),
            shown: OnceLock::new(),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<BreakerState> {
        self.watch.subscribe()
    }

    /// Lets a call through without the lock, as it does while it is closed; `None` if the machine is to say.
    #[inline]
    pub(super) fn admit(&self) -> Option<Admitted> {
        // Relaxed: nothing else is read by it. A change that is missed by a moment is a call that came before it.
        let word = Word(self.word.load(Ordering::Relaxed));
        word.admits().then_some(Admitted { generation: word.generation(), probe: None })
    }

    /// Whether a success that was not slow changes nothing.
    #[inline]
    pub(super) fn is_settled(&self, call: Admitted) -> bool {
        let word = Word(self.word.load(Ordering::Relaxed));
        call.probe.is_none() && word.generation() == call.generation && word.is_settled()
    }

    fn is_current(&self, call: Admitted) -> bool {
        Word(self.word.load(Ordering::Relaxed)).generation() == call.generation
    }

    /// Takes notice of how a call ended; `now` where it is known.
    pub(super) fn record(&self, call: Admitted, ended: Option<Ended>, now: Option<Instant>) {
        match ended {
            // Most calls, by far.
            Some(Ended { failed: false, slow: false }) if self.is_settled(call) => return,
            None if call.probe.is_none() && self.is_current(call) => return,
            _ => {}
        }
        self.with(|machine| machine.record(call, ended, || now.unwrap_or_else(Instant::now)));
    }

    /// Asks or tells the machine, and then tells others what has changed, with no lock held.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&mut Machine) -> T) -> T {
        let mut locked = self.lock();
        let answer = ask(&mut locked.machine);
        let word = locked.machine.word();
        if self.word.load(Ordering::Relaxed) != word.0 {
            self.word.store(word.0, Ordering::Relaxed);
        }
        if !locked.machine.changes.is_empty() && !locked.telling {
            locked.telling = true;
            drop(locked);
            self.tell();
        }
        answer
    }

    pub(super) fn peek(&self) -> BreakerState {
        self.lock().machine.state()
    }

    /// Tells of all changes, in their order: one at a time, by one thread at a time.
    fn tell(&self) {
        loop {
            let mut locked = self.lock();
            let Some(change) = locked.machine.changes.pop_front() else {
                if !mutant!("breaker.tell_once") {
                    locked.telling = false;
                }
                return;
            };
            drop(locked);
            let name = self.name.as_ref();
            let breaker = name.map(tracing::field::display);
            let StateChange { from, to, cause, open_for } = change;
            match to {
                BreakerState::Open => {
                    tracing::warn!(breaker, %from, ?cause, ?open_for, "a circuit breaker opened");
                }
                _ if from == to => tracing::warn!(breaker, ?cause, "a circuit breaker would have opened"),
                _ => tracing::info!(breaker, %from, %to, ?cause, "a circuit breaker changed its state"),
            }
            listeners::guarded(name, || {
                self.watch.send_replace(change.to);
            });
            self.listeners.tell(name, &change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
