//! The wait of a sender for a free slot.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;

use super::SendError;
use super::atomics::spin_loop;
use super::core::{QueueCore, flag};
use super::cursors::NoSlot;
use super::waiters::{SPIN_LIMIT, WaiterKey, WaiterState, YIELD_LIMIT, yield_poll};
use crate::sync::WakeList;
use crate::task::budget::poll_share;
use crate::{mutant, sim};

/// The queue is closed.
pub(super) struct Closed;

/// The state of a waiting sender, without its queue. The owner calls [`leave`](Self::leave) before it drops this.
#[derive(Debug, Default)]
pub(super) struct SendWaiter {
    key: Option<WaiterKey>,
    /// The slots that this sender holds.
    held: u32,
    yields: u8,
}

/// The result of an attempt to send.
pub(super) enum Sent {
    Done,
    Closed,
    /// The sender is in line, and is woken.
    Waiting,
    /// A slot is free, but the receiver on another thread is still moving the item out of it.
    Busy,
}

impl SendWaiter {
    /// Moves the item in if there is a slot for it. The item stays in `item` until it is in the queue, and if it is
    /// refused.
    #[inline(always)]
    pub(super) fn send<T>(&mut self, core: &QueueCore<T>, waker: &Waker, item: &mut Option<T>) -> Sent {
        if self.is_new()
            && let Some(moving) = item.take()
        {
            match core.push(moving) {
                Ok(()) => {
                    self.yields = 0;
                    return Sent::Done;
                }
                Err((_, back)) => *item = Some(back),
            }
        }
        self.send_in_turn(core, waker, item)
    }

    #[inline(always)]
    pub(super) fn poll_send<T>(
        &mut self,
        core: &QueueCore<T>,
        cx: &mut Context<'_>,
        item: &mut Option<T>,
    ) -> Poll<Result<(), Closed>> {
        let share = ready!(poll_share(cx));
        let sent = match self.send(core, cx.waker(), item) {
            Sent::Done => Ok(()),
            Sent::Closed => Err(Closed),
            Sent::Waiting => return Poll::Pending,
            Sent::Busy => return yield_poll(cx),
        };
        share.spend();
        Poll::Ready(sent)
    }

    #[inline(always)]
    fn is_new(&self) -> bool {
        self.key.is_none() && self.held == 0
    }

    /// Returns `true` if the sender should yield before it joins the line. It does not yield while senders are in line.
    fn may_yield<T>(&mut self, core: &QueueCore<T>) -> bool {
        self.yields = self.yields.saturating_add(1);
        // Once in a simulation, so that senders get into the line at all.
        let most = if sim::is_current() { 1 } else { YIELD_LIMIT };
        self.yields <= most && !core.has(flag::SENDERS)
    }

    #[inline(never)]
    fn send_in_turn<T>(&mut self, core: &QueueCore<T>, waker: &Waker, item: &mut Option<T>) -> Sent {
        if self.is_new() {
            match push(core, item, QueueCore::push) {
                Ok(()) => return Sent::Done,
                Err(NoSlot::Full) if self.may_yield(core) => return Sent::Busy,
                Err(NoSlot::Full | NoSlot::Closed) => {}
                Err(NoSlot::Busy) => return Sent::Busy,
            }
        }
        match self.poll_held(core, waker, 1) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Closed)) => return Sent::Closed,
            Poll::Pending => return Sent::Waiting,
        }
        match push(core, item, QueueCore::push_held) {
            Ok(()) => {
                (self.held, self.yields) = (0, 0);
                Sent::Done
            }
            Err(NoSlot::Closed) => Sent::Closed,
            Err(NoSlot::Full | NoSlot::Busy) => Sent::Busy,
        }
    }

    /// Moves in as many items at once as there are slots for this sender.
    fn send_many<T>(&mut self, core: &QueueCore<T>, waker: &Waker, items: &mut VecDeque<T>) -> Sent {
        if items.is_empty() {
            return Sent::Done;
        }
        if self.is_new() {
            match retry_busy(|| core.push_many(items)) {
                Ok(()) => return Sent::Done,
                Err(NoSlot::Full) if self.may_yield(core) => return Sent::Busy,
                Err(NoSlot::Full | NoSlot::Closed) => {}
                Err(NoSlot::Busy) => return Sent::Busy,
            }
        }
        let want = u32::try_from(items.len()).unwrap_or(u32::MAX);
        match self.poll_held(core, waker, want) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Closed)) => return Sent::Closed,
            Poll::Pending => return Sent::Waiting,
        }
        match retry_busy(|| core.push_many_held(items, self.held)) {
            Ok(slots) => {
                self.held -= slots;
                Sent::Done
            }
            Err(NoSlot::Closed) => Sent::Closed,
            Err(NoSlot::Full | NoSlot::Busy) => Sent::Busy,
        }
    }

    /// Waits until this sender holds at least one of the `want` slots.
    fn poll_held<T>(&mut self, core: &QueueCore<T>, waker: &Waker, want: u32) -> Poll<Result<(), Closed>> {
        if self.held > 0 {
            return Poll::Ready(Ok(()));
        }
        if self.key.is_none()
            && let Ok(slots) = core.hold(want)
        {
            self.held = slots;
            return Poll::Ready(Ok(()));
        }
        // Wakers are cloned and dropped outside of the lock: both may run code of the user.
        let waker = waker.clone();
        let (mut unused, mut known) = (None, None);
        let mut wakes = WakeList::default();
        let mut slow = core.lock();
        let key = match self.key {
            None => {
                let key = *self.key.insert(slow.senders.push(waker, want));
                core.raise(&slow, flag::SENDERS);
                // A slot may be free by now: it goes to the first sender in line.
                core.grant_slots(&mut slow, &mut wakes);
                key
            }
            Some(key) => {
                let mut waits = slow.senders.state(key) == WaiterState::Waiting;
                if mutant!("queue.keep_sender_waker") {
                    waits = false;
                }
                unused = match waits {
                    true => slow.senders.replace(key, waker),
                    false => Some(waker),
                };
                key
            }
        };
        let mut state = slow.senders.state(key);
        if state == WaiterState::Waiting && core.cursors.is_closed() {
            // The sender joined the line after `close` had released the senders in it.
            state = WaiterState::Released;
            if mutant!("queue.close_and_tell_nobody") {
                state = WaiterState::Waiting;
            }
        }
        if state != WaiterState::Waiting {
            self.key = None;
            // A sender that released itself here still has its waker in the list.
            known = slow.senders.remove(key).1;
            core.grant_slots(&mut slow, &mut wakes);
        }
        drop(slow);
        drop((unused, known));
        wakes.wake();
        match state {
            WaiterState::Waiting => Poll::Pending,
            WaiterState::Granted(slots) => {
                self.held = slots;
                Poll::Ready(Ok(()))
            }
            WaiterState::Released => Poll::Ready(Err(Closed)),
        }
    }

    /// Leaves the line, and releases the slots that were granted.
    #[inline(always)]
    pub(super) fn leave<T>(&mut self, core: &QueueCore<T>) {
        if !self.is_new() {
            self.give_up(core);
        }
    }

    #[inline(never)]
    fn give_up<T>(&mut self, core: &QueueCore<T>) {
        let held = mem::take(&mut self.held);
        if held > 0 {
            core.release(held);
        }
        let Some(key) = self.key.take() else { return };
        let mut wakes = WakeList::default();
        let mut slow = core.lock();
        let (mut state, waker) = slow.senders.remove(key);
        if mutant!("queue.keep_place") {
            state = WaiterState::Released;
        }
        if let WaiterState::Granted(slots) = state {
            core.cursors.release(slots);
        }
        core.grant_slots(&mut slow, &mut wakes);
        drop(slow);
        drop(waker);
        wakes.wake();
    }
}

