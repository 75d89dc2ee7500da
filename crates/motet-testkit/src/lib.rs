//! Tests for async code: seeded interleavings in virtual time, cancellation at every await, mocks.

pub mod cancel;
pub mod sim;

pub use cancel::{CancelEverywhere, cancel_everywhere};
pub use sim::sim;
