//! Adaptive concurrency limits. See [`resilience`](super).

mod adaptive_limit;
mod builder;
mod permit;
mod rules;

pub use adaptive_limit::AdaptiveLimit;
pub use builder::AdaptiveLimitBuilder;
pub use permit::LimitPermit;
