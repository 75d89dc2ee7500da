//! The async architecture toolkit for Rust, on tokio.

pub mod observe;
pub mod resource;
mod sim;
pub mod task;

pub use task::drain;