#[inline]
fn push<T>(
    core: &QueueCore<T>,
    item: &mut Option<T>,
    push: impl Fn(&QueueCore<T>, T) -> Result<(), (NoSlot, T)>,
) -> Result<(), NoSlot> {
    retry_busy(|| {
        let Some(moving) = item.take() else { return Ok(()) };
        push(core, moving).map_err(|(why, back)| {
            *item = Some(back);
            why
        })
    })
}

/// Repeats an attempt while the slot is in use by another thread.
#[inline]
fn retry_busy<R>(mut look: impl FnMut() -> Result<R, NoSlot>) -> Result<R, NoSlot> {
    for _ in 1..SPIN_LIMIT {
        match look() {
            Err(NoSlot::Busy) => spin_loop(),
            other => return other,
        }
    }
    look()
}

/// A [`SendWaiter`] that leaves the line when it is dropped.
pub(super) struct SendWaiterGuard<'a, T> {
    core: &'a QueueCore<T>,
    waiter: SendWaiter,
}

impl<'a, T> SendWaiterGuard<'a, T> {
    #[inline(always)]
    pub(super) fn new(core: &'a QueueCore<T>) -> Self {
        Self { core, waiter: SendWaiter::default() }
    }

    /// Waits for a slot, which the caller then has to release.
    pub(super) async fn hold(mut self) -> Result<(), Closed> {
        poll_fn(|cx| {
            let coop = ready!(coop::poll_proceed(cx));
            let held = self.waiter.poll_held(self.core, cx.waker(), 1);
            if held.is_ready() {
                coop.made_progress();
            }
            held
        })
        .await?;
        self.waiter.held = 0;
        Ok(())
    }

    /// Moves all items in, many at once. Each batch costs one unit of the coop budget.
    pub(super) fn poll_send_all(
        &mut self,
        cx: &mut Context<'_>,
        items: &mut VecDeque<T>,
    ) -> Poll<Result<(), Closed>> {
        loop {
            let coop = ready!(coop::poll_proceed(cx));
            let sent = match self.waiter.send_many(self.core, cx.waker(), items) {
                Sent::Done => Ok(()),
                Sent::Closed => Err(Closed),
                Sent::Waiting => return Poll::Pending,
                Sent::Busy => return yield_poll(cx),
            };
            coop.made_progress();
            if sent.is_err() || items.is_empty() {
                return Poll::Ready(sent);
            }
            self.waiter.yields = 0;
        }
    }
}

impl<T> Drop for SendWaiterGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.waiter.leave(self.core);
    }
}

/// The future that sends one item.
pub(super) struct Sending<'a, T> {
    core: &'a QueueCore<T>,
    waiter: SendWaiter,
    item: Option<T>,
}

/// The item is never pinned.
impl<T> Unpin for Sending<'_, T> {}

impl<'a, T> Sending<'a, T> {
    #[inline(always)]
    pub(super) fn new(core: &'a QueueCore<T>, item: T) -> Self {
        Self { core, waiter: SendWaiter::default(), item: Some(item) }
    }
}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { core, waiter, item } = &mut *self;
        let sent = ready!(waiter.poll_send(core, cx, item));
        Poll::Ready(match (sent, item.take()) {
            (Err(Closed), Some(item)) => Err(SendError(item)),
            _ => Ok(()),
        })
    }
}

impl<T> Drop for Sending<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.waiter.leave(self.core);
    }
}
