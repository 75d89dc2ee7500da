//! The lifecycle events of a relay, for programs that embed relay and for relay's own log and metrics.
//!
//! ```no_run
//! use motet_relay::lifecycle::DeadLetter;
//! use motet_relay::{Config, Relay};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new("./relay-data".into(), "127.0.0.1:8181".parse()?);
//! let mut subscription = None;
//! let ready = |relay: &Relay| {
//!     let alarm = |letter: &DeadLetter| println!("{} was given up: {}", letter.event, letter.reason);
//!     subscription = relay.lifecycle().on("alarm", alarm).ok();
//! };
//! Relay::run(config, ready, std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | Event | Name | Meaning |
//! |---|---|---|
//! | [`EndpointDisabled`] | `endpoint.disabled` | no attempts are made; pending deliveries are kept |
//! | [`EndpointEnabled`] | `endpoint.enabled` | pending deliveries are attempted again |
//! | [`EndpointProbed`] | `endpoint.probed` | relay has probed an endpoint that it had disabled |
//! | [`BreakerOpened`] | `breaker.opened` | the breaker of an endpoint admits no attempts for some time |
//! | [`BreakerHalfOpened`] | `breaker.half_opened` | the next attempt is a probe |
//! | [`BreakerClosed`] | `breaker.closed` | the breaker admits attempts again |
//! | [`Delivered`] | `delivery.delivered` | a receiver has accepted an event |
//! | [`AttemptFailed`] | `delivery.failed` | an attempt failed and will be repeated |
//! | [`DeadLetter`] | `delivery.dead` | a delivery was given up |
//!
//! # Guarantees
//! - [`Relay::lifecycle`](crate::Relay::lifecycle) returns the emitter. relay posts the events: a listener that is
//!   slow, fails or hangs delays no delivery.
//! - Each listener receives its events in order, in a task of its own. When the backlog of the listener is full, events
//!   are dropped and the log reports it; the store contains everything that matters.
//! - relay posts an event after its cause is on disk. The events of a breaker are the exception: a breaker is in
//!   memory.
//! - An event without a listener is not created.

mod events;
mod listeners;

use motet::event::{Emitter, Event, Subscription};

pub use self::events::{
    AttemptFailed, BreakerClosed, BreakerHalfOpened, BreakerOpened, DeadLetter, Delivered, DisabledReason,
    EnabledReason, EndpointDisabled, EndpointEnabled, EndpointProbed,
};

/// Posts the lifecycle events.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    emitter: Emitter,
    /// The listeners that write the log and count.
    _listeners: Vec<Subscription>,
}

impl Lifecycle {
    pub(crate) fn new(emitter: Emitter) -> Self {
        let listeners = listeners::subscribe(&emitter);
        Self { emitter, _listeners: listeners }
    }

    pub(crate) const fn emitter(&self) -> &Emitter {
        &self.emitter
    }

    /// Creates the event and posts it, if it has a listener.
    pub(crate) fn post<E: Event>(&self, event: impl FnOnce() -> E) {
        if self.emitter.listener_count::<E>() > 0 {
            // The emitter logs an event that is dropped because a backlog is full; a closed emitter has no listeners.
            let _posted = self.emitter.post(event());
        }
    }
}
