use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::super::{QueueConfigError, Receiver};
use super::crew::Counters;
use super::crew::Crew;
use super::job::Job;
use super::keyed::{self, Keyed, LaneOf};
use super::worker::{AtWork, CrewShared};
use crate::Backoff;
use crate::sync::Class;
use crate::task::child::{Spec, launch};
use crate::task::coop::{Cooperative, cooperative};
use crate::task::member::Member;
use crate::task::{CancelToken, Name, Scope, ScopeClosedError, Task};

/// The number of items per worker that may be leased and wait because another item of their key is being handled.
const WAITING_PER_WORKER: usize = 16;

/// The longest delay before the second attempt, unless a back-off is set.
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// The longest delay before any attempt, unless a back-off is set. An item that never succeeds then costs four attempts
/// per minute.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Sets the options of the workers of a queue; created by [`Receiver::workers`].
///
/// # Defaults
/// No keys, so items are handled in any order. An item whose handler fails is handled again after a
/// [`backoff`](Self::backoff) of up to 100 ms, growing to 30 s, with full jitter, so that failing items do not keep
/// workers from the others. The workers are children of their scope, which waits until the queue is closed and all its
/// items are settled.
#[must_use = "the workers are started by `start`"]
pub struct Workers<T: Send + 'static> {
    receiver: Receiver<T>,
    count: usize,
    backoff: Backoff,
    lane_of: Option<LaneOf<T>>,
    max_waiting: usize,
    class: Class,
}

impl<T: Send + Sync + 'static> Receiver<T> {
    /// Creates a builder for `count` workers that handle the items of this queue.
    ///
    /// The workers have a receiver of their own. Keep this receiver, to get the items that cancelled workers leave
    /// behind; without another receiver, the queue is abandoned with its workers.
    ///
    /// # Errors
    /// [`QueueConfigError`] if `count` is zero.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{Nursery, scope};
    /// use motet::{Backoff, queue};
    /// use std::time::Duration;
    ///
    /// struct Update { account: u32, amount: i64 }
    /// async fn store(update: &Update) -> Result<(), std::io::Error> {
    ///     # let _ = update.amount;
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = queue::bounded(100)?;
    /// let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(5))?;
    /// let workers = receiver.workers(8)?.keyed(|update: &Update| update.account).backoff(backoff);
    /// let stats = scope(async |n: &Nursery<queue::SendError<Update>>| {
    ///     let crew = workers
    ///         .start(n, "accounts", |job| async move { store(&job).await })
    ///         .expect("the scope is open");
    ///     sender.send(Update { account: 7, amount: -20 }).await?;
    ///     drop(sender);
    ///     Ok(crew.ended().await)
    /// })
    /// .await?;
    /// assert_eq!(stats.done, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn workers(&self, count: usize) -> Result<Workers<T>, QueueConfigError> {
        if count == 0 {
            return Err(QueueConfigError::NoWorkers);
        }
        Ok(Workers {
            receiver: self.clone(),
            count,
            backoff: Backoff::doubling(MIN_BACKOFF, MAX_BACKOFF),
            lane_of: None,
            max_waiting: count.saturating_mul(WAITING_PER_WORKER),
            class: Class::Work,
        })
    }
}

