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

/// Builds a [`CircuitBreaker`].
///
/// # Defaults
/// It opens when half of the last 100 calls failed, from 20 calls on; for 30 s, a fifth more or less, and
/// twice as long each time up to 5 min, until it was closed for a minute. Then 3 probes, of which less than
/// half may fail or be slow, each of which has a minute. No call is slow. A dropped call is a failure if it
/// had been under way for as long as a slow call, or for a second where no call is slow.
///
/// The rate, window and open time are those of Resilience4j, with its minimum of 100 calls lowered for
/// services that have few; the growth of the open time is failsafe-rs's.
#[derive(Clone)]
#[must_use = "nothing is guarded until the breaker is built"]
pub struct CircuitBreakerBuilder {
    config: Config,
    on_cancel: Option<OnCancel>,
    listeners: Listeners<StateChange>,
    is_disabled: bool,
    shown: Option<(Scope, Name)>,
}

/// Says what a breaker does that was half open for as long as it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterWait {
    /// It opens again.
    Open,
    /// It closes.
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
    /// Says what opens the breaker.
    pub fn opens_on(mut self, trip: impl Into<Trip>) -> Self {
        self.config.trip = trip.into();
        self
    }

    /// Counts a call as slow that takes this long, which is more than zero: for the slow rates of windows and probes. Each
    /// call then reads the clock twice. With [`Duration::MAX`], none is slow.
    pub fn slow_call(mut self, time: Duration) -> Self {
        self.config.slow_call = Some(time);
        self
    }

    /// Says what a call counts as that is dropped before it ended.
    pub fn on_cancel(mut self, on_cancel: OnCancel) -> Self {
        self.on_cancel = Some(on_cancel);
        self
    }

    /// Says for how long the breaker is open: the first time, the second, and so on, until it was closed for
    /// [long enough](Self::stable_after). With [`Jitter::Full`] that may be no time at all.
    pub fn open_for(mut self, backoff: Backoff) -> Self {
        self.config.open_for = backoff;
        self
    }

    /// Lets the open time grow no further once the breaker was closed for so long: it begins anew. With zero it never grows,
    /// with [`Duration::MAX`] it always does.
    pub fn stable_after(mut self, time: Duration) -> Self {
        self.config.stable_after = time;
        self
    }

    /// Decides by this many probes, which may be under way at the same time.
    pub fn probes(mut self, count: u32) -> Self {
        self.config.probes.count = count;
        self
    }

    /// Opens again when this part of all probes fails, more than 0 and up to 1.
    pub fn probe_failure_rate(mut self, rate: f64) -> Self {
        self.config.probes.failure_rate = rate;
        self
    }

    /// Opens again when this part of all probes is slow, more than 0 and up to 1.
    pub fn probe_slow_rate(mut self, rate: f64) -> Self {
        self.config.probes.slow_rate = rate;
        self
    }

    /// Takes the place of a probe that has not ended after so long, and counts it as failed and slow: neither
    /// a hung call nor a permit that was leaked keeps the breaker half open. More than zero; with [`Duration::MAX`], they do.
    pub fn probe_lease(mut self, time: Duration) -> Self {
        self.config.probes.lease = time;
        self
    }

    /// Ends the half-open state after so long, if too few probes have ended by then. Without it, a breaker
    /// with hardly any calls stays half open, and lets them through, until there were enough; so it does with
    /// [`Duration::MAX`]. More than zero.
    pub fn half_open_max_wait(mut self, time: Duration, then: AfterWait) -> Self {
        self.config.probes.max_wait = Some((time, then));
        self
    }

    /// Calls `listener` at each change of state: after the change, in the order of changes, with no lock
    /// held. It runs in the call that made the change, so it should be quick. A panic of it is logged, and
    /// goes no further.
    pub fn on_change(mut self, listener: impl Fn(&StateChange) + Send + Sync + 'static) -> Self {
        self.listeners.add(listener);
        self
    }

    /// Makes a breaker that is disabled from the start, which is no change of state: it lets all calls through until it
    /// is [reset](CircuitBreaker::reset) or told otherwise.
    pub fn disabled(mut self) -> Self {
        self.is_disabled = true;
        self
    }

    /// Names the breaker, and shows it in the snapshots of the scope.
    pub fn named(mut self, scope: &Scope, name: impl Into<Name>) -> Self {
        self.shown = Some((scope.clone(), name.into()));
        self
    }

    /// Makes the breaker.
    ///
    /// # Errors
    /// [`InvalidPolicy`], if a rate is not more than 0 and up to 1, a count or a time is zero, or a window of
    /// calls never holds its minimum.
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
        // Or it would open again, or close, before it has let a probe through.
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
            // It is new, so nothing is there yet.
            let _ = shared.shown.set(shown);
        }
        CircuitBreaker(shared)
    }
}

/// Places of probes are looked through one by one.
const MAX_PROBES: u32 = 1000;

impl fmt::Debug for CircuitBreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
