//! Delivering what is due: one task that decides, and one task per attempt.
//!
//! The dispatcher owns all scheduling state, so there is no lock in it. It sleeps until the store has new
//! work, an attempt ends, or the earliest due time comes; it never polls. Everything it knows is in the
//! store as well: when the process dies, what was under way is still pending and due.

mod attempt;
mod backoff;
mod door;
mod lanes;

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use motet::queue::{self, Receiver, Sender};
use motet::resilience::InvalidPolicy;
use motet::task::{Either, Nursery, Policy, Reason, Scope, ScopeError, race, timeout};
use tokio::time::{Instant, sleep, sleep_until};

use self::attempt::Attempts;
pub use self::backoff::RetrySchedule;
use self::door::Doors;
pub use self::door::Sparing;
use self::lanes::{Grant, Lanes};
use crate::clock::{Clock, Millis, millis};
use crate::config::Config;
use crate::outbound::Outbound;
use crate::store::{Store, StoreError, Turn, TurnState, Wake};

/// How much is attempted at once.
///
/// # Defaults
/// 16 per endpoint: at a receiver's 50 ms that is 320 deliveries a second, and a receiver that hangs holds
/// no more than 16 slots. 1 024 in all: with payloads of the largest size that is 256 MiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// Attempts at one endpoint.
    pub per_endpoint: NonZeroUsize,
    /// Attempts in all.
    pub in_all: NonZeroUsize,
}

impl Default for InFlight {
    fn default() -> Self {
        const { Self { per_endpoint: NonZeroUsize::new(16).unwrap(), in_all: NonZeroUsize::new(1_024).unwrap() } }
    }
}

/// How long to wait after the store refused a read or a write.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What a finished task reports to the dispatcher.
#[derive(Debug)]
enum Done {
    Turn(Grant, Result<Turn, StoreError>),
    Buried { endpoint: i64, more: bool },
    Attempt { endpoint: i64, delivery: i64, retry_at: Option<Millis> },
}

/// How many reports may wait for the dispatcher; the next task waits to report.
const REPORTS: usize = 1_024;

/// How many of them are looked at before the dispatcher looks at what else there is.
const MOST_REPORTS: usize = 64;

/// How the dispatcher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Tasks that did not end within the deadline. Their deliveries stay due, their attempts uncounted.
    pub(crate) handed_back: usize,
}

#[derive(Debug)]
pub(crate) struct Dispatcher {
    store: Store,
    clock: Clock,
    attempts: Arc<Attempts>,
    lanes: Lanes,
    doors: Doors,
}

impl Dispatcher {
    /// # Errors
    /// The settings of breakers and rates make no sense.
    pub(crate) fn new(store: Store, outbound: Outbound, config: &Config) -> Result<Self, InvalidPolicy> {
        let InFlight { per_endpoint, in_all } = config.in_flight;
        Ok(Self {
            clock: store.clock().clone(),
            lanes: Lanes::new(in_all, per_endpoint),
            doors: Doors::new(&config.sparing, config.deadlines.total, store.ids())?,
            attempts: Arc::new(Attempts::new(store.clone(), outbound, config.retry.clone())),
            store,
        })
    }

    /// Delivers until `stop` is ready; then starts nothing new and waits up to `grace` for what is under way.
    ///
    /// Dropping the future aborts what is under way.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>, grace: Duration) -> Drained {
        // A task that panics, of a bug, harms no other: its slot stays taken and its delivery leased, so that a
        // bug that one delivery brings out cannot turn into a loop; a restart finds the delivery still due.
        let tasks = Scope::options().name("dispatch").policy(Policy::Isolate);
        let mut drained = Drained { handed_back: 0 };
        let ran = tasks.run(async |n: &Nursery| {
            let (sender, reports) = queue::bounded(REPORTS);
            let mut running = Running { dispatcher: self, tasks: n, sender };
            running.deliver(&reports, stop).await;
            drained = running.drain(&reports, grace).await;
            Ok(())
        });
        match ran.await {
            Ok(()) | Err(ScopeError::Cancelled { .. }) => {}
            Err(error) => tracing::error!(%error, "the dispatcher did not end in order"),
        }
        drained
    }

    fn wake(&mut self, woken: Vec<(i64, Wake)>) -> Vec<i64> {
        let now = self.clock.due_now();
        let mut deleted = Vec::new();
        for (endpoint, wake) in woken {
            match wake {
                Wake::Due(due) => self.lanes.wake(endpoint, due, now),
                Wake::Revived(due) => self.lanes.revive(endpoint, due, now),
                Wake::Deleted => deleted.push(endpoint),
            }
        }
        deleted
    }
}

/// A dispatcher with the tasks it has started, each of which holds a sender.
struct Running<'a> {
    dispatcher: Dispatcher,
    tasks: &'a Nursery,
    sender: Sender<Done>,
}

