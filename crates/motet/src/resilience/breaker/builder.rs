use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::config::{Config, Probes};
use super::machine::Machine;
use super::shared::Shared;
use super::trip::check_rate;
use super::{BreakerState, CircuitBreaker, OnCancel, StateChange, Trip, Window};
use crate::resilience::InvalidPolicy;
use crate::resilience::listeners::Listeners;
use crate::task::{Name, Scope};
use crate::{Backoff, Jitter};

/// A builder of a [`CircuitBreaker`].
///
/// # Defaults
/// The breaker opens when half of the last 100 calls failed, once there were 20 calls. It opens for 30 s, plus or minus
/// a fifth, and twice as long each time up to 5 min, until it was closed for a minute. Then 3 probes decide: it closes
/// if fewer than half of them fail and fewer than half are slow, and each has a minute. No call counts as slow. A
/// dropped call is a failure if it ran for at least the time of a slow call, or for a second if no call counts as slow.
///
/// The rate, window and open time are those of Resilience4j, with its minimum of 100 calls lowered for services with
/// few calls; the growth of the open time is that of failsafe-rs.
#[derive(Clone)]
#[must_use = "nothing is guarded until the breaker is built"]
pub struct CircuitBreakerBuilder {
    config: Config,
    on_cancel: Option<OnCancel>,
    listeners: Listeners<StateChange>,
    is_disabled: bool,
    shown: Option<(Scope, Name)>,
}

/// The next state of a breaker that was half-open for the longest allowed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterWait {
    /// The breaker opens again.
    Open,
    /// The breaker closes.
    Close,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Default for CircuitBreakerBuilder {
    fn default() -> Self {
        let open_for = Backoff::doubling(MINUTE / 2, MINUTE * 5).with_jitter(Jitter::Proportional(0.2));
        let probes = Probes { count: 3, failure_rate: 0.5, slow_rate: 0.5, lease: MINUTE, max_wait: None };
        let config = Config {
            trip: Window::calls(100).into(),
            slow_call: None,
            open_for,
            stable_after: MINUTE,
            probes,
        };
        Self { config, on_cancel: None, listeners: Listeners::default(), is_disabled: false, shown: None }
    }
}

impl CircuitBreakerBuilder {
    /// Sets what opens the breaker.
    pub fn opens_on(mut self, trip: impl Into<Trip>) -> Self {
        self.config.trip = trip.into();
        self
    }

    /// Sets the time from which a call counts as slow, for the slow rates of windows and probes; more than zero. Each
    /// call then reads the clock twice. With [`Duration::MAX`], no call is slow.
    pub fn slow_call(mut self, time: Duration) -> Self {
        self.config.slow_call = Some(time);
        self
    }

    /// Sets how a call counts that is dropped before it ended.
    pub fn on_cancel(mut self, on_cancel: OnCancel) -> Self {
        self.on_cancel = Some(on_cancel);
        self
    }

    /// Sets how long the breaker is open: the first time, the second time, and so on, until it was closed for [long
    /// enough](Self::stable_after). With [`Jitter::Full`], that may be no time at all.
    pub fn open_for(mut self, backoff: Backoff) -> Self {
        self.config.open_for = backoff;
        self
    }

    /// Sets how long the breaker must be closed until its open time starts again at the first value. With zero, the
    /// open time never grows; with [`Duration::MAX`], it grows every time.
    pub fn stable_after(mut self, time: Duration) -> Self {
        self.config.stable_after = time;
        self
    }

    /// Sets the number of probes that decide, which may all be in flight at the same time; from 1 to 1000.
    pub fn probes(mut self, count: u32) -> Self {
        self.config.probes.count = count;
        self
    }

    /// Sets the share of failed probes from which the breaker opens again, more than 0 and at most 1. It is a share of
    /// all probes, not of those that have ended.
    pub fn probe_failure_rate(mut self, rate: f64) -> Self {
        self.config.probes.failure_rate = rate;
        self
    }

    /// Sets the share of slow probes from which the breaker opens again, more than 0 and at most 1. It is a share of
    /// all probes, not of those that have ended.
    pub fn probe_slow_rate(mut self, rate: f64) -> Self {
        self.config.probes.slow_rate = rate;
        self
    }

