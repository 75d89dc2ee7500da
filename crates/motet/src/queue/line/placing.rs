//! A sender's turn.

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

/// The queue takes no more items.
pub(in crate::queue) struct Closed;

/// A sender's turn, apart from its queue. Whoever drops it [leaves](Self::leave) first.
#[derive(Debug, Default)]
pub(in crate::queue) struct Turn {
    key: Option<Key>,
    /// Places that are this one's.
    held: u32,
    yields: u8,
}

/// What became of an item on its way in.
pub(in crate::queue) enum Sent {
    Done,
    Closed,
    /// Until it is woken.
    Waiting,
    /// There is a place, and whoever took the item from it is not quite done.
    Busy,
}

impl Turn {
    /// Moves the item in when there is room. It stays where it is until it is inside, and when it is refused.
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

    /// Whether to let others run first: not before those who are in line.
    fn may_yield<T>(&mut self, core: &Core<T>) -> bool {
        self.yields = self.yields.saturating_add(1);
        // In a simulation once, so that there is a line at all.
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

    /// Moves as many items in at once as there is room for, when it is this one's turn.
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

    /// Holds some of the places that are wanted, when it is this one's turn.
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
        // Wakers are cloned and dropped outside of the lock: both may run somebody's code.
        let waker = waker.clone();
        let (mut unused, mut known) = (None, None);
        let mut wakes = Wakes::default();
        let mut slow = core.lock();
        let key = match self.key {
            None => {
                let key = *self.key.insert(slow.senders.push(waker, want));
                core.raise(&slow, flag::SENDERS);
                // There may be room by now: for who is first in line.
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
            // It came into the line after those in it had been dismissed.
            state = State::Released;
        }
        if state != State::Waiting {
            self.key = None;
            // One that dismissed itself has its waker still.
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

    /// Leaves the line, and gives up what was granted.
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

/// Looks again at a slot that another thread is just using.
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

/// A [`Turn`] that leaves when it is dropped.
pub(in crate::queue) struct Placing<'a, T> {
    core: &'a Core<T>,
    turn: Turn,
}

impl<'a, T> Placing<'a, T> {
    #[inline(always)]
    pub(in crate::queue) fn new(core: &'a Core<T>) -> Self {
        Self { core, turn: Turn::default() }
    }

    /// Waits for a place, which is then the caller's to release.
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

    /// Moves all items in, many at once: one unit of the budget for each time.
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

/// An item on its way in.
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
