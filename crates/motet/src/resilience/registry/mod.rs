//! Circuit breakers and rate limiters by key. See [`resilience`](super).

mod circuit_breakers;
mod clock_map;
mod keyed;
mod rate_limiters;

pub use circuit_breakers::CircuitBreakers;
pub use rate_limiters::RateLimiters;
