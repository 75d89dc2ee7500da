//! The state that the tasks of a stream share with each other and with its reader.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use super::panicked::{Outcome, drop_caught};
use super::state::{Claim, Counts, Found, State};
use crate::sync::{WaitList, WaitState, WakeList, wake_each};
use crate::task::{Name, Reason, ReasonKind, Scope};
use crate::{mutant, sim};

pub(super) struct Shared<S: Stream, F, O> {
    pub(super) map: F,
    pub(super) scope: Scope,
    pub(super) name: Name,
    inner: Mutex<Inner<S, O>>,
}

struct Inner<S: Stream, O> {
    state: State<S::Item, Outcome<O>>,
    /// `None` while a worker reads the source, and after its end.
    source: Option<Pin<Box<S>>>,
    /// The workers that wait for something to do.
    idle: WaitList<Waker, ()>,
    reader: Option<Waker>,
    /// `true` if the reader was dropped.
    closed: bool,
}

/// Wakers to wake after the lock is released.
#[derive(Default)]
struct Wakes {
    reader: Option<Waker>,
    workers: WakeList,
}

impl Wakes {
    fn wake(self) {
        wake_each(self.reader);
        self.workers.wake();
    }
}

/// The next step of a worker.
pub(super) enum Claimed<S: Stream> {
    Item(u64, S::Item),
    Source(Pin<Box<S>>, usize),
    Over,
}

/// The reader's side of the state, without the types of the source and the function.
pub(super) trait Outlet<O>: Send + Sync {
    /// Moves results to the reader. `consumed` is the number of results that it has consumed since the last call, without
    /// the first of them, which was counted when it was collected. Returns `false` at the end.
    fn poll_collect(
        &self,
        consumed: &mut usize,
        into: &mut VecDeque<Outcome<O>>,
        cx: &Context<'_>,
    ) -> Poll<bool>;
    /// Notes that the reader was dropped.
    fn leave(&self);
    fn cut_off(&self) -> Option<Reason>;
    fn counts(&self) -> Counts;
}

impl<S: Stream, F, O> Shared<S, F, O> {
    pub(super) fn new(
        source: S,
        map: F,
        state: State<S::Item, Outcome<O>>,
        scope: Scope,
        name: Name,
    ) -> Self {
        let inner = Inner {
            state,
            source: Some(Box::pin(source)),
            idle: WaitList::new(),
            reader: None,
            closed: false,
        };
        Self { map, scope, name, inner: Mutex::new(inner) }
    }

    /// No user code runs under this lock.
    fn lock(&self) -> MutexGuard<'_, Inner<S, O>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next step of a worker, or registers its waker. `idle` is the key of the worker in the line of idle
    /// workers.
    pub(super) fn poll_claim(&self, idle: &mut Option<usize>, cx: &Context<'_>) -> Poll<Claimed<S>> {
        // Cloned outside of the lock, and only if the worker has to wait.
        let mut waker = None;
        loop {
            let mut inner = self.lock();
            // After the drop of the reader, which has dropped the source.
            let claim = if inner.closed { Claim::Over } else { inner.state.claim() };
            let claimed = match claim {
                Claim::Item(number, item) => Claimed::Item(number, item),
                Claim::Source(count) => match inner.source.take() {
                    Some(source) => Claimed::Source(source, count),
                    None => unreachable!("an available source is stored"),
                },
                Claim::Over => Claimed::Over,
                Claim::Wait => {
                    let Some(waker) = waker.take() else {
                        drop(inner);
                        waker = Some(cx.waker().clone());
                        continue;
                    };
                    let replaced = inner.wait(idle, waker);
                    drop(inner);
                    drop(replaced);
                    return Poll::Pending;
                }
            };
            // The worker is still in line, if it was polled without being woken from there.
            let listed = idle.take().map(|key| inner.idle.remove(key));
            let wakes = inner.wakes();
            drop(inner);
            drop((listed, waker));
            wakes.wake();
            return Poll::Ready(claimed);
        }
    }

    /// Puts the source back, unless it has ended. Returns the number of the first item that was taken.
    pub(super) fn took(&self, source: Option<Pin<Box<S>>>, count: usize) -> u64 {
        sim::op("stream.take");
        let mut inner = self.lock();
        let first = inner.state.took(count, source.is_none());
        // Without a reader, no worker takes the source any more: this worker drops it.
        let unwanted = if inner.closed { source } else { std::mem::replace(&mut inner.source, source) };
        let wakes = inner.wakes();
        drop(inner);
        wakes.wake();
        drop(unwanted);
        first
    }

