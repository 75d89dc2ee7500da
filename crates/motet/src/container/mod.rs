//! Dependency injection with a life cycle: components start and stop along the graph of what needs what.
//!
//! A factory is an async closure whose argument types are the edges of that graph. No macros, no names to misspell, and
//! no factory sees the container: so the graph is complete, and checked, before anything runs.
//!
//! # When to use
//! | You want to | |
//! |---|---|
//! | build a program from components that need each other, and start and stop them in order | [`Container`] |
//! | open one thing and close it again | [`resource`](crate::resource), [`Scope::acquire`](crate::task::Scope::acquire) |
//! | have what fails while it runs started again | [`Supervisor`](crate::task::Supervisor) |
//! | give a function what it needs | an argument |
//!
//! # Guarantees
//! - **Checked.** [`Container::check`] finds everything that is missing, goes in circles, outlives what it needs, is there
//!   twice or overrides nothing, all at once, with file and line.
//! - **Started along the graph.** A component is built once, as soon as all that it needs has started, within its own
//!   limit: side by side, each in a task of its own once it waits. One that waits for nothing needs none, until one
//!   keeps its thread busy. [`StartReport::critical_path`] says what the start waited for.
//! - **Stopped once.** Every component whose factory returned is stopped exactly once, after all that need it and before
//!   what it needs: when the container is stopped, when its start fails, is dropped or cancelled, and at the end of its
//!   scope. Each has its own limit, which begins with its stop; one that fails, panics or hangs does not skip the rest.
//! - **A scope for who asks.** What a factory starts or defers in the [`Scope`](crate::task::Scope) that it asks for ends
//!   with its component, also if it is given up half-way. What a factory leaves behind that asks for none, in a scope of
//!   its own making that is cut off with it, ends with the scope around the container.
//! - **Built once.** However many ask a [`Scoped`] at once; a build that fails or is cut off leaves an empty slot behind,
//!   and nobody waiting.
//!
//! # Price
//! After the start, [`Running::get`] is a look-up by a type's id, which is its own hash, and a count. A component costs a
//! few allocations, one that waits a task, and one that asks for a scope that.
//!
//! # Examples
//! ```
//! use motet::container::Container;
//! use motet::task::{Nursery, scope};
//! use std::sync::Arc;
//!
//! struct Config { url: String }
//! struct Pool(String);
//! impl Pool {
//!     async fn connect(url: &str) -> std::io::Result<Self> { Ok(Self(url.to_owned())) }
//!     async fn close(&self) {}
//! }
//! trait Users: Send + Sync {
//!     fn source(&self) -> &str;
//! }
//! struct SqlUsers(Arc<Pool>);
//! impl Users for SqlUsers {
//!     fn source(&self) -> &str { &self.0.0 }
//! }
//! struct Server(Arc<dyn Users>);
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! scope(async |n: &Nursery| {
//!     let mut c = Container::new();
//!     c.value(Config { url: "db://users".into() });
//!     c.try_provide(|config: Arc<Config>| async move { Pool::connect(&config.url).await })
//!         .on_stop(|pool| async move { pool.close().await });
//!     c.provide(|pool: Arc<Pool>| async move { SqlUsers(pool) }).bind::<dyn Users>(|users| users);
//!     c.provide(|users: Arc<dyn Users>| async move { Server(users) });
//!
//!     let running = c.start(n).await.unwrap();
//!     assert_eq!(running.get::<Server>().unwrap().0.source(), "db://users");
//!     Ok(())
//! }).await.unwrap(); // the pool is closed
//! # });
//! ```

mod build;
#[expect(clippy::module_inception, reason = "the type has its own file, named like it")]
mod container;
mod dag;
mod draw;
mod error;
mod factory;
mod graph;
mod health;
mod hint;
mod in_place;
mod inject;
mod key;
mod lifetime;
mod named;
mod owner;
mod plan;
mod problem;
mod provided;
mod provider;
mod running;
mod scoped;
mod settled;
mod start;
mod start_report;
mod stop;
mod stop_report;
mod store;
mod value;

pub use container::Container;
pub use error::{BuildFailed, GetFailed, Phase, StartFailed, Unavailable};
pub use factory::Factory;
pub use health::{ComponentHealth, Health, HealthOutcome, HealthReport};
pub use inject::Inject;
pub use lifetime::Lifetime;
pub use named::Named;
pub use plan::Plan;
pub use problem::{CheckFailed, Place, Problem};
pub use provided::Provided;
pub use running::Running;
pub use scoped::Scoped;
pub use start_report::{StartReport, Started};
pub use stop_report::{StopFailed, StopReport, Stopped};

use key::Key;
use value::Value;
