//! Calling HTTP APIs.
//!
//! # What a call goes through
//! ```text
//! deadline of the call > middleware > redirects > retry > breaker of the host > place for the host > one attempt
//! ```
//! 1. The **deadline** covers all of it, and the body of the answer after it.
//! 2. Each **redirect** that is followed goes through what comes next as a call of its own, of the host that it leads to.
//! 3. The **retry** repeats what may be repeated: methods that are idempotent, and others where the caller says so. What
//!    never reached a host is repeated whatever its method. `Retry-After` is the least time to wait. A pipeline of
//!    policies can take its place, for the client or for one call.
//! 4. The **breaker** of the host sees each attempt.
//! 5. The **place** bounds what is under way to a host, and with HTTP/1.1 the connections. It is held until the body is
//!    at its end, and free when the answer is dropped.
//! 6. The **attempt** has a time to connect and one to the headers of the answer.
//!
//! # Which way to read an answer
//! | You want | |
//! |---|---|
//! | a value, from JSON | [`fetch_json`](RequestBuilder::fetch_json) |
//! | all of it, in memory, if it is a success | [`fetch`](RequestBuilder::fetch), [`fetch_bytes`](RequestBuilder::fetch_bytes) |
//! | to look at the status yourself, or to read as it comes | [`send`](RequestBuilder::send), [`Response::chunk`] |
//!
//! What `fetch` reads belongs to the attempt: a body that breaks off is fetched again. What comes after `send` does not.
//!
//! # Connections
//! They are those of hyper-util's client. reqwest stands on the same one, allocates 47 times for a call where that does 18
//! times and an [`ApiClient`] 19 times, and lets nobody choose where its tasks belong: see `cargo xtask compare http`.
//! hyper starts a task for each
//! connection, and one for each answer whose body is still on its way; all of them are services of the client's scope,
//! so that none outlives it.
//!
//! What that pool cannot do: it does not bound connections (the places do, for those in use), has no longest life for a
//! connection, and does not check one before it is used again: a request that finds it closed before a byte of it was
//! sent goes to another, unseen. With HTTP/2 it keeps one connection to a host, however much is under way. A name is
//! resolved for each connection, by tasks of the resolver, which end with the client.

mod api_client;
mod body;
mod builder;
mod core;
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
mod target;

pub use api_client::{ApiClient, ApiClientStats};
pub use body::Body;
pub(crate) use body::Outgoing;
pub use builder::{ApiClientBuilder, InvalidClient};
pub use error::{BoxError, Decode, Error, ErrorKind, Redirect, Status, TimeLimit};
pub use host::{Host, InvalidHostName};
pub use judge::ByStatus;
pub use request::{Request, RequestBuilder};
pub use response::Response;
pub use response_body::ResponseBody;
pub use retry_after::retry_after;
