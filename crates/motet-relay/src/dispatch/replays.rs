//! The driver of the replays: it makes a few deliveries due at a time, so that new events keep their turns.
//!
//! All replays together have at most a fifth of an endpoint's slots waiting or in flight, at least one, and take at most a
//! fifth of its rate. A delivery counts until its first attempt is recorded: an endpoint that fails gets no more of them
//! than it attempts, and later attempts are like those of other deliveries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use motet::task::{Either, gather, race};
use tokio::time::{Instant, sleep_until};

use super::STORE_RETRY;
use super::failure::{catch_panic, log_panic};
use crate::config::Config;
use crate::ids::IdKind;
use crate::store::{ReplayLimits, ReplayPart, ReplayStep, ReplayWake, Store, StoreError, TenantSeq};

/// Replays have this part of an endpoint's slots.
const PART_OF_SLOTS: usize = 5;

/// Number of steps at once: they share a commit.
const STEPS_AT_ONCE: usize = 16;

/// A part that cannot go on is looked at again after this delay, and then after the double of the last delay.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Runs the replays while it [runs](Self::run).
#[derive(Debug)]
pub(crate) struct ReplayDriver {
    store: Store,
    limits: ReplayLimits,
}

impl ReplayDriver {
    pub(crate) fn new(config: &Config, store: &Store) -> Self {
        let waiting = (config.in_flight.per_endpoint.get() / PART_OF_SLOTS).max(1) as u64;
        Self { store: store.clone(), limits: ReplayLimits { waiting, rate: config.endpoint_limits.rate } }
    }

    /// Runs the replays until the store is closed.
    ///
    /// # Cancel safety
    /// Safe: the cursors of the replays are in the store.
    pub(crate) async fn run(&self) {
        while let Err(message) = catch_panic(self.drive()).await {
            log_panic("replays", &message);
            sleep_until(Instant::now() + STORE_RETRY).await;
        }
    }

