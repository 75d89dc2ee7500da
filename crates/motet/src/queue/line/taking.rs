//! The wait of a receiver for an item.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use super::super::core::{Core, Slow, Take, flag};
use super::super::counts::{Claim, NoItem};
use super::super::store::Entry;
use super::super::sync::spin_loop;
use super::super::waiters::{Key, State, Wakes};
use super::{LOOKS, again};
use crate::mutant;
use crate::task::budget::poll_share;

/// The state of a waiting receiver, without its queue: a stream keeps it from one item to the next. The owner calls
/// [`leave`](Self::leave) before it drops this.
#[derive(Debug, Default)]
pub(in crate::queue) struct Line {
    key: Option<Key>,
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
enum Visit<T> {
    Taken(Entry<T>),
    /// There is no item, and none can come.
    Finished,
    /// The receiver is in line: it is woken, and it looks again at the given time at the latest.
    Waiting(Option<Instant>),
    Busy,
}

impl Line {
    /// Takes and settles an item once there is one for this receiver; `None` once no item can come any more.
    #[inline(always)]
    pub(in crate::queue) fn poll_recv<T>(&mut self, core: &Core<T>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let share = ready!(poll_share(cx));
        if self.key.is_none()
            && let Ok(item) = core.pop_quickly()
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
    pub(in crate::queue) fn poll_lease<T>(
        &mut self,
        core: &Core<T>,
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
        core: &Core<T>,
        cx: &mut Context<'_>,
        take: Take,
    ) -> Poll<Option<Entry<T>>> {
        if self.key.is_none() {
            for _ in 0..LOOKS {
                match core.take_quickly(take) {
                    Ok(entry) => return Poll::Ready(Some(entry)),
                    Err(NoItem::Empty)
                        if self.may_yield()
                            && !core.has(flag::RECEIVERS | flag::ASIDE | flag::ENDED)
                            && !core.counts.is_closed() =>
                    {
                        return again(cx);
                    }
                    Err(NoItem::Empty) => break,
                    Err(NoItem::Busy) => spin_loop(),
                }
            }
        }
        loop {
            let until = match self.visit(core, Some(cx.waker()), take) {
                Visit::Taken(entry) => return Poll::Ready(Some(entry)),
                Visit::Finished => return Poll::Ready(None),
                Visit::Busy => return again(cx),
                Visit::Waiting(None) => {
                    self.timer.stop();
                    return Poll::Pending;
                }
                Visit::Waiting(Some(until)) => until,
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
    fn visit<T>(&mut self, core: &Core<T>, waker: Option<&Waker>, take: Take) -> Visit<T> {
        // Wakers are cloned and dropped outside of the lock: both may run code of the user.
        let mut waker = waker.cloned();
        let mut unused = None;
        let mut wakes = Wakes::default();
        let mut slow = core.lock();
        core.advance(&mut slow);
        let visit = loop {
            let state = self.key.map(|key| slow.receivers.state(key));
            if state == Some(State::Released) || core.has(flag::ENDED) {
                break Visit::Finished;
            }
            let claim = match state {
                None if slow.receivers.waiting() == 0 => Some(Claim::Open),
                Some(State::Granted(_)) => Some(Claim::Granted),
                _ => None,
            };
            match claim.map(|claim| core.take_any(&mut slow, claim, take, &mut wakes)) {
                Some(Ok(entry)) => break Visit::Taken(entry),
                Some(Err(NoItem::Busy)) => break Visit::Busy,
                // The promised item exists, so its sender is still writing it.
                Some(Err(NoItem::Empty)) if claim == Some(Claim::Granted) => break Visit::Busy,
                Some(Err(NoItem::Empty)) | None => {}
            }
            if core.is_finished() {
                break Visit::Finished;
            }
            match (self.key, waker.take()) {
                (_, None) => break Visit::Waiting(None),
                (None, Some(waker)) => {
                    let key = *self.key.insert(slow.receivers.push(waker, 1));
                    core.raise(&slow, flag::RECEIVERS);
                    // An item may have arrived by now: it goes to the first receiver in line.
                    core.grant_items(&mut slow, &mut wakes);
                    if slow.receivers.state(key) == State::Waiting {
                        break Visit::Waiting(self.watch_the_clock(&mut slow, key));
                    }
                }
                (Some(key), Some(waker)) => {
                    unused = match mutant!("queue.keep_receiver_waker") {
                        true => Some(waker),
                        false => slow.receivers.replace(key, waker),
                    };
                    break Visit::Waiting(self.watch_the_clock(&mut slow, key));
                }
            }
        };
        let (mut state, mut known) = (State::Waiting, None);
        if matches!(visit, Visit::Taken(_) | Visit::Finished)
            && let Some(key) = self.key.take()
        {
            (state, known) = remove(&mut slow, key);
        }
        if matches!(state, State::Granted(_)) && matches!(visit, Visit::Finished) {
            core.counts.unpromise();
        }
        // Items that have become due may be for other receivers.
        core.grant_items(&mut slow, &mut wakes);
        drop(slow);
        drop((unused, known));
        wakes.wake();
        if matches!(visit, Visit::Taken(_)) {
            core.look_whether_settled();
        }
        visit
    }

    /// The time at which this receiver looks again, if it is the one that watches the clock.
    fn watch_the_clock<T>(&self, slow: &mut Slow<T>, key: Key) -> Option<Instant> {
        let until = slow.later.next_due()?;
        (*slow.timer.get_or_insert(key) == key).then_some(until)
    }

    /// Takes an item if there is one for a new receiver: `Ok(None)` if no item can come any more.
    pub(in crate::queue) fn try_take<T>(core: &Core<T>, take: Take) -> Result<Option<Entry<T>>, NoItem> {
        if let Ok(entry) = core.take_quickly(take) {
            return Ok(Some(entry));
        }
        match Self::default().visit(core, None, take) {
            Visit::Taken(entry) => Ok(Some(entry)),
            Visit::Finished => Ok(None),
            Visit::Waiting(_) | Visit::Busy => Err(NoItem::Empty),
        }
    }

    /// Leaves the line. A granted item goes to the next receiver.
    #[inline(always)]
    pub(in crate::queue) fn leave<T>(&mut self, core: &Core<T>) {
        if self.key.is_some() {
            self.give_up(core);
        }
    }

    #[inline(never)]
    fn give_up<T>(&mut self, core: &Core<T>) {
        self.timer.stop();
        let Some(key) = self.key.take() else { return };
        let mut wakes = Wakes::default();
        let mut slow = core.lock();
        let (state, waker) = remove(&mut slow, key);
        let mut lost = None;
        if matches!(state, State::Granted(_)) && !mutant!("queue.keep_promise") {
            if mutant!("queue.take_and_drop") {
                lost = core.take_any(&mut slow, Claim::Granted, Take::Settled, &mut wakes).ok();
            } else {
                core.counts.unpromise();
            }
        }
        core.grant_items(&mut slow, &mut wakes);
        drop(slow);
        drop((waker, lost));
        wakes.wake();
    }
}

fn remove<T>(slow: &mut Slow<T>, key: Key) -> (State, Option<Waker>) {
    if slow.timer == Some(key) {
        slow.timer = None;
    }
    slow.receivers.remove(key)
}

/// A [`Line`] that leaves the line when it is dropped.
pub(in crate::queue) struct Taking<'a, T> {
    core: &'a Core<T>,
    line: Line,
}

impl<'a, T> Taking<'a, T> {
    #[inline(always)]
    pub(in crate::queue) fn new(core: &'a Core<T>) -> Self {
        Self { core, line: Line::default() }
    }

    /// Takes one item, and the others that are there, up to `most`.
    pub(in crate::queue) fn poll_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<T>,
        most: usize,
    ) -> Poll<usize> {
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
    pub(in crate::queue) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.line.poll_recv(self.core, cx)
    }

    pub(in crate::queue) fn poll_lease(&mut self, cx: &mut Context<'_>) -> Poll<Option<Entry<T>>> {
        self.line.poll_lease(self.core, cx)
    }
}

impl<T> Drop for Taking<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.line.leave(self.core);
    }
}

/// The future that receives one item.
pub(in crate::queue) struct Receiving<'a, T> {
    core: &'a Core<T>,
    /// Set once the first poll has found no item; until then, a drop costs one comparison.
    waits: Option<Taking<'a, T>>,
}

impl<'a, T> Receiving<'a, T> {
    #[inline(always)]
    pub(in crate::queue) fn new(core: &'a Core<T>) -> Self {
        Self { core, waits: None }
    }

    #[inline(never)]
    fn poll_longer(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.waits.get_or_insert_with(|| Taking::new(self.core)).poll_recv(cx)
    }
}

impl<T> Future for Receiving<'_, T> {
    type Output = Option<T>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.waits.is_none() {
            let share = ready!(poll_share(cx));
            if let Ok(item) = self.core.pop_quickly() {
                share.spend();
                return Poll::Ready(Some(item));
            }
        }
        self.poll_longer(cx)
    }
}
