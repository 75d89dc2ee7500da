//! The async architecture toolkit for Rust, on tokio.

pub mod observe;
mod sim;
pub mod task;

pub use task::drain;
