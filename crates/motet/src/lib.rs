//! The async architecture toolkit for Rust, on tokio.

mod backoff;
pub mod observe;
pub mod resource;
pub mod rng;
pub mod sim;
pub mod task;

pub use backoff::{Backoff, Jitter};
pub use task::drain;
