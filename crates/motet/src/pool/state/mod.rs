//! What a pool has and who waits for it, as a pure state machine: `now` is an argument, and nothing here waits, calls
//! a user's code, or drops what is a user's.

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
use self::queue::Queue;
use super::error::{AcquireError, ConnectError};
use crate::task::renew::Renewal;
use crate::{Backoff, mutant};

pub(super) use self::connects::Warmth;
pub(super) use self::queue::{At, Seen, Stage};
pub(super) use self::todo::Todo;

/// A connection, with what the pool knows of it.
pub(super) struct Entry<X> {
    pub(super) what: X,
    id: u64,
    expires: Option<Instant>,
    /// Since when it has been idle, at the earliest; `None` while it is used, and until the next tick.
    pub(super) since: Option<Instant>,
    /// A check of it was cut off, so nobody knows.
    pub(super) unverified: bool,
    /// How long it has been checked without an outcome.
    pub(super) checked_for: Duration,
}

/// What a waiter is handed.
pub(super) type Handed<X, E> = Result<Box<Entry<X>>, AcquireError<E>>;

/// What a pool does not change while it is open.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// How many connects may be under way at once.
    pub(super) connects: usize,
    pub(super) max_waiting: usize,
    pub(super) acquire_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    /// How exactly idle times are kept; `None` when nobody asks for them.
    pub(super) tick: Option<Duration>,
    pub(super) leak_after: Option<Duration>,
    pub(super) backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    /// The scope has cancelled its services: nothing is connected any more, what is idle is still given out.
    Ending,
    Closed,
}

/// `X` is the connection, `E` the error of a connect.
pub(super) struct State<X, E> {
    /// Nobody waits while something is idle.
    idle: VecDeque<Box<Entry<X>>>,
    queue: Queue<Handed<X, E>>,
    phase: Phase,
    min: usize,
    max: usize,
    /// Open connections, idle or not.
    live: usize,
    connecting: usize,
    closing: usize,
    rules: Rules,
    down: Option<Downtime<E>>,
    /// When the tick began, since when everything idle without a `since` has come back.
    ticking: Option<Instant>,
    /// The keeper was woken to begin a tick.
    is_stirred: bool,
    /// The last time that the keeper told: what expired before that is not handed on.
    told: Option<Instant>,
    expiries: BTreeSet<(Instant, u64)>,
    holders: Holders,
    keeper: Option<Waker>,
    alarm: Option<Instant>,
    next_id: u64,
    closed: u64,
}

/// How a pool is, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
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
    pub(super) phase: Phase,
}

/// What becomes of one who wants a connection.
pub(super) enum Joined<X, E> {
    Got(Box<Entry<X>>),
    Refused(AcquireError<E>),
    /// It waits at this place.
    Waits(usize),
}

impl<X, E> State<X, E> {
    pub(super) fn new(min: usize, max: usize, rules: Rules) -> Self {
        Self {
            idle: VecDeque::new(),
            queue: Queue::new(),
            phase: Phase::Open,
            min,
            max,
            live: 0,
            connecting: 0,
            closing: 0,
            rules,
            down: None,
            ticking: None,
            is_stirred: false,
            told: None,
            expiries: BTreeSet::new(),
            holders: Holders::default(),
            keeper: None,
            alarm: None,
            next_id: 0,
            closed: 0,
        }
    }

