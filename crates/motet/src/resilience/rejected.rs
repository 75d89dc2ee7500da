use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The error of a call that a policy rejected: the operation was not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    by: RejectedBy,
    retry_after: Option<Duration>,
}

/// The policy that rejected a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectedBy {
    /// A circuit breaker that is open, or half-open with all its probes in flight.
    CircuitBreaker,
    /// A bulkhead whose permits and line are full, or that had no permit within the longest wait.
    Bulkhead,
    /// A rate limiter.
    RateLimiter,
    /// An adaptive limit.
    AdaptiveLimit,
}

impl Rejected {
    pub(crate) fn new(by: RejectedBy, retry_after: Option<Duration>) -> Self {
        Self { by, retry_after }
    }

    /// The policy that rejected the call.
    #[must_use]
    pub fn by(&self) -> RejectedBy {
        self.by
    }

    /// How long to wait until a call may pass again, if the policy knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for RejectedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CircuitBreaker => "circuit breaker",
            Self::Bulkhead => "bulkhead",
            Self::RateLimiter => "rate limiter",
            Self::AdaptiveLimit => "adaptive limit",
        })
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rejected by the {}", self.by)?;
        match self.retry_after {
            Some(after) => write!(f, "; try again in {after:?}"),
            None => Ok(()),
        }
    }
}

impl Error for Rejected {}
