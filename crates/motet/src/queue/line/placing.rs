//! The wait of a sender for a free slot.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;

use super::super::SendError;
use super::super::core::{Core, flag};
use super::super::counts::NoPlace;
use super::super::sync::spin_loop;
use super::super::waiters::{Key, State, Wakes};
use super::{LOOKS, YIELDS, again};
use crate::task::budget::poll_share;
use crate::{mutant, sim};

/// The queue is closed.
pub(in crate::queue) struct Closed;

/// The state of a waiting sender, without its queue. The owner calls [`leave`](Self::leave) before it drops this.
#[derive(Debug, Default)]
pub(in crate::queue) struct Turn {
    key: Option<Key>,
    /// The slots that this sender holds.
    held: u32,
    yields: u8,
}

/// The result of an attempt to send.
pub(in crate::queue) enum Sent {
    Done,
    Closed,
    /// The sender is in line, and is woken.
    Waiting,
    /// A slot is free, but the receiver on another thread is still moving the item out of it.
    Busy,
}

impl Turn {
    /// Moves the item in if there is a slot for it. The item stays in `item` until it is in the queue, and if it is
    /// refused.
    #[inline(always)]
    pub(in crate::queue) fn send<T>(&mut self, core: &Core<T>, waker: &Waker, item: &mut Option<T>) -> Sent {
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
    pub(in crate::queue) fn poll_send<T>(
        &mut self,
        core: &Core<T>,
        cx: &mut Context<'_>,
        item: &mut Option<T>,
    ) -> Poll<Result<(), Closed>> {
        let share = ready!(poll_share(cx));
        let sent = match self.send(core, cx.waker(), item) {
            Sent::Done => Ok(()),
            Sent::Closed => Err(Closed),
            Sent::Waiting => return Poll::Pending,
            Sent::Busy => return again(cx),
        };
        share.spend();
        Poll::Ready(sent)
    }

    #[inline(always)]
    fn is_new(&self) -> bool {
        self.key.is_none() && self.held == 0
    }

    /// Returns `true` if the sender should yield before it joins the line. It does not yield while senders are in line.
    fn may_yield<T>(&mut self, core: &Core<T>) -> bool {
        self.yields = self.yields.saturating_add(1);
        // Once in a simulation, so that senders get into the line at all.
        let most = if sim::is_current() { 1 } else { YIELDS };
        self.yields <= most && !core.has(flag::SENDERS)
    }

    #[inline(never)]
    fn send_in_turn<T>(&mut self, core: &Core<T>, waker: &Waker, item: &mut Option<T>) -> Sent {
        if self.is_new() {
            match push(core, item, Core::push) {
                Ok(()) => return Sent::Done,
                Err(NoPlace::Full) if self.may_yield(core) => return Sent::Busy,
                Err(NoPlace::Full | NoPlace::Closed) => {}
                Err(NoPlace::Busy) => return Sent::Busy,
            }
        }
        match self.poll_held(core, waker, 1) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Closed)) => return Sent::Closed,
            Poll::Pending => return Sent::Waiting,
        }
        match push(core, item, Core::push_held) {
            Ok(()) => {
                (self.held, self.yields) = (0, 0);
                Sent::Done
            }
            Err(NoPlace::Closed) => Sent::Closed,
            Err(NoPlace::Full | NoPlace::Busy) => Sent::Busy,
        }
    }

    /// Moves in as many items at once as there are slots for this sender.
    fn send_many<T>(&mut self, core: &Core<T>, waker: &Waker, items: &mut VecDeque<T>) -> Sent {
        if items.is_empty() {
            return Sent::Done;
        }
        if self.is_new() {
            match looks(|| core.push_many(items)) {
                Ok(()) => return Sent::Done,
                Err(NoPlace::Full) if self.may_yield(core) => return Sent::Busy,
                Err(NoPlace::Full | NoPlace::Closed) => {}
                Err(NoPlace::Busy) => return Sent::Busy,
            }
        }
        let want = u32::try_from(items.len()).unwrap_or(u32::MAX);
        match self.poll_held(core, waker, want) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Closed)) => return Sent::Closed,
            Poll::Pending => return Sent::Waiting,
        }
        match looks(|| core.push_many_held(items, self.held)) {
            Ok(places) => {
                self.held -= places;
                Sent::Done
            }
            Err(NoPlace::Closed) => Sent::Closed,
            Err(NoPlace::Full | NoPlace::Busy) => Sent::Busy,
        }
    }

    /// Waits until this sender holds at least one of the `want` slots.
    fn poll_held<T>(&mut self, core: &Core<T>, waker: &Waker, want: u32) -> Poll<Result<(), Closed>> {
        if self.held > 0 {
            return Poll::Ready(Ok(()));
        }
        if self.key.is_none()
            && let Ok(places) = core.hold(want)
        {
            self.held = places;
            return Poll::Ready(Ok(()));
        }
        // Wakers are cloned and dropped outside of the lock: both may run code of the user.
        let waker = waker.clone();
        let (mut unused, mut known) = (None, None);
        let mut wakes = Wakes::default();
        let mut slow = core.lock();
        let key = match self.key {
            None => {
                let key = *self.key.insert(slow.senders.push(waker, want));
                core.raise(&slow, flag::SENDERS);
                // A slot may be free by now: it goes to the first sender in line.
                core.grant_places(&mut slow, &mut wakes);
                key
            }
            Some(key) => {
                let waits = slow.senders.state(key) == State::Waiting;
                unused = match waits && !mutant!("queue.keep_sender_waker") {
                    true => slow.senders.replace(key, waker),
                    false => Some(waker),
                };
                key
            }
        };
        let mut state = slow.senders.state(key);
        if state == State::Waiting && core.counts.is_closed() && !mutant!("queue.close_and_tell_nobody") {
            // The sender joined the line after `close` had released the senders in it.
            state = State::Released;
        }
        if state != State::Waiting {
            self.key = None;
            // A sender that released itself here still has its waker in the list.
            known = slow.senders.remove(key).1;
            core.grant_places(&mut slow, &mut wakes);
        }
        drop(slow);
        drop((unused, known));
        wakes.wake();
        match state {
            State::Waiting => Poll::Pending,
            State::Granted(places) => {
                self.held = places;
                Poll::Ready(Ok(()))
            }
            State::Released => Poll::Ready(Err(Closed)),
        }
    }

    /// Leaves the line, and releases the slots that were granted.
    #[inline(always)]
    pub(in crate::queue) fn leave<T>(&mut self, core: &Core<T>) {
        if !self.is_new() {
            self.give_up(core);
        }
    }

    #[inline(never)]
    fn give_up<T>(&mut self, core: &Core<T>) {
        let held = mem::take(&mut self.held);
        if held > 0 {
            core.release(held);
        }
        let Some(key) = self.key.take() else { return };
        let mut wakes = Wakes::default();
        let mut slow = core.lock();
        let (state, waker) = slow.senders.remove(key);
        if let State::Granted(places) = state
            && !mutant!("queue.keep_place")
        {
            core.counts.release(places);
        }
        core.grant_places(&mut slow, &mut wakes);
        drop(slow);
        drop(waker);
        wakes.wake();
    }
}

