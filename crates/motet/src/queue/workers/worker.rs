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
use tokio::time::sleep;

use super::super::{Lease, Receiver};
use super::job::{Job, Slot, Verdict};
use super::keyed::Keyed;
use super::stats::Counters;
use crate::observe::Registration;
use crate::task::caught::{Caught, quietly_drop};
use crate::task::child::{Plain, Spec, Stop, launch};
use crate::task::core::panic_message;
use crate::task::gate::Class;
use crate::task::{CancelToken, Either, Name, Scope, race};
use crate::{Backoff, always, mutant, rng};

/// What the workers that were started together share.
pub(super) struct Shared<T: Send + 'static, F> {
    pub(super) name: Name,
    pub(super) site: &'static Location<'static>,
    pub(super) scope: Scope,
    pub(super) class: Class,
    pub(super) handler: F,
    pub(super) backoff: Option<Backoff>,
    pub(super) counters: Arc<Counters>,
    /// Before the receiver, the last of which ends the queue: what is left in here goes back first.
    pub(super) keyed: Option<Keyed<T>>,
    pub(super) receiver: Receiver<T>,
    pub(super) _registration: Registration,
}

/// An item to be handled, and its lane if there are any.
type Next<T> = (Option<u64>, Lease<T>);

impl<T, F, Fut, E> Shared<T, F>
where
    T: Send + Sync + 'static,
    F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: fmt::Display,
{
    /// Handles items until the queue has ended, or the token is cancelled.
    pub(super) async fn work(self: Arc<Self>, token: CancelToken) {
        let _at_work = AtWork::new(&self.counters);
        let mut slot = Slot::new();
        while let Some((lane, first)) = self.next(&token).await {
            let mut lease = Some(first);
            while let Some(next) = lease {
                lease = self.handle(&mut slot, lane, next, &token).await;
            }
        }
    }

    /// Takes the next item, unless the token is cancelled.
    async fn next(&self, token: &CancelToken) -> Option<Next<T>> {
        let mut told = pin!(token.cancelled());
        let mut next = pin!(async {
            match &self.keyed {
                None => self.receiver.lease().await.map(|lease| (None, lease)),
                Some(keyed) => self.next_of_keyed(keyed).await,
            }
        });
        poll_fn(|cx| {
            // Asked before the queue is: what is taken now would be cut off soon.
            if token.is_cancelled() && !mutant!("workers.take_when_told") {
                return Poll::Ready(None);
            }
            match next.as_mut().poll(cx) {
                Poll::Ready(next) => Poll::Ready(next),
                Poll::Pending => told.as_mut().poll(cx).map(|_| None),
            }
        })
        .await
    }

    async fn next_of_keyed(&self, keyed: &Keyed<T>) -> Option<Next<T>> {
        loop {
            // What has rested comes first: it is the older.
            let lease = match race(keyed.rested(), keyed.fresh(&self.receiver)).await {
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
                    let verdict = self.judge(lease.attempt(), Err(payload));
                    verdict.apply(lease);
                    keyed.left();
                }
            }
        }
    }

    /// Has an item handled, and gives what is to be handled next if that is certain.
    async fn handle(
        self: &Arc<Self>,
        slot: &mut Arc<Slot<T>>,
        lane: Option<u64>,
        lease: Lease<T>,
        token: &CancelToken,
    ) -> Option<Lease<T>> {
        if Arc::strong_count(slot) > 1 {
            // A job lives on, and comes back to the slot that it knows.
            *slot = Slot::new();
        }
        let attempt = lease.attempt();
        let under_way = UnderWay::new(self, slot, lane);
        let job = slot.hand_out(lease);
        if lane.is_some() {
            // A lane may be followed for ever without asking the queue, which is where others get their turn.
            consume_budget().await;
        }
        // In a future of its own, so that the drop of the handler's is caught as well.
        let ended = Caught::new(async { (self.handler)(job).await }).await;
        let verdict = self.judge(attempt, ended);
        let mut lease = under_way.end(verdict);
        let (Some(keyed), Some(lane)) = (&self.keyed, lane) else {
            lease.into_iter().for_each(|lease| verdict.apply(lease));
            return None;
        };
        if let Verdict::Retry(after) = verdict
            && let Some(lease) = lease.take_if(|lease| !token.is_cancelled() && lease.try_again())
        {
            return self.try_again(keyed, lane, lease, after);
        }
        // Asked once: told in between, it would give them back behind the one in hand.
        let is_told = token.is_cancelled();
        if is_told {
            // Before the one in hand, so that it comes before them again.
            keyed.give_back(lane);
        }
        lease.into_iter().for_each(|lease| verdict.apply(lease));
        keyed.left();
        if is_told {
            keyed.end(lane);
            return None;
        }
        keyed.next(lane)
    }

    fn judge(&self, attempt: u32, ended: Result<Result<(), E>, Box<dyn Any + Send>>) -> Verdict {
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
        // What an error does where it is shown or dropped is somebody's code.
        let shown = catch_unwind(AssertUnwindSafe(|| match &ended {
            Ok(Err(error)) => {
                crate::log::warn!(workers = %self.name, attempt, %error, "an item was not handled")
            }
            Err(payload) => {
                let panic = panic_message(&**payload);
                crate::log::error!(workers = %self.name, attempt, panic, "the handler of an item panicked");
            }
            Ok(Ok(())) => {}
        }));
        quietly_drop(shown);
        quietly_drop(ended);
        let backoff = |backoff: &Backoff| rng::with(|rng| backoff.delay(attempt.saturating_sub(1), rng));
        Verdict::Retry(self.backoff.as_ref().map_or(Duration::ZERO, backoff))
    }

    /// Handles an item again, now or later; its lane waits.
    fn try_again(
        self: &Arc<Self>,
        keyed: &Keyed<T>,
        lane: u64,
        lease: Lease<T>,
        after: Duration,
    ) -> Option<Lease<T>> {
        if after.is_zero() {
            return Some(lease);
        }
        keyed.rests();
        let mut resting = Resting { shared: Arc::clone(self), lane, lease: Some(lease) };
        let spec = Spec::new(self.name.clone(), self.site, self.class, Stop::Drop);
        // A task of its own, which is next to nothing, so that no worker is held up. It belongs to the scope of the
        // workers, which is open while this one runs.
        let task = launch::<_, Plain>(&self.scope.0, spec, async move {
            sleep(after).await;
            resting.wake();
        });
        drop(task);
        None
    }
}

