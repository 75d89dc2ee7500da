//! The API client: calls of HTTP APIs with retries, circuit breakers, limits and one deadline.
//!
//! ```no_run
//! use motet::task::{Nursery, scope};
//! use motet_http::ApiClient;
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! scope(async |n: &Nursery<motet_http::Error>| {
//!     let api = ApiClient::builder(n).base_url("https://api.example").timeout(Duration::from_secs(5)).build().unwrap();
//!     let numbers: Vec<u32> = api.get("/users/7/numbers").fetch_json().await?;
//!     println!("{numbers:?}");
//!     Ok(())
//! })
//! .await?; // every connection is closed
//! # Ok(())
//! # }
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | receive a value, from JSON | [`fetch_json`](RequestBuilder::fetch_json) |
//! | receive a successful response, in memory | [`fetch`](RequestBuilder::fetch), [`fetch_bytes`](RequestBuilder::fetch_bytes) |
//! | check the status yourself, or stream the body | [`send`](RequestBuilder::send), [`Response::chunk`] |
//! | know why a call failed | [`Error::kind`] |
//!
//! `fetch` reads the body within the attempt, so a body that breaks off is fetched again. After `send`, it is not.
//!
//! # What a call goes through
//! ```text
//! deadline of the call > middleware > redirects > retry > breaker of the host > slot for the host > one attempt
//! ```
//! 1. The **deadline** covers the whole call, response body included.
//! 2. A followed **redirect** goes through the following steps again, for its host.
//! 3. The **retry** repeats idempotent methods, and other requests that the caller marks as idempotent. A request that did
//!    not reach the host is repeated whatever its method. `Retry-After` is the shortest delay. A pipeline of policies can
//!    replace the retry, for the client or for one call.
//! 4. The **breaker** of the host sees each attempt.
//! 5. The **slot** bounds the attempts in flight to a host, and with HTTP/1.1 the connections. It is held until the end of
//!    the body, and free when the response is dropped.
//! 6. The **attempt** has a timeout to connect and one to the response headers.
//!
//! # Connections
//! The connections are those of hyper-util's client, as in reqwest. A call allocates 18 times in hyper-util, 19 times in an
//! [`ApiClient`] and 47 times in reqwest: see `cargo xtask compare http`. hyper starts a task for each connection, and one
//! for each response whose body is in transit. All of them are services of the client's scope, so none outlives it.
//!
//! The pool of hyper-util does not bound connections (the slots bound those in use), and does not check a connection before
//! it is used again: a request that finds it closed before a byte was sent is sent on another one. With HTTP/2 it keeps one
//! connection to a host. A name is resolved for each connection, by tasks of the resolver that end with the client.

mod api_client;
mod body;
mod builder;
mod coding;
mod core;
#[cfg(any(feature = "brotli", feature = "gzip", feature = "zstd"))]
mod decoder;
mod defaults;
mod error;
mod exchange;
mod host;
mod judge;
mod redirect;
mod request;
mod request_line;
mod response;
mod response_body;
mod retry_after;
mod service;
mod target;

pub use api_client::{ApiClient, ApiClientStats};
pub use body::Body;
pub(crate) use body::Outgoing;
pub use builder::{ApiClientBuilder, ClientConfigError};
pub use error::{BoxError, Decode, Error, ErrorKind, Redirect, Status, TimeLimit};
pub use host::{Host, HostNameError};
pub use judge::ByStatus;
pub use request::{Request, RequestBuilder};
pub use response::Response;
pub use response_body::ResponseBody;
pub use retry_after::retry_after;
