//! Tests for async code: seeded interleavings in virtual time, cancellation at every await, mocks.

pub mod mock;

pub use mock::MockFn;
