//! Adding an item to a batch: the item waits for capacity, in order, and stays with its caller until then.

use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::error::PostError;
use super::shared::{BatchCore, BatchShared};
use super::slots::BatchSlots;
use super::state::{Admission, Waiter};

pub(super) struct Entering<'a, T, R, E> {
    shared: &'a Arc<BatchShared<T, R, E>>,
    /// `Some` until the item is in a batch, or refused.
    item: Option<T>,
    /// The weight, once it was computed.
    weight: Option<u64>,
    /// The key in the line.
    line_key: Option<usize>,
}

/// The slot of an item that is in a batch.
pub(super) struct Entered<T, R, E> {
    pub(super) slots: Arc<BatchSlots<T, R, E>>,
    pub(super) slot: u32,
    pub(super) weight: u64,
}

/// The reason why an item is not in a batch.
pub(super) enum Denied<T> {
    Refused(PostError<T>),
    /// The caller waits in line.
    Waits,
    /// Other items were added since the caller checked whether its key is there.
    Changed,
}

/// The position of a key in the open batch: after `before` other items of the same hash, in the batch that was seen.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) hash: u64,
    pub(super) before: u32,
    pub(super) batch: Option<u64>,
}

impl Key {
    /// Returns `true` if this is still the position of the key.
    fn holds<T, R, E>(self, state: &mut BatchCore<T, R, E>) -> bool {
        let Some(open) = state.open() else { return self.before == 0 };
        (self.before == 0 || self.batch == Some(open.number))
            && open.candidate(self.hash, self.before).is_none()
    }
}

/// Whether the caller waits for the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    Answer,
    Nothing,
}

impl<'a, T, R, E> Entering<'a, T, R, E> {
    pub(super) fn new(shared: &'a Arc<BatchShared<T, R, E>>, item: T) -> Self {
        Self { shared, item: Some(item), weight: None, line_key: None }
    }

    /// The item, until it has entered a batch.
    pub(super) fn item(&mut self) -> Option<&mut T> {
        self.item.as_mut()
    }

    pub(super) fn shared(&self) -> &'a Arc<BatchShared<T, R, E>> {
        self.shared
    }

    #[inline(always)]
    pub(super) fn poll(
        &mut self,
        wants: Wants,
        cx: &Context<'_>,
    ) -> Poll<Result<Entered<T, R, E>, PostError<T>>> {
        // Before the lock: cloning a waker may run code of the user.
        match self.enter(wants, Some(cx.waker().clone()), None) {
            Ok(entered) => Poll::Ready(Ok(entered)),
            Err(Denied::Refused(refused)) => Poll::Ready(Err(refused)),
            Err(Denied::Waits | Denied::Changed) => Poll::Pending,
        }
    }

    /// Adds the item if there is capacity; otherwise, with a waker, waits in line.
    #[inline(always)]
    pub(super) fn enter(
        &mut self,
        wants: Wants,
        mut waker: Option<Waker>,
        key: Option<Key>,
    ) -> Result<Entered<T, R, E>, Denied<T>> {
        let shared = self.shared;
        let refused = |refused| Err(Denied::Refused(refused));
        let Some(item) = self.item.take() else { unreachable!("the future is not polled after its end") };
        let weight = match (self.weight, &shared.weigh) {
            (Some(weight), _) => weight,
            (None, None) => 0,
            (None, Some((most, weigh))) => {
                let weight = weigh(&item);
                if weight > *most {
                    return refused(PostError::TooHeavy { item, weight, max: *most });
                }
                *self.weight.insert(weight)
            }
        };
        if shared.is_over() {
            self.leave_line();
            return refused(PostError::Closed(item));
        }
        let mut state = shared.state();
        match state.admission(self.line_key) {
            Admission::Closed => {
                drop(state);
                self.leave_line();
                refused(PostError::Closed(item))
            }
            Admission::Full => {
                let may_wait = self.line_key.is_some() || state.may_join_line();
                let Some(waker) = waker.take_if(|_| may_wait) else {
                    drop(state);
                    return refused(PostError::Full(item));
                };
                self.item = Some(item);
                let replaced = self.wait(&mut state, waker);
                drop(state);
                drop(replaced);
                Err(Denied::Waits)
            }
            Admission::Open if key.as_ref().is_some_and(|key| !key.holds(&mut state)) => {
                self.item = Some(item);
                Err(Denied::Changed)
            }
            Admission::Open => {
                if let Some(line_key) = self.line_key.take() {
                    // The capacity was offered, so no waker comes back.
                    state.line.leave(line_key);
                }
                let waiter = match wants {
                    Wants::Answer => waker.take().map_or(Waiter::Posted, Waiter::Asked),
                    Wants::Nothing => Waiter::Posted,
                };
                let (slots, slot) = shared.push(state, item, weight, waiter, key);
                Ok(Entered { slots, slot, weight })
            }
        }
    }

    /// Returns a waker that the caller drops outside of the lock.
    fn wait(&mut self, state: &mut MutexGuard<'_, BatchCore<T, R, E>>, waker: Waker) -> Option<Waker> {
        let Some(line_key) = self.line_key else {
            self.line_key = Some(state.line.join(waker));
            return None;
        };
        let known = state.line.waker(line_key)?;
        Some(std::mem::replace(known, waker))
    }

    /// Leaves the line. Offered capacity is offered to the next caller.
    #[inline(always)]
    pub(super) fn leave_line(&mut self) {
        if let Some(line_key) = self.line_key.take() {
            self.give_up(line_key);
        }
    }

    #[inline(never)]
    fn give_up(&self, line_key: usize) {
        let mut state = self.shared.state();
        let waker = state.line.leave(line_key);
        self.shared.settle(state);
        drop(waker);
    }
}

impl<T, R, E> Drop for Entering<'_, T, R, E> {
    #[inline(always)]
    fn drop(&mut self) {
        self.leave_line();
    }
}
