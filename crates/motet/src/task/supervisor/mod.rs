//! Children that are started in order, restarted when they fail, and stopped in reverse order.
//!
//! # When to use
//! For tasks that run as long as the program and can fail for reasons of their own: a consumer, a listener,
//! a connection kept open. A task whose failure should end its siblings is a child of a plain
//! [`scope`](super::scope()); one call that may be tried again wants a retry.
//!
//! # Examples
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
//! # Guarantees
//! One for one: the failure of a child restarts that child alone. A panic is a failure. Nothing of a child is
//! left when its supervisor has ended.

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
