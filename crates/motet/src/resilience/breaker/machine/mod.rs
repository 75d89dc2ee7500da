//! The decisions of a breaker: without a clock of its own, a lock or a runtime.

mod calls;
mod probing;
mod rule;
mod time;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::StateWord;
use super::builder::BreakerConfig;
use super::counts::{CallCounts, EndedCall};
use super::state::{BreakerState, StateChange, TripCause};
use super::word::{CallMode, SuccessMode};
use crate::{mutant, rng};
use probing::{Probing, later};
use rule::WindowRule;

#[derive(Debug)]
pub(super) struct BreakerMachine {
    config: BreakerConfig,
    phase: BreakerPhase,
    /// A new number at every change of state: a call that was admitted before a change does not count after it.
    generation: u64,
    /// The number of consecutive failures.
    streak: u32,
    rules: Vec<WindowRule>,
    /// The number of times that it opened since it was last closed for long.
    attempt: u32,
    closed_at: Option<Instant>,
    pub(super) totals: BreakerTotals,
    /// Changes that have not been reported yet.
    pub(super) changes: VecDeque<StateChange>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BreakerTotals {
    pub(super) opened: u64,
    pub(super) would_have_opened: u64,
    pub(super) rejected: u64,
    pub(super) stale: u64,
}

#[derive(Debug)]
enum BreakerPhase {
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
pub(super) struct AdmittedCall {
    pub(super) generation: u64,
    /// The number of the probe, if the call is one.
    pub(super) probe: Option<u32>,
}

impl BreakerMachine {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self {
            rules: config.windows.iter().copied().map(WindowRule::new).collect(),
            config,
            phase: BreakerPhase::Closed,
            generation: 0,
            streak: 0,
            attempt: 0,
            closed_at: None,
            totals: BreakerTotals::default(),
            changes: VecDeque::new(),
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.phase {
            BreakerPhase::Closed => BreakerState::Closed,
            BreakerPhase::Open { .. } => BreakerState::Open,
            BreakerPhase::HalfOpen(_) => BreakerState::HalfOpen,
            BreakerPhase::Manual(state) => state,
        }
    }

    /// Returns the part of the state that is published.
    pub(super) fn word(&self) -> StateWord {
        let (calls, counts) = match self.phase {
            BreakerPhase::Closed
            | BreakerPhase::Manual(BreakerState::ForcedClosed | BreakerState::MetricsOnly) => {
                (CallMode::Admitted, true)
            }
            BreakerPhase::Open { .. } => (CallMode::RejectedUntil, true),
            BreakerPhase::HalfOpen(_) => (CallMode::Decided, true),
            BreakerPhase::Manual(BreakerState::Disabled) => (CallMode::Admitted, false),
            BreakerPhase::Manual(_) => (CallMode::Decided, false),
        };
        let success = match calls {
            _ if !counts => SuccessMode::Settled,
            CallMode::Admitted if self.streak == 0 => self.success_without_a_streak(),
            // In a closed breaker, a success ends a streak. In the other states, it belongs to a probe, or to an
            // earlier generation.
            _ => SuccessMode::Recorded,
        };
        StateWord::new(self.generation, calls, success)
    }

    fn success_without_a_streak(&self) -> SuccessMode {
        if self.rules.iter().all(WindowRule::is_saturated) {
            return SuccessMode::Settled;
        }
        match self.rules.iter().all(WindowRule::only_counts_successes) {
            true => SuccessMode::Counted,
            false => SuccessMode::Recorded,
        }
    }

    /// Records successes that were only counted.
    pub(super) fn succeeded(&mut self, calls: u32) {
        self.streak = 0;
        self.rules.iter_mut().for_each(|rule| rule.succeeded(calls));
    }

    /// Admits a call, or returns the time after which to ask again, if it is known.
    pub(super) fn admit(&mut self, now: Instant) -> Result<AdmittedCall, Option<Duration>> {
        self.pass_time(now);
        let probe = match &mut self.phase {
            BreakerPhase::Closed => None,
            BreakerPhase::Open { until } => {
                let left = until.saturating_duration_since(now);
                return self.reject(Some(left));
            }
            BreakerPhase::HalfOpen(probing) => match probing.admit(&self.config.probes, now) {
                Some(probe) => Some(probe),
                None => return self.reject(None),
            },
            BreakerPhase::Manual(BreakerState::ForcedOpen) => return self.reject(None),
            BreakerPhase::Manual(_) => None,
        };
        Ok(AdmittedCall { generation: self.generation, probe })
    }

    fn reject(&mut self, after: Option<Duration>) -> Result<AdmittedCall, Option<Duration>> {
        self.totals.rejected += 1;
        Err(after)
    }