    /// Sets how long a probe may take, more than zero. A probe that has not ended by then counts as failed and slow,
    /// and another call may be let through as a probe: neither a hung call nor a leaked permit keeps the breaker
    /// half-open. With [`Duration::MAX`], they do.
    pub fn probe_lease(mut self, time: Duration) -> Self {
        self.config.probes.lease = time;
        self
    }

    /// Sets how long the breaker stays half-open, more than zero, and its state after that if too few probes have
    /// ended. Without this setting, or with [`Duration::MAX`], a breaker with few calls stays half-open, and lets them
    /// through, until enough probes have ended.
    pub fn half_open_max_wait(mut self, time: Duration, then: AfterWait) -> Self {
        self.config.probes.max_wait = Some((time, then));
        self
    }

    /// Calls `listener` after each change of state, in the order of the changes, with no lock held. It runs in the call
    /// that made the change, and should be quick. Its panic is logged, and goes no further.
    pub fn on_change(mut self, listener: impl Fn(&StateChange) + Send + Sync + 'static) -> Self {
        self.listeners.add(listener);
        self
    }

    /// Starts the breaker disabled, which is not a change of state: it admits all calls until it is
    /// [reset](CircuitBreaker::reset) or another state is forced.
    pub fn disabled(mut self) -> Self {
        self.is_disabled = true;
        self
    }

    /// Sets the name, and registers the breaker with the scope, whose snapshots show it.
    pub fn named(mut self, scope: &Scope, name: impl Into<Name>) -> Self {
        self.shown = Some((scope.clone(), name.into()));
        self
    }

    /// Builds the breaker.
    ///
    /// # Errors
    /// [`InvalidPolicy`] if a rate is not more than 0 and at most 1, a count or a time is zero, there are more than
    /// 1000 probes, or a window of calls is smaller than its minimum of calls.
    pub fn build(self) -> Result<CircuitBreaker, InvalidPolicy> {
        Ok(self.check()?.checked())
    }

    pub(in crate::resilience) fn check(self) -> Result<Self, InvalidPolicy> {
        let probes = &self.config.probes;
        self.config.trip.check()?;
        check_rate(probes.failure_rate)?;
        check_rate(probes.slow_rate)?;
        let within = (1..=MAX_PROBES).contains(&probes.count);
        InvalidPolicy::unless(within, "a breaker decides by 1 to 1000 probes")?;
        InvalidPolicy::unless(!probes.lease.is_zero(), "a probe has more than no time")?;
        // Otherwise the breaker would leave the half-open state before it has let a probe through.
        let waits = probes.max_wait.is_none_or(|(time, _)| !time.is_zero());
        InvalidPolicy::unless(waits, "a breaker is half open for more than no time")?;
        let slow = self.config.slow_call.is_none_or(|time| !time.is_zero());
        InvalidPolicy::unless(slow, "a slow call takes more than no time")?;
        Ok(self)
    }

    pub(in crate::resilience) fn checked(self) -> CircuitBreaker {
        let slow_call = self.config.slow_call;
        let hung = slow_call.unwrap_or(Duration::from_secs(1));
        let on_cancel = self.on_cancel.unwrap_or(OnCancel::FailureIfLongerThan(hung));
        let name = self.shown.as_ref().map(|(_, name)| name.clone());
        let mut machine = Machine::new(self.config);
        if self.is_disabled {
            machine.force(BreakerState::Disabled);
            machine.changes.clear();
        }
        let shared = Arc::new(Shared::new(machine, slow_call, on_cancel, name, self.listeners));
        if let Some((scope, name)) = self.shown {
            let weak = Arc::downgrade(&shared);
            let shown = scope.register("circuit breaker", name, move || {
                weak.upgrade().map(|shared| CircuitBreaker(shared).stats().shown()).unwrap_or_default()
            });
            // The breaker is new, so the cell is empty.
            let _ = shared.shown.set(shown);
        }
        CircuitBreaker(shared)
    }
}

/// The leases of probes are searched linearly.
const MAX_PROBES: u32 = 1000;

impl fmt::Debug for CircuitBreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
