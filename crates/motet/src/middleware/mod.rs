//! Middleware: an `async fn` around a handler, for any request and any answer.
//!
//! `async fn log(request: Q, next: Next<Q, R>) -> R` *is* a middleware. A [`Chain`] puts such parts around a handler, in
//! the order in which they are written: the first is outermost, and that is the only order.
//!
//! # When to use what
//! | You want to | |
//! |---|---|
//! | do something before and after every call, or answer in its place | [`Chain::with`] an `async fn` |
//! | give that a state | [`with_state`](with_state()) |
//! | have requests or answers of another type from some part on | [`Chain::adapt`] |
//! | tell parts further inside, or the handler, something beside the request | [`Next::with`], [`Context`] |
//! | limit times, calls or their number, or try again | [`timeout`], [`retry`], [`hedge`], [`breaker`], [`bulkhead`], [`rate_limit`], [`adaptive_limit`], or several in one: [`pipeline`] |
//! | answer though all has failed | [`fallback`](fallback()) |
//! | survive a panic | [`catch_panic`](catch_panic()) |
//! | see what happens | [`trace`](trace()), [`metrics`](metrics()), [`watch`](watch()) |
//! | guard one call, with no chain around | [`Pipeline`](crate::resilience::Pipeline) |
//!
//! # Guarantees
//! - **In the caller's task.** Nothing is spawned: a call is one future, its parts run within each other, and what a task
//!   has (its scope, its locals, its spans) they have too.
//! - **Dropped.** A call that is dropped drops the parts and the handler where they are, the innermost first.
//! - **Panics** go out to the caller.
//! - **Ready.** There is nothing to poll before a call: a part that lets only so many through waits inside of it.
//! - **Again.** A part may run what is inside as often as it likes: [`Next`] is `Clone`.
//! - **Order.** [`Handler::describe`] says what is around what.
//!
//! # Price
//! A call costs one allocation for each part and one for the handler: the future of each, as the part has no type that
//! the others know. A part that hands on the future of [`Next::run`] costs none. Functions, and closures that capture
//! nothing, share one count of the chain in a call; every other part costs another.
//!
//! A call is polled through all its parts, one within the other: a thousand parts of no great size fit the 2 MiB of
//! stack that a thread has, in a debug build, and chains are built and dropped without recursion. Chains within chains
//! count as one more part each.
//!
//! # Examples
//! ```
//! use motet::middleware::{Chain, Next};
//!
//! #[derive(Debug)]
//! struct Request { user: Option<&'static str> }
//! type Answer = Result<String, &'static str>;
//!
//! async fn log(request: Request, next: Next<Request, Answer>) -> Answer {
//!     println!("request {request:?}");
//!     let answer = next.run(request).await;
//!     println!("answer {answer:?}");
//!     answer
//! }
//!
//! async fn authenticate(request: Request, next: Next<Request, Answer>) -> Answer {
//!     if request.user.is_none() {
//!         return Err("unauthorized");
//!     }
//!     next.run(request).await
//! }
//!
//! async fn greet(request: Request) -> Answer {
//!     Ok(format!("hello, {}", request.user.unwrap_or("nobody")))
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let handler = Chain::new().with(log).with(authenticate).to(greet);
//! assert_eq!(handler.describe().to_string(), "log > authenticate > greet");
//! assert_eq!(handler.call(Request { user: Some("alice") }).await.unwrap(), "hello, alice");
//! assert_eq!(handler.call(Request { user: None }).await, Err("unauthorized"));
//! # });
//! ```

mod adapter;
mod built;
mod catch_panic;
mod chain;
mod context;
mod description;
mod endpoint;
mod error;
mod fallback;
mod handler;
mod named;
mod next;
mod part;
pub mod policy;
mod watch;
mod with_state;

use std::pin::Pin;

pub use catch_panic::{CatchPanic, CatchPanicWith, Panicked, catch_panic, catch_panic_with};
pub use chain::Chain;
pub use context::Context;
pub use description::{Description, PartDescription};
pub use endpoint::Endpoint;
pub use error::NoSuchPart;
pub use fallback::{Fallback, fallback};
pub use handler::Handler;
pub use named::{Named, named};
pub use next::Next;
pub use part::{Middleware, Part};
pub use policy::{
    Policies, PolicyError, adaptive_limit, breaker, bulkhead, hedge, pipeline, rate_limit, retry, timeout,
};
pub use watch::{
    End, Ended, Errs, Judge, JudgedBy, Measured, Metrics, MetricsStats, Trace, Watch, metrics, trace, watch,
};
pub use with_state::{WithState, with_state};

/// The future of a call, or of what is inside of a part.
pub type BoxFuture<R> = Pin<Box<dyn Future<Output = R> + Send>>;