impl Running<'_> {
    async fn deliver(&mut self, reports: &Receiver<Done>, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            match self.dispatcher.store.owed().await {
                Ok(owed) => {
                    self.wake(owed);
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot read what is owed; trying again");
                    if let Either::Left(()) = race(stop.as_mut(), sleep(STORE_RETRY)).await {
                        return;
                    }
                }
            }
        }
        let mut done = Vec::new();
        loop {
            let Dispatcher { store, clock, lanes, .. } = &mut self.dispatcher;
            // Here and not after the timer below, which a stream of finished attempts could hold up.
            lanes.advance(clock.due_now());
            let timer = lanes.next_timer().map(|due| clock.instant_of(due));
            let store = store.clone();
            self.grant_turns();
            let reported = reports.recv_many(&mut done, MOST_REPORTS);
            let next = race(reported, race(store.woken(), at(timer)));
            match race(stop.as_mut(), next).await {
                Either::Left(()) => return,
                Either::Right(Either::Left(_)) => done.drain(..).for_each(|done| self.done(done)),
                Either::Right(Either::Right(Either::Left(woken))) => self.wake(woken),
                Either::Right(Either::Right(Either::Right(()))) => {}
            }
        }
    }

    /// Runs the work as a task that reports when it is done.
    fn start(&self, name: &'static str, work: impl Future<Output = Done> + Send + 'static) {
        let sender = self.sender.clone();
        drop(self.tasks.spawn(name, async move {
            // Refused, nobody is there any more to hear of it.
            drop(sender.send(work.await).await);
        }));
    }

    fn wake(&mut self, woken: Vec<(i64, Wake)>) {
        for endpoint in self.dispatcher.wake(woken) {
            self.bury(endpoint);
        }
    }

    /// Turns what a deleted endpoint is owed into dead letters, step by step. Takes no slot: the endpoint's
    /// may all be held by a receiver that hangs.
    fn bury(&self, endpoint: i64) {
        let store = self.dispatcher.store.clone();
        self.start("bury", async move {
            let more = match store.bury(endpoint).await {
                Ok(more) => more,
                Err(StoreError::Closed) => false,
                Err(error) => {
                    tracing::error!(%error, "a deleted endpoint's deliveries are not buried yet; trying again");
                    sleep(STORE_RETRY).await;
                    true
                }
            };
            Done::Buried { endpoint, more }
        });
    }

    fn grant_turns(&mut self) {
        while let Some(grant) = self.dispatcher.lanes.next_grant() {
            let store = self.dispatcher.store.clone();
            self.start("turn", async move {
                let turn = store.turn(grant.endpoint, grant.slots, grant.leased.clone()).await;
                Done::Turn(grant, turn)
            });
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.dispatcher.clock.due_now();
        match done {
            Done::Attempt { endpoint, delivery, retry_at } => {
                self.dispatcher.lanes.finished(endpoint, delivery, retry_at, now);
            }
            Done::Turn(grant, Ok(turn)) => self.attempt(&grant, turn, now),
            Done::Buried { endpoint, more: true } => self.bury(endpoint),
            Done::Buried { more: false, .. } => {}
            Done::Turn(grant, Err(error)) => {
                tracing::error!(%error, "an endpoint's turn failed; trying again");
                self.dispatcher.lanes.fetched(&grant, &[], Some(now + millis(STORE_RETRY)), now);
            }
        }
    }

    fn attempt(&mut self, grant: &Grant, turn: Turn, now: Millis) {
        let TurnState::Open { target, due } = turn.state else {
            self.dispatcher.lanes.fetched(grant, &[], turn.next_due, now);
            return;
        };
        let mut next_due = turn.next_due;
        let mut admitted = Vec::with_capacity(due.len());
        for due in due {
            match self.dispatcher.doors.enter(grant.endpoint) {
                Ok(permit) => admitted.push((due, permit)),
                Err(wait) => {
                    // The rest stays due; the lane comes back when it may pass.
                    next_due = Some(now + millis(wait).max(1));
                    break;
                }
            }
        }
        let deliveries: Vec<_> = admitted.iter().map(|(due, _)| due.delivery).collect();
        self.dispatcher.lanes.fetched(grant, &deliveries, next_due, now);
        let target = Arc::new(target);
        for (due, permit) in admitted {
            let attempts = Arc::clone(&self.dispatcher.attempts);
            let target = Arc::clone(&target);
            self.start("attempt", async move {
                let (endpoint, delivery) = (target.endpoint, due.delivery);
                let retry_at = attempts.make(&target, due, permit).await;
                Done::Attempt { endpoint, delivery, retry_at }
            });
        }
    }

    /// Waits for what is under way, and drops what is not done in time.
    async fn drain(self, reports: &Receiver<Done>, grace: Duration) -> Drained {
        let Self { tasks, sender, .. } = self;
        // The last task to end drops the last sender.
        drop(sender);
        let all_ended = async { while reports.recv().await.is_some() {} };
        if timeout(grace, all_ended).await.is_ok() {
            return Drained { handed_back: 0 };
        }
        let handed_back = tasks.snapshot().tasks.len();
        tasks.cancel(Reason::requested("their time is over"));
        Drained { handed_back }
    }
}

/// Waits until the moment, or for ever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
