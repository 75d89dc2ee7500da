//! The decisions of a breaker: without a clock of its own, a lock or a runtime.

mod calls;
mod probing;
mod rule;
mod time;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::config::Config;
use super::counts::{Counts, Ended};
use super::state::{BreakerState, Cause, StateChange};
use super::word::{Calls, Success};
use super::{AfterWait, Word};
use crate::{mutant, rng};
use probing::{Probing, later};
use rule::Rule;

#[derive(Debug)]
pub(super) struct Machine {
    config: Config,
    phase: Phase,
    /// A new number at every change of state: a call that was admitted before a change does not count after it.
    generation: u64,
    /// The number of consecutive failures.
    streak: u32,
    rules: Vec<Rule>,
    /// The number of times that it opened since it was last closed for long.
    attempt: u32,
    closed_at: Option<Instant>,
    pub(super) totals: Totals,
    /// Changes that have not been reported yet.
    pub(super) changes: VecDeque<StateChange>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) opened: u64,
    pub(super) would_have_opened: u64,
    pub(super) rejected: u64,
    pub(super) stale: u64,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen(Probing),
    /// `ForcedOpen`, `ForcedClosed`, `MetricsOnly` or `Disabled`.
    Manual(BreakerState),
}

/// A call that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) generation: u64,
    /// The number of the probe, if the call is one.
    pub(super) probe: Option<u32>,
}

impl Machine {
    pub(super) fn new(config: Config) -> Self {
        Self {
            rules: config.trip.windows.iter().copied().map(Rule::new).collect(),
            config,
            phase: Phase::Closed,
            generation: 0,
            streak: 0,
            attempt: 0,
            closed_at: None,
            totals: Totals::default(),
            changes: VecDeque::new(),
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen(_) => BreakerState::HalfOpen,
            Phase::Manual(state) => state,
        }
    }

    /// Returns the part of the state that is published.
    pub(super) fn word(&self) -> Word {
        let (calls, counts) = match self.phase {
            Phase::Closed | Phase::Manual(BreakerState::ForcedClosed | BreakerState::MetricsOnly) => {
                (Calls::Admitted, true)
            }
            Phase::Open { .. } => (Calls::RejectedForATime, true),
            Phase::HalfOpen(_) => (Calls::Asked, true),
            Phase::Manual(BreakerState::Disabled) => (Calls::Admitted, false),
            Phase::Manual(_) => (Calls::Asked, false),
        };
        let success = match calls {
            _ if !counts => Success::Settled,
            Calls::Admitted if self.streak == 0 => self.success_without_a_streak(),
            // In a closed breaker, a success ends a streak. In the other states, it belongs to a probe, or to an
            // earlier generation.
            _ => Success::Told,
        };
        Word::new(self.generation, calls, success)
    }

    fn success_without_a_streak(&self) -> Success {
        if self.rules.iter().all(Rule::is_saturated) {
            return Success::Settled;
        }
        match self.rules.iter().all(Rule::only_counts_successes) {
            true => Success::Counted,
            false => Success::Told,
        }
    }

    /// Records successes that were only counted.
    pub(super) fn succeeded(&mut self, calls: u32) {
        self.streak = 0;
        self.rules.iter_mut().for_each(|rule| rule.succeeded(calls));
    }

