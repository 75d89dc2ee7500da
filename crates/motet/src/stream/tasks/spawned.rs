use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use tokio::task::coop;

use super::panicked::Outcome;
use super::shared::{Outlet, Shared};
use super::state::State;
use super::worker::work;
use crate::observe::{Registration, Stats};
use crate::sync::Class;
use crate::task::child::{Plain, Spec, Stop, launch};
use crate::task::member::Member;
use crate::task::{Name, Reason, Scope, Task};
use crate::{mutant, sim};

/// A stream whose items are produced by tasks of a scope.
///
/// Snapshots of the scope contain it, with the number of items that it is ahead of its reader.
///
/// # Drop
/// Its tasks are cancelled: they are dropped at their next await, with the source.
///
/// # Panics
/// When it is polled: with a panic of the function, in place of the item; the stream continues after it. With a panic of the
/// source, after the items before it; the stream ends then. A panic that is not read is passed to the scope.
#[must_use = "the tasks wait until the stream is read"]
pub struct Spawned<T> {
    outlet: Arc<dyn Outlet<T>>,
    ready: VecDeque<Outcome<T>>,
    /// `true` if the first collected item was yielded. It was counted as consumed when it was collected, so that a worker
    /// can take another item while the reader is busy with it.
    first_is_out: bool,
    /// The number of further collected items that were yielded.
    consumed: usize,
    over: bool,
    tasks: Vec<Task<()>>,
    _registration: Registration,
}

impl<T: Send + 'static> Spawned<T> {
    /// Starts the tasks. Returns the source and the function if the scope is closed.
    pub(super) fn start<S, F, Fut>(
        source: S,
        map: F,
        workers: usize,
        state: State<S::Item, Outcome<T>>,
        (scope, name, site): (&Scope, Name, &'static Location<'static>),
    ) -> Result<Self, (S, F)>
    where
        S: Stream<Item: Send> + Send + 'static,
        F: Fn(S::Item) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        // A member until all tasks have started, so that the scope cannot close between two of them.
        let Some(_member) = Member::enter(&scope.0, Class::Work) else { return Err((source, map)) };
        let shared = Arc::new(Shared::new(source, map, state, scope.clone(), name.clone()));
        let tasks = (0..workers).filter_map(|_| {
            let spec = Spec::new(name.clone(), site, Class::Work, Stop::Drop);
            let join = launch::<_, Plain>(&scope.0, spec, work(Arc::clone(&shared))).ok()?;
            Some(Task::new(join, name.clone(), None, &scope.0))
        });
        let tasks = tasks.collect();
        let shown = Arc::downgrade(&shared);
        let show = move || shown.upgrade().map_or_else(Stats::new, |shared| show(workers, &*shared));
        let registration = scope.register("stream", name, show);
        Ok(Self {
            outlet: shared,
            ready: VecDeque::new(),
            first_is_out: false,
            consumed: 0,
            over: false,
            tasks,
            _registration: registration,
        })
    }
}

fn show<T>(workers: usize, outlet: &dyn Outlet<T>) -> Stats {
    let counts = outlet.counts();
    Stats::new()
        .count("workers", workers as u64)
        .total("taken", counts.taken)
        .count("ahead", counts.ahead as u64)
        .count("in_work", counts.undone as u64)
        .count("at_once", counts.pace as u64)
}

impl<T> Spawned<T> {
    /// The reason of the cancellation if the stream ended before its source, because its scope was cancelled. `None` while
    /// there are items to read, and after the end of the source.
    ///
    /// It is for a reader outside of the scope, which could not distinguish the two ends otherwise. A reader in the
    /// same scope is cancelled as well.
    #[must_use]
    pub fn cut_off(&self) -> Option<Reason> {
        if self.over { self.outlet.cut_off() } else { None }
    }
}

impl<T> Stream for Spawned<T> {
    type Item = T;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        loop {
            if sim::is_current() && !this.ready.is_empty() {
                // In a simulation, each item is an operation, so that more interleavings are explored.
                ready!(coop::poll_proceed(cx)).made_progress();
            }
            if let Some(outcome) = this.ready.pop_front() {
                this.consumed += usize::from(std::mem::replace(&mut this.first_is_out, true));
                return match outcome {
                    Ok(item) => Poll::Ready(Some(item)),
                    Err(panicked) => panicked.rethrow(),
                };
            }
            if this.over {
                return Poll::Ready(None);
            }
            // The items that are collected at once are one operation.
            let operation = ready!(coop::poll_proceed(cx));
            this.over = !ready!(this.outlet.poll_collect(&mut this.consumed, &mut this.ready, cx));
            this.first_is_out = false;
            operation.made_progress();
        }
    }
}

impl<T> FusedStream for Spawned<T> {
    fn is_terminated(&self) -> bool {
        self.over && self.ready.is_empty()
    }
}

// Items are never pinned.
impl<T> Unpin for Spawned<T> {}

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        if mutant!("stream.keep_tasks") {
            self.tasks.clear();
        }
        if !self.over {
            let reason = Reason::requested("the stream was dropped");
            self.tasks.iter().for_each(|task| task.cancel(reason.clone()));
        }
        self.outlet.leave();
    }
}

impl<T> fmt::Debug for Spawned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned")
            .field("counts", &self.outlet.counts())
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}
