//! Delivery of due events: one task that schedules, and one task per attempt.
//!
//! The dispatcher owns all scheduling state, so there is no lock in it. It sleeps until the store has new work, an
//! attempt ends, or the earliest due time comes; it never polls. The store holds all of its state as well: when the
//! process dies, the deliveries in flight are still pending and due.

mod admission;
mod attempt;
mod backoff;
mod failure;
mod lanes;
mod replays;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use motet::queue::{self, Receiver, Sender};
use motet::resilience::PolicyConfigError;
use motet::task::{Either, Nursery, Policy, Reason, Scope, ScopeError, race, timeout};
use tokio::time::{Instant, sleep, sleep_until};

use self::admission::Admission;
use self::attempt::{Attempts, FollowUp};
use self::failure::{catch_panic, log_panic};
use self::lanes::{Grant, LaneTrust, Lanes};
pub(crate) use self::replays::ReplayDriver;
use crate::clock::{Clock, Millis, millis};
use crate::config::{Config, InFlight};
use crate::ids::IdKind;
use crate::lifecycle::{DeadLetter, Lifecycle};
use crate::outbound::Outbound;
use crate::store::{
    DELETED, DeadLettered, EndpointWake, Store, StoreError, Turn, TurnState, UnreadableDelivery, Wake,
};

/// The delay after the store refused a read or a write.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// The delay until the lane asks the store again for a delivery whose record panicked.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// The report of a finished task to the dispatcher.
#[derive(Debug)]
enum Report {
    Turn(Grant, Result<Turn, StoreError>),
    DeadLettered {
        endpoint: i64,
        more: bool,
    },
    /// The receiver has responded, or its time is over.
    Answered {
        endpoint: i64,
        generation: i64,
        trust: Option<LaneTrust>,
        /// How long the receiver asks for no further requests.
        pause: Option<Duration>,
    },
    /// The task of an attempt panicked outside of the code that records a panic as the attempt's error.
    Panicked {
        endpoint: i64,
        delivery: i64,
        was_answered: bool,
    },
    /// The outcome of the attempt is on disk.
    Recorded {
        endpoint: i64,
        delivery: i64,
        retry_at: Option<Millis>,
    },
}

/// Capacity of the queue of reports; a task whose report finds the queue full waits.
const REPORTS: usize = 1_024;

/// Number of reports that are handled before the dispatcher looks at its other events.
const MAX_REPORTS: usize = 64;

/// The event that woke the dispatcher.
enum Woke {
    /// The shutdown has begun.
    Stop,
    /// Tasks have reported.
    Reported,
    /// The store has work for these endpoints.
    Store(Vec<EndpointWake>),
    /// The earliest due time has come.
    Timer,
}

/// How the dispatcher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrainReport {
    /// Tasks that did not end within the grace. Their deliveries stay due, and their attempts are not counted.
    pub(crate) handed_back: usize,
}

/// Makes the deliveries while it [runs](Self::run).
#[derive(Debug)]
pub(crate) struct Dispatcher {
    store: Store,
    attempts: Arc<Attempts>,
    in_flight: InFlight,
    /// The admission at the start, before any attempt.
    admission: Admission,
    lifecycle: Arc<Lifecycle>,
}

impl Dispatcher {
    /// # Errors
    /// A setting of the breakers or the rate limits is not valid.
    pub(crate) fn new(
        config: &Config,
        store: &Store,
        outbound: Arc<Outbound>,
        lifecycle: Arc<Lifecycle>,
    ) -> Result<Self, PolicyConfigError> {
        let limits = &config.endpoint_limits;
        let admission = Admission::new(limits, config.timeouts.total, store.ids(), Arc::clone(&lifecycle))?;
        let mut in_flight = config.in_flight.clone();
        if in_flight.total > outbound.max_open() {
            in_flight.total = outbound.max_open();
            let (limit, configured) = (in_flight.total, config.in_flight.total);
            tracing::warn!(
                limit,
                configured,
                "the limit of open files (ulimit -n) is too low for the configured number of attempts in flight; using a lower number"
            );
        }
        let attempts = Attempts::new(store.clone(), outbound, config.retry.clone(), Arc::clone(&lifecycle));
        Ok(Self { store: store.clone(), attempts: Arc::new(attempts), in_flight, admission, lifecycle })
    }

    /// Returns an error with the reason while relay itself cannot attempt anything.
    pub(crate) fn can_attempt(&self) -> Result<(), String> {
        self.attempts
            .local_failure()
            .map_or(Ok(()), |error| Err(format!("deliveries cannot be attempted: {error}")))
    }

