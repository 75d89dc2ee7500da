//! Circuit breakers by key. See [`resilience`](super).

mod circuit_breakers;
mod slots;

pub use circuit_breakers::CircuitBreakers;
