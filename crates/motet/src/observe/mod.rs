//! The live tree of a program: scopes with their tasks and components, as data.
//!
//! ```
//! use motet::observe::Stats;
//! use motet::task::{Nursery, Scope};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! Scope::builder()
//!     .name("server")
//!     .run(async |n: &Nursery| {
//!         n.service("accept", std::future::pending::<()>());
//!         let _entry = n.register("pool", "db", || Stats::new().count("idle", 3).text("state", "open"));
//!         tokio::task::yield_now().await;
//!         let tree = n.snapshot();
//!         assert_eq!(tree.tasks[0].name, "accept");
//!         assert!(tree.to_string().contains("pool `db`: idle 3, state open"));
//!         Ok(())
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | see a scope and the scopes within it | [`Scope::snapshot`](crate::task::Scope::snapshot) |
//! | see the whole runtime | [`snapshot()`] |
//! | print the tree, or send it as JSON | `Display` and `to_json` of [`ScopeView`] |
//! | add your own component to the tree | [`Scope::register`](crate::task::Scope::register) |
//! | export the components as metrics, for example to Prometheus | `Scope::export_metrics`, with the feature `metrics` |
//! | print the tree on a signal | SIGUSR1, in a program of [`run`](mod@crate::run) |
//!
//! # Guarantees
//! A snapshot is taken scope by scope: each scope is read at one instant, and two scopes possibly at two. A component reads
//! its stats when the snapshot is taken; nothing is collected in between.

mod component;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "metrics")]
mod metrics;
mod print;
mod snapshot;

#[cfg(any(feature = "pool", feature = "resilience"))]
use std::time::Duration;

pub use component::{Registration, Stat, Stats};
#[cfg(feature = "metrics")]
pub use metrics::MetricsExporter;
pub use snapshot::{ComponentView, ScopeView, TaskKind, TaskView, snapshot};

pub(crate) use component::Component;

/// Returns a duration as messages show it: from 10 ms on in whole milliseconds, rounded up.
#[cfg(any(feature = "pool", feature = "resilience"))]
pub(crate) fn rounded(time: Duration) -> Duration {
    const MILLISECOND: u32 = 1_000_000;
    let nanos = time.subsec_nanos() % MILLISECOND;
    if nanos == 0 || time < Duration::from_millis(10) {
        return time;
    }
    time.saturating_add(Duration::from_nanos((MILLISECOND - nanos).into()))
}