    /// Delivers until `stop` is ready; then starts nothing new and waits up to `grace` for the tasks in flight.
    ///
    /// Dropping the future aborts the tasks in flight.
    pub(crate) async fn run(&self, stop: impl Future<Output = ()>, grace: Duration) -> DrainReport {
        // A task that panics because of a bug harms no other task. The panic is recorded as an error that is charged to
        // relay, and the task's slot and delivery are returned.
        let tasks = Scope::builder().name("dispatch").policy(Policy::Isolate);
        let mut drained = DrainReport { handed_back: 0 };
        let ran = tasks.run(async |n: &Nursery| {
            let (sender, reports) = queue::bounded(REPORTS).expect("the capacity is valid");
            let InFlight { per_endpoint, total } = self.in_flight;
            let mut dispatch = DispatchLoop {
                dispatcher: self,
                clock: self.store.clock().clone(),
                lanes: Lanes::new(total, per_endpoint),
                admission: self.admission.clone(),
                tasks: n,
                sender,
            };
            dispatch.deliver(&reports, stop).await;
            drained = dispatch.drain(&reports, grace).await;
            Ok(())
        });
        match ran.await {
            Ok(()) | Err(ScopeError::Cancelled { .. }) => {}
            Err(error) => tracing::error!(%error, "the dispatcher did not shut down in order"),
        }
        drained
    }
}

/// A running dispatcher with the tasks that it has started. Each task holds a sender.
struct DispatchLoop<'a> {
    dispatcher: &'a Dispatcher,
    clock: Clock,
    lanes: Lanes,
    admission: Admission,
    tasks: &'a Nursery,
    sender: Sender<Report>,
}