    /// Stores results, and updates the state.
    pub(super) fn deliver(
        &self,
        first: u64,
        results: &mut Vec<Outcome<O>>,
        update: impl FnOnce(&mut State<S::Item, Outcome<O>>),
    ) {
        sim::op("stream.deliver");
        let mut inner = self.lock();
        if inner.closed {
            drop(inner);
            results.clear();
            return;
        }
        inner.state.deliver(first, results.drain(..));
        update(&mut inner.state);
        let wakes = inner.wakes();
        drop(inner);
        wakes.wake();
    }

    /// Notes that a worker was dropped before its end.
    pub(super) fn cut_off(&self) {
        let mut inner = self.lock();
        inner.state.cut_off();
        let wakes = inner.wakes();
        drop(inner);
        wakes.wake();
    }
}

impl<S: Stream, O> Inner<S, O> {
    /// Puts a worker at the end of the line, or replaces its waker there. Returns the replaced waker.
    fn wait(&mut self, idle: &mut Option<usize>, waker: Waker) -> Option<Waker> {
        if let Some(key) = *idle {
            if let WaitState::Waiting(kept) = self.idle.state_mut(key) {
                return Some(std::mem::replace(kept, waker));
            }
            // It was woken from the line, and has nothing to do.
            self.idle.remove(key);
        }
        *idle = Some(self.idle.push_back(waker, ()));
        None
    }

    /// Takes the first worker out of the line.
    fn next_idle(&mut self) -> Option<Waker> {
        let first = self.idle.first()?;
        self.idle.settle(first, ()).ok()
    }

    fn wakes(&mut self) -> Wakes {
        let mut wakes = Wakes::default();
        if self.state.is_claimable() {
            wakes.workers.extend(self.next_idle());
        }
        if mutant!("stream.idle_not_woken") {
            wakes.workers = WakeList::default();
        }
        if self.state.is_done() {
            wakes.workers.extend(std::iter::from_fn(|| self.next_idle()));
        }
        if self.state.has_news() {
            wakes.reader = self.reader.take();
        }
        if mutant!("stream.reader_not_woken") {
            wakes.reader = None;
        }
        wakes
    }
}

impl<S, F, O> Outlet<O> for Shared<S, F, O>
where
    S: Stream<Item: Send> + Send,
    F: Send + Sync,
    O: Send,
{
    fn poll_collect(
        &self,
        consumed: &mut usize,
        into: &mut VecDeque<Outcome<O>>,
        cx: &Context<'_>,
    ) -> Poll<bool> {
        let mut waker = None;
        loop {
            let mut inner = self.lock();
            let found = inner.state.collect(std::mem::take(consumed), into);
            let replaced = match (found, waker.take()) {
                (Found::Nothing, None) => {
                    let wakes = inner.wakes();
                    drop(inner);
                    wakes.wake();
                    waker = Some(cx.waker().clone());
                    continue;
                }
                (Found::Nothing, waker) => std::mem::replace(&mut inner.reader, waker),
                (_, waker) => waker,
            };
            // A worker may have capacity for an item now.
            let wakes = inner.wakes();
            drop(inner);
            wakes.wake();
            drop(replaced);
            return match found {
                Found::Results => Poll::Ready(true),
                Found::Nothing => Poll::Pending,
                Found::End => Poll::Ready(false),
            };
        }
    }

    fn leave(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let (returned, results) = inner.state.empty();
        let source = inner.source.take();
        let reader = inner.reader.take();
        drop(inner);
        drop(reader);
        drop_caught(source, &self.scope, &self.name);
        drop_caught(returned, &self.scope, &self.name);
        drop_caught(results, &self.scope, &self.name);
    }

    fn cut_off(&self) -> Option<Reason> {
        let cut_off = self.lock().state.is_cut_off();
        cut_off.then(|| self.scope.reason().unwrap_or_else(|| Reason::of(ReasonKind::Shutdown)))
    }

    fn counts(&self) -> Counts {
        self.lock().state.counts()
    }
}
