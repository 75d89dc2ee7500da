//! The machine compared with a model that keeps every call and counts them again each time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::calls::CallRing;
use super::time::TimeRing;
use super::*;
use crate::resilience::Window;
use crate::resilience::breaker::builder::ProbeConfig;
use crate::{Backoff, Jitter};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn count<'a>(calls: impl IntoIterator<Item = &'a EndedCall>) -> CallCounts {
    let mut counts = CallCounts::default();
    calls.into_iter().for_each(|ended| counts.add(*ended));
    counts
}

fn ended() -> impl Strategy<Value = EndedCall> {
    (prop::bool::weighted(0.3), prop::bool::weighted(0.2))
        .prop_map(|(failed, slow)| EndedCall { failed, slow })
}

proptest! {
    #[test]
    fn window_of_calls_counts_exactly_the_last_calls(
        size in 1_u32..150,
        calls in prop::collection::vec(ended(), 0..500),
        clear_at in 0_usize..500,
    ) {
        let mut ring = CallRing::new(size);
        let mut last = VecDeque::new();
        for (at, call) in calls.into_iter().enumerate() {
            if at == clear_at {
                ring.clear();
                last.clear();
            }
            ring.record(call);
            last.push_back(call);
            if last.len() > size as usize {
                last.pop_front();
            }
            prop_assert_eq!(ring.counts(), count(&last));
            let all_succeeded = last.iter().all(|call| !call.failed && !call.slow);
            prop_assert_eq!(ring.is_saturated(), all_succeeded && last.len() == size as usize);
        }
    }

    #[test]
    fn successes_count_alike_at_once_and_one_by_one(
        size in 1_u32..200,
        calls in prop::collection::vec((ended(), 0_u32..300), 0..50),
    ) {
        let (mut at_once, mut one_by_one) = (CallRing::new(size), CallRing::new(size));
        for (call, successes) in calls {
            at_once.record(call);
            one_by_one.record(call);
            at_once.succeeded(successes);
            (0..successes).for_each(|_| one_by_one.record(EndedCall { failed: false, slow: false }));
            prop_assert_eq!(at_once.counts(), one_by_one.counts());
        }
        // The remaining calls leave in the same order.
        for _ in 0..size {
            at_once.succeeded(1);
            one_by_one.succeeded(1);
            prop_assert_eq!(at_once.counts(), one_by_one.counts());
        }
    }

    #[test]
    fn window_of_time_drops_a_call_at_most_an_interval_early(
        calls in prop::collection::vec((0_u64..2_500, ended()), 0..300),
        intervals in 10_u32..20,
    ) {
        let length = seconds(10);
        let mut ring = TimeRing::new(length, intervals);
        let mut now = Instant::now();
        let mut all = Vec::new();
        for (millis, call) in calls {
            // Mostly close together, sometimes far apart.
            now += Duration::from_millis(if millis > 2_400 { millis * 10 } else { millis / 10 });
            ring.record(call, now);
            all.push((now, call));
            let within = |time: Duration| {
                count(all.iter().filter(|(at, _)| now - *at < time).map(|(_, call)| call))
            };
            let (least, most) = (within(length - length / intervals), within(length));
            let has = ring.counts();
            prop_assert!(least.calls <= has.calls && has.calls <= most.calls, "{least:?} {has:?} {most:?}");
            prop_assert!(least.failures <= has.failures && has.failures <= most.failures);
            prop_assert!(least.slow <= has.slow && has.slow <= most.slow);
        }
    }
}

#[test]
fn window_of_time_counts_a_late_call_and_a_clock_jump_clears_it() {
    let mut ring = TimeRing::new(seconds(10), 10);
    let (success, now) = (EndedCall { failed: false, slow: false }, Instant::now() + seconds(3600));
    ring.record(success, now);
    ring.record(success, now - seconds(100));
    assert_eq!(ring.counts().calls, 2);
    ring.record(success, now + seconds(1_000_000_000));
    assert_eq!(ring.counts().calls, 1);
}

/// A step of a test.
#[derive(Debug, Clone)]
enum Step {
    Acquire,
    /// Ends one of the calls in flight, old ones too: `None` is a verdict to ignore it, or a dropped call.
    End(prop::sample::Index, Option<EndedCall>),
    Pass(u64),
    Force(BreakerState),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => Just(Step::Acquire),
        8 => (any::<prop::sample::Index>(), prop::option::weighted(0.8, ended()))
            .prop_map(|(which, ended)| Step::End(which, ended)),
        3 => (1_u64..15).prop_map(Step::Pass),
        1 => prop::sample::select(vec![
            BreakerState::Closed,
            BreakerState::ForcedOpen,
            BreakerState::ForcedClosed,
            BreakerState::MetricsOnly,
            BreakerState::Disabled,
        ])
        .prop_map(Step::Force),
    ];
    prop::collection::vec(step, 0..250)
}