impl<T: Send + Sync + 'static> Workers<T> {
    /// Sets the delay before an item is handled again after its handler failed or panicked; by default up to 100 ms,
    /// growing to 30 s, with full jitter. The queue decides how often an item is handled: with [dead
    /// letters](crate::queue::QueueBuilder::dead_letters) the item is moved there after that number of attempts; without
    /// them no item is dropped, and an item that never succeeds is tried without end. Such an item is logged as a
    /// warning once, at its tenth attempt, and counted in [`CrewStats::stubborn`](super::CrewStats::stubborn).
    ///
    /// With a delay of zero an item returns to the front of the queue at once, and is handled before any other.
    ///
    /// Without keys an item waits for its next attempt in the queue. With keys it waits with the workers, together with
    /// the items of its key; no worker is occupied by the wait.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Handles items of one key one after the other, in the order of the queue. Items of other keys are handled
    /// concurrently.
    ///
    /// Keys are compared by a 64-bit hash and are not stored: two keys with the same hash are handled as one.
    ///
    /// # Ordering and fairness
    /// The order is the one in which these workers take items from the queue. It holds while they are the only
    /// receivers, and across attempts: an item that is tried again is handled before the items of its key behind it.
    /// Items that a worker has taken and must not handle yet wait beside the queue, at most
    /// [`max_waiting`](Self::max_waiting) items. At that limit the workers take no more items until an item of one of
    /// these keys is settled.
    pub fn keyed<K: Hash>(mut self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self {
        self.lane_of = Some(Box::new(move |item| keyed::hash(&key(item))));
        self
    }

    /// Sets how many items that wait for another item of their key may be taken from the queue; by default 16 per
    /// worker. More keeps the workers busy when one key has many items in a row. Each waiting item is leased, and keeps
    /// its slot in a bounded queue.
    pub fn max_waiting(mut self, items: usize) -> Self {
        self.max_waiting = items;
        self
    }

    /// Starts the workers as services: the scope does not wait for the end of the queue, but cancels the workers when
    /// its body and all other children have ended. Use it for a queue whose senders live as long as the program.
    pub fn as_services(mut self) -> Self {
        self.class = Class::Service;
        self
    }

    /// Starts the workers as children of `scope`, with the name `name`. `handler` is called with each item.
    ///
    /// `Ok` settles the item. After an error or a panic the item is tried again. Errors are logged with the name at
    /// debug level before the tenth attempt of an item, whose error is a warning; panics are logged as errors up to the
    /// tenth attempt.
    ///
    /// # Errors
    /// [`ScopeClosedError`] with the handler, if the scope has ended.
    #[track_caller]
    pub fn start<F, Fut, E>(
        self,
        scope: &Scope,
        name: impl Into<Name>,
        handler: F,
    ) -> Result<Crew, ScopeClosedError<F>>
    where
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + 'static,
    {
        let (name, site) = (name.into(), Location::caller());
        // A member of the scope for the moment, so that the scope cannot close between the starts of two workers.
        let Some(_member) = Member::enter(&scope.0, self.class) else {
            return Err(ScopeClosedError::new(&scope.0.name, handler));
        };
        let counters = Arc::new(Counters::default());
        let shown = Arc::clone(&counters);
        // One lease for each worker, beside the waiting items.
        let window = self.max_waiting.saturating_add(self.count).min(tokio::sync::Semaphore::MAX_PERMITS);
        let shared = Arc::new(CrewShared {
            name: name.clone(),
            site,
            scope: scope.clone(),
            class: self.class,
            handler,
            backoff: self.backoff,
            keyed: self.lane_of.map(|lane_of| Arc::new(Keyed::new(lane_of, window, Arc::clone(&counters)))),
            receiver: self.receiver,
            _registration: scope.register("workers", name.clone(), move || shown.show()),
            counters: Arc::clone(&counters),
        });
        // All workers are counted before the first one runs: the last worker to leave returns the waiting items.
        let at_work: Vec<_> = (0..self.count).map(|_| AtWork::new(&shared)).collect();
        let tasks = at_work.into_iter().filter_map(|at_work| {
            let token = CancelToken::new();
            let worker = Arc::clone(&shared).work(token.clone(), at_work);
            let future = cooperative(name.clone(), token.clone(), scope.0.grace, worker);
            let spec = Spec::cooperative(name.clone(), site, self.class, token.clone());
            let join = launch::<_, Cooperative>(&scope.0, spec, future).ok()?;
            Some(Task::new(join, name.clone(), Some(token), &scope.0))
        });
        let tasks = tasks.collect();
        Ok(Crew { name, tasks, counters })
    }
}

impl<T: Send + 'static> fmt::Debug for Workers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("count", &self.count)
            .field("backoff", &self.backoff)
            .field("keyed", &self.lane_of.is_some())
            .field("max_waiting", &self.max_waiting)
            .finish_non_exhaustive()
    }
}
