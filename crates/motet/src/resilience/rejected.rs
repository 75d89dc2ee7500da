use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A policy did not let a call through: nothing was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    by: RejectedBy,
    retry_after: Option<Duration>,
}

/// Which policy did not let a call through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectedBy {
    /// A circuit breaker that is open, or half open with all its probes under way.
    CircuitBreaker,
    /// A bulkhead whose places and queue are full, or that had no place for as long as a call may wait.
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

    /// Says which policy it was.
    #[must_use]
    pub fn by(&self) -> RejectedBy {
        self.by
    }

    /// Says when a call may pass again, where the policy knows.
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
            Some(after) => write!(f, ", which may let calls pass in {after:?}"),
            None => Ok(()),
        }
    }
}

impl Error for Rejected {}
