use std::fmt;

use super::RejectedBy;

/// The kind of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicyKind {
    /// A timeout.
    Timeout,
    /// A [`Retry`](super::Retry).
    Retry,
    /// A [`Hedge`](super::Hedge).
    Hedge,
    /// A [`Fallback`](super::Fallback).
    Fallback,
    /// A circuit breaker.
    CircuitBreaker,
    /// A bulkhead.
    Bulkhead,
    /// A rate limiter.
    RateLimiter,
    /// An adaptive limit.
    AdaptiveLimit,
}

impl From<RejectedBy> for PolicyKind {
    fn from(by: RejectedBy) -> Self {
        match by {
            RejectedBy::CircuitBreaker => Self::CircuitBreaker,
            RejectedBy::Bulkhead => Self::Bulkhead,
            RejectedBy::RateLimiter => Self::RateLimiter,
            RejectedBy::AdaptiveLimit => Self::AdaptiveLimit,
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "timeout",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
            Self::Fallback => "fallback",
            Self::CircuitBreaker => "circuit breaker",
            Self::Bulkhead => "bulkhead",
            Self::RateLimiter => "rate limiter",
            Self::AdaptiveLimit => "adaptive limit",
        })
    }
}
