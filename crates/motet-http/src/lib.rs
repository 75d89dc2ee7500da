//! HTTP on motet: calls that survive a bad day of the other side, and a server that ends when its scope does.
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
//!     // Retries, breakers and limits are there by default; connections belong to the scope.
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
//! # What do you want to do?
//! | | |
//! |---|---|
//! | call an HTTP API | [`ApiClient`], and [`client`] for what a call goes through |
//! | know why a call failed | [`Error`], [`ErrorKind`] |
//! | put policies of your own around the attempts | [`ApiClientBuilder::pipeline`], [`ByStatus`] |
//! | do something with every request and answer of a client | [`ApiClientBuilder::middleware`] |
//! | send requests, each one attempt, and decide on everything else yourself | [`Connections`] |
//! | use a chain where tower or axum want a layer or a service, or the other way round | [`bridge`] |
//! | pass a trace on | [`TraceContext`] |
//! | serve an axum router, or any tower service, in a scope | [`Server`], and [`server`] for how it shuts down |
//! | tell a load balancer when to come | [`Readiness`] |
//!
//! # What it does not do
//! No cookies, no proxies, no decompression, no multipart, no WebSockets: reqwest has them. The server speaks HTTP/1.1
//! without TLS, as behind a proxy.

pub mod bridge;
pub mod client;
mod connect;
pub mod server;
mod trace;

pub use client::{
    ApiClient, ApiClientBuilder, ApiClientStats, Body, BoxError, ByStatus, Decode, Error, ErrorKind, Host,
    InvalidClient, InvalidHostName, Redirect, Request, RequestBuilder, Response, ResponseBody, Status,
    TimeLimit, retry_after,
};
pub use connect::{Connections, ConnectionsBuilder, Fault, ReceivedBody, SendError, Versions};
pub use server::{Peer, Readiness, Reserved, Served, Server, ServerStats};
pub use trace::{InvalidTraceContext, Sampled, TraceContext};
