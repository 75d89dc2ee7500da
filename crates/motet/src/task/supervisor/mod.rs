//! Children that are started in order, restarted when they fail, and stopped in reverse order.
//!
//! ```
//! use motet::task::{Child, Nursery, Reason, Restart, Supervisor, SupervisorError, scope};
//! use motet::Backoff;
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let supervisor = Supervisor::new().name("app")
//!     .intensity(5, Duration::from_secs(60))
//!     .backoff(Backoff::exponential(Duration::from_millis(100), Duration::from_secs(30))?)
//!     .child("db", Restart::Permanent, || async {
//!         tokio::time::sleep(Duration::from_secs(1)).await;
//!         Err::<(), _>("connection lost")
//!     })
//!     .with_child(Child::new("web", Restart::Transient, async |cx| {
//!         cx.ready();
//!         cx.token().cancelled().await;
//!     }));
//! let watch = supervisor.watch();
//! scope(async |n: &Nursery<SupervisorError>| {
//!     supervisor.spawn(n);
//!     let db = watch.wait_for(|children| children[0].restarts == 2).await.expect("it is up");
//!     assert_eq!(db[0].last_failure.as_ref().unwrap().to_string(), "child `db` failed");
//!     n.cancel(Reason::requested("the example is over"));
//!     Ok(())
//! }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | restart tasks that run as long as the program and fail independently: a consumer, a listener, an open connection | [`Supervisor`] |
//! | restart a task always, only after a failure, or never | [`Restart`] |
//! | report when a child is ready, and let it clean up at its stop | [`Child::new`] with its [`ChildContext`] |
//! | see the states, restarts and failures of the children | [`Supervisor::watch`] |
//! | cancel the siblings of a task that fails | not a supervisor: [`scope`](super::scope()) |
//! | repeat a single call | not a supervisor: [`Retry`](crate::resilience::Retry) |
//!
//! # Guarantees
//! The failure of a child restarts that child alone ("one for one" in OTP). A panic is a failure. When the supervisor has
//! ended, all tasks of its children have ended.

mod builder;
mod child;
mod error;
mod machine;
mod shell;
mod watch;

pub use builder::Supervisor;
pub use child::{Child, ChildContext, Restart};
pub use error::{ChildRunError, SupervisorError};
pub use watch::{ChildState, ChildStatus, SupervisorWatch};
