//! Waiting in line, on either side of a queue.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use super::core::{Core, Slow, Take, flag};
use super::counts::{Claim, NoItem, NoPlace};
use super::store::Entry;
use super::sync::spin_loop;
use super::waiters::{Key, State, Wakes};
use crate::mutant;

/// How often a slot that another thread is just using is looked at again before the task yields: it is a matter of
/// nanoseconds, unless that thread was stopped in the middle.
const LOOKS: usize = if cfg!(all(test, motet_loom)) { 1 } else { 32 };

/// The queue takes no more items.
pub(super) struct Closed;

/// How often one that finds no room, or no item, lets others run before it goes into the line: mostly they make some.
/// Four times were no better.
const YIELDS: u8 = 1;

/// A sender's turn, apart from its queue. Whoever drops it [leaves](Self::leave) first.
#[derive(Debug, Default)]
pub(super) struct Turn {
    key: Option<Key>,
    held: bool,
    yields: u8,
}

/// What became of an item on its way in.
pub(super) enum Sent {
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
    pub(super) fn send<T>(&mut self, core: &Core<T>, waker: &Waker, item: &mut Option<T>) -> Sent {
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
    pub(super) fn leave<T>(&mut self, core: &Core<T>) {
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
pub(super) struct Placing<'a, T> {
    core: &'a Core<T>,
    turn: Turn,
}

impl<'a, T> Placing<'a, T> {
    pub(super) fn new(core: &'a Core<T>) -> Self {
        Self { core, turn: Turn::default() }
    }

    /// Waits for a place, which is then the caller's to release.
    pub(super) async fn hold(mut self) -> Result<(), Closed> {
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
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        item: &mut Option<T>,
    ) -> Poll<Result<(), Closed>> {
        let coop = ready!(coop::poll_proceed(cx));
        let sent = match self.turn.send(self.core, cx.waker(), item) {
            Sent::Done => Ok(()),
            Sent::Closed => Err(Closed),
            Sent::Waiting => return Poll::Pending,
            Sent::Busy => return again(cx),
        };
        coop.made_progress();
        Poll::Ready(sent)
    }
}

impl<T> Drop for Placing<'_, T> {
    fn drop(&mut self) {
        self.turn.leave(self.core);
    }
}

/// A receiver's turn, apart from its queue: a stream keeps it from one item to the next. Whoever drops it
/// [leaves](Self::leave) first.
#[derive(Debug, Default)]
pub(super) struct Line {
    key: Option<Key>,
    yields: u8,
    /// Only while something is due later, and this is who watches the clock.
    timer: Option<Pin<Box<Sleep>>>,
}

/// What a look for an item has come to.
enum Visit<T> {
    Taken(Entry<T>),
    /// There is none, and none can come.
    Finished,
    /// Until it is woken, and at the latest then.
    Waiting(Option<Instant>),
    Busy,
}

impl Line {
    /// Takes an item and settles it, when there is one for this receiver; `None` when none can come any more.
    #[inline(always)]
    pub(super) fn poll_recv<T>(&mut self, core: &Core<T>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let coop = ready!(coop::poll_proceed(cx));
        if self.key.is_none()
            && let Ok(item) = core.pop_quickly()
        {
            coop.made_progress();
            return Poll::Ready(Some(item));
        }
        let taken = ready!(self.poll_in_line(core, cx, Take::Settled));
        coop.made_progress();
        Poll::Ready(taken.map(|entry| entry.item))
    }

    /// Leases an item when there is one for this receiver; `None` when none can come any more.
    pub(super) fn poll_lease<T>(&mut self, core: &Core<T>, cx: &mut Context<'_>) -> Poll<Option<Entry<T>>> {
        let coop = ready!(coop::poll_proceed(cx));
        let taken = ready!(self.poll_in_line(core, cx, Take::Leased));
        coop.made_progress();
        Poll::Ready(taken)
    }

