//! Events: whoever emits one does not know who listens, and who listens does not know who emits.
//!
//! # When to use what
//! | You want to | |
//! |---|---|
//! | do something when something has happened | [`Emitter::on`], or [`on_async`](Emitter::on_async) if it has to wait |
//! | do it one time | [`Emitter::once`] |
//! | hear of events by name, of whatever type | [`Emitter::on_pattern`] |
//! | tell the listeners, and have every result | [`Emitter::emit`] |
//! | tell them, and not wait | [`Emitter::post`] |
//! | wait for an event | [`Emitter::next`] |
//! | read events one by one | [`Emitter::stream`] |
//! | give work to one of several workers | no event: a queue |
//! | cancel | [`CancelToken`](crate::task::CancelToken) |
//!
//! # Guarantees
//! - **Who hears it.** A listener that is on when an emit begins is called exactly once for it, unless it goes off
//!   before its turn. One that is off is not called. One for a single event is called for one event, whoever emits it.
//! - **No harm.** A listener that fails, panics or takes too long has its own line in [`Emitted`], and the others go
//!   on. One that blocks its thread blocks whoever emits: nobody can stop it.
//! - **Ending.** A listener belongs to a scope, and goes when the scope releases what it holds, at the latest: after all
//!   children and services, last in, first out. Until then its [`Subscription`] keeps it on.
//! - **Closing.** A closed emitter refuses events and listeners and hands them back; what was posted is heard. The end of
//!   its scope closes an emitter.
//! - **No locks.** None is held while a listener runs: it may emit, come and go, and close.
//! - **Price.** An emit allocates nothing while no listener needs a share in the event: none that is async, waits
//!   for the event or streams it. With one, the event is allocated, and each async listener's future.
//!
//! # Examples
//! ```
//! use motet::event::{Emitter, Event};
//! use motet::task::{Nursery, scope};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! struct UserCreated {
//!     email: String,
//! }
//! impl Event for UserCreated {
//!     const NAME: &'static str = "user.created";
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! scope(async |n: &Nursery| {
//!     let emitter = Emitter::new(n);
//!     let _check = emitter.on("check", |user: &UserCreated| match user.email.contains('@') {
//!         true => Ok(()),
//!         false => Err("that is no address"),
//!     }).unwrap();
//!     let _mail = emitter.on_async("mail", async |user: Arc<UserCreated>| {
//!         tokio::time::sleep(Duration::from_millis(200)).await;
//!         println!("welcome, {}", user.email);
//!     }).unwrap();
//!
//!     let emitted = emitter.emit(UserCreated { email: "alice".into() }).await.unwrap();
//!     assert_eq!(emitted.succeeded(), 1);
//!     assert_eq!(emitted.failed()[0].to_string(), "listener `check` failed");
//!     Ok(())
//! }).await.unwrap();
//! # });
//! ```

mod answer;
mod any_event;
mod builder;
mod closed;
mod deliver;
mod emit;
mod emitted;
mod emitter;
mod events;
mod failed;
mod hearing;
mod inbox;
mod inner;
mod kind;
mod lag;
mod listen;
mod named_event;
mod next;
mod open;
mod pattern;
mod posted;
mod ring;
mod slot;
mod snapshot;
mod stats;
mod subscription;
mod topic;

pub use answer::Answer;
pub use any_event::AnyEvent;
pub use builder::EmitterBuilder;
pub use closed::Closed;
pub use emit::Emit;
pub use emitted::{EmitFailed, Emitted};
pub use emitter::Emitter;
pub use events::Events;
pub use failed::{Cause, ListenerFailed};
pub use kind::Event;
pub use lag::{Lag, Missed};
pub use listen::Listen;
pub use named_event::NamedEvent;
pub use next::Next;
pub use pattern::{Pattern, PatternError};
pub use posted::{Overflow, Posted};
pub use subscription::Subscription;
