//! An HTTP server whose connections are tasks of a scope.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use motet::task::{CancelToken, Nursery, scope};
//! use motet_http::Server;
//! use tokio::net::TcpListener;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:8080").await?;
//! let router = Router::new().route("/", get(async || "hello"));
//! scope(async |n: &Nursery| {
//!     n.spawn_coop("server", async move |stop: CancelToken| Server::new().serve(listener, router, stop).await);
//!     Ok(())
//! })
//! .await?; // every connection has ended
//! # Ok(())
//! # }
//! ```
//!
//! It is used like `axum::serve`. [`Server::serve`] returns when the last connection has ended, limits the number of
//! connections, and limits the time of every step that a client could delay. It speaks HTTP/1.1, also with
//! [TLS](ServerBuilder::tls); HTTP/2 is for the proxy in front of it.
//!
//! | You want to | Use |
//! |---|---|
//! | serve an axum router or a tower service | [`Server::serve`] |
//! | listen on TCP, a Unix socket, in memory, or elsewhere | [`Listener`] |
//! | run a whole service in a test in virtual time | [`MemoryListener`] |
//! | serve `https` | [`ServerBuilder::tls`] |
//! | set limits of connections and times, the notice and the grace period | [`Server::builder`] |
//! | report to a load balancer whether the server takes requests | [`Readiness`] |
//! | know the address of a client | [`Peer`] in the extensions of a request |
//! | count connections | [`Server::stats`] |
//!
//! # Shutdown
//! ```text
//! stop      --notice--> listener closed --grace--> connections closed
//!      |  not ready any more    |  requests in flight end
//!      |  `connection: close`   |  idle connections end half a second later
//! ```
//! After the stop, every response states that it is the last of its connection, so that clients send their next request
//! elsewhere. Connections in the backlog are served, up to the limit, before the listener is closed. An idle connection
//! is kept for half a second, for a request in transit; a request whose headers have begun to arrive gets a second.
//!
//! A handler must end an endless response, such as server-sent events, when the server stops: pass it a clone of the
//! token, as with `until` of `motet::stream::StreamCombinators`.
//!
//! [`Readiness`] is for the load balancer; the notice is the time that the load balancer has to check it.

mod answering;
mod builder;
mod connection;
mod listener;
mod memory;
mod phase;
mod readiness;
mod registry;
#[cfg(feature = "tls")]
mod secured;
mod serve;
mod socket;
mod stats;
mod write_deadline;

pub use builder::{ServerBuilder, ServerConfigError};
pub use listener::Listener;
pub use memory::{MemoryConnector, MemoryListener};
pub use readiness::Readiness;
pub use serve::{Peer, Reserved, Served, Server};
pub use stats::ServerStats;
