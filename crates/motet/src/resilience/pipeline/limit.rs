//! The time limit of a call, known before a clock is read.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::mutant;

thread_local! {
    /// The limit of the operation that is polled now, for the pipelines that it calls.
    static AROUND: Cell<Limit> = const { Cell::new(Limit::NONE) };
}

/// The time limit of the running code: the nearest of all limits around it.
///
/// A limit without an armed timer is a duration from now: the call has not waited since the limit began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    at: Option<Instant>,
    within: Option<Duration>,
}

impl Limit {
    pub(crate) const NONE: Self = Self { at: None, within: None };

    /// Returns the limit of the enclosing pipeline, if there is one.
    pub(crate) fn inherited() -> Self {
        if mutant!("resilience.inherit_nothing") {
            return Self::NONE;
        }
        AROUND.get()
    }

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.at.is_none() && self.within.is_none()
    }

    /// Returns the limit with another one added, which may be armed or not.
    #[inline]
    pub(crate) fn and(self, within: Option<Duration>, armed: Armed) -> Self {
        match (armed, within) {
            (Armed::No, Some(within)) => {
                Self { within: Some(self.within.map_or(within, |w| w.min(within))), ..self }
            }
            (Armed::At(at), _) => Self { at: Some(self.at.map_or(at, |a| a.min(at))), ..self },
            _ => self,
        }
    }

    /// Returns the time that is left. Reads the clock only if it must.
    pub(crate) fn remaining(self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        let until = self.at.map(|at| at.saturating_duration_since(now()));
        match (until, self.within) {
            (Some(until), Some(within)) => Some(until.min(within)),
            (until, within) => until.or(within),
        }
    }

    /// Runs a closure within this limit.
    #[inline]
    pub(crate) fn around<T>(self, run: impl FnOnce() -> T) -> T {
        if self.is_none() {
            return run();
        }
        let _restored = RestoredLimit(AROUND.replace(self));
        run()
    }
}

/// Whether a timer is armed, and when it fires: never, if that is later than a clock can represent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Armed {
    /// Not armed.
    No,
    /// Fires at this instant.
    At(Instant),
    /// Never fires.
    Never,
}

struct RestoredLimit(Limit);

impl Drop for RestoredLimit {
    #[inline]
    fn drop(&mut self) {
        AROUND.set(self.0);
    }
}
