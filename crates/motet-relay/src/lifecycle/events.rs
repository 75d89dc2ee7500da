//! The events, with the public ids of what they are about.

use std::time::Duration;

use motet::event::Event;

/// Why an endpoint was disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisabledBecause {
    /// The receiver answered 410. Somebody has to enable the endpoint.
    Gone,
    /// Every attempt failed, for long. A probe that succeeds enables it.
    Failing,
    /// Somebody asked for it.
    Asked,
}

impl DisabledBecause {
    /// The word that logs, metrics and the API have for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
            Self::Asked => "asked",
        }
    }
}

/// Why an endpoint was enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnabledBecause {
    /// It only failed, and works again.
    Recovered,
    /// Somebody asked for it.
    Asked,
}

/// Nothing is attempted at this endpoint any more, and what it is owed is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointDisabled {
    /// `ep_..`
    pub endpoint: String,
    /// Why.
    pub because: DisabledBecause,
}

/// What this endpoint is owed is attempted again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointEnabled {
    /// `ep_..`
    pub endpoint: String,
    /// Why.
    pub because: EnabledBecause,
}

/// An endpoint that is disabled because it only failed was tried with one of its deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointProbed {
    /// `ep_..`
    pub endpoint: String,
    /// Whether it answered with a success; [`EndpointEnabled`] follows then.
    pub succeeded: bool,
}

/// An endpoint failed so often in a row that it is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerOpened {
    /// `ep_..`
    pub endpoint: String,
    /// For how long.
    pub open_for: Option<Duration>,
}

/// An endpoint was left alone for long enough: the next attempt tells whether it is back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerHalfOpened {
    /// `ep_..`
    pub endpoint: String,
}

/// An endpoint that was left alone is back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerClosed {
    /// `ep_..`
    pub endpoint: String,
}

/// A receiver has taken an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// `dlv_..`
    pub delivery: String,
    /// `evt_..`
    pub event: String,
    /// `ep_..`
    pub endpoint: String,
    /// How long the attempt took.
    pub took: Duration,
}

/// An attempt failed, and will be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptFailed {
    /// `dlv_..`
    pub delivery: String,
    /// `evt_..`
    pub event: String,
    /// `ep_..`
    pub endpoint: String,
    /// Why.
    pub error: String,
}

/// A delivery was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// `dlv_..`
    pub delivery: String,
    /// `evt_..`; empty when the database is damaged and not even this can be read.
    pub event: String,
    /// `ep_..`
    pub endpoint: String,
    /// Why.
    pub reason: String,
}

macro_rules! names {
    ($($event:ident $name:literal)*) => {
        $(impl Event for $event {
            const NAME: &'static str = $name;
        })*
    };
}

names! {
    EndpointDisabled "endpoint.disabled"
    EndpointEnabled "endpoint.enabled"
    EndpointProbed "endpoint.probed"
    BreakerOpened "breaker.opened"
    BreakerHalfOpened "breaker.half_opened"
    BreakerClosed "breaker.closed"
    Delivered "delivery.delivered"
    AttemptFailed "delivery.failed"
    DeadLetter "delivery.dead"
}
