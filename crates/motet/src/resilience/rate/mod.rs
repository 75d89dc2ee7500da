//! Rate limiters. See [`resilience`](super).

mod builder;
pub(super) mod gcra;
mod rate_limiter;
mod stats;

pub use builder::RateLimiterBuilder;
pub use rate_limiter::RateLimiter;
pub use stats::RateLimiterStats;
