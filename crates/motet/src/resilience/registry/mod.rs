//! Breakers by key.

mod circuit_breakers;
mod slots;

pub use circuit_breakers::CircuitBreakers;
