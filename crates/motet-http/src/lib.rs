//! HTTP on motet: an API client with retries, breakers and deadlines, and a server whose connections belong to a scope.
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Json, Router, extract::Path, routing::get};
//! use motet::task::{CancelToken, Nursery, Reason, scope};
//! use motet_http::{ApiClient, ErrorKind, Server};
//! use tokio::net::TcpListener;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
//! let base = format!("http://{}", listener.local_addr().unwrap());
//! let user = get(async |Path(id): Path<u32>| Json(vec![id, id * id]));
//! let router = Router::new().route("/users/{id}", user);
//!
//! scope(async |n: &Nursery| {
//!     let stop = CancelToken::new();
//!     let stopping = stop.clone();
//!     let server = n.spawn("server", async move { Server::new().serve(listener, router, stopping).await });
//!
//!     // Retries, breakers and limits are on by default; connections belong to the scope.
//!     let api = ApiClient::builder(n).base_url(&base).timeout(Duration::from_secs(5)).build().unwrap();
//!     let numbers: Vec<u32> = api.get("/users/7").fetch_json().await.unwrap();
//!     assert_eq!(numbers, [7, 49]);
//!
//!     let error = api.get("/users/seven").fetch().await.unwrap_err();
//!     assert!(matches!(error.kind(), ErrorKind::Status(status) if status.code == 400));
//!
//!     stop.cancel(Reason::requested("the example is over"));
//!     server.await.unwrap();
//!     Ok(())
//! })
//! .await
//! .unwrap();
//! # });
//! ```
//!
//! # When to use what
//! | You want to | Use |
//! |---|---|
//! | call an HTTP API | [`ApiClient`], and [`client`] for what a call goes through |
//! | know why a call failed | [`Error`], [`ErrorKind`] |
//! | add your own policies to the attempts | [`ApiClientBuilder::pipeline`], [`ByStatus`] |
//! | run code around every call of a client | [`ApiClientBuilder::middleware`] |
//! | send single requests, and decide everything else yourself | [`Connections`] |
//! | use a chain as a layer or service of tower and axum, or the reverse | [`bridge`] |
//! | propagate a trace | [`TraceContext`] |
//! | serve an axum router or a tower service in a scope | [`Server`], and [`server`] for how it shuts down |
//! | report readiness to a load balancer | [`Readiness`] |
//!
//! # Features
//! All are enabled by default. The smallest client, `default-features = false`, is built from 77 crates, half of
//! those with all features, and speaks HTTP/1.1 without TLS.
//!
//! | Feature | Adds |
//! |---|---|
//! | `tls` | `https` of the client and the server, on rustls |
//! | `http2` | HTTP/2 of the client |
//! | `dns` | asynchronous name resolution with a cache; without it, the system resolves names on blocking threads |
//! | `proxy` | [`Proxy`] |
//! | `gzip`, `brotli`, `zstd` | the decoding of response bodies: see [`ApiClientBuilder::without_decompression`] |
//!
//! # Limits
//! There are no cookies, multipart bodies or WebSockets; reqwest has them. The server speaks HTTP/1.1.

pub mod bridge;
pub mod client;
mod connect;
pub mod server;
mod trace;

pub use client::{
    ApiClient, ApiClientBuilder, ApiClientStats, Body, BoxError, ByStatus, ClientConfigError, Decode, Error,
    ErrorKind, Host, HostNameError, Redirect, Request, RequestBuilder, Response, ResponseBody, Status,
    TimeLimit, retry_after,
};
pub use connect::{Connections, ConnectionsBuilder, Fault, ReceivedBody, SendError, Versions};
#[cfg(feature = "proxy")]
pub use connect::{Proxy, ProxyError};
/// The body of a request to a [`Server`].
#[doc(no_inline)]
pub use hyper::body::Incoming;
pub use server::{
    Listener, MemoryConnector, MemoryListener, Peer, Readiness, Reserved, Served, Server, ServerBuilder,
    ServerConfigError, ServerStats,
};
pub use trace::{Sampled, TraceContext, TraceContextError};
