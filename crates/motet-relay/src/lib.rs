//! relay delivers events to webhook endpoints: durable, signed, retried, in one binary.
//!
//! **202 means that the event and every delivery it owes are on disk, in one commit. Each delivery is made
//! at least once, under a stable id, or is visible as a dead letter.**
//!
//! ```no_run
//! use motet_relay::{Config, Relay};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new("./relay-data".into(), "127.0.0.1:8181".parse()?);
//! let stop = async { tokio::signal::ctrl_c().await.expect("signals can be listened to") };
//! Relay::run(config, |relay| println!("listening on {}", relay.address()), stop).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Rooms
//! - `edge`: HTTP in; translates requests into calls on the store, and nothing more.
//! - `store`: what is true: events, deliveries, attempts, in one SQLite file.
//! - `dispatch`: what is due, and whose turn it is.
//! - `outbound`: HTTP out, behind the [`AddressGuard`].
//! - [`lifecycle`]: what happens, told to whoever listens.
//! - `parts`: the container that makes and ends them.
//! - `demo`: all of it at work, against a receiver that misbehaves.
//!
//! An event goes edge, store, dispatch, outbound, and its outcome goes back to the store. `edge` and
//! `dispatch` know the store and not each other.

mod api;
mod cli;
mod clock;
mod config;
mod demo;
mod dispatch;
mod error;
mod guard;
mod ids;
mod json;
pub mod lifecycle;
mod outbound;
mod parts;
mod pattern;
mod relay;
mod signature;
mod store;

pub use self::cli::{Cli, Command, DemoArgs, RotateKeyArgs, ServeArgs};
pub use self::config::{AutoDisable, Config, EndpointLimits, Feeds, InFlight, RetrySchedule, Timeouts};
pub use self::demo::{DemoError, DemoOptions, DemoReport, run_demo};
pub use self::error::{OpenError, RunError, StartError};
pub use self::guard::{AddressGuard, BlockedAddressError};
pub use self::pattern::{EventType, EventTypeError, MAX_TYPE_LENGTH, Pattern};
pub use self::relay::{Relay, rotate_api_key};
pub use self::signature::{Secret, SecretError};