impl<T: Send + 'static, F> Shared<T, F> {
    fn give_back(&self, lane: Option<u64>, lease: Option<Lease<T>>) {
        let Some((keyed, lane)) = self.keyed.as_ref().zip(lane) else {
            lease.into_iter().for_each(|lease| Verdict::Release.apply(lease));
            return;
        };
        // Those behind it first, so that it comes before them again.
        if !mutant!("workers.give_back_in_order") {
            keyed.give_back(lane);
        }
        lease.into_iter().for_each(|lease| Verdict::Release.apply(lease));
        keyed.end(lane);
        keyed.left();
    }
}

/// Counts a worker while it is there.
struct AtWork<'a>(&'a Counters);

impl<'a> AtWork<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.workers.fetch_add(1, Ordering::Relaxed);
        Self(counters)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.workers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An item that is being handled. Dropped before its end, it was cut off: the item goes back, and the attempt does
/// not count.
struct UnderWay<'a, T: Send + 'static, F> {
    shared: &'a Shared<T, F>,
    slot: Arc<Slot<T>>,
    lane: Option<u64>,
    ended: bool,
}

impl<'a, T: Send + 'static, F> UnderWay<'a, T, F> {
    fn new(shared: &'a Shared<T, F>, slot: &Arc<Slot<T>>, lane: Option<u64>) -> Self {
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

impl<T: Send + 'static, F> Drop for UnderWay<'_, T, F> {
    fn drop(&mut self) {
        self.shared.counters.busy.fetch_sub(1, Ordering::Relaxed);
        if !self.ended {
            self.shared.counters.cut_off.fetch_add(1, Ordering::Relaxed);
            let lease = self.slot.take_or(Verdict::Release);
            self.shared.give_back(self.lane, lease);
        }
    }
}

/// An item that waits to be tried again. Dropped before, it goes back.
struct Resting<T: Send + 'static, F> {
    shared: Arc<Shared<T, F>>,
    lane: u64,
    lease: Option<Lease<T>>,
}

impl<T: Send + 'static, F> Resting<T, F> {
    fn wake(&mut self) {
        if let (Some(lease), Some(keyed)) = (self.lease.take(), &self.shared.keyed) {
            keyed.ready(self.lane, lease);
        }
    }
}

impl<T: Send + 'static, F> Drop for Resting<T, F> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            if let Some(keyed) = &self.shared.keyed {
                keyed.rests_no_more();
            }
            self.shared.give_back(Some(self.lane), Some(lease));
        }
    }
}