    fn may_yield(&mut self) -> bool {
        self.yields = self.yields.saturating_add(1);
        self.yields <= YIELDS
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
                    self.timer = None;
                    return Poll::Pending;
                }
                Visit::Waiting(Some(until)) => until,
            };
            match &mut self.timer {
                Some(timer) if timer.deadline() == until => {}
                Some(timer) => timer.as_mut().reset(until),
                None => self.timer = Some(Box::pin(sleep_until(until))),
            }
            if let Some(timer) = &mut self.timer {
                // The budget is this wait's already: with none left the timer would never be looked at.
                ready!(pin!(coop::unconstrained(timer.as_mut())).poll(cx));
            }
        }
    }

    /// Takes an item if there is one; without a waker it does not wait.
    fn visit<T>(&mut self, core: &Core<T>, waker: Option<&Waker>, take: Take) -> Visit<T> {
        // Wakers are cloned and dropped outside of the lock: both may run somebody's code.
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
                Some(State::Granted) => Some(Claim::Granted),
                _ => None,
            };
            match claim.map(|claim| core.take_any(&mut slow, claim, take, &mut wakes)) {
                Some(Ok(entry)) => break Visit::Taken(entry),
                Some(Err(NoItem::Busy)) => break Visit::Busy,
                // What was promised is there.
                Some(Err(NoItem::Empty)) if claim == Some(Claim::Granted) => break Visit::Busy,
                Some(Err(NoItem::Empty)) | None => {}
            }
            if core.is_finished() {
                break Visit::Finished;
            }
            match (self.key, waker.take()) {
                (_, None) => break Visit::Waiting(None),
                (None, Some(waker)) => {
                    let key = *self.key.insert(slow.receivers.push(waker));
                    core.raise(&slow, flag::RECEIVERS);
                    // Something may have come by now: for who is first in line.
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
        if state == State::Granted && matches!(visit, Visit::Finished) {
            core.counts.unpromise();
        }
        // What became due may be for others.
        core.grant_items(&mut slow, &mut wakes);
        drop(slow);
        drop((unused, known));
        wakes.wake();
        if matches!(visit, Visit::Taken(_)) {
            core.look_whether_settled();
        }
        visit
    }

    /// Until when to wait at the latest, for the one receiver who sees to it.
    fn watch_the_clock<T>(&self, slow: &mut Slow<T>, key: Key) -> Option<Instant> {
        let until = slow.later.next_due()?;
        (*slow.timer.get_or_insert(key) == key).then_some(until)
    }

    /// Takes an item if there is one for a newcomer: `Ok(None)` if none can come any more.
    pub(super) fn try_take<T>(core: &Core<T>, take: Take) -> Result<Option<Entry<T>>, NoItem> {
        if let Ok(entry) = core.take_quickly(take) {
            return Ok(Some(entry));
        }
        match Self::default().visit(core, None, take) {
            Visit::Taken(entry) => Ok(Some(entry)),
            Visit::Finished => Ok(None),
            Visit::Waiting(_) | Visit::Busy => Err(NoItem::Empty),
        }
    }

    /// Leaves the line; what was granted goes to the next.
    #[inline(always)]
    pub(super) fn leave<T>(&mut self, core: &Core<T>) {
        if self.key.is_some() {
            self.give_up(core);
        }
    }

    #[inline(never)]
    fn give_up<T>(&mut self, core: &Core<T>) {
        self.timer = None;
        let Some(key) = self.key.take() else { return };
        let mut wakes = Wakes::default();
        let mut slow = core.lock();
        let (state, waker) = remove(&mut slow, key);
        let mut lost = None;
        if state == State::Granted && !mutant!("queue.keep_promise") {
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

/// A [`Line`] that leaves when it is dropped.
pub(super) struct Taking<'a, T> {
    core: &'a Core<T>,
    line: Line,
}

impl<'a, T> Taking<'a, T> {
    pub(super) fn new(core: &'a Core<T>) -> Self {
        Self { core, line: Line::default() }
    }

    /// Takes one, and what else is there.
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

impl<T> Drop for Taking<'_, T> {
    fn drop(&mut self) {
        self.line.leave(self.core);
    }
}

/// Lets others run first: a thread that was stopped in the middle of a slot among them.
fn again<T>(cx: &Context<'_>) -> Poll<T> {
    #[cfg(all(test, motet_loom))]
    super::sync::yield_now();
    cx.waker().wake_by_ref();
    Poll::Pending
}
