//! Conversions between chains of [`motet::middleware`] and services of tower.
//!
//! ```
//! use axum::body::Body;
//! use axum::http::{Request, Response};
//! use axum::{Router, routing::get};
//! use motet::middleware::{Chain, Next};
//! use motet_http::bridge;
//!
//! async fn log(request: Request<Body>, next: Next<Request<Body>, Response<Body>>) -> Response<Body> {
//!     println!("{} {}", request.method(), request.uri());
//!     next.run(request).await
//! }
//!
//! let router: Router = Router::new().route("/", get(async || "hello")).layer(bridge::layer(Chain::new().with(log)));
//! ```
//!
//! | You have | You want | Use |
//! |---|---|---|
//! | a chain | a layer of an axum `Router` or a tower stack | [`layer`] |
//! | a handler | a service, for example for [`Server`](crate::Server) | [`service`] |
//! | a service of tower | the end of a chain | [`handler`] |
//!
//! # Readiness
//! A chain has nothing to poll before a call, so its service is always ready, and waits inside of the call. A service
//! of tower is called on an instance that was ready: each call has its own clone, uses the permit that the clone
//! reserved, and returns it if the call is dropped before.
//!
//! # Price
//! The allocations of the chain. A service of tower costs one more allocation per call.

mod answer;
mod chain_layer;
mod handler_service;

use std::future::poll_fn;

use motet::middleware::{Chain, Handler};
use tower_service::Service;

pub use answer::Answer;
pub use chain_layer::ChainLayer;
pub use handler_service::{Answering, HandlerService};

/// Converts a chain into a layer. The innermost part of the chain calls the wrapped service.
///
/// # Examples
/// ```
/// use axum::body::Body;
/// use axum::http::{Request, Response};
/// use axum::{Router, routing::get};
/// use motet::middleware::{Chain, Next};
/// use motet_http::bridge;
///
/// async fn stamp(request: Request<Body>, next: Next<Request<Body>, Response<Body>>) -> Response<Body> {
///     let mut response = next.run(request).await;
///     response.headers_mut().insert("x-stamp", "here".parse().unwrap());
///     response
/// }
///
/// let router: Router = Router::new().route("/", get(async || "hello")).layer(bridge::layer(Chain::new().with(stamp)));
/// ```
#[must_use]
pub fn layer<Q: 'static, R: 'static>(chain: Chain<Q, R>) -> ChainLayer<Q, R> {
    ChainLayer(chain)
}

/// Converts a handler into a service.
///
/// # Examples
/// ```
/// use motet::middleware::Chain;
/// use motet_http::bridge;
/// use tower_service::Service as _;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let handler = Chain::new().to(async |n: u32| Ok::<_, String>(n + 1));
/// assert_eq!(bridge::service(handler).call(1).await, Ok(2));
/// # });
/// ```
#[must_use]
pub fn service<Q: 'static, R: 'static>(handler: Handler<Q, R>) -> HandlerService<Q, R> {
    HandlerService(handler)
}

/// Converts a service into a handler, to end a chain with.
///
/// # Cancel safety
/// As safe as the future of the service. A permit that the service reserved is returned with its clone.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, Handler, Next};
/// use motet_http::bridge;
/// use std::convert::Infallible;
/// # use std::future::{Ready, ready};
/// # use std::task::{Context, Poll};
///
/// # #[derive(Clone)] struct Double;
/// # impl tower_service::Service<u32> for Double {
/// #     type Response = u32;
/// #     type Error = Infallible;
/// #     type Future = Ready<Result<u32, Infallible>>;
/// #     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
/// #     fn call(&mut self, n: u32) -> Self::Future { ready(Ok(n * 2)) }
/// # }
/// type Answer = Result<u32, Infallible>;
/// async fn add_one(n: u32, next: Next<u32, Answer>) -> Answer { next.run(n + 1).await }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let double: Handler<u32, Answer> = bridge::handler(Double);
/// let handler = Chain::new().with(add_one).to(double);
/// assert_eq!(handler.call(3).await, Ok(8));
/// # });
/// ```
pub fn handler<S, Q, R>(service: S) -> Handler<Q, R>
where
    S: Service<Q, Future: Send> + Clone + Send + Sync + 'static,
    R: Answer<Response = S::Response, Error = S::Error> + 'static,
    Q: Send + 'static,
    S::Error: Send,
{
    Chain::new().to(move |request| {
        let mut service = service.clone();
        async move {
            if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
                return R::from_result(Err(error));
            }
            R::from_result(service.call(request).await)
        }
    })
}