impl DispatchLoop<'_> {
    async fn deliver(&mut self, reports: &Receiver<Report>, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            match self.dispatcher.store.pending_endpoints().await {
                Ok(pending) => {
                    self.wake(pending);
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot read the pending deliveries; trying again");
                    if let Either::Left(()) = race(stop.as_mut(), sleep(STORE_RETRY)).await {
                        return;
                    }
                }
            }
        }
        let mut done = Vec::new();
        loop {
            // Here and not when the timer fires: a stream of finished attempts could keep the timer from being polled.
            self.lanes.advance(self.clock.due_now());
            self.grant_turns();
            match self.next(stop.as_mut(), reports, &mut done).await {
                Woke::Stop => return,
                Woke::Reported => done.drain(..).for_each(|report| self.handle(report)),
                Woke::Store(woken) => self.wake(woken),
                Woke::Timer => {}
            }
        }
    }

    /// Waits for the next event. Reports are appended to `done`.
    ///
    /// When several events are ready, the stop comes first, then the reports, the store and the timer.
    ///
    /// # Cancel safety
    /// Safe: neither a report nor a wake of the store is lost.
    async fn next(
        &self,
        stop: Pin<&mut impl Future<Output = ()>>,
        reports: &Receiver<Report>,
        done: &mut Vec<Report>,
    ) -> Woke {
        let timer = self.lanes.next_timer().map(|due| self.clock.instant_of(due));
        let stopped = async {
            stop.await;
            Woke::Stop
        };
        let reported = async {
            reports.recv_many(done, MAX_REPORTS).await;
            Woke::Reported
        };
        let store = async { Woke::Store(self.dispatcher.store.woken().await) };
        let timer = async {
            at(timer).await;
            Woke::Timer
        };
        first_of(stopped, first_of(reported, first_of(store, timer))).await
    }

    /// Spawns `work` as a task that sends its report when it ends; if the task panics, `panicked` makes the report.
    fn start(
        &self,
        name: &'static str,
        work: impl Future<Output = Report> + Send + 'static,
        panicked: impl FnOnce(String) -> Report + Send + 'static,
    ) {
        let sender = self.sender.clone();
        drop(self.tasks.spawn(name, async move {
            let report = match catch_panic(work).await {
                Ok(report) => report,
                Err(message) => {
                    log_panic(name, &message);
                    sleep(STORE_RETRY).await;
                    panicked(message)
                }
            };
            // The queue is closed only after the dispatcher has ended.
            drop(sender.send(report).await);
        }));
    }

    fn wake(&mut self, woken: Vec<EndpointWake>) {
        let now = self.clock.due_now();
        for EndpointWake { endpoint, tenant, wake } in woken {
            match wake {
                Wake::Due(due) => self.lanes.wake(endpoint, tenant, due, now),
                Wake::Revived(due) => self.lanes.revive(endpoint, tenant, due, now),
                Wake::Deleted => self.move_to_dead_letters(endpoint),
            }
        }
    }

    /// Moves the pending deliveries of a deleted endpoint to the dead letters, step by step. Takes no slot: a receiver
    /// that hangs may hold all slots of the endpoint.
    fn move_to_dead_letters(&self, endpoint: i64) {
        let store = self.dispatcher.store.clone();
        let lifecycle = Arc::clone(&self.dispatcher.lifecycle);
        let work = async move {
            let more = match store.move_to_dead_letters(endpoint).await {
                Ok(DeadLettered { letters, more }) => {
                    let ids = store.ids();
                    for (delivery, event) in letters {
                        lifecycle.post(|| DeadLetter {
                            delivery: ids.format(IdKind::Delivery, delivery),
                            event: ids.format(IdKind::Event, event),
                            endpoint: ids.format(IdKind::Endpoint, endpoint),
                            reason: DELETED.to_owned(),
                        });
                    }
                    more
                }
                Err(StoreError::Closed) => false,
                Err(error) => {
                    tracing::error!(%error, "cannot move the deliveries of a deleted endpoint to the dead letters; trying again");
                    sleep(STORE_RETRY).await;
                    true
                }
            };
            Report::DeadLettered { endpoint, more }
        };
        self.start("dead letters", work, move |_| Report::DeadLettered { endpoint, more: true });
    }

    fn grant_turns(&mut self) {
        while let Some(grant) = self.lanes.next_grant() {
            let store = self.dispatcher.store.clone();
            let granted = grant.clone();
            let turn = async move {
                let turn = store.turn(grant.endpoint, grant.slots, grant.leased.clone()).await;
                Report::Turn(grant, turn)
            };
            self.start("turn", turn, move |message| {
                Report::Turn(granted, Err(StoreError::Internal(message)))
            });
        }
    }

    fn handle(&mut self, report: Report) {
        let now = self.clock.due_now();
        match report {
            Report::Answered { endpoint, generation, trust, pause } => {
                if let Some(pause) = pause {
                    self.admission.pause(endpoint, generation, pause);
                }
                self.lanes.answered(endpoint, trust);
            }
            Report::Panicked { endpoint, delivery, was_answered } => {
                if !was_answered {
                    self.lanes.answered(endpoint, None);
                }
                // The next turn reads from the store whether the delivery is due.
                self.lanes.finished(endpoint, delivery, Some(now + millis(AFTER_PANIC)), now);
            }
            Report::Recorded { endpoint, delivery, retry_at } => {
                self.lanes.finished(endpoint, delivery, retry_at, now);
            }
            Report::Turn(grant, Ok(turn)) => self.attempt(&grant, turn, now),
            Report::DeadLettered { endpoint, more: true } => self.move_to_dead_letters(endpoint),
            Report::DeadLettered { more: false, .. } => {}
            Report::Turn(grant, Err(error)) => {
                tracing::error!(%error, "cannot read the due deliveries of an endpoint; trying again");
                self.lanes.fetched(&grant, &[], Some(now + millis(STORE_RETRY)), now);
            }
        }
    }

    fn attempt(&mut self, grant: &Grant, turn: Turn, now: Millis) {
        let ids = self.dispatcher.store.ids();
        for UnreadableDelivery { delivery, event, why, .. } in turn.unreadable {
            self.dispatcher.lifecycle.post(|| DeadLetter {
                delivery: ids.format(IdKind::Delivery, delivery),
                event: ids.format(IdKind::Event, event),
                endpoint: ids.format(IdKind::Endpoint, grant.endpoint),
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
            match self.admission.try_admit(target.endpoint, target.generation, target.policy.rate) {
                Ok(permit) => admitted.push((due, permit)),
                Err(delay) => {
                    // The remaining deliveries stay due; the lane gets another turn after the delay.
                    next_due = Some(now.saturating_add(millis(delay).max(1)));
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
                let (finished, follow_up) = match catch_panic(attempts.make(&target, &due, permit)).await {
                    Ok(finished) => finished,
                    Err(message) => {
                        log_panic("attempt", &message);
                        (attempts.panicked(&target, &due, began, &message), FollowUp::default())
                    }
                };
                let (trust, FollowUp { unread, pause }) = (finished.trust(), follow_up);
                let answered = async {
                    if let Some(unread) = unread {
                        unread.read().await;
                    }
                    // The queue is closed only after the dispatcher has ended.
                    drop(sender.send(Report::Answered { endpoint, generation, trust, pause }).await);
                    is_answered.store(true, Ordering::Relaxed);
                };
                // The outcome is recorded while the receiver still sends its body; the slot stays taken until the body
                // is read.
                let (retry_at, ()) = tokio::join!(catch_panic(attempts.record(finished)), answered);
                let retry_at = retry_at.unwrap_or_else(|message| {
                    log_panic("record", &message);
                    Some(clock.due_now() + millis(AFTER_PANIC))
                });
                Report::Recorded { endpoint, delivery, retry_at }
            };
            self.start("attempt", attempt, move |_| Report::Panicked {
                endpoint,
                delivery,
                was_answered: was_answered.load(Ordering::Relaxed),
            });
        }
    }

    /// Waits for the tasks in flight, and cancels those that do not end within `grace`.
    async fn drain(self, reports: &Receiver<Report>, grace: Duration) -> DrainReport {
        let Self { tasks, sender, .. } = self;
        // The queue ends when the last task has dropped its sender.
        drop(sender);
        let all_ended = async { while reports.recv().await.is_some() {} };
        if timeout(grace, all_ended).await.is_ok() {
            return DrainReport { handed_back: 0 };
        }
        let handed_back = tasks.snapshot().tasks.len();
        tasks.cancel(Reason::requested("the grace of the shutdown is over"));
        DrainReport { handed_back }
    }
}

/// Returns the event of the future that is ready first, and drops the other future.
async fn first_of(left: impl Future<Output = Woke>, right: impl Future<Output = Woke>) -> Woke {
    match race(left, right).await {
        Either::Left(woke) | Either::Right(woke) => woke,
    }
}

/// Waits until `moment`; never ends if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
