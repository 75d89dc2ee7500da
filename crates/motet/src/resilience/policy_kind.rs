use std::fmt;

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
    /// A fallback: see [`Pipeline::fallback`](super::Pipeline::fallback).
    Fallback,
    /// A [`CircuitBreaker`](super::CircuitBreaker). It rejects calls while it is open, or half-open with all its probes
    /// in flight.
    CircuitBreaker,
    /// A [`Bulkhead`](super::Bulkhead). It rejects calls when its permits and its line are used up, or when no permit
    /// is free within the longest wait.
    Bulkhead,
    /// A [`RateLimiter`](super::RateLimiter). It rejects calls that would have to wait too long.
    RateLimiter,
    /// An [`AdaptiveLimit`](super::AdaptiveLimit). It rejects calls as a bulkhead does.
    AdaptiveLimit,
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
