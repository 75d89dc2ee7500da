//! Typed events: code emits an event without knowledge of its listeners.
//!
//! ```
//! use motet::event::{Emitter, Event};
//! use motet::task::{Nursery, scope};
//!
//! struct UserCreated { email: String }
//! impl Event for UserCreated {
//!     const NAME: &'static str = "user.created";
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! scope(async |n: &Nursery| {
//!     let emitter = Emitter::new(n);
//!     let check = |user: &UserCreated| user.email.contains('@').then_some(()).ok_or("the address has no @");
//!     let _check = emitter.on("check", check).unwrap(); // its drop removes the listener
//!     let _mail = emitter.on("mail", |user: &UserCreated| println!("welcome, {}", user.email)).unwrap();
//!
//!     let emitted = emitter.emit(UserCreated { email: "alice".into() }).await.unwrap();
//!     assert_eq!(emitted.succeeded(), 1);
//!     assert_eq!(emitted.failed()[0].to_string(), "listener `check` failed");
//!     Ok(())
//! }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | call code for every event of a type | [`Emitter::on`], or [`on_async`](Emitter::on_async) if the code has to wait |
//! | call code for one event | [`Emitter::once`] |
//! | listen to events of any type, selected by name | [`Emitter::on_pattern`], [`on_pattern_async`](Emitter::on_pattern_async) |
//! | call the listeners, wait for them, and receive every result; a dropped emit loses the event | [`Emitter::emit`] |
//! | queue an event for the listeners, without waiting; it cannot be cancelled, except with the scope of the listener | [`Emitter::post`] |
//! | wait for an event | [`Emitter::next`] |
//! | read events one by one | [`Emitter::stream`] |
//! | pass work to one of several workers | not an event: [`queue`](crate::queue) |
//! | cancel a task | not an event: [`CancelToken`](crate::task::CancelToken) |
//!
//! # Guarantees
//! - **Calls.** A listener that was added before an emit begins is called exactly once for that emit, unless it is removed
//!   before its turn. A removed listener is not called. A [`once`](Emitter::once) listener is called for one event, even if
//!   several tasks emit concurrently.
//! - **Isolation.** A listener that fails, panics or times out is reported in [`Emitted`], and the other listeners are
//!   called. A listener that blocks its thread also blocks the caller that emits: it cannot be stopped.
//! - **Lifetime.** A listener is removed when its [`Subscription`] is dropped. If the subscription is kept, or
//!   [`forever`](Subscription::forever) was called, the listener is removed at the end of its scope, after all children and
//!   services have ended.
//! - **Closing.** A closed emitter refuses events and listeners, and hands them back; events that were posted before
//!   are handled. The end of its scope closes an emitter.
//! - **No locks.** No lock is held while a listener runs: a listener may emit, add and remove listeners, and close the
//!   emitter.
//! - **Cost.** An emit allocates nothing if all its listeners are synchronous and receive the event by reference.
//!   Asynchronous listeners, [`next`](Emitter::next) and streams share the event: then the emit allocates the event and
//!   the future of each asynchronous listener.

mod any_event;
mod builder;
mod call;
mod deliver;
mod emit;
mod emitted;
mod emitter;
mod error;
mod events;
mod inbox;
mod listener_builder;
mod next;
mod open;
mod pattern;
mod ring;
mod shared;
mod slot;
mod snapshot;
mod subscription;
mod topic;

pub use any_event::{AnyEvent, Event};
pub use builder::EmitterBuilder;
pub use deliver::Posted;
pub use emitted::{EmitError, Emitted};
pub use emitter::Emitter;
pub use error::{EmitterClosedError, LagError, ListenerError};
pub use events::{Events, Lag};
pub use listener_builder::ListenerBuilder;
pub use pattern::{Pattern, PatternError};
pub use subscription::Subscription;
