//! The async architecture toolkit for Rust, on tokio: from one coroutine to a cluster.
//!
//! Every piece is correct under cancellation, bounded, observable and testable in virtual time, and all of them
//! speak one vocabulary: nothing outlives the scope that started it, and what is refused is handed back.
//!
//! ```
//! use motet::resource::Exit;
//! use motet::task::{CancelToken, Nursery, Scope};
//! use std::time::Duration;
//!
//! type Error = Box<dyn std::error::Error + Send + Sync>;
//! # async fn connect() -> std::io::Result<Vec<u32>> { Ok(vec![1, 2, 3]) }
//! # async fn fetch_user() -> Result<u32, Error> { Ok(40) }
//! # async fn fetch_news() -> Result<u32, Error> { Ok(0) }
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let options = Scope::builder().name("page").timeout(Duration::from_secs(2));
//! let page = options.run(async |n: &Nursery<Error>| {
//!     // Released last, whatever happens below.
//!     let close = async |_db, exit: Exit| println!("closed after {exit}");
//!     let db = n.acquire("db", connect(), close).await?;
//!     // If one fails, the other is cancelled.
//!     let user = n.try_spawn("user", fetch_user());
//!     let news = n.try_spawn("news", fetch_news());
//!     // Cancelled when all else is done; it may flush first.
//!     n.service_coop("metrics", async |cx: CancelToken| drop(cx.cancelled().await));
//!     Ok(user.await? + news.await? + db[2])
//! });
//! assert_eq!(page.await.unwrap(), 43); // everything has ended, and `db` is closed
//! # });
//! ```
//!
//! # What do you want to do?
//! | | |
//! |---|---|
//! | run things side by side, and be sure of their end | [`task`] |
//! | give back what needs an await to be given back | [`resource`] |
//! | lend connections to many in turn | [`pool`] |
//! | tell whoever listens what has happened | [`event`] |
//! | hand work from task to task, bounded, and know when it is done | [`queue`] |
//! | make streams, and have many cores work on what comes out of one | [`stream`] |
//! | see what runs | [`observe`] |
//! | be a program: signals, shutdown in phases, an exit code | [`run`](mod@run) |
//! | handle items of many callers in batches | [`batch`] |
//! | build a program from components, start and stop them along their graph | [`container`] |
//! | restart what fails | [`Supervisor`](task::Supervisor) |
//! | guard calls that can fail | [`resilience`] |
//! | put something around every call of a handler | [`middleware`] |
//! | wait between attempts | [`Backoff`] |
//! | draw chance that a test can repeat | [`rng`] |
//! | let tests reach into a program | [`sim`]; the tests themselves: the crate `motet-testkit` |
//!
//! # Features
//! | Feature | |
//! |---|---|
//! | `sim` | the simulator of `motet-testkit` reaches into the program; changes nothing outside of one. For dev-dependencies |
//!
//! # What it does not do
//! It is tokio's guest: no runtime of its own, no effect type, no macros to learn. It needs panics that unwind: with
//! `panic = "abort"` the first panic ends the process, as always.

mod backoff;
pub mod batch;
pub mod container;
pub mod event;
mod log;
pub mod middleware;
pub mod observe;
pub mod pool;
pub mod queue;
pub mod resilience;
pub mod resource;
pub mod rng;
pub mod run;
pub mod sim;
pub mod stream;
pub mod task;

pub use backoff::{Backoff, BackoffConfigError, Jitter};
pub use run::{App, run};
pub use task::drain;
