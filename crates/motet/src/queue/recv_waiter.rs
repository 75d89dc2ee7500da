//! The wait of a receiver for an item.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use super::atomics::spin_loop;
use super::core::{QueueCore, SlowState, Take, flag};
use super::cursors::{Claim, NoItem};
use super::orders::Entry;
use super::waiters::{SPIN_LIMIT, WaiterKey, WaiterState, yield_poll};
use crate::mutant;
use crate::sync::WakeList;
use crate::task::budget::poll_share;

/// The state of a waiting receiver, without its queue: a stream keeps it from one item to the next. The owner calls
/// [`leave`](Self::leave) before it drops this.
#[derive(Debug, Default)]
pub(super) struct RecvWaiter {
    key: Option<WaiterKey>,
    yielded: bool,
    /// Set only while an item is due later and this receiver watches the clock.
    timer: Timer,
}

/// Mostly `None`; then dropping it costs one comparison.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    #[inline(never)]
    fn stop(&mut self) {
        self.0 = None;
    }
}

impl Drop for Timer {
    #[inline(always)]
    fn drop(&mut self) {
        if self.0.is_some() {
            self.stop();
        }
    }
}

/// The result of an attempt to take an item under the lock.
enum Scan<T> {
    Taken(Entry<T>),
    /// There is no item, and none can come.
    Finished,
    /// The receiver is in line: it is woken, and it looks again at the given time at the latest.
    Waiting(Option<Instant>),
    Busy,
}

impl RecvWaiter {
    /// Takes and settles an item once there is one for this receiver; `None` once no item can come any more.
    #[inline(always)]
    pub(super) fn poll_recv<T>(&mut self, core: &QueueCore<T>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let share = ready!(poll_share(cx));
        if self.key.is_none()
            && let Ok(item) = core.pop_fast()
        {
            self.yielded = false;
            share.spend();
            return Poll::Ready(Some(item));
        }
        let taken = ready!(self.poll_in_line(core, cx, Take::Settled));
        share.spend();
        Poll::Ready(taken.map(|entry| entry.item))
    }

