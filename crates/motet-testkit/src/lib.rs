//! Tests for async code: seeded interleavings in virtual time, cancellation at every await, mocks.
//!
//! ```
//! use motet_testkit::sim;
//! use tokio::sync::Mutex;
//!
//! sim(|| async {
//!     let total = Mutex::new(0);
//!     let add = async |n| *total.lock().await += n;
//!     tokio::join!(add(1), add(2));
//!     assert_eq!(*total.lock().await, 3);
//! })
//! .seeds(500)
//! .run();
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | run a test of several tasks under many interleavings, and find deadlocks, leaked tasks and lost panics | [`mod@sim`] |
//! | check that one future can be dropped at each of its awaits | [`cancel`] |
//! | script the answers of a dependency, and check how it was called | [`mock`] |

pub mod cancel;
pub mod mock;
pub mod sim;

pub use cancel::{CancelEverywhere, cancel_everywhere};
pub use mock::MockFn;
pub use sim::sim;
