use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::super::Receiver;
use super::crew::Crew;
use super::job::Job;
use super::keyed::{self, Keyed, LaneOf};
use super::stats::Counters;
use super::worker::{AtWork, Shared};
use crate::Backoff;
use crate::task::child::{Spec, launch};
use crate::task::coop::{Cooperative, cooperative};
use crate::task::gate::Class;
use crate::task::member::Member;
use crate::task::{CancelToken, Name, Scope, ScopeClosedError, Task};

/// How many items each worker may take from the queue and not handle, because another of their key is under way.
const WAITING_PER_WORKER: usize = 16;

/// How long an item waits at most before its second attempt, unless a back-off is set.
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// How long an item waits at most before any attempt, unless a back-off is set. An item that never succeeds then costs
/// four attempts a minute.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Sets up workers that take the items of a queue: see [`Receiver::workers`].
///
/// # Defaults
/// No keys: items are handled in any order. An item whose handler fails is handled again after a
/// [`backoff`](Self::backoff) of up to 100 ms, growing to 30 s, with full jitter: items that fail do not keep workers
/// from those that do not.
/// The workers are children of their scope, which waits until the queue is closed and they are done with it.
#[must_use = "no worker runs until they are started"]
pub struct Workers<T: Send + 'static> {
    receiver: Receiver<T>,
    count: usize,
    backoff: Backoff,
    lane_of: Option<LaneOf<T>>,
    max_waiting: usize,
    class: Class,
}

impl<T: Send + Sync + 'static> Receiver<T> {
    /// Sets up `count` workers that take the items of this queue.
    ///
    /// They have a receiver of their own: keep this one to see what they leave behind when they are cancelled. If
    /// there is no other, it is abandoned with them.
    ///
    /// # Panics
    /// If `count` is zero: nobody would take anything.
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
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let (sender, receiver) = queue::bounded(100);
    ///     let crew = receiver
    ///         .workers(8)
    ///         .keyed(|update: &Update| update.account)
    ///         .backoff(Backoff::exponential(Duration::from_millis(50), Duration::from_secs(5)).unwrap())
    ///         .start(n, "accounts", |job| async move { store(&job).await })
    ///         .expect("the scope is open");
    ///     sender.send(Update { account: 7, amount: -20 }).await.expect("the workers receive");
    ///     drop(sender);
    ///     assert_eq!(crew.ended().await.done, 1);
    ///     Ok(())
    /// }).await.unwrap();
    /// # });
    /// ```
    #[track_caller]
    pub fn workers(&self, count: usize) -> Workers<T> {
        assert!(count > 0, "no worker takes nothing: ask for one at least");
        Workers {
            receiver: self.clone(),
            count,
            backoff: Backoff::doubling(MIN_BACKOFF, MAX_BACKOFF),
            lane_of: None,
            max_waiting: count.saturating_mul(WAITING_PER_WORKER),
            class: Class::Work,
        }
    }
}

impl<T: Send + Sync + 'static> Workers<T> {
    /// Waits for the delay of `backoff` before an item is handled again whose handler failed or panicked; by default up
    /// to 100 ms, growing to 30 s, with full jitter. How often it is handled again is for the queue to say: with
    /// [dead letters](crate::queue::Options::dead_letters) it is moved there after that number of attempts; without
    /// them no item is dropped, and one that never succeeds is tried for ever. Such an item is logged as a warning
    /// once, at its tenth attempt, and counted in [`CrewStats::stubborn`](super::CrewStats::stubborn).
    ///
    /// With a delay of zero an item goes back to the front of the queue at once, and is handled before any other.
    ///
    /// Without keys it waits in the queue. With keys it waits with the workers, and those of its key with it; none
    /// of the workers is held up.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Handles items of one key one after the other, in the order of the queue; items of other keys meanwhile.
    ///
    /// Keys are told apart by a hash of 64 bits and are not kept: two keys with the same hash are handled as one.
    ///
    /// # Ordering and fairness
    /// The order is that in which these workers take items from the queue. It holds as long as they are the only
    /// receivers, and across attempts: an item that is tried again comes before those behind it. What a worker has
    /// taken and must not handle yet waits beside the queue, at most [`max_waiting`](Self::max_waiting) items:
    /// then no more are taken until one of these keys goes on.
    pub fn keyed<K: Hash>(mut self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self {
        self.lane_of = Some(Box::new(move |item| keyed::hash(&key(item))));
        self
    }

    /// Takes at most so many items that wait for another of their key; 16 for each worker by default. More keeps the
    /// workers busy when one key has many items in a row; each item that waits is leased, and keeps its place in a
    /// bounded queue.
    pub fn max_waiting(mut self, items: usize) -> Self {
        self.max_waiting = items;
        self
    }

    /// Makes them services: the scope does not wait for the end of the queue, but cancels them when its body and all
    /// other children have ended. For a queue whose senders live as long as the program.
    pub fn as_services(mut self) -> Self {
        self.class = Class::Service;
        self
    }

    /// Starts the workers in a scope, under a name. `handler` is called with each item.
    ///
    /// `Ok` settles the item. On an error or a panic it is tried again. Errors are logged with the name at debug level
    /// up to an item's tenth attempt, which is a warning; panics are logged as errors up to then.
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
        // Counted in for the moment, so that the scope cannot close between two workers.
        let Some(_member) = Member::enter(&scope.0, self.class) else {
            return Err(ScopeClosedError(handler));
        };
        let counters = Arc::new(Counters::default());
        let shown = Arc::clone(&counters);
        // One lease for each worker beside those that wait.
        let window = self.max_waiting.saturating_add(self.count).min(tokio::sync::Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
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
        // All are counted before the first runs: the last to leave gives back what waits.
        let at_work: Vec<_> = (0..self.count).map(|_| AtWork::new(&shared)).collect();
        let tasks = at_work.into_iter().filter_map(|at_work| {
            let token = CancelToken::new();
            let worker = Arc::clone(&shared).work(token.clone(), at_work);
            let told = cooperative(name.clone(), token.clone(), scope.0.grace, worker);
            let spec = Spec::told(name.clone(), site, self.class, token.clone());
            let join = launch::<_, Cooperative>(&scope.0, spec, told).ok()?;
            Some(Task::new(join, name.clone(), Some(token)))
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
