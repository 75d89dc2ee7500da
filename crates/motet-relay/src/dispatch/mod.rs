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
use self::lanes::{Grant, Lanes, Standing};
use crate::clock::{Clock, Millis, millis};
use crate::config::Config;
use crate::ids::Kind;
use crate::lifecycle::{DeadLetter, Lifecycle};
use crate::outbound::Outbound;
use crate::store::{Buried, DELETED, Store, StoreError, Turn, TurnState, UnreadableDelivery, Wake};

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
    Buried {
        endpoint: i64,
        more: bool,
    },
    /// A receiver has answered, or not in time.
    Answered {
        endpoint: i64,
        standing: Option<Standing>,
    },
    /// That is on disk.
    Recorded {
        endpoint: i64,
        delivery: i64,
        retry_at: Option<Millis>,
    },
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

/// Delivers, once it [runs](Self::run).
#[derive(Debug)]
pub(crate) struct Dispatcher {
    store: Store,
    attempts: Arc<Attempts>,
    in_flight: InFlight,
    /// As they are at the start: nobody has knocked.
    doors: Doors,
    lifecycle: Arc<Lifecycle>,
}

impl Dispatcher {
    /// # Errors
    /// The settings of breakers and rates make no sense.
    pub(crate) fn new(
        config: &Config,
        store: &Store,
        outbound: Arc<Outbound>,
        lifecycle: Arc<Lifecycle>,
    ) -> Result<Self, InvalidPolicy> {
        let doors = Doors::new(&config.sparing, config.deadlines.total, store.ids(), Arc::clone(&lifecycle))?;
        let attempts = Attempts::new(store.clone(), outbound, config.retry.clone(), Arc::clone(&lifecycle));
        Ok(Self {
            store: store.clone(),
            attempts: Arc::new(attempts),
            in_flight: config.in_flight.clone(),
            doors,
            lifecycle,
        })
    }

    /// Delivers until `stop` is ready; then starts nothing new and waits up to `grace` for what is under way.
    ///
    /// Dropping the future aborts what is under way.
    pub(crate) async fn run(&self, stop: impl Future<Output = ()>, grace: Duration) -> Drained {
        // A task that panics, of a bug, harms no other: its slot stays taken and its delivery leased, so that a
        // bug that one delivery brings out cannot turn into a loop; a restart finds the delivery still due.
        let tasks = Scope::options().name("dispatch").policy(Policy::Isolate);
        let mut drained = Drained { handed_back: 0 };
        let ran = tasks.run(async |n: &Nursery| {
            let (sender, reports) = queue::bounded(REPORTS);
            let InFlight { per_endpoint, in_all } = self.in_flight;
            let mut running = Running {
                dispatcher: self,
                clock: self.store.clock().clone(),
                lanes: Lanes::new(in_all, per_endpoint),
                doors: self.doors.clone(),
                tasks: n,
                sender,
            };
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
}

/// A dispatcher at work, with the tasks it has started, each of which holds a sender.
struct Running<'a> {
    dispatcher: &'a Dispatcher,
    clock: Clock,
    lanes: Lanes,
    doors: Doors,
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
            // Here and not after the timer below, which a stream of finished attempts could hold up.
            self.lanes.advance(self.clock.due_now());
            let timer = self.lanes.next_timer().map(|due| self.clock.instant_of(due));
            let store = &self.dispatcher.store;
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
        let now = self.clock.due_now();
        for (endpoint, wake) in woken {
            match wake {
                Wake::Due(due) => self.lanes.wake(endpoint, due, now),
                Wake::Revived(due) => self.lanes.revive(endpoint, due, now),
                Wake::Deleted => self.bury(endpoint),
            }
        }
    }

    /// Turns what a deleted endpoint is owed into dead letters, step by step. Takes no slot: the endpoint's
    /// may all be held by a receiver that hangs.
    fn bury(&self, endpoint: i64) {
        let store = self.dispatcher.store.clone();
        let lifecycle = Arc::clone(&self.dispatcher.lifecycle);
        self.start("bury", async move {
            let more = match store.bury(endpoint).await {
                Ok(Buried { letters, more }) => {
                    let ids = store.ids();
                    for (delivery, event) in letters {
                        lifecycle.tell(|| DeadLetter {
                            delivery: ids.format(Kind::Delivery, delivery),
                            event: ids.format(Kind::Event, event),
                            endpoint: ids.format(Kind::Endpoint, endpoint),
                            reason: DELETED.to_owned(),
                        });
                    }
                    more
                }
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
        while let Some(grant) = self.lanes.next_grant() {
            let store = self.dispatcher.store.clone();
            self.start("turn", async move {
                let turn = store.turn(grant.endpoint, grant.slots, grant.leased.clone()).await;
                Done::Turn(grant, turn)
            });
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.clock.due_now();
        match done {
            Done::Answered { endpoint, standing } => self.lanes.answered(endpoint, standing),
            Done::Recorded { endpoint, delivery, retry_at } => {
                self.lanes.finished(endpoint, delivery, retry_at, now);
            }
            Done::Turn(grant, Ok(turn)) => self.attempt(&grant, turn, now),
            Done::Buried { endpoint, more: true } => self.bury(endpoint),
            Done::Buried { more: false, .. } => {}
            Done::Turn(grant, Err(error)) => {
                tracing::error!(%error, "an endpoint's turn failed; trying again");
                self.lanes.fetched(&grant, &[], Some(now + millis(STORE_RETRY)), now);
            }
        }
    }

    fn attempt(&mut self, grant: &Grant, turn: Turn, now: Millis) {
        let ids = self.dispatcher.store.ids();
        for UnreadableDelivery { delivery, event, why } in turn.unreadable {
            self.dispatcher.lifecycle.tell(|| DeadLetter {
                delivery: ids.format(Kind::Delivery, delivery),
                event: event.map_or_else(String::new, |event| ids.format(Kind::Event, event)),
                endpoint: ids.format(Kind::Endpoint, grant.endpoint),
                reason: why,
            });
        }
        let TurnState::Open { target, due } = turn.state else {
            self.lanes.fetched(grant, &[], turn.next_due, now);
            return;
        };
        let mut next_due = turn.next_due;
        let mut admitted = Vec::with_capacity(due.len());
        for due in due {
            match self.doors.enter(target.endpoint, target.generation) {
                Ok(permit) => admitted.push((due, permit)),
                Err(wait) => {
                    // The rest stays due; the lane comes back when it may pass.
                    next_due = Some(now + millis(wait).max(1));
                    break;
                }
            }
        }
        let deliveries: Vec<_> = admitted.iter().map(|(due, _)| due.delivery).collect();
        self.lanes.fetched(grant, &deliveries, next_due, now);
        let target = Arc::new(target);
        for (due, permit) in admitted {
            let attempts = Arc::clone(&self.dispatcher.attempts);
            let target = Arc::clone(&target);
            let sender = self.sender.clone();
            self.start("attempt", async move {
                let (endpoint, delivery) = (target.endpoint, due.delivery);
                let made = attempts.make(&target, due, permit).await;
                // As everywhere: refused, nobody is there any more to hear of it.
                let standing = made.standing();
                drop(sender.send(Done::Answered { endpoint, standing }).await);
                let retry_at = attempts.record(made).await;
                Done::Recorded { endpoint, delivery, retry_at }
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
