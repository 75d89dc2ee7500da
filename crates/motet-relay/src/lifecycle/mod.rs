//! What happens in a relay, told to whoever listens: programs that embed relay, and relay's own log and metrics.
//!
//! [`Relay::lifecycle`](crate::Relay::lifecycle) gives the emitter. Events are posted: a listener that is slow, fails or
//! hangs holds up no delivery, and hears its events in order, in a task of its own. What does not fit into its backlog is
//! dropped, which the log says; the store has all that matters. An event that nobody listens to is never made.
//!
//! | Event | Name | |
//! |---|---|---|
//! | [`EndpointDisabled`] | `endpoint.disabled` | nothing is attempted; what it is owed is kept |
//! | [`EndpointEnabled`] | `endpoint.enabled` | what it is owed is attempted again |
//! | [`EndpointProbed`] | `endpoint.probed` | an endpoint that only failed was tried |
//! | [`BreakerOpened`] | `breaker.opened` | an endpoint is left alone for a while |
//! | [`BreakerHalfOpened`] | `breaker.half_opened` | the next attempt tells whether it is back |
//! | [`BreakerClosed`] | `breaker.closed` | it is back |
//! | [`Delivered`] | `delivery.delivered` | a receiver has taken an event |
//! | [`AttemptFailed`] | `delivery.failed` | an attempt failed, and will be made again |
//! | [`DeadLetter`] | `delivery.dead` | a delivery was given up |
//!
//! An event is told once what it tells is on disk, but for those of a breaker, which lives in memory.
//!
//! ```no_run
//! use motet_relay::lifecycle::DeadLetter;
//! use motet_relay::{Config, Relay};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new("./relay-data".into(), "127.0.0.1:8181".parse()?);
//! let mut listening = None;
//! let ready = |relay: &Relay| {
//!     let alarm = |letter: &DeadLetter| println!("{} was given up: {}", letter.event, letter.reason);
//!     listening = relay.lifecycle().on("alarm", alarm).ok();
//! };
//! Relay::run(config, ready, std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```

mod events;
mod watch;

use motet::event::{Emitter, Event, Subscription};

pub use self::events::{
    AttemptFailed, BreakerClosed, BreakerHalfOpened, BreakerOpened, DeadLetter, Delivered, DisabledBecause,
    EnabledBecause, EndpointDisabled, EndpointEnabled, EndpointProbed,
};

/// Tells what happens.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    emitter: Emitter,
    /// The log and the counters listen.
    _watch: Vec<Subscription>,
}

impl Lifecycle {
    pub(crate) fn new(emitter: Emitter) -> Self {
        let watch = watch::watch(&emitter);
        Self { emitter, _watch: watch }
    }

    pub(crate) const fn emitter(&self) -> &Emitter {
        &self.emitter
    }

    /// Makes the event and posts it, if anybody listens.
    pub(crate) fn tell<E: Event>(&self, event: impl FnOnce() -> E) {
        if self.emitter.listener_count::<E>() > 0 {
            // What is dropped for want of room, the emitter logs; one that is closed has no listeners left.
            let _posted = self.emitter.post(event());
        }
    }
}
