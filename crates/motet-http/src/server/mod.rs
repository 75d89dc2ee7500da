//! Serving HTTP in a scope: every connection is a task of it.
//!
//! # When to use
//! For what `axum::serve` is for, where nothing may outlive its scope: [`Server::serve`] returns when the last connection
//! has ended, bounds their number, and bounds every time that a client could take for ever. It speaks HTTP/1.1; TLS and
//! HTTP/2 are for the proxy in front of it.
//!
//! # Shutdown
//! ```text
//! told to stop --notice--> listener closed --grace--> cut off
//!      |  not ready any more    |  requests under way end
//! ```
//! An answer that goes on by itself, as of server-sent events, is for its handler to end: give it a clone of the token, as
//! with [`until`](motet::stream::Combinators::until).
//!
//! [`Readiness`] is what a load balancer asks; the notice is the time that it has to ask.

mod readiness;
mod serve;
mod socket;
mod stats;
mod write_deadline;

pub use readiness::Readiness;
pub use serve::{Peer, Served, Server};
pub use stats::ServerStats;