    /// Leases an item once there is one for this receiver; `None` once no item can come any more.
    pub(super) fn poll_lease<T>(
        &mut self,
        core: &QueueCore<T>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Entry<T>>> {
        let coop = ready!(coop::poll_proceed(cx));
        let taken = ready!(self.poll_in_line(core, cx, Take::Leased));
        coop.made_progress();
        Poll::Ready(taken)
    }

    /// Returns `true` once, before the receiver joins the line: mostly other tasks send an item while it yields.
    /// Yielding more often was not faster.
    fn may_yield(&mut self) -> bool {
        !std::mem::replace(&mut self.yielded, true)
    }

    fn is_parked(&self) -> bool {
        self.key.is_some()
    }

    #[inline(never)]
    fn poll_in_line<T>(
        &mut self,
        core: &QueueCore<T>,
        cx: &mut Context<'_>,
        take: Take,
    ) -> Poll<Option<Entry<T>>> {
        if self.key.is_none() {
            for _ in 0..SPIN_LIMIT {
                match core.take_fast(take) {
                    Ok(entry) => return Poll::Ready(Some(entry)),
                    Err(NoItem::Empty)
                        if self.may_yield()
                            && !core.has(flag::RECEIVERS | flag::ASIDE | flag::ENDED)
                            && !core.cursors.is_closed() =>
                    {
                        return yield_poll(cx);
                    }
                    Err(NoItem::Empty) => break,
                    Err(NoItem::Busy) => spin_loop(),
                }
            }
        }
        loop {
            let until = match self.scan(core, Some(cx.waker()), take) {
                Scan::Taken(entry) => return Poll::Ready(Some(entry)),
                Scan::Finished => return Poll::Ready(None),
                Scan::Busy => return yield_poll(cx),
                Scan::Waiting(None) => {
                    self.timer.stop();
                    return Poll::Pending;
                }
                Scan::Waiting(Some(until)) => until,
            };
            let timer = self.timer.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            // The wait has already taken its unit of the coop budget: with no budget left, the timer would never be
            // polled.
            ready!(pin!(coop::unconstrained(timer.as_mut())).poll(cx));
        }
    }

    /// Takes an item if there is one. Without a waker it does not wait.
    fn scan<T>(&mut self, core: &QueueCore<T>, waker: Option<&Waker>, take: Take) -> Scan<T> {
        // Wakers are cloned and dropped outside of the lock: both may run code of the user.
        let mut waker = waker.cloned();
        let mut unused = None;
        let mut wakes = WakeList::default();
        let mut slow = core.lock();
        core.advance(&mut slow);
        let scan = loop {
            let state = self.key.map(|key| slow.receivers.state(key));
            if state == Some(WaiterState::Released) || core.has(flag::ENDED) {
                break Scan::Finished;
            }
            let claim = match state {
                None if slow.receivers.waiting() == 0 => Some(Claim::Open),
                Some(WaiterState::Granted(_)) => Some(Claim::Granted),
                _ => None,
            };
            match claim.map(|claim| core.take_any(&mut slow, claim, take, &mut wakes)) {
                Some(Ok(entry)) => break Scan::Taken(entry),
                Some(Err(NoItem::Busy)) => break Scan::Busy,
                // The promised item exists, so its sender is still writing it.
                Some(Err(NoItem::Empty)) if claim == Some(Claim::Granted) => break Scan::Busy,
                Some(Err(NoItem::Empty)) | None => {}
            }
            if core.is_finished() {
                break Scan::Finished;
            }
            match (self.key, waker.take()) {
                (_, None) => break Scan::Waiting(None),
                (None, Some(waker)) => {
                    let key = *self.key.insert(slow.receivers.push(waker, 1));
                    core.raise(&slow, flag::RECEIVERS);
                    // An item may have arrived by now: it goes to the first receiver in line.
                    core.grant_items(&mut slow, &mut wakes);
                    if slow.receivers.state(key) == WaiterState::Waiting {
                        break Scan::Waiting(self.claim_timer(&mut slow, key));
                    }
                }
                (Some(key), Some(waker)) => {
                    unused = slow.receivers.replace(key, waker);
                    if mutant!("queue.keep_receiver_waker") {
                        let known = unused.take().and_then(|known| slow.receivers.replace(key, known));
                        unused = known;
                    }
                    break Scan::Waiting(self.claim_timer(&mut slow, key));
                }
            }
        };
        let (mut state, mut known) = (WaiterState::Waiting, None);
        if matches!(scan, Scan::Taken(_) | Scan::Finished)
            && let Some(key) = self.key.take()
        {
            (state, known) = remove(&mut slow, key);
        }
        if matches!(state, WaiterState::Granted(_)) && matches!(scan, Scan::Finished) {
            core.cursors.unpromise();
        }
        // Items that have become due may be for other receivers.
        core.grant_items(&mut slow, &mut wakes);
        drop(slow);
        drop((unused, known));
        wakes.wake();
        if matches!(scan, Scan::Taken(_)) {
            core.notify_if_settled();
        }
        scan
    }

    /// The time at which this receiver looks again, if it is the one that watches the clock.
    fn claim_timer<T>(&self, slow: &mut SlowState<T>, key: WaiterKey) -> Option<Instant> {
        let until = slow.later.next_due()?;
        (*slow.timer.get_or_insert(key) == key).then_some(until)
    }

    /// Takes an item if there is one for a new receiver: `Ok(None)` if no item can come any more.
    pub(super) fn try_take<T>(core: &QueueCore<T>, take: Take) -> Result<Option<Entry<T>>, NoItem> {
        if let Ok(entry) = core.take_fast(take) {
            return Ok(Some(entry));
        }
        match Self::default().scan(core, None, take) {
            Scan::Taken(entry) => Ok(Some(entry)),
            Scan::Finished => Ok(None),
            Scan::Waiting(_) | Scan::Busy => Err(NoItem::Empty),
        }
    }

    /// Leaves the line. A granted item goes to the next receiver.
    #[inline(always)]
    pub(super) fn leave<T>(&mut self, core: &QueueCore<T>) {
        if self.key.is_some() {
            self.give_up(core);
        }
    }

    #[inline(never)]
    fn give_up<T>(&mut self, core: &QueueCore<T>) {
        self.timer.stop();
        let Some(key) = self.key.take() else { return };
        let mut wakes = WakeList::default();
        let mut slow = core.lock();
        let (mut state, waker) = remove(&mut slow, key);
        if mutant!("queue.keep_promise") {
            state = WaiterState::Released;
        }
        if mutant!("queue.take_and_drop") {
            let is_granted = matches!(state, WaiterState::Granted(_));
            if is_granted {
                drop(core.take_any(&mut slow, Claim::Granted, Take::Settled, &mut wakes));
                state = WaiterState::Released;
            }
        }
        if matches!(state, WaiterState::Granted(_)) {
            core.cursors.unpromise();
        }
        core.grant_items(&mut slow, &mut wakes);
        drop(slow);
        drop(waker);
        wakes.wake();
    }
}

fn remove<T>(slow: &mut SlowState<T>, key: WaiterKey) -> (WaiterState, Option<Waker>) {
    if slow.timer == Some(key) {
        slow.timer = None;
    }
    slow.receivers.remove(key)
}

/// A [`RecvWaiter`] that leaves the line when it is dropped.
pub(super) struct RecvWaiterGuard<'a, T> {
    core: &'a QueueCore<T>,
    line: RecvWaiter,
}

