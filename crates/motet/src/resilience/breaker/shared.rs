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
            name,
            listeners,
            watch: watch::Sender::new(BreakerState::Closed),
            shown: OnceLock::new(),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<BreakerState> {
        self.watch.subscribe()
    }

    /// Lets a call through; while it is closed, without the lock.
    #[inline]
    pub(super) fn admit(&self) -> Result<(Admitted, Option<Instant>), Option<Duration>> {
        // Relaxed: nothing else is read by it. A change that is missed by a moment is a call that came before
        // it.
        let word = Word(self.word.load(Ordering::Relaxed));
        if word.admits() {
            return Ok((Admitted { generation: word.generation(), probe: None }, None));
        }
        self.admit_by_machine()
    }

    #[cold]
    fn admit_by_machine(&self) -> Result<(Admitted, Option<Instant>), Option<Duration>> {
        let now = Instant::now();
        let admitted = self.with(|machine| machine.admit(now))?;
        Ok((admitted, admitted.probe.map(|_| now)))
    }

    /// Takes notice of how a call ended; `now` where it is known.
    #[inline]
    pub(super) fn record(&self, call: Admitted, ended: Option<Ended>, now: Option<Instant>) {
        if call.probe.is_none() {
            let word = Word(self.word.load(Ordering::Relaxed));
            let is_current = word.generation() == call.generation;
            match ended {
                None if is_current => return,
                Some(Ended { failed: false, slow: false }) if is_current && word.is_settled() => return,
                _ => {}
            }
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
