use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::task::coop::consume_budget;

use super::super::{Lease, Receiver};
use super::crew::Counters;
use super::job::{Job, JobSlot, Verdict};
use super::keyed::Keyed;
use crate::observe::Registration;
use crate::sync::{Class, panic_message, quietly_drop};
use crate::task::caught::Caught;
use crate::task::child::{Plain, Spec, Stop, launch};
use crate::task::{CancelToken, Either, Name, Scope, race};
use crate::{Backoff, always, mutant, rng};

/// The attempt at which an item counts as one that keeps failing.
const STUBBORN: u32 = 10;

/// The state that workers started together share.
pub(super) struct CrewShared<T: Send + 'static, F> {
    pub(super) name: Name,
    pub(super) site: &'static Location<'static>,
    pub(super) scope: Scope,
    pub(super) class: Class,
    pub(super) handler: F,
    pub(super) backoff: Backoff,
    pub(super) counters: Arc<Counters>,
    pub(super) keyed: Option<Arc<Keyed<T>>>,
    pub(super) receiver: Receiver<T>,
    pub(super) _registration: Registration,
}

/// An item to be handled, and its lane if there are lanes.
type Next<T> = (Option<u64>, Lease<T>);

impl<T, F, Fut, E> CrewShared<T, F>
where
    T: Send + Sync + 'static,
    F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: fmt::Display,
{
    /// Handles items until the queue has ended, or the token is cancelled.
    pub(super) async fn work(self: Arc<Self>, token: CancelToken, _at_work: AtWork<T, F>) {
        let mut slot = JobSlot::new();
        while let Some((lane, first)) = self.next(&token).await {
            let mut lease = Some(first);
            while let Some(next) = lease {
                lease = self.handle(&mut slot, lane, next, &token).await;
            }
        }
    }

    /// Takes the next item, unless the token is cancelled.
    async fn next(&self, token: &CancelToken) -> Option<Next<T>> {
        let mut cancelled = pin!(token.cancelled());
        let mut next = pin!(async {
            match &self.keyed {
                None => self.receiver.lease().await.map(|lease| (None, lease)),
                Some(keyed) => self.next_of_keyed(keyed).await,
            }
        });
        poll_fn(|cx| {
            if mutant!("workers.take_when_told") {
                let taken = next.as_mut().poll(cx);
                if taken.is_ready() {
                    return taken;
                }
            }
            // Checked before the queue is polled: the handler of an item that is taken now would soon be dropped.
            if token.is_cancelled() {
                return Poll::Ready(None);
            }
            match next.as_mut().poll(cx) {
                Poll::Ready(next) => Poll::Ready(next),
                Poll::Pending => cancelled.as_mut().poll(cx).map(|_| None),
            }
        })
        .await
    }

    async fn next_of_keyed(&self, keyed: &Keyed<T>) -> Option<Next<T>> {
        loop {
            // Items whose delay is over come first: they are older.
            let lease = match race(keyed.ready_again(), keyed.lease_next(&self.receiver)).await {
                Either::Left((lane, lease)) => return Some((Some(lane), lease)),
                Either::Right(fresh) => fresh?,
            };
            match catch_unwind(AssertUnwindSafe(|| keyed.lane_of(&lease))) {
                Ok(lane) => {
                    if let Some(lease) = keyed.enter(lane, lease) {
                        return Some((Some(lane), lease));
                    }
                }
                Err(payload) => {
                    let verdict = self.verdict_of(lease.attempt(), Err(payload));
                    verdict.apply(lease);
                    keyed.free_capacity();
                }
            }
        }
    }

    /// Handles an item, and returns the next item to handle if it is already known.
    async fn handle(
        self: &Arc<Self>,
        slot: &mut Arc<JobSlot<T>>,
        lane: Option<u64>,
        lease: Lease<T>,
        token: &CancelToken,
    ) -> Option<Lease<T>> {
        if Arc::strong_count(slot) > 1 {
            // A job has outlived its handler, and returns its lease to the old slot.
            *slot = JobSlot::new();
        }
        let attempt = lease.attempt();
        let in_progress = InProgress::new(self, slot, lane);
        let job = slot.hand_out(lease);
        if lane.is_some() {
            // A worker can follow one lane without end and without polling the queue, which is the other place that
            // yields.
            consume_budget().await;
        }
        // In a future of its own, so that panics in the drop of the handler's future are caught as well.
        let ended = Caught::new(async { (self.handler)(job).await }).await;
        let verdict = self.verdict_of(attempt, ended);
        let mut lease = in_progress.end(verdict);
        let (Some(keyed), Some(lane)) = (&self.keyed, lane) else {
            lease.into_iter().for_each(|lease| verdict.apply(lease));
            return None;
        };
        let is_cancelled = token.is_cancelled();
        if mutant!("workers.due_later_when_told") {
            lease.take_if(|_| is_cancelled).into_iter().for_each(|lease| verdict.apply(lease));
        }
        if let Verdict::Retry(after) = verdict
            && let Some(lease) = lease.take_if(Lease::try_again)
        {
            if after.is_zero() && !is_cancelled {
                return Some(lease);
            }
            keyed.keep_first(lane, lease);
            if !is_cancelled {
                self.ready_after(keyed, lane, after);
            }
            return None;
        }
        lease.into_iter().for_each(|lease| verdict.apply(lease));
        keyed.free_capacity();
        // The items that wait in the lane of a cancelled worker return to the queue when the last worker has ended.
        if is_cancelled { None } else { keyed.next(lane) }
    }

    fn verdict_of(&self, attempt: u32, ended: Result<Result<(), E>, Box<dyn Any + Send>>) -> Verdict {
        let counters = &self.counters;
        let counter = match &ended {
            Ok(Ok(())) => {
                counters.done.fetch_add(1, Ordering::Relaxed);
                return Verdict::Done;
            }
            Ok(Err(_)) => &counters.failed,
            Err(_) => &counters.panicked,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if attempt == STUBBORN {
            counters.stubborn.fetch_add(1, Ordering::Relaxed);
        }
        // Formatting and dropping an error runs code of the user.
        crate::log::harmless(|| self.log(attempt, &ended));
        quietly_drop(ended);
        let attempts_before = attempt.saturating_sub(1);
        Verdict::Retry(rng::with(|rng| self.backoff.delay(attempts_before, rng)))
    }

    /// Logs a failed attempt. Without dead letters, an item that never succeeds is tried without end, so its log lines
    /// must end at some attempt: it is the tenth.
    fn log(&self, attempt: u32, ended: &Result<Result<(), E>, Box<dyn Any + Send>>) {
        let name = &self.name;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) if attempt == STUBBORN => {
                crate::log::warn!(workers = %name, attempt, %error, "an item has failed ten times, and is tried again");
            }
            Ok(Err(error)) => {
                crate::log::debug!(workers = %name, attempt, %error, "the handler of an item failed");
            }
            Err(payload) if attempt <= STUBBORN => {
                let panic = panic_message(&**payload);
                crate::log::error!(workers = %name, attempt, panic, "the handler of an item panicked");
            }
            Err(payload) => {
                let panic = panic_message(&**payload);
                crate::log::debug!(workers = %name, attempt, panic, "the handler of an item panicked");
            }
        }
    }

    /// Makes the first item of a lane ready after `rest`, without occupying a worker.
    fn ready_after(&self, keyed: &Arc<Keyed<T>>, lane: u64, rest: Duration) {
        let spec = Spec::new(self.name.clone(), self.site, self.class, Stop::Drop);
        // The task belongs to the scope of the workers, which is open while this worker runs.
        drop(launch::<_, Plain>(&self.scope.0, spec, Arc::clone(keyed).ready_after(lane, rest)));
    }
}

