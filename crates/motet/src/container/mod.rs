//! Dependency injection with a life cycle: components start and stop in the order of their dependencies.
//!
//! ```
//! use motet::container::Container;
//! use motet::task::{Nursery, scope};
//! use std::sync::Arc;
//!
//! struct Pool(String);
//! # impl Pool {
//! #     async fn connect(url: &str) -> std::io::Result<Self> { Ok(Self(url.to_owned())) }
//! #     async fn close(&self) {}
//! # }
//! struct Server(Arc<Pool>);
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! scope(async |n: &Nursery| {
//!     let mut c = Container::new();
//!     c.value("db://users".to_owned());
//!     c.try_provide(|url: Arc<String>| async move { Pool::connect(&url).await })
//!         .on_stop(|pool| async move { pool.close().await });
//!     c.provide(|pool: Arc<Pool>| async move { Server(pool) });
//!
//!     let running = c.start(n).await.unwrap();
//!     assert_eq!(running.get::<Server>().unwrap().0.0, "db://users");
//!     Ok(())
//! }).await?; // the pool is closed
//! # Ok(())
//! # }
//! ```
//!
//! A factory is an async closure whose argument types are its dependencies. There are no macros and no names to
//! misspell, and no factory sees the container, so the graph is complete, and is checked before anything runs.
//!
//! | You want to | Use |
//! |---|---|
//! | build a program from components that depend on each other, and start and stop them in order | [`Container`] |
//! | acquire one resource and release it | [`resource`](crate::resource), [`Scope::acquire`](crate::task::Scope::acquire) |
//! | check a graph once, and start it for each tenant or request | [`Plan::start`], [`Container::provide_each_start`] |
//! | restart a task that fails | [`Supervisor`](crate::task::Supervisor) |
//! | give a function its dependencies | an argument |
//!
//! # Arguments of factories
//! | Argument | Value |
//! |---|---|
//! | `Arc<T>`, `Arc<dyn Trait>` | the component that was provided or bound as that type |
//! | [`Named<Tag, T>`](Named) | the component of that type that was provided with the tag |
//! | `Option<Arc<T>>`, `Option<Named<Tag, T>>` | the same, or `None` if it is not provided |
//! | [`Scope`](crate::task::Scope) | the component's own scope: its tasks and deferred cleanups end when the component is stopped |
//! | [`CancelToken`](crate::task::CancelToken) | the token of that scope: cancelled when the build is cancelled, or after `on_stop` |
//!
//! A factory has at most 12 arguments, and its future is `Send`. The argument types of a closure have to be written
//! out.
//!
//! # Guarantees
//! - **Check.** [`Container::check`] reports all problems at once, each with file and line: missing providers, cycles,
//!   singletons that depend on scoped components, duplicates, hooks without an effect, and overrides that replace
//!   nothing.
//! - **Start.** A component is built once, as soon as all its dependencies have started, within its own time limit.
//!   Components that do not depend on each other start concurrently: a component that waits continues in a task of its
//!   own. A component that never waits needs no task, unless an earlier one has blocked the thread.
//!   [`StartReport::critical_path`] shows what determined the duration of the start.
//! - **Stop.** Every component whose factory returned is stopped exactly once, after all components that depend on it
//!   and before its dependencies: when the container is stopped, when its start fails, is dropped or cancelled, and at
//!   the end of its scope. Each has its own time limit, which begins with its stop. A component that fails, panics or
//!   hangs does not prevent the stop of the others.
//! - **Scope.** Tasks that a factory starts, and cleanups that it defers, in the [`Scope`](crate::task::Scope) that it
//!   takes as an argument end with its component, also if its start is cancelled half-way. If a factory takes no scope
//!   and opens one itself, and is then dropped, the tasks of that scope end with the scope around the container.
//! - **One build.** A [`Scoped`] builds a component once for all concurrent callers. After a build that
//!   failed or was cancelled, no caller waits, and the next call builds again.
//!
//! # Cost
//! After the start, [`Running::get`] costs a look-up by the type's id, which is its own hash, and a reference count. A
//! component costs a few allocations, a component that waits also a task, and a component that takes a scope also that
//! scope.

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

pub use container::Container;
pub use error::{ComponentBuildError, GetError, StartError};
pub use health::{ComponentHealth, Health, HealthReport};
pub use named::Named;
pub use plan::Plan;
pub use problem::{CheckError, Problem, ProvidedAt};
pub use provided::Provided;
pub use running::Running;
pub use scoped::Scoped;
pub use start_report::StartReport;
pub use stop_report::StopReport;
pub(crate) use stop_report::Stopped;
