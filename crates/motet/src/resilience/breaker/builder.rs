use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::machine::BreakerMachine;
use super::shared::BreakerShared;
use super::window::check_rate;
use super::{BreakerState, CircuitBreaker, StateChange, Window};
use crate::resilience::PolicyConfigError;
use crate::resilience::listeners::Listeners;
use crate::resilience::register::{RegisterWith, register};
use crate::task::{Name, Scope};
use crate::{Backoff, Jitter};

/// A builder of a [`CircuitBreaker`].
///
/// # Defaults
/// The breaker opens when half of the last 100 calls failed, once there were 20 calls. It opens for 30 s, plus or minus
/// a fifth, and twice as long each time up to 5 min, until it was closed for a minute. Then 3 probes decide: it closes
/// if fewer than half of them fail and fewer than half are slow, and each has a minute. No call counts as slow. A
/// dropped call is a failure if it ran for at least the time of a slow call; if no time of a slow call is set, for a
/// second.
///
/// The rate, window and open time are those of Resilience4j, with its minimum of 100 calls lowered for services with
/// few calls; the growth of the open time is that of failsafe-rs.
#[derive(Clone)]
#[must_use = "nothing is guarded until the breaker is built"]
pub struct CircuitBreakerBuilder {
    config: BreakerConfig,
    dropped_calls: Option<DroppedCalls>,
    listeners: Listeners<StateChange>,
    is_disabled: bool,
    name: Option<Name>,
}

/// The settings of a breaker.
#[derive(Debug, Clone)]
pub(super) struct BreakerConfig {
    pub(super) consecutive_failures: Option<u32>,
    pub(super) windows: Vec<Window>,
    /// The time from which a call counts as slow.
    pub(super) slow_call: Option<Duration>,
    pub(super) open_for: Backoff,
    pub(super) stable_after: Duration,
    pub(super) probes: ProbeConfig,
}

#[derive(Debug, Clone)]
pub(super) struct ProbeConfig {
    pub(super) count: u32,
    pub(super) failure_rate: f64,
    pub(super) slow_rate: f64,
    pub(super) lease: Duration,
    pub(super) max_wait: Option<(Duration, BreakerState)>,
}

/// How a call counts that was dropped before it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DroppedCalls {
    Ignored,
    Failed,
    FailedAfter(Duration),
}

const MINUTE: Duration = Duration::from_secs(60);

impl Default for CircuitBreakerBuilder {
    fn default() -> Self {
        let open_for = Backoff::doubling(MINUTE / 2, MINUTE * 5).with_jitter(Jitter::Proportional(0.2));
        let probes =
            ProbeConfig { count: 3, failure_rate: 0.5, slow_rate: 0.5, lease: MINUTE, max_wait: None };
        let config = BreakerConfig {
            consecutive_failures: None,
            windows: Vec::new(),
            slow_call: None,
            open_for,
            stable_after: MINUTE,
            probes,
        };
        Self { config, dropped_calls: None, listeners: Listeners::default(), is_disabled: false, name: None }
    }
}

