//! relay's own listeners: the log, and counters.

use motet::event::{Closed, Emitter, Event, Subscription};

use super::{
    BreakerClosed, BreakerHalfOpened, BreakerOpened, DisabledBecause, EnabledBecause, EndpointDisabled,
    EndpointEnabled,
};

/// Listens for as long as the subscriptions are kept.
pub(super) fn watch(emitter: &Emitter) -> Vec<Subscription> {
    let on = [
        listen(emitter, |EndpointDisabled { endpoint, because }| {
            if *because == DisabledBecause::Asked {
                tracing::info!(endpoint, "an endpoint is disabled, as was asked for");
                return;
            }
            let because = because.as_str();
            metrics::counter!("relay_endpoints_disabled_total", "because" => because).increment(1);
            tracing::warn!(endpoint, because, "an endpoint is disabled; what it is owed is kept");
        }),
        listen(emitter, |EndpointEnabled { endpoint, because }| match because {
            EnabledBecause::Recovered => {
                tracing::info!(endpoint, "an endpoint that only failed works again");
            }
            EnabledBecause::Asked => tracing::info!(endpoint, "an endpoint is enabled, as was asked for"),
        }),
        listen(emitter, |BreakerOpened { endpoint, open_for }| {
            metrics::counter!("relay_breakers_opened_total").increment(1);
            tracing::info!(endpoint, ?open_for, "an endpoint fails, and is left alone for a while");
        }),
        listen(emitter, |BreakerHalfOpened { endpoint }| {
            tracing::info!(endpoint, "the next attempt tells whether an endpoint is back");
        }),
        listen(emitter, |BreakerClosed { endpoint }| {
            tracing::info!(endpoint, "an endpoint that was left alone is back");
        }),
    ];
    on.into_iter().flatten().collect()
}

fn listen<E: Event>(emitter: &Emitter, told: fn(&E)) -> Option<Subscription> {
    // A new emitter is open.
    emitter.on("log and counters", told).map_err(|Closed(_)| tracing::error!("nobody logs what happens")).ok()
}