    async fn drive(&self) {
        let mut parts = Parts::default();
        let mut wake = ReplayWake { has_new: true, ..ReplayWake::default() };
        loop {
            if wake.has_new {
                match self.store.running_replays().await {
                    Ok(running) => parts.add(running),
                    Err(StoreError::Closed) => return,
                    Err(error) => {
                        tracing::warn!(%error, "cannot read the running replays; trying again");
                        sleep_until(Instant::now() + STORE_RETRY).await;
                        continue;
                    }
                }
            }
            parts.wake(&wake.freed);
            let begin = Instant::now();
            let due = parts.take_due(begin);
            let is_idle = due.is_empty();
            let mut made_some = false;
            let steps =
                due.into_iter().map(async |part| (part, self.store.replay_step(part, self.limits).await));
            for (part, step) in gather(steps).await {
                match step {
                    Err(StoreError::Closed) => return,
                    Err(StoreError::Corrupt(why)) => {
                        self.fail(part, why).await;
                        parts.end(part);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a replay cannot go on yet; trying again");
                        parts.wait(part);
                    }
                    Ok(step) => {
                        made_some |= !matches!(step, ReplayStep::Moved { made: 0, .. });
                        parts.stepped(part, step);
                    }
                }
            }
            if !is_idle && !made_some {
                // Walks that find nothing have no rate: they leave half of the time to others.
                let took = begin.elapsed();
                sleep_until(Instant::now() + took).await;
            }
            let next_step = async {
                match parts.next_timer() {
                    _ if !is_idle => {}
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            wake = match race(self.store.replay_woken(), next_step).await {
                Either::Left(wake) => wake,
                Either::Right(()) => ReplayWake::default(),
            };
        }
    }

    async fn fail(&self, part: ReplayPart, why: String) {
        let replay = self.store.ids().format(IdKind::Replay, part.replay);
        tracing::error!(replay, why, "a replay has failed");
        if let Err(error) = self.store.fail_replay(part.replay, why).await {
            tracing::warn!(%error, replay, "the failure of a replay cannot be stored; it is tried again at the next start");
        }
    }
}

/// The parts of running replays. The tenants take turns, and the parts of a tenant take the turns of their tenant: the part
/// whose last step is the oldest is first.
#[derive(Debug, Default)]
struct Parts {
    /// The parts that can go on, by the numbers of their last steps.
    ready: BTreeMap<TenantSeq, BTreeMap<u64, ReplayPart>>,
    /// The tenant that had the last turn.
    last_turn: Option<TenantSeq>,
    /// Parts that wait until a time, or until their endpoint is woken.
    waiting: BTreeMap<ReplayPart, Waiting>,
    /// With the number of the last step: parts that wait for the same time resume in the order of their turns.
    timers: BTreeSet<(Instant, u64, ReplayPart)>,
    /// The earliest time of the next delivery to an endpoint with a rate, by all replays together.
    paces: HashMap<i64, Instant>,
    known: BTreeMap<ReplayPart, KnownPart>,
    /// The number of the last step of any part.
    steps: u64,
}

#[derive(Debug, Clone, Copy)]
struct KnownPart {
    tenant: TenantSeq,
    last_step: u64,
    /// The earliest time of its next delivery, if its replay has a rate.
    pace: Option<Instant>,
    /// The last delay, if it cannot go on.
    delay: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    until: Instant,
    last_step: u64,
    /// `true` if the part must not go on earlier.
    is_pace: bool,
}

impl Parts {
    fn add(&mut self, running: Vec<(TenantSeq, ReplayPart)>) {
        for (tenant, part) in running {
            if self.known.contains_key(&part) {
                continue;
            }
            self.steps += 1;
            self.known.insert(part, KnownPart { tenant, last_step: self.steps, pace: None, delay: None });
            self.get_ready(part);
        }
    }

    fn get_ready(&mut self, part: ReplayPart) {
        if let Some(known) = self.known.get(&part) {
            self.ready.entry(known.tenant).or_default().insert(known.last_step, part);
        }
    }

    /// Ends the waiting of the parts of these endpoints.
    fn wake(&mut self, endpoints: &BTreeSet<i64>) {
        for &endpoint in endpoints {
            let all = ReplayPart { endpoint, replay: i64::MIN }..=ReplayPart { endpoint, replay: i64::MAX };
            let found = self.waiting.range(all).filter(|(_, waiting)| !waiting.is_pace);
            let found: Vec<_> = found.map(|(part, _)| *part).collect();
            for part in found {
                self.resume(part);
            }
        }
    }

    fn resume(&mut self, part: ReplayPart) {
        if let Some(waiting) = self.waiting.remove(&part) {
            self.timers.remove(&(waiting.until, waiting.last_step, part));
            self.get_ready(part);
        }
    }

    /// Returns the next parts, at most one of an endpoint: they would take each other's place.
    fn take_due(&mut self, now: Instant) -> Vec<ReplayPart> {
        while let Some(&(until, _, part)) = self.timers.first() {
            if until > now {
                break;
            }
            self.resume(part);
        }
        let (mut taken, mut endpoints) = (Vec::new(), BTreeSet::new());
        loop {
            let before = taken.len();
            let behind = self.last_turn.map_or(Bound::Unbounded, Bound::Excluded);
            let first = self.ready.range((behind, Bound::Unbounded)).map(|(tenant, _)| *tenant);
            let then = self
                .last_turn
                .into_iter()
                .flat_map(|last| self.ready.range(..=last).map(|(tenant, _)| *tenant));
            for tenant in first.chain(then).collect::<Vec<_>>() {
                if taken.len() == STEPS_AT_ONCE {
                    return taken;
                }
                if let Some(part) = self.take_of(tenant, &endpoints, now) {
                    endpoints.insert(part.endpoint);
                    taken.push(part);
                    self.last_turn = Some(tenant);
                }
            }
            if taken.len() == before {
                return taken;
            }
        }
    }

    /// Takes the next part of a tenant, at another endpoint than these.
    fn take_of(&mut self, tenant: TenantSeq, endpoints: &BTreeSet<i64>, now: Instant) -> Option<ReplayPart> {
        let parts = self.ready.get(&tenant)?.values().copied();
        let (mut found, mut paced) = (None, Vec::new());
        for part in parts {
            let own = self.known.get(&part).and_then(|known| known.pace);
            match self.paces.get(&part.endpoint).copied().max(own).filter(|until| *until > now) {
                Some(until) => paced.push((part, until)),
                None if !endpoints.contains(&part.endpoint) => {
                    found = Some(part);
                    break;
                }
                None => {}
            }
        }
        for (part, until) in paced {
            self.take(part);
            self.wait_until(part, until, true);
        }
        if let Some(part) = found {
            self.take(part);
        }
        found
    }

    fn take(&mut self, part: ReplayPart) {
        let Some(known) = self.known.get(&part) else { return };
        if let Some(ready) = self.ready.get_mut(&known.tenant) {
            ready.remove(&known.last_step);
            if ready.is_empty() {
                self.ready.remove(&known.tenant);
            }
        }
    }

    fn stepped(&mut self, part: ReplayPart, step: ReplayStep) {
        self.steps += 1;
        let last_step = self.steps;
        let Some(known) = self.known.get_mut(&part) else { return };
        known.last_step = last_step;
        match step {
            ReplayStep::Moved { made, rates } => {
                known.delay = None;
                let now = Instant::now();
                let next = |last: Option<Instant>, rate: f64| {
                    last.map_or(now, |at| now.max(at)) + Duration::from_secs_f64(made as f64 / rate)
                };
                if let (Some(rate), 1..) = (rates.job, made) {
                    known.pace = Some(next(known.pace, rate));
                }
                if let (Some(rate), 1..) = (rates.endpoint, made) {
                    let last = self.paces.get(&part.endpoint).copied();
                    self.paces.insert(part.endpoint, next(last, rate));
                }
                self.get_ready(part);
            }
            ReplayStep::Full | ReplayStep::Held => self.wait(part),
            ReplayStep::Ended => self.end(part),
        }
    }

    /// Makes a part wait that cannot go on.
    fn wait(&mut self, part: ReplayPart) {
        let Some(known) = self.known.get_mut(&part) else { return };
        let delay = known.delay.map_or(FIRST_DELAY, |last| (last * 2).min(LONGEST_DELAY));
        known.delay = Some(delay);
        self.wait_until(part, Instant::now() + delay, false);
    }

    fn wait_until(&mut self, part: ReplayPart, until: Instant, is_pace: bool) {
        let last_step = self.known.get(&part).map_or(0, |known| known.last_step);
        self.timers.insert((until, last_step, part));
        self.waiting.insert(part, Waiting { until, last_step, is_pace });
    }

    fn end(&mut self, part: ReplayPart) {
        self.known.remove(&part);
        let all = ReplayPart { replay: i64::MIN, ..part }..=ReplayPart { replay: i64::MAX, ..part };
        if self.known.range(all).next().is_none() {
            self.paces.remove(&part.endpoint);
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ReplayRates;

    const fn part(endpoint: i64, replay: i64) -> ReplayPart {
        ReplayPart { endpoint, replay }
    }

    /// Parts of one tenant.
    fn of_one_tenant(parts: &[ReplayPart]) -> Vec<(TenantSeq, ReplayPart)> {
        parts.iter().map(|part| (TenantSeq::DEFAULT, *part)).collect()
    }

    fn moved(made: usize, endpoint: Option<f64>) -> ReplayStep {
        ReplayStep::Moved { made, rates: ReplayRates { endpoint, job: None } }
    }

    /// Returns the parts that are due now.
    fn due(parts: &mut Parts) -> Vec<ReplayPart> {
        parts.take_due(Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn parts_of_an_endpoint_take_turns_and_share_its_pace() {
        let mut parts = Parts::default();
        parts.add(of_one_tenant(&[part(1, 1), part(1, 2), part(2, 1)]));
        parts.add(of_one_tenant(&[part(1, 1)]));
        assert_eq!(due(&mut parts), [part(1, 1), part(2, 1)]);
        parts.stepped(part(1, 1), moved(3, Some(2.0)));
        parts.stepped(part(2, 1), moved(3, None));
        assert_eq!(due(&mut parts), [part(2, 1)]);
        parts.stepped(part(2, 1), ReplayStep::Ended);
        // A free place does not end the waiting for the rate.
        parts.wake(&BTreeSet::from([1]));
        tokio::time::advance(Duration::from_millis(1_499)).await;
        assert_eq!(due(&mut parts), []);
        assert_eq!(parts.next_timer(), Some(Instant::now() + Duration::from_millis(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(due(&mut parts), [part(1, 2)]);
        // Both wait for the same time now, and the part that waits for longer is first.
        parts.stepped(part(1, 2), moved(2, Some(2.0)));
        assert_eq!(due(&mut parts), []);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(due(&mut parts), [part(1, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn rate_of_a_replay_is_not_that_of_its_endpoint() {
        let mut parts = Parts::default();
        parts.add(of_one_tenant(&[part(1, 1), part(1, 2)]));
        assert_eq!(due(&mut parts), [part(1, 1)]);
        let rates = ReplayRates { endpoint: None, job: Some(0.01) };
        parts.stepped(part(1, 1), ReplayStep::Moved { made: 1, rates });
        for _ in 0..3 {
            assert_eq!(due(&mut parts), [part(1, 2)]);
            parts.stepped(part(1, 2), moved(3, None));
        }
        parts.stepped(part(1, 2), ReplayStep::Ended);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(due(&mut parts), [part(1, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn tenant_with_many_parts_does_not_delay_another() {
        let (mut parts, [many, few]) = (Parts::default(), [1, 2].map(TenantSeq::numbered));
        parts.add((1..=100).map(|endpoint| (many, part(endpoint, 1))).collect());
        parts.add(vec![(few, part(101, 2))]);
        for _ in 0..5 {
            let taken = due(&mut parts);
            assert_eq!(taken.len(), STEPS_AT_ONCE);
            assert!(taken.contains(&part(101, 2)), "{taken:?}");
            for part in taken {
                parts.stepped(part, moved(1, None));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn full_part_waits_for_its_endpoint_or_ever_longer() {
        let mut parts = Parts::default();
        parts.add(of_one_tenant(&[part(1, 1), part(2, 1)]));
        for part in due(&mut parts) {
            parts.stepped(part, ReplayStep::Full);
        }
        assert_eq!(due(&mut parts), []);
        parts.wake(&BTreeSet::from([2, 3]));
        assert_eq!(due(&mut parts), [part(2, 1)]);
        parts.stepped(part(2, 1), ReplayStep::Ended);
        let mut delays = Vec::new();
        for _ in 0..8 {
            let before = Instant::now();
            sleep_until(parts.next_timer().unwrap()).await;
            delays.push(before.elapsed());
            assert_eq!(due(&mut parts), [part(1, 1)]);
            parts.stepped(part(1, 1), ReplayStep::Held);
        }
        assert_eq!((delays[0], delays[1]), (FIRST_DELAY, FIRST_DELAY * 2));
        assert_eq!(delays[7], LONGEST_DELAY);
        sleep_until(parts.next_timer().unwrap()).await;
        due(&mut parts);
        parts.stepped(part(1, 1), moved(1, None));
        assert_eq!(due(&mut parts), [part(1, 1)]);
        parts.stepped(part(1, 1), ReplayStep::Ended);
        assert_eq!((parts.next_timer(), parts.known.len(), parts.ready.len()), (None, 0, 0));
    }
}