impl CircuitBreakerBuilder {
    /// Opens the breaker after this many consecutive failures, at least 1. It replaces the default window, and applies
    /// in addition to the windows that are added.
    ///
    /// This is the cheapest condition: a success reads no clock and takes no lock, unless it ends a streak.
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.config.consecutive_failures = Some(failures);
        self
    }

    /// Adds a window whose rates open the breaker. It replaces the default window, and applies in addition to other
    /// windows and to [`consecutive_failures`](Self::consecutive_failures).
    pub fn window(mut self, window: Window) -> Self {
        self.config.windows.push(window);
        self
    }

    /// Sets the time from which a call counts as slow, for the slow rates of windows and probes; more than zero. Each
    /// call then reads the clock twice. With [`Duration::MAX`], no call is slow.
    pub fn slow_call(mut self, time: Duration) -> Self {
        self.config.slow_call = Some(time);
        self
    }

    /// Does not count calls that are dropped before they ended.
    ///
    /// A call whose caller lost interest does not show whether the dependency is healthy. A call that hung until a
    /// timeout of the caller dropped it shows the most: a breaker that ignores such calls never opens for a dependency
    /// that hangs.
    pub fn ignore_dropped_calls(mut self) -> Self {
        self.dropped_calls = Some(DroppedCalls::Ignored);
        self
    }

    /// Counts calls that are dropped before they ended as failures.
    pub fn fail_dropped_calls(mut self) -> Self {
        self.dropped_calls = Some(DroppedCalls::Failed);
        self
    }

    /// Counts a call that is dropped before it ended as a failure, and as slow, if it ran for at least `duration`;
    /// otherwise the call does not count. With zero, it always counts as a failure; with [`Duration::MAX`], never.
    pub fn fail_dropped_calls_after(mut self, duration: Duration) -> Self {
        self.dropped_calls = Some(DroppedCalls::FailedAfter(duration));
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
    /// ended, `Open` or `Closed`. Without this setting, or with [`Duration::MAX`], a breaker with few calls stays
    /// half-open, and lets them through, until enough probes have ended.
    pub fn half_open_max_wait(mut self, time: Duration, then: BreakerState) -> Self {
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

    /// Sets the name, for errors, logs and snapshots.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Builds the breaker. If it has a name, the snapshots of the scope of the running task show it.
    ///
    /// # Errors
    /// [`PolicyConfigError`] if a rate is not more than 0 and at most 1, a count or a time is zero, there are more than
    /// 1000 probes, a window of calls is smaller than its minimum of calls, or the state after
    /// [`half_open_max_wait`](Self::half_open_max_wait) is neither `Open` nor `Closed`.
    pub fn build(self) -> Result<CircuitBreaker, PolicyConfigError> {
        Ok(self.check()?.checked(RegisterWith::AmbientScope))
    }

    /// Builds the breaker. If it has a name, the snapshots of `scope` show it.
    ///
    /// # Errors
    /// [`PolicyConfigError`], as for [`build`](Self::build).
    pub fn build_in(self, scope: &Scope) -> Result<CircuitBreaker, PolicyConfigError> {
        Ok(self.check()?.checked(RegisterWith::Scope(scope)))
    }

    pub(in crate::resilience) fn check(self) -> Result<Self, PolicyConfigError> {
        let config = &self.config;
        if let Some(failures) = config.consecutive_failures {
            PolicyConfigError::unless(failures > 0, "consecutive_failures", failures, "at least 1")?;
        }
        config.windows.iter().try_for_each(Window::check)?;
        let probes = &config.probes;
        check_rate("probe_failure_rate", probes.failure_rate)?;
        check_rate("probe_slow_rate", probes.slow_rate)?;
        let fits = (1..=MAX_PROBES).contains(&probes.count);
        PolicyConfigError::unless(fits, "probes", probes.count, "from 1 to 1000")?;
        let above_zero = |setting, time: Duration| {
            PolicyConfigError::unless(!time.is_zero(), setting, time, "more than zero")
        };
        above_zero("probe_lease", probes.lease)?;
        if let Some((time, then)) = probes.max_wait {
            // With zero, the breaker would leave the half-open state before it has let a probe through.
            above_zero("half_open_max_wait", time)?;
            let is_allowed = matches!(then, BreakerState::Open | BreakerState::Closed);
            PolicyConfigError::unless(
                is_allowed,
                "half_open_max_wait",
                then,
                "followed by `Open` or `Closed`",
            )?;
        }
        config.slow_call.map_or(Ok(()), |time| above_zero("slow_call", time))?;
        Ok(self)
    }

    pub(in crate::resilience) fn checked(mut self, with: RegisterWith<'_>) -> CircuitBreaker {
        if self.config.consecutive_failures.is_none() && self.config.windows.is_empty() {
            self.config.windows.push(Window::calls(100));
        }
        let slow_call = self.config.slow_call;
        let hung = slow_call.unwrap_or(Duration::from_secs(1));
        let dropped_calls = self.dropped_calls.unwrap_or(DroppedCalls::FailedAfter(hung));
        let mut machine = BreakerMachine::new(self.config);
        if self.is_disabled {
            machine.force(BreakerState::Disabled);
            machine.changes.clear();
        }
        let name = self.name;
        let shared = BreakerShared::new(machine, slow_call, dropped_calls, name.clone(), self.listeners);
        let shared = Arc::new(shared);
        let stats = |shared| CircuitBreaker(shared).stats().shown();
        if let Some(registration) = register(with, "circuit breaker", name, &shared, stats) {
            // The breaker is new, so the cell is empty.
            let _ = shared.registration.set(registration);
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