    /// Takes the connection that was used last. If one is idle, nobody waits.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Box<Entry<X>>> {
        self.idle.pop_back()
    }

    /// Takes the connection that was used last, if it will do.
    pub(super) fn take_if(&mut self, will_do: impl FnOnce(&Entry<X>) -> bool) -> Option<Box<Entry<X>>> {
        self.idle.pop_back_if(|entry| will_do(entry))
    }

    /// Takes all that is idle.
    pub(super) fn take_all(&mut self) -> VecDeque<Box<Entry<X>>> {
        std::mem::take(&mut self.idle)
    }

    /// Hands a connection back, fit for the next: gives the waker to call, of who gets it or of the keeper. The error
    /// is a connection that must not be used any more.
    #[inline]
    pub(super) fn give_back(&mut self, mut entry: Box<Entry<X>>) -> Result<Option<Waker>, Box<Entry<X>>> {
        if self.phase == Phase::Closed || self.live > self.max || self.has_expired(&entry) {
            return Err(entry);
        }
        if !self.queue.is_empty() && !mutant!("pool.ignore_waiters") {
            return Ok(self.hand_over(entry));
        }
        entry.since = None;
        self.idle.push_back(entry);
        if self.ticking.is_some() || self.is_stirred || self.rules.tick.is_none() {
            return Ok(None);
        }
        // Once a tick at most, so that nobody else has to look at the clock.
        self.is_stirred = true;
        Ok(self.keeper.take())
    }

    /// Hands back what nobody has used, as it was; at the front it is the last to be taken.
    pub(super) fn put_back(&mut self, at: At, entry: Box<Entry<X>>) -> Result<Option<Waker>, Box<Entry<X>>> {
        if self.phase == Phase::Closed || self.live > self.max || self.has_expired(&entry) {
            return Err(entry);
        }
        if !self.queue.is_empty() {
            return Ok(self.hand_over(entry));
        }
        // One that was handed to somebody who did not use it has no age: as with those that come back from use.
        self.is_stirred |= entry.since.is_none() && self.rules.tick.is_some();
        match at {
            At::Front => self.idle.push_front(entry),
            At::Back => self.idle.push_back(entry),
        }
        Ok(self.keeper.take())
    }

    fn hand_over(&mut self, mut entry: Box<Entry<X>>) -> Option<Waker> {
        entry.since = None;
        match self.queue.settle(Ok(entry)) {
            Ok(_) if mutant!("pool.skip_wake") => None,
            Ok(waker) => Some(waker),
            Err(_) => unreachable!("somebody waits"),
        }
    }

    /// Gives a connection to one who came without waiting, or puts it in the queue.
    pub(super) fn join(
        &mut self,
        at: At,
        waker: &mut Option<Waker>,
        began: Instant,
        now: Instant,
        todo: &mut Todo<X, E>,
    ) -> Joined<X, E> {
        if let Some(entry) = self.take() {
            return Joined::Got(entry);
        }
        if self.phase != Phase::Open {
            return Joined::Refused(AcquireError::Closed);
        }
        if let Some(cause) = self.refusal(now)
            && !mutant!("pool.hang_when_down")
        {
            return Joined::Refused(AcquireError::Unavailable(cause));
        }
        // Who comes back to the front, because what it got was no good, was in already.
        let limit = self.rules.max_waiting;
        if at == At::Back && self.queue.len() >= limit && !mutant!("pool.wait_unbounded") {
            return Joined::Refused(AcquireError::TooManyWaiting { limit });
        }
        // It may have passed. Whoever comes without patience is a reason for a connect all the same: otherwise a pool
        // that only such callers use would never have a connection. The keeper refuses it.
        let deadline = self.rules.acquire_timeout.and_then(|timeout| began.checked_add(timeout));
        let Some(waker) = waker.take() else { unreachable!("whoever waits has a waker") };
        let key = self.queue.join(at, waker, deadline);
        self.connect_what_is_due(now, todo);
        // Whoever waits while the pool is up brings nothing else that the keeper would have to come for.
        let is_first = match (deadline, self.alarm) {
            (Some(deadline), Some(alarm)) => deadline < alarm,
            (deadline, _) => deadline.is_some(),
        };
        if is_first || self.down.is_some() {
            self.poke(todo);
        }
        Joined::Waits(key)
    }

    /// What was handed to a place.
    pub(super) fn look(&mut self, key: usize, renewal: &mut Renewal<'_>) -> Seen<Handed<X, E>> {
        self.queue.look(key, renewal)
    }

    /// Somebody waits no more. What it was handed meanwhile is the caller's to hand back.
    pub(super) fn leave(&mut self, key: usize) -> Stage<Handed<X, E>> {
        self.queue.remove(key)
    }

    /// Nothing is connected any more, so nobody waits.
    pub(super) fn end(&mut self, todo: &mut Todo<X, E>) {
        self.phase = self.phase.max(Phase::Ending);
        self.refuse_all(todo, || AcquireError::Closed);
        self.tell(todo);
    }

    /// Refuses whoever comes or waits, and closes what is idle.
    pub(super) fn close(&mut self, todo: &mut Todo<X, E>) {
        self.end(todo);
        self.phase = Phase::Closed;
        for entry in self.take_all() {
            self.discard(entry, todo);
        }
        todo.wake.extend(self.keeper.take());
    }

    /// Has those look again who wait for the pool to become warm or closed.
    fn tell(&mut self, todo: &mut Todo<X, E>) {
        todo.changed = true;
        if self.is_over() {
            todo.wake.extend(self.keeper.take());
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Whether nothing is left of a closed pool.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Closed && self.live + self.connecting + self.closing == 0
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
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

    /// Why nobody may wait now: there is no connection to wait for, and it is not the time to try for one.
    fn refusal(&self, now: Instant) -> Option<Arc<ConnectError<E>>> {
        let down = self.down.as_ref().filter(|_| self.live == 0)?;
        (self.connecting > 0 || !down.may_try(now)).then(|| down.cause())
    }

    /// Refuses those who wait, if there is nothing left that they could get.
    fn refuse_the_stranded(&mut self, todo: &mut Todo<X, E>) {
        if let Some(cause) = self.cause()
            && self.live + self.connecting == 0
            && !mutant!("pool.hang_when_down")
        {
            self.refuse_all(todo, || AcquireError::Unavailable(Arc::clone(&cause)));
        }
    }

    fn refuse_all(&mut self, todo: &mut Todo<X, E>, refusal: impl Fn() -> AcquireError<E>) {
        while !self.queue.is_empty() {
            // What comes back is a refusal that nobody is left to hear.
            todo.wake.extend(self.queue.settle(Err(refusal())).ok());
        }
    }
}
