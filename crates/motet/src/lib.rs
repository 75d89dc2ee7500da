//! The async architecture toolkit for Rust, on tokio.

pub mod sim;
