//! Circuit breakers by key. See [`resilience`](super).

mod circuit_breakers;
mod clock_map;

pub use circuit_breakers::CircuitBreakers;
