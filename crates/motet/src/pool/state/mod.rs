//! The state of a pool as a pure state machine: `now` is an argument. Nothing here waits, calls code of the user, or
//! drops values of the user.

mod ages;
mod connects;
mod downtime;
mod holders;
mod queue;
#[cfg(test)]
mod tests;
mod todo;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use self::downtime::Downtime;
use self::holders::Holders;
use self::queue::WaitQueue;
use super::error::{ConnectError, Refusal};
use crate::sync::{Renewal, WaitState};
use crate::{Backoff, mutant};

pub(super) use self::connects::Warmth;
pub(super) use self::queue::{QueueEnd, Seen};
pub(super) use self::todo::PoolTodo;

/// A connection with the bookkeeping of the pool.
pub(super) struct PoolEntry<X> {
    pub(super) what: X,
    id: u64,
    expires: Option<Instant>,
    /// The beginning of the tick in which the connection became idle; `None` while it is used, and until that tick has
    /// ended.
    pub(super) since: Option<Instant>,
    /// `true` if a check was cut off, so the state of the connection is unknown.
    pub(super) unverified: bool,
    /// How long it has been checked without a result.
    pub(super) checked_for: Duration,
}

/// The result of a wait.
pub(super) type Handed<X, E> = Result<Box<PoolEntry<X>>, Refusal<E>>;

/// The settings that do not change while the pool is open.
#[derive(Debug, Clone)]
pub(super) struct PoolRules {
    /// The maximum number of concurrent connects.
    pub(super) connects: usize,
    pub(super) max_waiting: usize,
    pub(super) acquire_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    /// The accuracy of idle times; `None` if no setting needs them.
    pub(super) tick: Option<Duration>,
    pub(super) leak_after: Option<Duration>,
    pub(super) backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PoolPhase {
    Open,
    /// The scope has cancelled its services: the pool opens no more connections, and still lends idle ones.
    Ending,
    Closed,
}

/// The state machine. `X` is the connection, `E` the error of a connect.
pub(super) struct PoolState<X, E> {
    /// No caller waits while a connection is idle.
    idle: VecDeque<Box<PoolEntry<X>>>,
    queue: WaitQueue<Handed<X, E>>,
    phase: PoolPhase,
    min: usize,
    max: usize,
    /// The number of open connections, idle or not.
    live: usize,
    connecting: usize,
    closing: usize,
    rules: PoolRules,
    down: Option<Downtime<E>>,
    /// When the tick began. An idle connection without a `since` came back after that.
    ticking: Option<Instant>,
    /// `true` if the keeper was woken to begin a tick, and has not run since.
    is_stirred: bool,
    /// The last time that the keeper ran: a connection that had expired by then is not lent.
    kept_at: Option<Instant>,
    expiries: BTreeSet<(Instant, u64)>,
    holders: Holders,
    keeper: Option<Waker>,
    alarm: Option<Instant>,
    next_id: u64,
    closed: u64,
}

/// The numbers of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolCounts {
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) idle: usize,
    pub(super) live: usize,
    pub(super) connecting: usize,
    pub(super) closing: usize,
    pub(super) waiting: usize,
    pub(super) overdue: usize,
    pub(super) made: u64,
    pub(super) closed: u64,
    pub(super) down: bool,
    pub(super) phase: PoolPhase,
}

/// The result of joining the queue.
pub(super) enum Joined<X, E> {
    Got(Box<PoolEntry<X>>),
    Refused(Refusal<E>),
    /// The caller waits, with this key.
    Waits(usize),
}

impl<X, E> PoolState<X, E> {
    pub(super) fn new(min: usize, max: usize, rules: PoolRules) -> Self {
        Self {
            idle: VecDeque::new(),
            queue: WaitQueue::new(),
            phase: PoolPhase::Open,
            min,
            max,
            live: 0,
            connecting: 0,
            closing: 0,
            rules,
            down: None,
            ticking: None,
            is_stirred: false,
            kept_at: None,
            expiries: BTreeSet::new(),
            holders: Holders::default(),
            keeper: None,
            alarm: None,
            next_id: 0,
            closed: 0,
        }
    }

