//! Delivering what is due: one task that decides, and one task per attempt.
//!
//! The dispatcher owns all scheduling state, so there is no lock in it. It sleeps until the store has new
//! work, an attempt ends, or the earliest due time comes; it never polls. Everything it knows is in the
//! store as well: when the process dies, what was under way is still pending and due.

mod attempt;
mod backoff;
mod lanes;

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use self::attempt::Attempts;
pub use self::backoff::RetrySchedule;
use self::lanes::{Grant, Lanes};
use crate::clock::{Clock, Millis, millis};
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
    tasks: JoinSet<Done>,
}

impl Dispatcher {
    pub(crate) fn new(
        store: Store,
        outbound: Outbound,
        schedule: RetrySchedule,
        in_flight: &InFlight,
    ) -> Self {
        Self {
            clock: store.clock().clone(),
            attempts: Arc::new(Attempts::new(store.clone(), outbound, schedule)),
            store,
            lanes: Lanes::new(in_flight.in_all, in_flight.per_endpoint),
            tasks: JoinSet::new(),
        }
    }

    /// Delivers until `stop` is ready; then starts nothing new and waits up to `grace` for what is under way.
    ///
    /// Dropping the future aborts what is under way.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>, grace: Duration) -> Drained {
        let mut stop = std::pin::pin!(stop);
        loop {
            match self.store.owed().await {
                Ok(owed) => {
                    self.wake(owed);
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot read what is owed; trying again");
                    tokio::select! {
                        biased;
                        () = &mut stop => return Drained { handed_back: 0 },
                        () = sleep(STORE_RETRY) => {}
                    }
                }
            }
        }
        loop {
            // Here and not after the timer below, which a stream of finished attempts could hold up.
            self.lanes.advance(self.clock.due_now());
            self.grant_turns();
            let timer = self.lanes.next_timer().map(|due| self.clock.instant_of(due));
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(done) = self.tasks.join_next() => self.done(done),
                woken = self.store.woken() => self.wake(woken),
                () = at(timer) => {}
            }
        }
        self.drain(grace).await
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
    fn bury(&mut self, endpoint: i64) {
        let store = self.store.clone();
        self.tasks.spawn(async move {
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
        while let Some(grant) = self.lanes.next_grant() {
            let store = self.store.clone();
            self.tasks.spawn(async move {
                let turn = store.turn(grant.endpoint, grant.slots, grant.leased.clone()).await;
                Done::Turn(grant, turn)
            });
        }
    }

    fn done(&mut self, done: Result<Done, JoinError>) {
        let now = self.clock.due_now();
        match done {
            Ok(Done::Attempt { endpoint, delivery, retry_at }) => {
                self.lanes.finished(endpoint, delivery, retry_at, now);
            }
            Ok(Done::Turn(grant, Ok(turn))) => self.start(&grant, turn, now),
            Ok(Done::Buried { endpoint, more: true }) => self.bury(endpoint),
            Ok(Done::Buried { more: false, .. }) => {}
            Ok(Done::Turn(grant, Err(error))) => {
                tracing::error!(%error, "an endpoint's turn failed; trying again");
                self.lanes.fetched(&grant, &[], Some(now + millis(STORE_RETRY)), now);
            }
            // The slot stays taken and the delivery leased, so a bug that panics on one delivery cannot
            // turn into a loop; a restart finds the delivery still due.
            Err(panicked) => {
                tracing::error!(%panicked, "a delivery task panicked; its delivery waits for a restart")
            }
        }
    }

    fn start(&mut self, grant: &Grant, turn: Turn, now: Millis) {
        let TurnState::Open { target, due } = turn.state else {
            self.lanes.fetched(grant, &[], turn.next_due, now);
            return;
        };
        let deliveries: Vec<_> = due.iter().map(|due| due.delivery).collect();
        self.lanes.fetched(grant, &deliveries, turn.next_due, now);
        let target = Arc::new(target);
        for due in due {
            let attempts = Arc::clone(&self.attempts);
            let target = Arc::clone(&target);
            self.tasks.spawn(async move {
                let (endpoint, delivery) = (target.endpoint, due.delivery);
                let retry_at = attempts.make(&target, due).await;
                Done::Attempt { endpoint, delivery, retry_at }
            });
        }
    }

    async fn drain(mut self, grace: Duration) -> Drained {
        let deadline = Instant::now() + grace;
        while let Ok(Some(done)) = timeout_at(deadline, self.tasks.join_next()).await {
            if let Err(panicked) = done {
                tracing::error!(%panicked, "a delivery task panicked");
            }
        }
        let handed_back = self.tasks.len();
        self.tasks.shutdown().await;
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
