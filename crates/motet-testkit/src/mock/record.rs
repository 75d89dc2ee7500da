use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

/// The record of one call of a [`MockFn`](super::MockFn).
pub struct Call<A> {
    pub(super) args: Arc<A>,
    /// The step that answers the call, by the name of the function that created it.
    pub(super) step: &'static str,
    pub(super) started: Instant,
    pub(super) ended: Option<Instant>,
    pub(super) outcome: Outcome,
}

/// How a call ended, or that it has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The call is in progress.
    Running,
    /// The call returned a value.
    Returned,
    /// The call panicked: as scripted, without a step, or without a reply.
    Panicked,
    /// The call was dropped before it completed.
    Cancelled,
}

impl<A> Call<A> {
    /// Returns the arguments of the call.
    #[must_use]
    pub fn args(&self) -> &A {
        &self.args
    }

    /// Returns when the call was first polled, by tokio's clock.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Returns when the call ended, by tokio's clock; `None` while it runs.
    #[must_use]
    pub fn ended(&self) -> Option<Instant> {
        self.ended
    }

    /// Returns how the call ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}

impl<A> Clone for Call<A> {
    fn clone(&self) -> Self {
        Self { args: Arc::clone(&self.args), ..*self }
    }
}

impl<A: fmt::Debug> fmt::Debug for Call<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("args", &self.args)
            .field("step", &self.step)
            .field("started", &self.started)
            .field("ended", &self.ended)
            .field("outcome", &self.outcome)
            .finish()
    }
}

/// All calls of a function as text, one per line; times count from the first call.
pub(super) struct History<'a, A> {
    pub(super) name: &'a str,
    pub(super) calls: Vec<Call<A>>,
}

impl<A: fmt::Debug> fmt::Display for History<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.calls.first() else {
            return write!(f, "`{}` was never called", self.name);
        };
        write!(f, "calls of `{}`:", self.name)?;
        for (at, call) in self.calls.iter().enumerate() {
            let start = call.started.saturating_duration_since(first.started);
            write!(f, "\n  {}. {:?} at {start:?}: {}, ", at + 1, call.args, call.step)?;
            let outcome = match call.outcome {
                Outcome::Running => "still running",
                Outcome::Returned => "returned",
                Outcome::Panicked => "panicked",
                Outcome::Cancelled => "cancelled",
            };
            f.write_str(outcome)?;
            if let Some(ended) = call.ended {
                write!(f, " after {:?}", ended.saturating_duration_since(call.started))?;
            }
        }
        Ok(())
    }
}
