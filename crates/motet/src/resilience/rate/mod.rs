//! Rate limiters. See [`resilience`](super).

mod builder;
pub(super) mod gcra;
mod rate_limiter;

pub use builder::RateLimiterBuilder;
pub use rate_limiter::{RateLimiter, RateLimiterStats};
