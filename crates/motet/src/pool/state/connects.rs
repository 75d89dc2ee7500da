//! Opening and closing connections: how many there are, and which caller gets a new one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::downtime::Downtime;
use super::{ConnectError, PoolEntry, PoolPhase, PoolState, PoolTodo, Refusal};
use crate::mutant;

/// The progress of warming up.
pub(in crate::pool) enum Warmth<E> {
    Warm,
    Cold(Refusal<E>),
    Warming,
}

impl<X, E> PoolState<X, E> {
    /// Notes a successful connect: the connection goes to the caller that has waited longest.
    pub(in crate::pool) fn connected(
        &mut self,
        what: X,
        expires: Option<Instant>,
        now: Instant,
        todo: &mut PoolTodo<X, E>,
    ) {
        self.connecting -= 1;
        let id = self.next_id;
        self.next_id += 1;
        todo.garbage.extend(self.down.take().map(Downtime::into_cause));
        let entry =
            PoolEntry { what, id, expires, since: Some(now), unverified: false, checked_for: Duration::ZERO };
        todo.changed = true;
        if self.phase == PoolPhase::Closed || self.live >= self.max {
            self.closing += 1;
            todo.close.push(Box::new(entry));
            return;
        }
        self.live += 1;
        self.expiries.extend(expires.map(|expires| (expires, id)));
        if self.queue.is_empty() {
            self.idle.push_back(Box::new(entry));
        } else {
            todo.wake.extend(self.hand_over(Box::new(entry)));
        }
        self.start_due_connects(now, todo);
        self.wake_keeper(todo);
    }

    /// Notes a failed connect.
    pub(in crate::pool) fn connect_failed(
        &mut self,
        cause: Arc<ConnectError<E>>,
        now: Instant,
        todo: &mut PoolTodo<X, E>,
    ) {
        self.connecting -= 1;
        if mutant!("pool.leak_slot") {
            self.connecting += 1;
        }
        todo.changed = true;
        let former = self.down.take();
        let (down, former) = Downtime::after(former, cause, self.connecting, &self.rules.backoff, now);
        self.down = Some(down);
        todo.garbage.extend(former);
        self.refuse_stranded(todo);
        self.start_due_connects(now, todo);
        self.wake_keeper(todo);
    }

    /// Notes a connect that was cut off, because the pool closes or its scope ends.
    pub(in crate::pool) fn connect_cut_off(&mut self, todo: &mut PoolTodo<X, E>) {
        self.connecting -= 1;
        self.end(todo);
    }

    /// Starts to close a connection, which counts towards the maximum until it is closed.
    pub(in crate::pool) fn discard(&mut self, entry: Box<PoolEntry<X>>, todo: &mut PoolTodo<X, E>) {
        self.closing += 1;
        self.forget(&entry, todo);
        todo.close.push(entry);
    }

    /// Removes a connection from the pool without closing it.
    pub(in crate::pool) fn detach(&mut self, entry: &PoolEntry<X>, now: Instant, todo: &mut PoolTodo<X, E>) {
        self.forget(entry, todo);
        self.start_due_connects(now, todo);
        self.wake_keeper(todo);
    }

    fn forget(&mut self, entry: &PoolEntry<X>, todo: &mut PoolTodo<X, E>) {
        self.live -= 1;
        if let Some(expires) = entry.expires {
            self.expiries.remove(&(expires, entry.id));
        }
        self.refuse_stranded(todo);
        self.notify_changed(todo);
    }

    /// Notes that a connection was closed.
    pub(in crate::pool) fn connection_closed(&mut self, now: Instant, todo: &mut PoolTodo<X, E>) {
        self.closing -= 1;
        self.closed += 1;
        self.notify_changed(todo);
        self.start_due_connects(now, todo);
        self.wake_keeper(todo);
    }

    pub(in crate::pool) fn resize(&mut self, max: usize, now: Instant, todo: &mut PoolTodo<X, E>) {
        self.max = max;
        while self.live > self.max
            && let Some(longest_idle) = self.idle.pop_front()
        {
            self.discard(longest_idle, todo);
        }
        self.start_due_connects(now, todo);
        self.wake_keeper(todo);
    }

    /// Connects up to the minimum, unless these connects are already in progress.
    pub(in crate::pool) fn warm_up(&mut self, now: Instant, todo: &mut PoolTodo<X, E>) -> Warmth<E> {
        if self.phase != PoolPhase::Open {
            return Warmth::Cold(Refusal::Closed);
        }
        if self.live >= self.min {
            return Warmth::Warm;
        }
        self.start_due_connects(now, todo);
        match &self.down {
            Some(down) if self.connecting == 0 => Warmth::Cold(Refusal::Unavailable(down.cause())),
            _ => Warmth::Warming,
        }
    }

    /// Starts as many connects as are wanted and allowed.
    #[inline]
    pub(super) fn start_due_connects(&mut self, now: Instant, todo: &mut PoolTodo<X, E>) {
        if self.phase != PoolPhase::Open {
            return;
        }
        let missing = self.min.saturating_sub(self.live);
        let wanted = self.queue.len().max(missing).saturating_sub(self.connecting);
        let mut at_once = match &self.down {
            Some(down) => usize::from(down.may_try(now)),
            None => self.rules.connects,
        };
        if mutant!("pool.herd") {
            at_once = self.rules.connects;
        }
        let due = wanted.min(at_once.saturating_sub(self.connecting)).min(self.capacity_left());
        self.connecting += due;
        todo.connect += due;
    }

    /// The number of further connections that the maximum allows.
    pub(super) fn capacity_left(&self) -> usize {
        let mut closing = self.closing;
        if mutant!("pool.closing_has_gone") {
            closing = 0;
        }
        self.max.saturating_sub(self.live + self.connecting + closing)
    }
}