    /// Records the outcome of a call; `None` if the call does not count. Reads the time only if it is needed.
    pub(super) fn record(
        &mut self,
        call: AdmittedCall,
        ended: Option<EndedCall>,
        now: impl Fn() -> Instant + Copy,
    ) {
        let mut is_stale = call.generation != self.generation;
        if mutant!("breaker.act_on_stale") {
            is_stale = false;
        }
        if is_stale {
            self.totals.stale += 1;
            return;
        }
        if let (BreakerPhase::HalfOpen(probing), Some(probe)) = (&mut self.phase, call.probe) {
            if !probing.end(probe, ended) {
                self.totals.stale += 1;
            }
            self.pass_time(now());
            return;
        }
        let Some(ended) = ended else { return };
        match self.phase {
            BreakerPhase::Closed
            | BreakerPhase::Manual(BreakerState::ForcedClosed | BreakerState::MetricsOnly) => {}
            _ => return,
        }
        self.streak = if ended.failed { self.streak.saturating_add(1) } else { 0 };
        self.rules.iter_mut().for_each(|rule| rule.record(ended, now));
        let Some(cause) = self.tripped() else { return };
        match self.phase {
            BreakerPhase::Closed => self.open(cause, now()),
            BreakerPhase::Manual(BreakerState::MetricsOnly) => {
                self.totals.would_have_opened += 1;
                // Cleared, because otherwise each further call would report it again.
                self.clear();
                let state = BreakerState::MetricsOnly;
                self.changes.push_back(StateChange { from: state, to: state, cause, open_for: None });
            }
            _ => {}
        }
    }

    fn tripped(&self) -> Option<TripCause> {
        match self.config.consecutive_failures {
            Some(limit) if self.streak >= limit => Some(TripCause::Consecutive { failures: self.streak }),
            _ => self.rules.iter().find_map(WindowRule::tripped),
        }
    }

    /// Makes the changes that are due because of the time or of the probes.
    pub(super) fn pass_time(&mut self, now: Instant) {
        if let BreakerPhase::Open { until } = self.phase
            && now >= until
        {
            self.change(BreakerPhase::HalfOpen(Probing::new(now)), TripCause::OpenTimeOver, None);
        }
        let BreakerPhase::HalfOpen(probing) = &mut self.phase else { return };
        let probes = &self.config.probes;
        probing.expire(now);
        let decided = probing.verdict(probes).or_else(|| {
            let (longest, then) = probes.max_wait?;
            let cause = probing.waited(longest, now)?;
            Some((then == BreakerState::Closed, cause))
        });
        match decided {
            Some((true, cause)) => {
                self.closed_at = Some(now);
                self.clear();
                self.change(BreakerPhase::Closed, cause, None);
            }
            Some((false, cause)) => self.open(cause, now),
            None => {}
        }
    }

    fn open(&mut self, cause: TripCause, now: Instant) {
        let was_closed = matches!(self.phase, BreakerPhase::Closed);
        let stable =
            |closed_at: Instant| now.saturating_duration_since(closed_at) >= self.config.stable_after;
        if was_closed && self.closed_at.is_none_or(stable) {
            self.attempt = 0;
        }
        let open_for = rng::aside(|rng| self.config.open_for.delay(self.attempt, rng));
        self.attempt = self.attempt.saturating_add(1);
        self.totals.opened += 1;
        self.clear();
        self.change(BreakerPhase::Open { until: later(now, open_for) }, cause, Some(open_for));
    }

    /// Forces a state; `Closed` returns to the initial state.
    pub(super) fn force(&mut self, state: BreakerState) {
        if state == BreakerState::Closed {
            (self.attempt, self.closed_at) = (0, None);
        }
        self.clear();
        let phase = match state {
            BreakerState::Closed => BreakerPhase::Closed,
            manual => BreakerPhase::Manual(manual),
        };
        self.change(phase, TripCause::Manual, None);
    }

    fn change(&mut self, phase: BreakerPhase, cause: TripCause, open_for: Option<Duration>) {
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
        self.rules.iter_mut().for_each(WindowRule::clear);
    }

    pub(super) fn streak(&self) -> u32 {
        self.streak
    }

    pub(super) fn windows(&mut self, now: Instant) -> Vec<CallCounts> {
        self.rules.iter_mut().for_each(|rule| rule.advance(now));
        self.rules.iter().map(WindowRule::counts).collect()
    }

    pub(super) fn probes_in_flight(&self) -> usize {
        match &self.phase {
            BreakerPhase::HalfOpen(probing) => probing.in_flight(),
            _ => 0,
        }
    }

    pub(super) fn retry_after(&self, now: Instant) -> Option<Duration> {
        self.open_until().map(|until| until.saturating_duration_since(now))
    }

    pub(super) fn open_until(&self) -> Option<Instant> {
        match self.phase {
            BreakerPhase::Open { until } => Some(until),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