#[inline]
fn push<T>(
    core: &Core<T>,
    item: &mut Option<T>,
    push: impl Fn(&Core<T>, T) -> Result<(), (NoPlace, T)>,
) -> Result<(), NoPlace> {
    looks(|| {
        let Some(moving) = item.take() else { return Ok(()) };
        push(core, moving).map_err(|(why, back)| {
            *item = Some(back);
            why
        })
    })
}

/// Repeats an attempt while the slot is in use by another thread.
#[inline]
fn looks<R>(mut look: impl FnMut() -> Result<R, NoPlace>) -> Result<R, NoPlace> {
    for _ in 1..LOOKS {
        match look() {
            Err(NoPlace::Busy) => spin_loop(),
            other => return other,
        }
    }
    look()
}

/// A [`Turn`] that leaves the line when it is dropped.
pub(in crate::queue) struct Placing<'a, T> {
    core: &'a Core<T>,
    turn: Turn,
}

impl<'a, T> Placing<'a, T> {
    #[inline(always)]
    pub(in crate::queue) fn new(core: &'a Core<T>) -> Self {
        Self { core, turn: Turn::default() }
    }

    /// Waits for a slot, which the caller then has to release.
    pub(in crate::queue) async fn hold(mut self) -> Result<(), Closed> {
        poll_fn(|cx| {
            let coop = ready!(coop::poll_proceed(cx));
            let held = self.turn.poll_held(self.core, cx.waker(), 1);
            if held.is_ready() {
                coop.made_progress();
            }
            held
        })
        .await?;
        self.turn.held = 0;
        Ok(())
    }

    /// Moves all items in, many at once. Each batch costs one unit of the coop budget.
    pub(in crate::queue) fn poll_send_all(
        &mut self,
        cx: &mut Context<'_>,
        items: &mut VecDeque<T>,
    ) -> Poll<Result<(), Closed>> {
        loop {
            let coop = ready!(coop::poll_proceed(cx));
            let sent = match self.turn.send_many(self.core, cx.waker(), items) {
                Sent::Done => Ok(()),
                Sent::Closed => Err(Closed),
                Sent::Waiting => return Poll::Pending,
                Sent::Busy => return again(cx),
            };
            coop.made_progress();
            if sent.is_err() || items.is_empty() {
                return Poll::Ready(sent);
            }
            self.turn.yields = 0;
        }
    }
}

impl<T> Drop for Placing<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.turn.leave(self.core);
    }
}

/// The future that sends one item.
pub(in crate::queue) struct Sending<'a, T> {
    core: &'a Core<T>,
    turn: Turn,
    item: Option<T>,
}

/// The item is never pinned.
impl<T> Unpin for Sending<'_, T> {}

impl<'a, T> Sending<'a, T> {
    #[inline(always)]
    pub(in crate::queue) fn new(core: &'a Core<T>, item: T) -> Self {
        Self { core, turn: Turn::default(), item: Some(item) }
    }
}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { core, turn, item } = &mut *self;
        let sent = ready!(turn.poll_send(core, cx, item));
        Poll::Ready(match (sent, item.take()) {
            (Err(Closed), Some(item)) => Err(SendError(item)),
            _ => Ok(()),
        })
    }
}

impl<T> Drop for Sending<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.turn.leave(self.core);
    }
}