impl<'a, T> RecvWaiterGuard<'a, T> {
    #[inline(always)]
    pub(super) fn new(core: &'a QueueCore<T>) -> Self {
        Self { core, line: RecvWaiter::default() }
    }

    /// Takes one item, and the others that are there, up to `most`.
    pub(super) fn poll_many(&mut self, cx: &mut Context<'_>, into: &mut Vec<T>, most: usize) -> Poll<usize> {
        let coop = ready!(coop::poll_proceed(cx));
        let taken = match self.line.is_parked() {
            true => 0,
            false => self.core.take_many(into, most),
        };
        if taken > 0 {
            coop.made_progress();
            return Poll::Ready(taken);
        }
        let first = ready!(self.line.poll_in_line(self.core, cx, Take::Settled));
        coop.made_progress();
        let Some(entry) = first else { return Poll::Ready(0) };
        into.push(entry.item);
        Poll::Ready(1 + self.core.take_many(into, most - 1))
    }

    #[inline(always)]
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.line.poll_recv(self.core, cx)
    }

    pub(super) fn poll_lease(&mut self, cx: &mut Context<'_>) -> Poll<Option<Entry<T>>> {
        self.line.poll_lease(self.core, cx)
    }
}

impl<T> Drop for RecvWaiterGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.line.leave(self.core);
    }
}

/// The future that receives one item.
pub(super) struct Receiving<'a, T> {
    core: &'a QueueCore<T>,
    /// Set once the first poll has found no item; until then, a drop costs one comparison.
    waits: Option<RecvWaiterGuard<'a, T>>,
}

impl<'a, T> Receiving<'a, T> {
    #[inline(always)]
    pub(super) fn new(core: &'a QueueCore<T>) -> Self {
        Self { core, waits: None }
    }

    #[inline(never)]
    fn poll_longer(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.waits.get_or_insert_with(|| RecvWaiterGuard::new(self.core)).poll_recv(cx)
    }
}

impl<T> Future for Receiving<'_, T> {
    type Output = Option<T>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.waits.is_none() {
            let share = ready!(poll_share(cx));
            if let Ok(item) = self.core.pop_fast() {
                share.spend();
                return Poll::Ready(Some(item));
            }
        }
        self.poll_longer(cx)
    }
}
