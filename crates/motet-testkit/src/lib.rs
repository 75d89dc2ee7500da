//! Tests for async code: seeded interleavings in virtual time, cancellation at every await, mocks.

pub mod cancel;
pub mod mock;
pub mod sim;

pub use cancel::{CancelEverywhere, cancel_everywhere};
pub use mock::MockFn;
pub use sim::sim;
