//! relay as its users meet it: the program, over HTTP, with receivers of every kind.
//!
//! Each test starts the program on a data directory of its own. Tests wait for what they expect to see and
//! never for time to pass; where a deadline is what is tested, the receiver's side of it is.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "the tests are on the other side of the wire, and stand on tokio alone"
)]

mod api;
mod auto_disable;
mod crash;
mod damage;
mod data_directory;
mod demo;
mod endpoint_limits;
mod endpoints;
mod fairness;
mod feed;
mod full_disk;
mod guard;
mod harness;
mod idempotency;
mod lifecycle;
mod limits;
#[cfg(target_os = "linux")]
mod local_failure;
mod management;
mod observability;
mod receivers;
mod shutdown;
mod signature;
mod standard_error;
mod tls;