const PROBES: u32 = 3;
const LEASE: u64 = 20;
const MAX_WAIT: u64 = 30;
const STABLE: u64 = 40;

fn config() -> BreakerConfig {
    BreakerConfig {
        consecutive_failures: Some(4),
        windows: vec![Window::calls(8).min_calls(5).failure_rate(0.6).slow_rate(0.5)],
        slow_call: Some(seconds(1)),
        open_for: Backoff::doubling(seconds(8), seconds(60)).with_jitter(Jitter::None),
        stable_after: seconds(STABLE),
        probes: ProbeConfig {
            count: PROBES,
            failure_rate: 0.6,
            slow_rate: 1.0,
            lease: seconds(LEASE),
            max_wait: Some((seconds(MAX_WAIT), BreakerState::Open)),
        },
    }
}

/// A breaker that remembers every call; times are whole seconds.
#[derive(Debug)]
struct Model {
    now: u64,
    state: BreakerState,
    /// The number of changes of state.
    era: u64,
    /// The outcomes of the calls of this era; of the probes if it is half-open.
    calls: Vec<EndedCall>,
    until: u64,
    /// The half-open state: its begin, and the probes in flight with their begins.
    since: u64,
    probes: Vec<(usize, u64)>,
    openings: u32,
    closed_at: Option<u64>,
    stale: u64,
    would_have: u64,
}

/// A call in flight, as the model knows it.
#[derive(Debug, Clone, Copy)]
struct ModelCall {
    number: usize,
    era: u64,
}

impl Model {
    fn enter(&mut self, state: BreakerState) {
        (self.state, self.era) = (state, self.era + 1);
        self.calls.clear();
        self.probes.clear();
        self.since = self.now;
    }

    fn open(&mut self) {
        if self.state == BreakerState::Closed && self.closed_at.is_none_or(|at| self.now - at >= STABLE) {
            self.openings = 0;
        }
        self.until = self.now + (8 << self.openings.min(10)).min(60);
        self.openings += 1;
        self.enter(BreakerState::Open);
    }

    fn time(&mut self) {
        if self.state == BreakerState::Open && self.now >= self.until {
            self.enter(BreakerState::HalfOpen);
        }
        if self.state != BreakerState::HalfOpen {
            return;
        }
        let hung = self.probes.iter().filter(|(_, begun)| self.now - begun >= LEASE).count();
        self.probes.retain(|(_, begun)| self.now - begun < LEASE);
        self.calls.extend(vec![EndedCall { failed: true, slow: true }; hung]);
        let seen = count(&self.calls);
        // Two failures of three are 0.66, three slow probes of three are 1.
        if seen.failures >= 2 || seen.slow >= 3 {
            self.open();
        } else if seen.calls == u64::from(PROBES) {
            self.closed_at = Some(self.now);
            self.enter(BreakerState::Closed);
        } else if self.now - self.since >= MAX_WAIT {
            self.open();
        }
    }

    fn acquire(&mut self, number: usize) -> Result<ModelCall, Option<Duration>> {
        self.time();
        match self.state {
            BreakerState::Open => return Err(Some(seconds(self.until - self.now))),
            BreakerState::ForcedOpen => return Err(None),
            BreakerState::HalfOpen if self.calls.len() + self.probes.len() >= PROBES as usize => {
                return Err(None);
            }
            BreakerState::HalfOpen => self.probes.push((number, self.now)),
            _ => {}
        }
        Ok(ModelCall { number, era: self.era })
    }

