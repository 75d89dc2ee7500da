//! The time a call has, known before a clock was read.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::mutant;

thread_local! {
    /// The limit of the operation that is polled now, for the pipelines it calls.
    static AROUND: Cell<Limit> = const { Cell::new(Limit::NONE) };
}

/// What limits the time of whatever runs now: the nearest of all limits around it.
///
/// A limit whose timer has not been armed is a duration from now on: nothing has been waited for since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    at: Option<Instant>,
    within: Option<Duration>,
}

impl Limit {
    pub(crate) const NONE: Self = Self { at: None, within: None };

    /// What the pipeline around this one, if there is one, has left.
    pub(crate) fn inherited() -> Self {
        match mutant!("resilience.inherit_nothing") {
            true => Self::NONE,
            false => AROUND.get(),
        }
    }

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.at.is_none() && self.within.is_none()
    }

    /// With one more limit, which is armed or not.
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

    /// What is left; asks for the time only if it must.
    pub(crate) fn remaining(self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        let until = self.at.map(|at| at.saturating_duration_since(now()));
        match (until, self.within) {
            (Some(until), Some(within)) => Some(until.min(within)),
            (until, within) => until.or(within),
        }
    }

    /// Runs something within this limit.
    #[inline]
    pub(crate) fn around<T>(self, run: impl FnOnce() -> T) -> T {
        if self.is_none() {
            return run();
        }
        let _back = Back(AROUND.replace(self));
        run()
    }
}

/// Whether a timer was armed, and when it fires: never, if that is later than a clock can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Armed {
    /// Not yet.
    No,
    /// It fires then.
    At(Instant),
    /// It never fires.
    Never,
}

struct Back(Limit);

impl Drop for Back {
    #[inline]
    fn drop(&mut self) {
        AROUND.set(self.0);
    }
}
