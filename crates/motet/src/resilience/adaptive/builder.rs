use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::rules::Config;
use super::{AdaptiveLimit, LimitChange};
use crate::resilience::InvalidPolicy;
use crate::resilience::line::Line;
use crate::resilience::listeners::Listeners;
use crate::task::{Name, Scope};

/// A builder of an [`AdaptiveLimit`].
///
/// # Defaults
/// The limit starts at 20 and stays from 1 to 200. A window lasts at least a second and has at least 50 calls. There is
/// no waiting line. The values are those of failsafe-go.
#[derive(Clone)]
#[must_use = "nothing is limited until the limit is built"]
pub struct AdaptiveLimitBuilder {
    config: Config,
    queue: usize,
    max_wait: Duration,
    listeners: Listeners<LimitChange>,
    shown: Option<(Scope, Name)>,
}

impl Default for AdaptiveLimitBuilder {
    fn default() -> Self {
        let config = Config { start: 20, min: 1, max: 200, window: Duration::from_secs(1), min_samples: 50 };
        Self { config, queue: 0, max_wait: Duration::ZERO, listeners: Listeners::default(), shown: None }
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
    pub fn queue(mut self, length: usize, max_wait: Duration) -> Self {
        (self.queue, self.max_wait) = (length, max_wait);
        self
    }

    /// Calls `listener` after each change of the limit, with no lock held, in the call whose end changed it. Its panic
    /// is logged, and goes no further.
    pub fn on_change(mut self, listener: impl Fn(&LimitChange) + Send + Sync + 'static) -> Self {
        self.listeners.add(listener);
        self
    }

    /// Sets the name, and registers the limit with the scope, whose snapshots show it.
    pub fn named(mut self, scope: &Scope, name: impl Into<Name>) -> Self {
        self.shown = Some((scope.clone(), name.into()));
        self
    }

    /// Builds the limit.
    ///
    /// # Errors
    /// [`InvalidPolicy`] if the bounds and the start are not in order or not from 1 to a million, the line is longer
    /// than that, or a window has no calls or is longer than a day.
    pub fn build(self) -> Result<AdaptiveLimit, InvalidPolicy> {
        const MILLION: usize = 1_000_000;
        let Config { start, min, max, window, min_samples } = self.config;
        let in_order = 1 <= min && min <= start && start <= max && max <= MILLION;
        InvalidPolicy::unless(in_order, "an adaptive limit starts between its bounds, from 1 to a million")?;
        InvalidPolicy::unless(
            self.queue <= MILLION,
            "the queue of an adaptive limit has up to a million places",
        )?;
        let some = min_samples > 0 && window <= Duration::from_secs(24 * 60 * 60);
        InvalidPolicy::unless(some, "a window has 1 sample or more, and a day or less")?;
        Ok(self.checked())
    }

    pub(super) fn checked(self) -> AdaptiveLimit {
        let line = Line::new(self.config.start, self.queue, self.max_wait);
        let name = self.shown.as_ref().map(|(_, name)| name.clone());
        let limit = AdaptiveLimit::new(self.config, line, self.listeners, name);
        if let Some((scope, name)) = self.shown {
            let weak = Arc::downgrade(&limit.0);
            let shown = scope.register("adaptive limit", name, move || {
                weak.upgrade().map(|shared| AdaptiveLimit(shared).stats().shown()).unwrap_or_default()
            });
            // The limit is new, so the cell is empty.
            let _ = limit.0.shown.set(shown);
        }
        limit
    }
}

impl fmt::Debug for AdaptiveLimitBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimitBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
