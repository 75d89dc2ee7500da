//! A task that takes items from the source, applies the function to them, and delivers the results.

use std::any::Any;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::task::coop;
use tokio::time::Instant;

use super::panicked::{Outcome, Panicked};
use super::shared::{Claimed, Shared};
use crate::mutant;

/// Runs until the source has ended and all results are delivered.
pub(super) async fn work<S, F, Fut, O>(shared: Arc<Shared<S, F, O>>)
where
    S: Stream,
    F: Fn(S::Item) -> Fut,
    Fut: Future<Output = O>,
{
    let mut worker = Worker {
        shared: &shared,
        idle: None,
        source: None,
        want: 0,
        items: VecDeque::new(),
        first: 0,
        results: Vec::new(),
        begun: None,
        ended: false,
    };
    let mut current = pin!(None);
    poll_fn(|cx| worker.poll(cx, current.as_mut())).await;
    worker.ended = true;
}

struct Worker<'a, S: Stream, F, O> {
    shared: &'a Shared<S, F, O>,
    /// The key in the line of idle workers, while this worker is in line.
    idle: Option<usize>,
    /// The source, while this worker reads it.
    source: Option<Pin<Box<S>>>,
    want: usize,
    /// The items that are not begun.
    items: VecDeque<S::Item>,
    /// The number of the first item of `results`. The current item and `items` have the numbers behind `results`.
    first: u64,
    results: Vec<Outcome<O>>,
    /// The time at which the items were taken; `None` after one of them had to wait.
    begun: Option<Instant>,
    ended: bool,
}

impl<S, F, Fut, O> Worker<'_, S, F, O>
where
    S: Stream,
    F: Fn(S::Item) -> Fut,
    Fut: Future<Output = O>,
{
    fn poll(&mut self, cx: &mut Context<'_>, mut current: Pin<&mut Option<Fut>>) -> Poll<()> {
        loop {
            if current.is_none() && self.items.is_empty() {
                if self.source.is_none() {
                    let operation = ready!(coop::poll_proceed(cx));
                    match ready!(self.shared.poll_claim(&mut self.idle, cx)) {
                        Claimed::Item(number, item) => {
                            self.first = number;
                            self.items.push_back(item);
                        }
                        Claimed::Source(source, want) => (self.source, self.want) = (Some(source), want),
                        Claimed::Over => return Poll::Ready(()),
                    }
                    operation.made_progress();
                }
                if self.source.is_some() {
                    ready!(self.poll_take(cx));
                }
            }
            ready!(self.poll_run(cx, current.as_mut()));
        }
    }

    /// Takes the items that the source has ready, up to `want`, and puts the source back.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(source) = &mut self.source else { return Poll::Ready(()) };
        self.begun = Some(Instant::now());
        let (items, want) = (&mut self.items, self.want);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            while items.len() < want {
                match source.as_mut().poll_next(cx) {
                    Poll::Ready(Some(item)) => items.push_back(item),
                    Poll::Ready(None) => return true,
                    Poll::Pending => return false,
                }
            }
            false
        }));
        let mut panics = Vec::new();
        let over = polled.unwrap_or_else(|payload| {
            panics.push(payload);
            true
        });
        if over && let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.source = None)) {
            panics.push(payload);
        }
        if !over && self.items.is_empty() {
            return Poll::Pending;
        }
        let (taken, failed) = (self.items.len(), panics.len());
        self.first = self.shared.took(self.source.take(), taken + failed);
        if failed > 0 {
            let mut panics: Vec<_> = panics.into_iter().map(|payload| Err(self.panicked(payload))).collect();
            self.shared.deliver(self.first + taken as u64, &mut panics, |_| {});
        }
        Poll::Ready(())
    }

    /// Applies the function to the items. When an item has to wait, the items behind it are returned to the other workers.
    fn poll_run(&mut self, cx: &mut Context<'_>, mut current: Pin<&mut Option<Fut>>) -> Poll<()> {
        loop {
            let (map, items, results) = (&self.shared.map, &mut self.items, &mut self.results);
            // One `catch_unwind` for all items.
            let run = catch_unwind(AssertUnwindSafe(|| {
                loop {
                    if let Some(future) = current.as_mut().as_pin_mut() {
                        let output = ready!(future.poll(cx));
                        // Dropped before the result is stored: if the drop panics, the panic is the result.
                        current.set(None);
                        results.push(Ok(output));
                    }
                    let Some(item) = items.pop_front() else { return Poll::Ready(()) };
                    current.set(Some(map(item)));
                }
            }));
            match run {
                Ok(Poll::Ready(())) => break,
                Ok(Poll::Pending) => {
                    self.give_back();
                    return Poll::Pending;
                }
                Err(payload) => {
                    let dropped = catch_unwind(AssertUnwindSafe(|| current.set(None)));
                    if mutant!("stream.lose_panic") {
                        continue;
                    }
                    let panicked = self.panicked(payload);
                    self.results.push(Err(panicked));
                    if let Err(second) = dropped {
                        // The item has one panic; the second one is passed to the scope.
                        drop(self.panicked(second));
                    }
                }
            }
        }
        let (count, begun) = (self.results.len(), self.begun.take());
        self.shared.deliver(self.first, &mut self.results, |state| {
            if let Some(begun) = begun {
                state.timed(count, begun.elapsed());
            }
        });
        Poll::Ready(())
    }

    /// Delivers the results, and returns the items that are not begun.
    fn give_back(&mut self) {
        self.begun = None;
        if mutant!("stream.keep_rest") {
            return;
        }
        if self.results.is_empty() && self.items.is_empty() {
            return;
        }
        let (first, waits) = (self.first, self.first + self.results.len() as u64);
        let items = &mut self.items;
        self.shared.deliver(first, &mut self.results, |state| state.give_back(waits + 1, items.drain(..)));
        // They are still here if the reader was dropped.
        self.items.clear();
        self.first = waits;
    }

    fn panicked(&self, payload: Box<dyn Any + Send>) -> Box<Panicked> {
        Box::new(Panicked::new(payload, &self.shared.scope, &self.shared.name))
    }
}

impl<S: Stream, F, O> Drop for Worker<'_, S, F, O> {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.cut_off();
        }
    }
}
