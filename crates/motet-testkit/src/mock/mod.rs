//! Scripted async functions: they define the answer and the time of each call, and record the calls for assertions.
//!
//! A [`MockFn`] replaces a function that the code under test awaits (a query, a request, a handler): as a closure, or
//! inside of a hand-written implementation of a trait.
//!
//! # When to use
//! Use [`script`](MockFn::script) if the answers are known before the test runs, and [`next_call`](MockFn::next_call)
//! with [`on_demand`] steps if the test decides while the call waits. In paused time (`#[tokio::test(start_paused =
//! true)]`) delays cost nothing, and the recorded times are exact.
//!
//! # Examples
//! ```
//! use std::time::Duration;
//!
//! use motet_testkit::MockFn;
//! use motet_testkit::mock::{after, err, ok};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let get_user = MockFn::<(u64,), Result<&'static str, &'static str>>::new("get_user");
//! get_user.script([err("busy"), after(Duration::from_millis(50), ok("Ada"))]).then_repeat_last();
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