    /// Takes the connection that was used last. If one is idle, no caller waits.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Box<PoolEntry<X>>> {
        self.idle.pop_back()
    }

    /// Takes the connection that was used last, if `will_do` returns `true` for it.
    pub(super) fn take_if(
        &mut self,
        will_do: impl FnOnce(&PoolEntry<X>) -> bool,
    ) -> Option<Box<PoolEntry<X>>> {
        self.idle.pop_back_if(|entry| will_do(entry))
    }

    /// Takes all idle connections.
    pub(super) fn take_all(&mut self) -> VecDeque<Box<PoolEntry<X>>> {
        std::mem::take(&mut self.idle)
    }

    /// Returns a usable connection to the pool. Returns the waker to call: of the caller that gets it, or of the
    /// keeper. The error is a connection that must not be used any more.
    #[inline]
    pub(super) fn give_back(
        &mut self,
        mut entry: Box<PoolEntry<X>>,
    ) -> Result<Option<Waker>, Box<PoolEntry<X>>> {
        if self.phase == PoolPhase::Closed || self.live > self.max || self.has_expired(&entry) {
            return Err(entry);
        }
        let mut is_wanted = !self.queue.is_empty();
        if mutant!("pool.ignore_waiters") {
            is_wanted = false;
        }
        if is_wanted {
            return Ok(self.hand_over(entry));
        }
        entry.since = None;
        self.idle.push_back(entry);
        if self.ticking.is_some() || self.is_stirred || self.rules.tick.is_none() {
            return Ok(None);
        }
        // At most once per tick, so that no other code has to read the clock.
        self.is_stirred = true;
        Ok(self.keeper.take())
    }

    /// Returns an unused connection to the pool, unchanged. At the front it is the last one to be lent.
    pub(super) fn put_back(
        &mut self,
        at: QueueEnd,
        entry: Box<PoolEntry<X>>,
    ) -> Result<Option<Waker>, Box<PoolEntry<X>>> {
        if self.phase == PoolPhase::Closed || self.live > self.max || self.has_expired(&entry) {
            return Err(entry);
        }
        if !self.queue.is_empty() {
            return Ok(self.hand_over(entry));
        }
        // A connection that was handed to a caller that did not use it has no age, like one that comes back from use.
        self.is_stirred |= entry.since.is_none() && self.rules.tick.is_some();
        match at {
            QueueEnd::Front => self.idle.push_front(entry),
            QueueEnd::Back => self.idle.push_back(entry),
        }
        Ok(self.keeper.take())
    }

    fn hand_over(&mut self, mut entry: Box<PoolEntry<X>>) -> Option<Waker> {
        entry.since = None;
        match self.queue.settle(Ok(entry)) {
            Ok(waker) => {
                if mutant!("pool.skip_wake") {
                    return None;
                }
                Some(waker)
            }
            Err(_) => unreachable!("a caller waits"),
        }
    }

    /// Returns an idle connection, or puts the caller into the queue.
    pub(super) fn join(
        &mut self,
        at: QueueEnd,
        waker: &mut Option<Waker>,
        began: Instant,
        now: Instant,
        todo: &mut PoolTodo<X, E>,
    ) -> Joined<X, E> {
        if let Some(entry) = self.take() {
            return Joined::Got(entry);
        }
        if self.phase != PoolPhase::Open {
            return Joined::Refused(Refusal::Closed);
        }
        let mut refusal = self.refusal(now);
        if mutant!("pool.hang_when_down") {
            refusal = None;
        }
        if let Some(cause) = refusal {
            return Joined::Refused(Refusal::Unavailable(cause));
        }
        // A caller that comes back to the front, because its connection failed the check, was already admitted.
        let limit = self.rules.max_waiting;
        let mut is_full = at == QueueEnd::Back && self.queue.len() >= limit;
        if mutant!("pool.wait_unbounded") {
            is_full = false;
        }
        if is_full {
            return Joined::Refused(Refusal::TooManyWaiting { limit });
        }
        // The deadline may have passed. A caller that cannot wait still causes a connect: otherwise a pool with only
        // such callers would never have a connection. The keeper refuses the caller.
        let deadline = self.rules.acquire_timeout.and_then(|timeout| began.checked_add(timeout));
        let Some(waker) = waker.take() else { unreachable!("a caller that waits has a waker") };
        let key = self.queue.join(at, waker, deadline);
        self.start_due_connects(now, todo);
        // Unless the backend is down, the keeper has only the deadline of a waiting caller to watch.
        let is_first = match (deadline, self.alarm) {
            (Some(deadline), Some(alarm)) => deadline < alarm,
            (deadline, _) => deadline.is_some(),
        };
        if is_first || self.down.is_some() {
            self.wake_keeper(todo);
        }
        Joined::Waits(key)
    }

    /// Looks at the entry of a caller.
    pub(super) fn look(&mut self, key: usize, renewal: &mut Renewal<'_>) -> Seen<Handed<X, E>> {
        self.queue.look(key, renewal)
    }

    /// Removes a caller. If it was handed a connection, the caller of this function has to return it.
    pub(super) fn leave(&mut self, key: usize) -> WaitState<Waker, Handed<X, E>> {
        self.queue.remove(key)
    }

    /// Ends connecting: no caller can wait any more.
    pub(super) fn end(&mut self, todo: &mut PoolTodo<X, E>) {
        self.phase = self.phase.max(PoolPhase::Ending);
        self.refuse_all(todo, || Refusal::Closed);
        self.notify_changed(todo);
    }

    /// Refuses new and waiting callers, and closes idle connections.
    pub(super) fn close(&mut self, todo: &mut PoolTodo<X, E>) {
        self.end(todo);
        self.phase = PoolPhase::Closed;
        for entry in self.take_all() {
            self.discard(entry, todo);
        }
        todo.wake.extend(self.keeper.take());
    }

    /// Notifies the callers that wait for the pool to become warm or closed.
    fn notify_changed(&mut self, todo: &mut PoolTodo<X, E>) {
        todo.changed = true;
        if self.is_over() {
            todo.wake.extend(self.keeper.take());
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase != PoolPhase::Open
    }

    /// Returns `true` if the pool is closed and has no connection left.
    pub(super) fn is_over(&self) -> bool {
        self.phase == PoolPhase::Closed && self.live + self.connecting + self.closing == 0
    }

    pub(super) fn counts(&self) -> PoolCounts {
        PoolCounts {
            min: self.min,
            max: self.max,
            idle: self.idle.len(),
            live: self.live,
            connecting: self.connecting,
            closing: self.closing,
            waiting: self.queue.len(),
            overdue: self.holders.overdue().len(),
            made: self.next_id,
            closed: self.closed,
            down: self.down.is_some(),
            phase: self.phase,
        }
    }

    fn cause(&self) -> Option<Arc<ConnectError<E>>> {
        self.down.as_ref().map(Downtime::cause)
    }

    /// The reason why no caller may wait now: there is no connection to wait for, and it is not yet time to connect
    /// again.
    fn refusal(&self, now: Instant) -> Option<Arc<ConnectError<E>>> {
        let down = self.down.as_ref().filter(|_| self.live == 0)?;
        (self.connecting > 0 || !down.may_try(now)).then(|| down.cause())
    }

    /// Refuses the waiting callers if no connection can come.
    fn refuse_stranded(&mut self, todo: &mut PoolTodo<X, E>) {
        let mut cause = self.cause();
        if mutant!("pool.hang_when_down") {
            cause = None;
        }
        if let Some(cause) = cause
            && self.live + self.connecting == 0
        {
            self.refuse_all(todo, || Refusal::Unavailable(Arc::clone(&cause)));
        }
    }

    fn refuse_all(&mut self, todo: &mut PoolTodo<X, E>, refusal: impl Fn() -> Refusal<E>) {
        while !self.queue.is_empty() {
            // `settle` returns the refusal if no caller is left, which the loop excludes.
            todo.wake.extend(self.queue.settle(Err(refusal())).ok());
        }
    }
}