    /// Admits a call, or returns the time after which to ask again, if it is known.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Admitted, Option<Duration>> {
        self.pass_time(now);
        let probe = match &mut self.phase {
            Phase::Closed => None,
            Phase::Open { until } => {
                let left = until.saturating_duration_since(now);
                return self.reject(Some(left));
            }
            Phase::HalfOpen(probing) => match probing.admit(&self.config.probes, now) {
                Some(probe) => Some(probe),
                None => return self.reject(None),
            },
            Phase::Manual(BreakerState::ForcedOpen) => return self.reject(None),
            Phase::Manual(_) => None,
        };
        Ok(Admitted { generation: self.generation, probe })
    }

    fn reject(&mut self, after: Option<Duration>) -> Result<Admitted, Option<Duration>> {
        self.totals.rejected += 1;
        Err(after)
    }

    /// Records the outcome of a call; `None` if the call does not count. Reads the time only if it is needed.
    pub(super) fn record(&mut self, call: Admitted, ended: Option<Ended>, now: impl Fn() -> Instant + Copy) {
        if call.generation != self.generation && !mutant!("breaker.act_on_stale") {
            self.totals.stale += 1;
            return;
        }
        if let (Phase::HalfOpen(probing), Some(probe)) = (&mut self.phase, call.probe) {
            if !probing.end(probe, ended) {
                self.totals.stale += 1;
            }
            self.pass_time(now());
            return;
        }
        let Some(ended) = ended else { return };
        match self.phase {
            Phase::Closed | Phase::Manual(BreakerState::ForcedClosed | BreakerState::MetricsOnly) => {}
            _ => return,
        }
        self.streak = if ended.failed { self.streak.saturating_add(1) } else { 0 };
        self.rules.iter_mut().for_each(|rule| rule.record(ended, now));
        let Some(cause) = self.tripped() else { return };
        match self.phase {
            Phase::Closed => self.open(cause, now()),
            Phase::Manual(BreakerState::MetricsOnly) => {
                self.totals.would_have_opened += 1;
                // Cleared, because otherwise each further call would report it again.
                self.clear();
                let state = BreakerState::MetricsOnly;
                self.changes.push_back(StateChange { from: state, to: state, cause, open_for: None });
            }
            _ => {}
        }
    }

    fn tripped(&self) -> Option<Cause> {
        match self.config.trip.consecutive {
            Some(limit) if self.streak >= limit => Some(Cause::Consecutive { failures: self.streak }),
            _ => self.rules.iter().find_map(Rule::tripped),
        }
    }

    /// Makes the changes that are due because of the time or of the probes.
    pub(super) fn pass_time(&mut self, now: Instant) {
        if let Phase::Open { until } = self.phase
            && now >= until
        {
            self.change(Phase::HalfOpen(Probing::new(now)), Cause::OpenTimeOver, None);
        }
        let Phase::HalfOpen(probing) = &mut self.phase else { return };
        let probes = &self.config.probes;
        probing.expire(now);
        let decided = probing.verdict(probes).or_else(|| {
            let (longest, then) = probes.max_wait?;
            let cause = probing.waited(longest, now)?;
            Some((then == AfterWait::Close, cause))
        });
        match decided {
            Some((true, cause)) => {
                self.closed_at = Some(now);
                self.clear();
                self.change(Phase::Closed, cause, None);
            }
            Some((false, cause)) => self.open(cause, now),
            None => {}
        }
    }

    fn open(&mut self, cause: Cause, now: Instant) {
        let was_closed = matches!(self.phase, Phase::Closed);
        let stable =
            |closed_at: Instant| now.saturating_duration_since(closed_at) >= self.config.stable_after;
        if was_closed && self.closed_at.is_none_or(stable) {
            self.attempt = 0;
        }
        let open_for = rng::aside(|rng| self.config.open_for.delay(self.attempt, rng));
        self.attempt = self.attempt.saturating_add(1);
        self.totals.opened += 1;
        self.clear();
        self.change(Phase::Open { until: later(now, open_for) }, cause, Some(open_for));
    }

    /// Forces a state; `Closed` returns to the initial state.
    pub(super) fn force(&mut self, state: BreakerState) {
        if state == BreakerState::Closed {
            (self.attempt, self.closed_at) = (0, None);
        }
        self.clear();
        let phase = match state {
            BreakerState::Closed => Phase::Closed,
            manual => Phase::Manual(manual),
        };
        self.change(phase, Cause::Manual, None);
    }

    fn change(&mut self, phase: Phase, cause: Cause, open_for: Option<Duration>) {
        let from = self.state();
        self.phase = phase;
        self.generation += 1;
        let to = self.state();
        if from != to {
            self.changes.push_back(StateChange { from, to, cause, open_for });
        }
    }

    fn clear(&mut self) {
        self.streak = 0;
        self.rules.iter_mut().for_each(Rule::clear);
    }

    pub(super) fn streak(&self) -> u32 {
        self.streak
    }

    pub(super) fn windows(&mut self, now: Instant) -> Vec<Counts> {
        self.rules.iter_mut().for_each(|rule| rule.advance(now));
        self.rules.iter().map(Rule::counts).collect()
    }

    pub(super) fn probes_under_way(&self) -> usize {
        match &self.phase {
            Phase::HalfOpen(probing) => probing.under_way(),
            _ => 0,
        }
    }

    pub(super) fn retry_after(&self, now: Instant) -> Option<Duration> {
        self.open_until().map(|until| until.saturating_duration_since(now))
    }

    pub(super) fn open_until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { until } => Some(until),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