/// Counts a worker from its start to its end.
///
/// # Drop
/// The last worker returns the items that wait for their keys to the queue.
pub(super) struct AtWork<T: Send + 'static, F>(Arc<CrewShared<T, F>>);

impl<T: Send + 'static, F> AtWork<T, F> {
    pub(super) fn new(shared: &Arc<CrewShared<T, F>>) -> Self {
        shared.counters.workers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl<T: Send + 'static, F> Drop for AtWork<T, F> {
    fn drop(&mut self) {
        let before = self.0.counters.workers.fetch_sub(1, Ordering::AcqRel);
        if before == 1
            && let Some(keyed) = &self.0.keyed
        {
            keyed.give_back();
        }
    }
}

/// An item that is being handled. If it is dropped before its handler has ended, the item returns to the queue, and the
/// attempt does not count.
struct InProgress<'a, T: Send + 'static, F> {
    shared: &'a CrewShared<T, F>,
    slot: Arc<JobSlot<T>>,
    lane: Option<u64>,
    ended: bool,
}

impl<'a, T: Send + 'static, F> InProgress<'a, T, F> {
    fn new(shared: &'a CrewShared<T, F>, slot: &Arc<JobSlot<T>>, lane: Option<u64>) -> Self {
        let busy = shared.counters.busy.fetch_add(1, Ordering::Relaxed);
        always!(
            busy < shared.counters.workers.load(Ordering::Relaxed),
            "a worker handles one item at a time"
        );
        Self { shared, slot: Arc::clone(slot), lane, ended: false }
    }

    fn end(mut self, verdict: Verdict) -> Option<Lease<T>> {
        self.ended = true;
        self.slot.take_or(verdict)
    }
}

impl<T: Send + 'static, F> Drop for InProgress<'_, T, F> {
    fn drop(&mut self) {
        self.shared.counters.busy.fetch_sub(1, Ordering::Relaxed);
        if !self.ended {
            self.shared.counters.cut_off.fetch_add(1, Ordering::Relaxed);
            let lease = self.slot.take_or(Verdict::Release);
            match (lease, &self.shared.keyed, self.lane) {
                (Some(lease), Some(keyed), Some(lane)) => keyed.keep_first(lane, lease),
                (lease, ..) => lease.into_iter().for_each(|lease| Verdict::Release.apply(lease)),
            }
        }
    }
}
