//! relay's own listeners: they write the log and count.

use motet::event::{Emitter, EmitterClosedError, Event, Subscription};

use super::{
    BreakerClosed, BreakerHalfOpened, BreakerOpened, DisabledReason, EnabledReason, EndpointDisabled,
    EndpointEnabled,
};

/// Subscribes the listeners. They stay subscribed until the subscriptions are dropped.
pub(super) fn subscribe(emitter: &Emitter) -> Vec<Subscription> {
    let on = [
        listen(emitter, |EndpointDisabled { endpoint, reason }| {
            if *reason == DisabledReason::Requested {
                tracing::info!(endpoint, "an endpoint was disabled through the API");
                return;
            }
            let because = reason.as_str();
            metrics::counter!("relay_endpoints_disabled_total", "because" => because).increment(1);
            tracing::warn!(
                endpoint,
                because,
                "an endpoint was disabled automatically; its pending deliveries are kept"
            );
        }),
        listen(emitter, |EndpointEnabled { endpoint, reason }| match reason {
            EnabledReason::Recovered => {
                tracing::info!(endpoint, "a failing endpoint has recovered and was enabled again");
            }
            EnabledReason::Requested => tracing::info!(endpoint, "an endpoint was enabled through the API"),
        }),
        listen(emitter, |BreakerOpened { endpoint, open_for }| {
            metrics::counter!("relay_breakers_opened_total").increment(1);
            tracing::info!(endpoint, ?open_for, "the breaker of an endpoint has opened");
        }),
        listen(emitter, |BreakerHalfOpened { endpoint }| {
            tracing::info!(endpoint, "the breaker of an endpoint is half-open; the next attempt is a probe");
        }),
        listen(emitter, |BreakerClosed { endpoint }| {
            tracing::info!(endpoint, "the breaker of an endpoint has closed");
        }),
    ];
    on.into_iter().flatten().collect()
}

fn listen<E: Event>(emitter: &Emitter, listener: fn(&E)) -> Option<Subscription> {
    // A new emitter is open.
    emitter
        .on("log and counters", listener)
        .map_err(|EmitterClosedError(_)| {
            tracing::error!("lifecycle events are not logged: the emitter is closed")
        })
        .ok()
}
