//! A sender's turn.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;

use super::super::SendError;
use super::super::core::{Core, flag};
use super::super::counts::NoPlace;
use super::super::sync::spin_loop;
use super::super::waiters::{Key, State, Wakes};
use super::{LOOKS, YIELDS, again};
use crate::mutant;

/// The queue takes no more items.
pub(in crate::queue) struct Closed;

/// A sender's turn, apart from its queue. Whoever drops it [leaves](Self::leave) first.
#[derive(Debug, Default)]
pub(in crate::queue) struct Turn {
    key: Option<Key>,
    held: bool,
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
        if self.key.is_none()
            && !self.held
            && let Some(moving) = item.take()
        {
            match core.push(moving) {
                Ok(()) => return Sent::Done,
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
        let coop = ready!(coop::poll_proceed(cx));
        let sent = match self.send(core, cx.waker(), item) {
            Sent::Done => Ok(()),
            Sent::Closed => Err(Closed),
            Sent::Waiting => return Poll::Pending,
            Sent::Busy => return again(cx),
        };
        coop.made_progress();
        Poll::Ready(sent)
    }

    fn may_yield(&mut self) -> bool {
        self.yields = self.yields.saturating_add(1);
        self.yields <= YIELDS
    }

    #[inline(never)]
    fn send_in_turn<T>(&mut self, core: &Core<T>, waker: &Waker, item: &mut Option<T>) -> Sent {
        if self.key.is_none() && !self.held {
            match push(core, item, Core::push) {
                Ok(()) => return Sent::Done,
                Err(NoPlace::Full) if self.may_yield() && !core.has(flag::SENDERS) => {
                    return Sent::Busy;
                }
                Err(NoPlace::Full | NoPlace::Closed) => {}
                Err(NoPlace::Busy) => return Sent::Busy,
            }
        }
        match self.poll_held(core, waker) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Closed)) => return Sent::Closed,
            Poll::Pending => return Sent::Waiting,
        }
        match push(core, item, Core::push_held) {
            Ok(()) => {
                self.held = false;
                Sent::Done
            }
            Err(NoPlace::Closed) => Sent::Closed,
            Err(NoPlace::Full | NoPlace::Busy) => Sent::Busy,
        }
    }

    /// Holds a place, when it is this one's turn.
    fn poll_held<T>(&mut self, core: &Core<T>, waker: &Waker) -> Poll<Result<(), Closed>> {
        if self.held {
            return Poll::Ready(Ok(()));
        }
        if self.key.is_none() && core.hold().is_ok() {
            self.held = true;
            return Poll::Ready(Ok(()));
        }
        // Wakers are cloned and dropped outside of the lock: both may run somebody's code.
        let waker = waker.clone();
        let (mut unused, mut known) = (None, None);
        let mut wakes = Wakes::default();
        let mut slow = core.lock();
        let key = match self.key {
            None => {
                let key = *self.key.insert(slow.senders.push(waker));
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
            State::Granted => {
                self.held = true;
                Poll::Ready(Ok(()))
            }
            State::Released => Poll::Ready(Err(Closed)),
        }
    }

    /// Leaves the line, and gives up what was granted.
    #[inline(always)]
    pub(in crate::queue) fn leave<T>(&mut self, core: &Core<T>) {
        if self.held || self.key.is_some() {
            self.give_up(core);
        }
    }

    #[inline(never)]
    fn give_up<T>(&mut self, core: &Core<T>) {
        if std::mem::take(&mut self.held) {
            core.release();
        }
        let Some(key) = self.key.take() else { return };
        let mut wakes = Wakes::default();
        let mut slow = core.lock();
        let (state, waker) = slow.senders.remove(key);
        if state == State::Granted && !mutant!("queue.keep_place") {
            core.counts.release();
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
    let Some(mut moving) = item.take() else { return Ok(()) };
    for _ in 0..LOOKS {
        match push(core, moving) {
            Ok(()) => return Ok(()),
            Err((NoPlace::Busy, back)) => moving = back,
            Err((why, back)) => {
                *item = Some(back);
                return Err(why);
            }
        }
        spin_loop();
    }
    *item = Some(moving);
    Err(NoPlace::Busy)
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
            let held = self.turn.poll_held(self.core, cx.waker());
            if held.is_ready() {
                coop.made_progress();
            }
            held
        })
        .await?;
        self.turn.held = false;
        Ok(())
    }

    #[inline(always)]
    pub(in crate::queue) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        item: &mut Option<T>,
    ) -> Poll<Result<(), Closed>> {
        self.turn.poll_send(self.core, cx, item)
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
    turn: Placing<'a, T>,
    item: Option<T>,
}

/// The item is never pinned.
impl<T> Unpin for Sending<'_, T> {}

impl<'a, T> Sending<'a, T> {
    #[inline(always)]
    pub(in crate::queue) fn new(core: &'a Core<T>, item: T) -> Self {
        Self { turn: Placing::new(core), item: Some(item) }
    }
}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { turn, item } = &mut *self;
        let sent = ready!(turn.poll_send(cx, item));
        Poll::Ready(match (sent, item.take()) {
            (Err(Closed), Some(item)) => Err(SendError(item)),
            _ => Ok(()),
        })
    }
}
