//! Delivering what is due: one task that decides, and one task per attempt.
//!
//! The dispatcher owns all scheduling state, so there is no lock in it. It sleeps until the store has new
//! work, an attempt ends, or the earliest due time comes; it never polls. Everything it knows is in the
//! store as well: when the process dies, what was under way is still pending and due.

mod attempt;
mod backoff;
mod caught;
mod door;
mod lanes;
mod trouble;

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use motet::queue::{self, Receiver, Sender};
use motet::resilience::InvalidPolicy;
use motet::task::{Either, Nursery, Policy, Reason, Scope, ScopeError, race, timeout};
use tokio::time::{Instant, sleep, sleep_until};

use self::attempt::{After, Attempts};
pub use self::backoff::RetrySchedule;
use self::caught::caught;
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

/// How long to wait until the store is asked what became of a delivery whose record panicked.
const AFTER_DEATH: Duration = Duration::from_secs(60);

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
        generation: i64,
        standing: Option<Standing>,
        /// The receiver asked that nothing is sent to it for so long.
        hold: Option<Duration>,
    },
    /// An attempt panicked, beyond what it records itself.
    Died {
        endpoint: i64,
        delivery: i64,
        was_answered: bool,
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
        let mut in_flight = config.in_flight.clone();
        if in_flight.in_all > outbound.most_open() {
            in_flight.in_all = outbound.most_open();
            let (most, asked) = (in_flight.in_all, config.in_flight.in_all);
            tracing::warn!(
                most,
                asked,
                "fewer attempts are made at once: the limit of open files (ulimit -n) is low"
            );
        }
        let attempts = Attempts::new(store.clone(), outbound, config.retry.clone(), Arc::clone(&lifecycle));
        Ok(Self { store: store.clone(), attempts: Arc::new(attempts), in_flight, doors, lifecycle })
    }

    /// Returns `Err` with the reason while relay itself cannot attempt anything.
    pub(crate) fn can_attempt(&self) -> Result<(), String> {
        self.attempts
            .own_trouble()
            .map_or(Ok(()), |why| Err(format!("deliveries cannot be attempted: {why}")))
    }

    /// Delivers until `stop` is ready; then starts nothing new and waits up to `grace` for what is under way.
    ///
    /// Dropping the future aborts what is under way.
    pub(crate) async fn run(&self, stop: impl Future<Output = ()>, grace: Duration) -> Drained {
        // A task that panics, of a bug, harms no other. It records what it was about as relay's own trouble, and gives its
        // slot and its delivery back.
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

    /// Runs the work as a task that reports when it is done; `died` is reported in its place when it panics.
    fn start(
        &self,
        name: &'static str,
        work: impl Future<Output = Done> + Send + 'static,
        died: impl FnOnce(String) -> Done + Send + 'static,
    ) {
        let sender = self.sender.clone();
        drop(self.tasks.spawn(name, async move {
            let done = match caught(work).await {
                Ok(done) => done,
                Err(said) => {
                    tell_of_death(name, &said);
                    sleep(STORE_RETRY).await;
                    died(said)
                }
            };
            // Refused, nobody is there any more to hear of it.
            drop(sender.send(done).await);
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
        let burying = async move {
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
        };
        self.start("bury", burying, move |_| Done::Buried { endpoint, more: true });
    }

    fn grant_turns(&mut self) {
        while let Some(grant) = self.lanes.next_grant() {
            let store = self.dispatcher.store.clone();
            let granted = grant.clone();
            let turn = async move {
                let turn = store.turn(grant.endpoint, grant.slots, grant.leased.clone()).await;
                Done::Turn(grant, turn)
            };
            self.start("turn", turn, move |said| Done::Turn(granted, Err(StoreError::Internal(said))));
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.clock.due_now();
        match done {
            Done::Answered { endpoint, generation, standing, hold } => {
                if let Some(hold) = hold {
                    self.doors.ask(endpoint, generation, hold);
                }
                self.lanes.answered(endpoint, standing);
            }
            Done::Died { endpoint, delivery, was_answered } => {
                if !was_answered {
                    self.lanes.answered(endpoint, None);
                }
                // The store knows whether it is due.
                self.lanes.finished(endpoint, delivery, Some(now + millis(AFTER_DEATH)), now);
            }
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
            let (sender, clock) = (self.sender.clone(), self.clock.clone());
            let was_answered = Arc::new(AtomicBool::new(false));
            let is_answered = Arc::clone(&was_answered);
            let (endpoint, generation, delivery) = (target.endpoint, target.generation, due.delivery);
            let attempt = async move {
                let began = Instant::now();
                let (made, after) = match caught(attempts.make(&target, &due, permit)).await {
                    Ok(made) => made,
                    Err(said) => {
                        tell_of_death("attempt", &said);
                        (attempts.died(&target, &due, began, &said), After::default())
                    }
                };
                let (standing, After { rest, hold }) = (made.standing(), after);
                let answered = async {
                    if let Some(rest) = rest {
                        rest.read().await;
                    }
                    // Refused only where the dispatcher has ended.
                    drop(sender.send(Done::Answered { endpoint, generation, standing, hold }).await);
                    is_answered.store(true, Ordering::Relaxed);
                };
                // What is known is recorded while the receiver still sends; its slot is taken until it has done so.
                let (retry_at, ()) = tokio::join!(caught(attempts.record(made)), answered);
                let retry_at = retry_at.unwrap_or_else(|said| {
                    tell_of_death("record", &said);
                    Some(clock.due_now() + millis(AFTER_DEATH))
                });
                Done::Recorded { endpoint, delivery, retry_at }
            };
            self.start("attempt", attempt, move |_| Done::Died {
                endpoint,
                delivery,
                was_answered: was_answered.load(Ordering::Relaxed),
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

/// A task of the dispatcher has panicked, of a bug. What it held is given back by its caller.
fn tell_of_death(task: &'static str, said: &str) {
    tracing::error!(task, said, "a task of the dispatcher panicked, of a bug");
    metrics::counter!("relay_tasks_died_total", "task" => task).increment(1);
}

/// Waits until the moment, or for ever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
