//! What runs, as data: the tree of scopes with their tasks and components.
//!
//! [`Scope::snapshot`](crate::task::Scope::snapshot) shows a scope and all below it; [`snapshot()`] shows the whole
//! runtime. A snapshot prints as a tree and gives itself as JSON. What is named is visible: tasks and scopes have
//! names, and a component of any other kind registers with its scope ([`Scope::register`]).
//!
//! [`Scope::register`]: crate::task::Scope::register
//!
//! # Guarantees
//! A snapshot is taken scope by scope: each scope is seen at one moment, two scopes maybe at two. Stats are
//! read when a snapshot is taken, by the component itself; nothing is collected meanwhile.
//!
//! # Examples
//! ```
//! use motet::observe::Stats;
//! use motet::task::{Nursery, Scope};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! Scope::builder().name("server").run(async |n: &Nursery| {
//!     let accepting = n.service("accept", std::future::pending::<()>());
//!     let _shown = n.register("pool", "db", || Stats::new().count("idle", 3).text("state", "open"));
//!     tokio::task::yield_now().await;
//!     let seen = n.snapshot();
//!     assert_eq!(seen.tasks[0].name, "accept");
//!     assert!(seen.to_string().contains("pool `db`: idle 3, state open"), "{seen}");
//!     drop(accepting);
//!     Ok(())
//! }).await.unwrap();
//! # });
//! ```

mod component;
mod json;
mod print;
mod snapshot;

pub use component::{Registration, Stat, Stats};
pub use snapshot::{ComponentView, ScopeView, TaskKind, TaskView, snapshot};

pub(crate) use component::Component;
