//! Middleware: `async fn(request, next) -> answer` around a handler, for any types of requests and answers.
//!
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
//!     Ok(format!("hello, {}", request.user.unwrap_or("stranger")))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let handler = Chain::new().with(log).with(authenticate).to(greet);
//! assert_eq!(handler.describe().to_string(), "log > authenticate > greet");
//! assert_eq!(handler.call(Request { user: Some("alice") }).await?, "hello, alice");
//! assert_eq!(handler.call(Request { user: None }).await, Err("unauthorized"));
//! # Ok(())
//! # }
//! ```
//!
//! A [`Chain`] puts its parts around a handler in the order in which they are added: the first part is outermost, sees
//! the request first and the answer last. The *inner parts* of a part are the parts after it and the handler.
//!
//! | You want to | Use |
//! |---|---|
//! | run code before and after every call, or answer a request yourself | [`Chain::with`] an `async fn` |
//! | pass state to that function | [`with_state`](with_state()) |
//! | change the type of requests or answers for all further parts | [`Chain::adapt`] |
//! | pass a value to inner parts and the handler, beside the request | [`Next::with`], [`Context`] |
//! | limit time, concurrency or rate, or retry | [`timeout`], [`retry`], [`hedge`], [`breaker`], [`bulkhead`], [`rate_limit`], [`adaptive_limit`]; several of them: [`pipeline`] |
//! | return another answer after an error | [`fallback`](fallback()) |
//! | turn a panic into an error | [`catch_panic`](catch_panic()) |
//! | observe calls | [`trace`](trace()), [`metrics`](metrics()), [`watch`](watch()) |
//! | guard one call without a chain | [`Pipeline`](crate::resilience::Pipeline) |
//!
//! # Guarantees
//! - **Task.** A call spawns no task. It is one future in the caller's task, and its parts run nested in each other, so
//!   that they share the task's scope, task-locals and spans.
//! - **Cancellation.** Dropping a call drops its parts and its handler at their current await, the innermost first.
//! - **Panics** propagate to the caller.
//! - **Readiness.** There is no readiness to poll before a call: a part with a limit waits inside of the call.
//! - **End.** A call ends when its answer is returned: a permit of a limit is then free, and [`trace`](trace()),
//!   [`metrics`](metrics()) and [`watch`](watch()) have measured it. If the answer has a body that is sent afterwards, put an
//!   [owned permit](crate::resilience::BulkheadPermit::into_owned) into the body.
//! - **Repetition.** A part may run the inner parts any number of times: [`Next`] is `Clone`.
//! - **Order.** [`Handler::describe`] returns the parts in their order.
//!
//! # Messages of the compiler
//! `docs/guide/when-the-compiler-says.md` explains them, for example for a policy around a handler that returns a `Response` of
//! axum.
//!
//! # Cost
//! A call costs one allocation per part and one for the handler, each for a future whose type the other parts do not
//! know. A part that returns the future of [`Next::run`] allocates nothing. Functions, and closures that capture
//! nothing, share one reference count of the chain per call; every other part costs one more.
//!
//! A call polls its parts nested in each other: a thousand small parts fit into the default stack of a thread, 2 MiB,
//! in a debug build. Chains are built and dropped without recursion. A chain inside of a chain counts as one more part.

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
mod policy;
mod watch;
mod with_state;

use std::pin::Pin;

pub use catch_panic::{catch_panic, catch_panic_with};
pub use chain::Chain;
pub use context::Context;
use description::ChainDescription;
pub use error::{PanicError, UnknownPartError};
pub use fallback::fallback;
pub use handler::Handler;
pub use named::named;
pub use next::Next;
pub use part::Middleware;
pub use policy::{
    Policies, PolicyError, adaptive_limit, breaker, bulkhead, hedge, pipeline, rate_limit, retry, timeout,
};
pub use watch::{CallEnd, Metrics, MetricsStats, metrics, metrics_with, trace, watch};
pub use with_state::with_state;

/// The boxed future of a call or of the inner parts.
pub type BoxFuture<R> = Pin<Box<dyn Future<Output = R> + Send>>;
