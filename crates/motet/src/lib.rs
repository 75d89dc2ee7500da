//! The async architecture toolkit for Rust, on tokio.

mod backoff;
pub mod rng;

pub use backoff::{Backoff, Jitter};
