//! The lifecycle events. Endpoints, events and deliveries are named by their public ids.

use std::time::Duration;

use motet::event::Event;

/// The reason why an endpoint was disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisabledReason {
    /// The receiver responded with 410. The endpoint stays disabled until it is enabled through the API.
    Gone,
    /// Every attempt failed for a long time. A probe that succeeds enables the endpoint again.
    Failing,
    /// A client of the API requested it.
    Requested,
}

impl DisabledReason {
    /// The name of the reason in logs, metrics and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
            Self::Requested => "requested",
        }
    }
}

/// The reason why an endpoint was enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnabledReason {
    /// A probe of the failing endpoint has succeeded.
    Recovered,
    /// A client of the API requested it.
    Requested,
}

/// An endpoint was disabled: no attempts are made, and its pending deliveries are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointDisabled {
    /// `ep_..`
    pub endpoint: String,
    /// The reason.
    pub reason: DisabledReason,
}

/// An endpoint was enabled: its pending deliveries are attempted again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointEnabled {
    /// `ep_..`
    pub endpoint: String,
    /// The reason.
    pub reason: EnabledReason,
}

/// relay has attempted one delivery of an endpoint that it had disabled because every attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointProbed {
    /// `ep_..`
    pub endpoint: String,
    /// `true` if the probe succeeded. [`EndpointEnabled`] follows in that case.
    pub succeeded: bool,
}

/// The breaker of an endpoint has opened, because too many attempts in a row have failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerOpened {
    /// `ep_..`
    pub endpoint: String,
    /// How long the breaker stays open.
    pub open_for: Option<Duration>,
}

/// The breaker of an endpoint is half-open: the next attempt is a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerHalfOpened {
    /// `ep_..`
    pub endpoint: String,
}

/// The breaker of an endpoint has closed: a probe has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerClosed {
    /// `ep_..`
    pub endpoint: String,
}

/// A receiver has accepted an event.
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

/// An attempt failed and will be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptFailed {
    /// `dlv_..`
    pub delivery: String,
    /// `evt_..`
    pub event: String,
    /// `ep_..`
    pub endpoint: String,
    /// The error of the attempt.
    pub error: String,
}

/// A delivery was given up and is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// `dlv_..`
    pub delivery: String,
    /// `evt_..`; empty if the database is damaged and the id of the event cannot be read.
    pub event: String,
    /// `ep_..`
    pub endpoint: String,
    /// The reason.
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
