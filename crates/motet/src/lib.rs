//! The async architecture toolkit for Rust, on tokio.

mod backoff;
pub mod observe;
pub mod resource;
pub mod rng;
pub mod run;
pub mod sim;
pub mod task;

pub use backoff::{Backoff, Jitter};
pub use run::{App, run};
pub use task::drain;
