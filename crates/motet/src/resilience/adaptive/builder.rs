use std::fmt;
use std::time::Duration;

use super::AdaptiveLimit;
use super::adaptive_limit::LimitChange;
use super::rules::AdaptiveConfig;
use crate::resilience::PolicyConfigError;
use crate::resilience::line::PermitLine;
use crate::resilience::listeners::Listeners;
use crate::resilience::register::{RegisterWith, register};
use crate::task::{Name, Scope};

/// A builder of an [`AdaptiveLimit`].
///
/// # Defaults
/// The limit starts at 20 and stays from 1 to 200. A window lasts at least a second and has at least 50 calls. There is
/// no waiting line. The values are those of failsafe-go.
#[derive(Clone)]
#[must_use = "nothing is limited until the limit is built"]
pub struct AdaptiveLimitBuilder {
    config: AdaptiveConfig,
    max_waiting: usize,
    max_wait: Duration,
    listeners: Listeners<LimitChange>,
    name: Option<Name>,
}

impl Default for AdaptiveLimitBuilder {
    fn default() -> Self {
        let config =
            AdaptiveConfig { start: 20, min: 1, max: 200, window: Duration::from_secs(1), min_samples: 50 };
        Self { config, max_waiting: 0, max_wait: Duration::ZERO, listeners: Listeners::default(), name: None }
    }
}

impl AdaptiveLimitBuilder {
    /// Sets the limit at the start.
    pub fn start(mut self, limit: usize) -> Self {
        self.config.start = limit;
        self
    }

    /// Sets the bounds of the limit, from 1 to a million.
    pub fn between(mut self, min: usize, max: usize) -> Self {
        (self.config.min, self.config.max) = (min, max);
        self
    }

    /// Sets the shortest time, and the smallest number of calls, after which the limit may change. With a time of zero,
    /// only the number counts. A time of more than a day is invalid, because the limit would hardly ever change.
    pub fn window(mut self, time: Duration, min_samples: u32) -> Self {
        (self.config.window, self.config.min_samples) = (time, min_samples);
        self
    }

    /// Sets how many callers may wait for a permit, up to a million, and for how long. With `max_wait` zero no caller
    /// waits, [`Duration::MAX`] waits without a limit.
    pub fn queue(mut self, max_waiting: usize, max_wait: Duration) -> Self {
        (self.max_waiting, self.max_wait) = (max_waiting, max_wait);
        self
    }

    /// Calls `listener` with the old and the new limit after each change, with no lock held, in the call whose end
    /// changed it. Its panic is logged, and goes no further.
    pub fn on_change(mut self, listener: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.listeners.add(move |change: &LimitChange| listener(change.from, change.to));
        self
    }

    /// Sets the name, for logs and snapshots.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Builds the limit. If it has a name, the snapshots of the scope of the running task show it.
    ///
    /// # Errors
    /// [`PolicyConfigError`] if the bounds and the start are not in order or not from 1 to a million, the line is
    /// longer than that, or a window has no calls or is longer than a day.
    pub fn build(self) -> Result<AdaptiveLimit, PolicyConfigError> {
        self.check()?;
        Ok(self.checked(RegisterWith::AmbientScope))
    }

    /// Builds the limit. If it has a name, the snapshots of `scope` show it.
    ///
    /// # Errors
    /// [`PolicyConfigError`], as for [`build`](Self::build).
    pub fn build_in(self, scope: &Scope) -> Result<AdaptiveLimit, PolicyConfigError> {
        self.check()?;
        Ok(self.checked(RegisterWith::Scope(scope)))
    }

    fn check(&self) -> Result<(), PolicyConfigError> {
        const MILLION: usize = 1_000_000;
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let AdaptiveConfig { start, min, max, window, min_samples } = self.config;
        let in_order = 1 <= min && min <= max && max <= MILLION;
        PolicyConfigError::unless(in_order, "between", (min, max), "in order and from 1 to a million")?;
        let within = (min..=max).contains(&start);
        PolicyConfigError::unless(within, "start", start, "within the bounds of `between`")?;
        let is_bounded = self.max_waiting <= MILLION;
        PolicyConfigError::unless(is_bounded, "queue", self.max_waiting, "at most a million")?;
        PolicyConfigError::unless(window <= DAY, "window", window, "at most a day")?;
        PolicyConfigError::unless(min_samples > 0, "min_samples", min_samples, "at least 1")
    }

    pub(super) fn checked(self, with: RegisterWith<'_>) -> AdaptiveLimit {
        let line = PermitLine::new(self.config.start, self.max_waiting, self.max_wait);
        let limit = AdaptiveLimit::new(self.config, line, self.listeners, self.name.clone());
        let stats = |shared| AdaptiveLimit(shared).stats().shown();
        if let Some(registration) = register(with, "adaptive limit", self.name, &limit.0, stats) {
            // The limit is new, so the cell is empty.
            let _ = limit.0.registration.set(registration);
        }
        limit
    }
}

impl fmt::Debug for AdaptiveLimitBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimitBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
