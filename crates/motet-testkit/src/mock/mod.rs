//! Scripted async functions: they define the answer and the time of each call, and record the calls for assertions.
//!
//! ```
//! use std::time::Duration;
//!
//! use motet_testkit::MockFn;
//! use motet_testkit::mock::{after, err, ok};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let get_user = MockFn::<(u64,), Result<&'static str, &'static str>>::new("get_user");
//! get_user.script([err("busy"), after(Duration::from_millis(50), ok("Ada"))]);
//!
//! // The code under test:
//! let user = loop {
//!     if let Ok(user) = get_user.call((7,)).await {
//!         break user;
//!     }
//! };
//!
//! assert_eq!(user, "Ada");
//! get_user.assert_called_with(&[(7,), (7,)]);
//! get_user.assert_max_concurrent(1);
//! # }
//! ```
//!
//! A [`MockFn`] replaces a function that the code under test awaits (a query, a request, a handler): as a closure, or
//! inside of a hand-written implementation of a trait. In paused time (`#[tokio::test(start_paused = true)]`) delays cost
//! nothing, and the recorded times are exact.
//!
//! | You want to | Use |
//! |---|---|
//! | list the answers before the test runs | [`MockFn::script`] with [`ok`], [`err`], [`value`], [`call`] |
//! | answer later, never, or with a panic | [`after`], [`pending`], [`panics`] |
//! | answer every call after the script | [`MockFn::then`], [`MockFn::then_repeat_last`] |
//! | decide the answer while the call waits | [`on_demand`], [`MockFn::next_call`] |
//! | check the calls | [`MockFn::calls`], [`MockFn::max_concurrent`], the `assert_` methods |

mod assertions;
mod mock_fn;
mod pending_call;
mod record;
mod running;
mod state;
mod step;

pub use mock_fn::MockFn;
pub use pending_call::PendingCall;
pub use record::{Call, Outcome};
pub use step::{Step, after, call, err, ok, on_demand, panics, pending, value};
