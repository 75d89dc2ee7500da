//! Everything that depends on time. The keeper reads the clock, so that acquires and returns need not.

use std::panic::Location;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::holders::Held;
use super::{PoolEntry, PoolPhase, PoolState, PoolTodo, Refusal};
use crate::mutant;

impl<X, E> PoolState<X, E> {
    /// Does the work that is due, whenever the keeper is woken. Stores the keeper's waker, and returns the latest time
    /// at which the keeper must run again, with the previous waker.
    pub(in crate::pool) fn keep(
        &mut self,
        now: Instant,
        keeper: Waker,
        todo: &mut PoolTodo<X, E>,
    ) -> (Option<Instant>, Option<Waker>) {
        self.kept_at = Some(now);
        while self.queue.front_deadline().is_some_and(|deadline| deadline <= now) {
            let refusal = Refusal::TimedOut { cause: self.cause() };
            todo.wake.extend(self.queue.settle(Err(refusal)).ok());
        }
        self.discard_expired(now, todo);
        self.tick(now);
        self.discard_long_idle(now, todo);
        if let Some(after) = self.rules.leak_after {
            todo.overdue = self.holders.report(now, after);
        }
        self.start_due_connects(now, todo);
        self.alarm = self.next_alarm();
        (self.alarm, self.keeper.replace(keeper))
    }

    fn discard_expired(&mut self, now: Instant, todo: &mut PoolTodo<X, E>) {
        let before = self.expiries.len();
        while self.expiries.first().is_some_and(|(expires, _)| *expires <= now) {
            self.expiries.pop_first();
        }
        if self.expiries.len() == before {
            return;
        }
        // Connections in use are checked when they come back.
        for entry in self.take_all() {
            if self.has_expired(&entry) { self.discard(entry, todo) } else { self.idle.push_back(entry) }
        }
    }

    #[inline]
    pub(super) fn has_expired(&self, entry: &PoolEntry<X>) -> bool {
        if mutant!("pool.live_for_ever") {
            return false;
        }
        matches!((entry.expires, self.kept_at), (Some(expires), Some(now)) if expires <= now)
    }

    /// When a tick ends, marks the connections that came back during it as idle since its beginning. Another tick begins if
    /// a connection was marked, or else with the next one that comes back.
    fn tick(&mut self, now: Instant) {
        let Some(tick) = self.rules.tick else { return };
        let is_stirred = std::mem::take(&mut self.is_stirred);
        match self.ticking {
            Some(began) if now.saturating_duration_since(began) >= tick => {
                let came_back = self.idle.iter_mut().filter(|entry| entry.since.is_none());
                let marked = came_back.map(|entry| entry.since = Some(began)).count();
                self.ticking = (marked > 0).then_some(now);
            }
            Some(_) => {}
            None => self.ticking = is_stirred.then_some(now),
        }
    }

    fn discard_long_idle(&mut self, now: Instant, todo: &mut PoolTodo<X, E>) {
        while self.long_idle_at().is_some_and(|at| at <= now)
            && let Some(entry) = self.idle.pop_front()
        {
            self.discard(entry, todo);
        }
    }

    /// The time at which the connection that has been idle longest is closed; the minimum stays open.
    fn long_idle_at(&self) -> Option<Instant> {
        let timeout = self.rules.idle_timeout?;
        let mut is_spare = self.live > self.min;
        if mutant!("pool.starve_minimum") {
            is_spare = true;
        }
        let since = self.idle.front().filter(|_| is_spare)?.since?;
        since.checked_add(timeout)
    }

    /// The next time at which work is due, if nothing happens before.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        let retry = self.down.as_ref().filter(|_| {
            let is_wanted = !self.queue.is_empty() || self.live < self.min;
            self.phase == PoolPhase::Open && is_wanted && self.connecting == 0 && self.capacity_left() > 0
        });
        let tick_ends = self.ticking.zip(self.rules.tick).and_then(|(began, tick)| began.checked_add(tick));
        let leak = self.holders.longest().zip(self.rules.leak_after);
        [
            self.queue.front_deadline(),
            self.expiries.first().map(|(expires, _)| *expires),
            tick_ends,
            self.long_idle_at(),
            retry.map(|down| down.retry_at()),
            leak.and_then(|(since, after)| since.checked_add(after)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Wakes the keeper if work is due before its alarm.
    pub(super) fn wake_keeper(&mut self, todo: &mut PoolTodo<X, E>) {
        let Some(next) = self.next_alarm() else { return };
        if self.alarm.is_none_or(|alarm| next < alarm) {
            todo.wake.extend(self.keeper.take());
        }
    }

    /// Records a holder, if leaks are reported.
    pub(in crate::pool) fn hold(
        &mut self,
        now: Instant,
        site: &'static Location<'static>,
        todo: &mut PoolTodo<X, E>,
    ) -> Held {
        let held = self.holders.add(now, site);
        self.wake_keeper(todo);
        held
    }

    pub(in crate::pool) fn release_holder(&mut self, held: Held) {
        self.holders.remove(held);
    }

    /// The holders that have been reported.
    pub(in crate::pool) fn overdue(&self, now: Instant) -> Vec<(&'static Location<'static>, Duration)> {
        let overdue = self.holders.overdue().iter();
        overdue.map(|((since, _), site)| (*site, now.saturating_duration_since(*since))).collect()
    }

    /// The holders of the longest time, if holders are recorded.
    pub(in crate::pool) fn longest_holders(
        &self,
        count: usize,
        now: Instant,
    ) -> Vec<(&'static Location<'static>, Duration)> {
        let holders = self.holders.iter().take(count);
        holders.map(|(since, site)| (site, now.saturating_duration_since(since))).collect()
    }

    /// All holders, if holders are recorded.
    pub(in crate::pool) fn holders(&self, now: Instant) -> Vec<(&'static Location<'static>, Duration)> {
        self.holders.iter().map(|(since, site)| (site, now.saturating_duration_since(since))).collect()
    }
}