    fn end(&mut self, call: ModelCall, ended: Option<EndedCall>) {
        if call.era != self.era {
            self.stale += 1;
            return;
        }
        match self.state {
            BreakerState::HalfOpen => {
                match self.probes.iter().position(|(number, _)| *number == call.number) {
                    Some(at) => {
                        self.probes.remove(at);
                        self.calls.extend(ended);
                    }
                    None => self.stale += 1,
                }
                self.time();
            }
            BreakerState::Closed | BreakerState::ForcedClosed | BreakerState::MetricsOnly => {
                let Some(ended) = ended else { return };
                self.calls.push(ended);
                if !self.trips() {
                    return;
                }
                match self.state {
                    BreakerState::Closed => self.open(),
                    BreakerState::MetricsOnly => {
                        self.would_have += 1;
                        self.calls.clear();
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn streak(&self) -> usize {
        self.calls.iter().rev().take_while(|call| call.failed).count()
    }

    fn window(&self) -> CallCounts {
        count(self.calls.iter().rev().take(8))
    }

    fn trips(&self) -> bool {
        let window = self.window();
        let enough = window.calls >= 5;
        let rates = window.failure_rate() >= 0.6 || window.slow_rate() >= 0.5;
        self.streak() >= 4 || enough && rates
    }
}

proptest! {
    #[test]
    fn breaker_agrees_with_a_naive_model(steps in steps()) {
        let begin = Instant::now();
        let mut machine = BreakerMachine::new(config());
        let mut model = Model {
            now: 0,
            state: BreakerState::Closed,
            era: 0,
            calls: Vec::new(),
            until: 0,
            since: 0,
            probes: Vec::new(),
            openings: 0,
            closed_at: None,
            stale: 0,
            would_have: 0,
        };
        let mut in_flight: Vec<(AdmittedCall, ModelCall)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let now = begin + seconds(model.now);
            match step {
                Step::Acquire => match (machine.admit(now), model.acquire(number)) {
                    (Ok(admitted), Ok(under)) => {
                        prop_assert_eq!(admitted.probe.is_some(), model.state == BreakerState::HalfOpen);
                        in_flight.push((admitted, under));
                    }
                    (found, expected) => prop_assert_eq!(found.map(drop), expected.map(drop)),
                },
                Step::End(which, ended) if !in_flight.is_empty() => {
                    let (admitted, under) = in_flight.swap_remove(which.index(in_flight.len()));
                    let was_settled = machine.word();
                    machine.record(admitted, ended, || now);
                    model.end(under, ended);
                    // The caller of the machine does not record these at all.
                    if was_settled.is_settled()
                        && was_settled.generation() == admitted.generation
                        && ended == Some(EndedCall { failed: false, slow: false })
                    {
                        prop_assert_eq!(machine.word(), was_settled);
                    }
                }
                Step::End(..) => {}
                Step::Pass(time) => model.now += time,
                Step::Force(state) => {
                    machine.force(state);
                    if state == BreakerState::Closed {
                        (model.openings, model.closed_at) = (0, None);
                    }
                    model.enter(state);
                }
            }
            prop_assert_eq!(machine.state(), model.state);
            prop_assert_eq!(machine.totals.stale, model.stale);
            prop_assert_eq!(machine.totals.would_have_opened, model.would_have);
            if model.state == BreakerState::HalfOpen {
                prop_assert_eq!(machine.probes_in_flight(), model.probes.len());
            } else {
                prop_assert_eq!(machine.streak() as usize, model.streak());
                prop_assert_eq!(machine.windows(now)[0], model.window());
            }
            let admits = machine.word().admits();
            let open = [BreakerState::Open, BreakerState::HalfOpen, BreakerState::ForcedOpen];
            prop_assert_eq!(admits, !open.contains(&model.state));
        }
        // Each change was recorded, and begins where the one before it ended.
        let mut state = BreakerState::Closed;
        for change in &machine.changes {
            prop_assert_eq!(change.from, state);
            state = change.to;
        }
        prop_assert_eq!(state, model.state);
    }

    /// After any steps, with calls that never end, time alone makes the next call pass.
    #[test]
    fn time_alone_lets_a_breaker_that_is_not_forced_admit_a_call(steps in steps()) {
        let mut now = Instant::now();
        let mut machine = BreakerMachine::new(config());
        let mut in_flight = Vec::new();
        for step in steps {
            match step {
                Step::Acquire => in_flight.extend(machine.admit(now)),
                Step::End(which, ended) if !in_flight.is_empty() => {
                    machine.record(in_flight.swap_remove(which.index(in_flight.len())), ended, || now);
                }
                Step::Pass(time) => now += seconds(time),
                _ => {}
            }
        }
        // Once to expire the leases of hung probes, and once for the open time that follows.
        let mut passes = || {
            now += seconds(61);
            machine.admit(now).is_ok()
        };
        let passed = passes() || passes();
        prop_assert!(passed, "{machine:?}");
    }
}
