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
//!      |  `connection: close`   |  idle connections end half a second later
//! ```
//! From the stop on every answer says that it is the last of its connection, so that clients send their next request
//! elsewhere. What clients have connected to before the listener is closed is served. A connection that is idle is kept for
//! half a second more, for the request that may be on its way, and a head that began before gets a second.
//!
//! An answer that goes on by itself, as of server-sent events, is for its handler to end: give it a clone of the token, as
//! with [`until`](motet::stream::Combinators::until).
//!
//! [`Readiness`] is what a load balancer asks; the notice is the time that it has to ask.

mod answering;
mod connection;
mod phase;
mod readiness;
mod registry;
mod serve;
mod socket;
mod stats;
mod write_deadline;

pub use readiness::Readiness;
pub use serve::{Peer, Reserved, Served, Server};
pub use stats::ServerStats;
