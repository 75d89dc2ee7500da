//! The async architecture toolkit for Rust, on tokio: from one coroutine to a cluster.
//!
//! Every piece is correct under cancellation, bounded, observable and testable in virtual time, and all of them
//! speak one vocabulary: nothing outlives the scope that started it, and what is refused is handed back.
//!
//! ```
//! use motet::resource::Exit;
//! use motet::task::{CancelToken, Nursery, Scope, ScopeError};
//! use std::time::Duration;
//!
//! async fn serve() -> Result<usize, ScopeError<std::io::Error>> {
//!     let options = Scope::options().name("server").deadline(Duration::from_secs(5));
//!     options.run(async |n: &Nursery<std::io::Error>| {
//!         // Released last, whatever happens below.
//!         let open = async { Ok::<_, std::io::Error>(vec![1, 2, 3]) };
//!         let close = async |_, exit: Exit| println!("closed after {exit}");
//!         let db = n.acquire("db", open, close).await.map_err(std::io::Error::other)?;
//!         // Cancelled when all else is done; it may flush first.
//!         n.service_coop("metrics", async |cx: CancelToken| drop(cx.cancelled().await));
//!         // If one fails, the others are cancelled.
//!         let rows = n.try_spawn("rows", async { Ok(40) });
//!         Ok(rows.await.map_err(std::io::Error::other)? + db.len())
//!     }).await
//! }
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! assert_eq!(serve().await.unwrap(), 43);
//! # });
//! ```
//!
//! # What do you want to do?
//! | | |
//! |---|---|
//! | run things side by side, and be sure of their end | [`task`] |
//! | give back what needs an await to be given back | [`resource`] |
//! | see what runs | [`observe`] |
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
pub mod observe;
pub mod resource;
pub mod rng;
pub mod run;
pub mod sim;
pub mod task;

pub use backoff::{Backoff, Jitter};
pub use run::{App, run};
pub use task::drain;
