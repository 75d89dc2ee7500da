//! An attempt at a delivery, from the request to the record of its outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use motet::resilience::BreakerPermit;
use tokio::time::{Instant, sleep};

use super::failure::{LocalCause, LocalFailure, breaker_verdict, class, cut};
use super::lanes::LaneTrust;
use crate::clock::{Millis, millis, rfc3339};
use crate::config::RetrySchedule;
use crate::ids::IdKind;
use crate::lifecycle::{
    AttemptFailed, DeadLetter, Delivered, DisabledReason, EnabledReason, EndpointDisabled, EndpointEnabled,
    EndpointProbed, Lifecycle,
};
use crate::outbound::{Outbound, ReceiverResponse, SendError, UnreadBody};
use crate::store::{
    Attempt, AttemptOutcome, DeliveryTarget, DeliveryVerdict, DueDelivery, FailureClass, HeaderPrefix,
    HoldChange, HoldReason, RecordedAttempt, RequestBody, Store, StoreError,
};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const SVIX_ID: HeaderName = HeaderName::from_static("svix-id");
const SVIX_TIMESTAMP: HeaderName = HeaderName::from_static("svix-timestamp");
const SVIX_SIGNATURE: HeaderName = HeaderName::from_static("svix-signature");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("motet-relay/", env!("CARGO_PKG_VERSION")));
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The delay between two tries to record an outcome while the store refuses writes.
const RECORD_RETRY: Duration = Duration::from_secs(1);

/// An attempt that fails within this time returns its slot as soon as one that succeeds. Only slow failures make an
/// endpoint a suspect: a receiver that answers one of its events with an error does not have to share slots with
/// receivers that hang.
const QUICK: Duration = Duration::from_secs(1);

/// A finished attempt, without the payload.
#[derive(Debug)]
pub(super) struct FinishedAttempt {
    event: i64,
    outcome: AttemptOutcome,
}

impl FinishedAttempt {
    /// Returns how the attempt used its slot, if the receiver was asked.
    pub(super) fn trust(&self) -> Option<LaneTrust> {
        let attempt = &self.outcome.attempt;
        match attempt.class {
            None => Some(LaneTrust::Trusted),
            Some(FailureClass::Receiver) if attempt.took_ms <= millis(QUICK) => Some(LaneTrust::Trusted),
            Some(FailureClass::Receiver) => Some(LaneTrust::Suspect),
            // The receiver was not asked.
            Some(FailureClass::Relay | FailureClass::Config) => None,
        }
    }
}

/// The work that an attempt leaves, apart from its record.
#[derive(Debug, Default)]
pub(super) struct FollowUp {
    /// The unread body of a response whose status decides the outcome.
    pub(super) unread: Option<UnreadBody>,
    /// How long the receiver asks for no further requests.
    pub(super) pause: Option<Duration>,
}

/// Makes and records attempts.
#[derive(Debug)]
pub(super) struct Attempts {
    store: Store,
    outbound: Arc<Outbound>,
    schedule: RetrySchedule,
    lifecycle: Arc<Lifecycle>,
    local_failure: LocalFailure,
}

impl Attempts {
    pub(super) fn new(
        store: Store,
        outbound: Arc<Outbound>,
        schedule: RetrySchedule,
        lifecycle: Arc<Lifecycle>,
    ) -> Self {
        Self { store, outbound, schedule, lifecycle, local_failure: LocalFailure::default() }
    }

    /// The error that keeps relay from attempting anything, if there is one.
    pub(super) fn local_failure(&self) -> Option<String> {
        self.local_failure.current()
    }

    /// Makes the attempt.
    ///
    /// # Cancel safety
    /// If the future is dropped, nothing is recorded and the delivery stays due.
    pub(super) async fn make(
        &self,
        target: &DeliveryTarget,
        due: &DueDelivery,
        permit: BreakerPermit<'static>,
    ) -> (FinishedAttempt, FollowUp) {
        let clock = self.store.clock();
        let (started, started_at) = (Instant::now(), clock.wall());
        tracing::debug!(delivery = due.delivery, endpoint = target.endpoint, "an attempt begins");
        let sent = self.send(target, due, started_at).await;
        let took = started.elapsed();
        permit.record(breaker_verdict(&sent));
        let class = class(&sent);
        let cause =
            sent.as_ref().err().map_or(LocalCause::Machine, |error| LocalCause::of(error, &target.url));
        let (status, error, response, retry_after, unread) = match sent {
            Ok(ReceiverResponse { status, excerpt, retry_after, unread }) => {
                let error = class.map(|_| format!("status {status}"));
                (Some(status), error, excerpt, retry_after, unread)
            }
            Err(error) => (None, Some(cut(error.to_string())), None, None, None),
        };
        let retry_after = retry_after.filter(|_| class.is_some());
        let pause = retry_after.filter(|_| status == Some(429)).map(|delay| delay.min(self.schedule.cap));
        let attempt = Attempt { started_at, took_ms: millis(took), status, class, error, response };
        (self.finished(target, due, attempt, retry_after, took, cause), FollowUp { unread, pause })
    }

    /// Returns the outcome of an attempt that panicked because of a bug. The failure is charged to relay, so the
    /// attempt is repeated.
    pub(super) fn panicked(
        &self,
        target: &DeliveryTarget,
        due: &DueDelivery,
        began: Instant,
        message: &str,
    ) -> FinishedAttempt {
        let took = began.elapsed();
        let attempt = Attempt {
            started_at: self.store.clock().wall().saturating_sub(millis(took)),
            took_ms: millis(took),
            status: None,
            class: Some(FailureClass::Relay),
            error: Some(cut(format!("relay panicked in the attempt: {message}"))),
            response: None,
        };
        // A bug may show at one endpoint only.
        self.finished(target, due, attempt, None, took, LocalCause::at(&target.url))
    }

    /// Returns the attempt with its verdict. `cause` counts if it is charged to relay.
    fn finished(
        &self,
        target: &DeliveryTarget,
        due: &DueDelivery,
        attempt: Attempt,
        retry_after: Option<Duration>,
        took: Duration,
        cause: LocalCause,
    ) -> FinishedAttempt {
        let verdict = match (&attempt.error, attempt.class) {
            (Some(error), Some(class)) => self.after_failure(due, class, error, retry_after),
            _ => DeliveryVerdict::Delivered,
        };
        count(&verdict, attempt.class, took, self.store.clock().wall() - due.created_at);
        match (&attempt.error, attempt.class) {
            (Some(error), Some(FailureClass::Relay)) => self.local_failure.set(error, cause),
            // The address guard and the host name are checked before relay needs a resource of the machine.
            (_, Some(FailureClass::Config)) => {}
            _ => self.local_failure.clear(),
        }
        let DueDelivery { delivery, event, due_at, round, .. } = *due;
        let DeliveryTarget { endpoint, generation, .. } = *target;
        FinishedAttempt {
            event,
            outcome: AttemptOutcome { delivery, due_at, round, endpoint, generation, attempt, verdict },
        }
    }

    async fn send(
        &self,
        target: &DeliveryTarget,
        due: &DueDelivery,
        at: Millis,
    ) -> Result<ReceiverResponse, SendError> {
        let id = self.store.ids().format(IdKind::Event, due.event);
        let body = match target.body {
            RequestBody::Envelope => envelope(due),
            RequestBody::Data => due.data.clone(),
        };
        // The signature has the time of the attempt, so a retry after days is still within the tolerance of a
        // receiver.
        let timestamp = at / 1_000;
        let mut signature = target.secret.sign(&id, timestamp, &body);
        // Standard Webhooks: a receiver accepts the message if one of the signatures is valid.
        for secret in target.old_secrets.at(self.store.clock().due_now()) {
            signature.push(' ');
            signature += &secret.sign(&id, timestamp, &body);
        }
        let mut headers = own_headers(&target.headers).map_err(SendError::Headers)?;
        let [id_name, timestamp_name, signature_name] = match target.header_prefix {
            HeaderPrefix::Webhook => [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE],
            HeaderPrefix::Svix => [SVIX_ID, SVIX_TIMESTAMP, SVIX_SIGNATURE],
        };
        headers.insert(timestamp_name, HeaderValue::from(timestamp));
        for (name, value) in [(id_name, id), (signature_name, signature)] {
            let value = HeaderValue::try_from(value).map_err(|e| SendError::Headers(e.into()))?;
            headers.insert(name, value);
        }
        self.outbound.post(&target.url, headers, Bytes::from(body)).await
    }

    fn after_failure(
        &self,
        due: &DueDelivery,
        class: FailureClass,
        error: &str,
        retry_after: Option<Duration>,
    ) -> DeliveryVerdict {
        let now = self.store.clock().due_now();
        let (delay, reason) = if class == FailureClass::Relay {
            let since = due.relay_since.unwrap_or(now);
            let lasting = Duration::from_millis(u64::try_from(now.saturating_sub(since)).unwrap_or(0));
            let delay = self.schedule.delay_of_relay(due.relay_attempts.saturating_add(1), lasting);
            (
                delay,
                format!("relay could not attempt it for {} s; the last error: {error}", lasting.as_secs()),
            )
        } else {
            let failed = due.round_attempts + 1;
            let reason = format!("{failed} attempts failed; the last error: {error}");
            (self.schedule.delay(failed, retry_after), reason)
        };
        match delay {
            Some(delay) => DeliveryVerdict::Retry(now.saturating_add(delay)),
            None => DeliveryVerdict::Dead { reason },
        }
    }

    /// Posts the lifecycle events of a recorded attempt.
    fn post_events(&self, finished: &FinishedAttempt, recorded: &RecordedAttempt) {
        let ids = self.store.ids();
        let FinishedAttempt { event, ref outcome } = *finished;
        let AttemptOutcome { endpoint, delivery, ref attempt, ref verdict, .. } = *outcome;
        let names = || {
            (
                ids.format(IdKind::Delivery, delivery),
                ids.format(IdKind::Event, event),
                ids.format(IdKind::Endpoint, endpoint),
            )
        };
        match verdict {
            DeliveryVerdict::Delivered => self.lifecycle.post(|| {
                let (delivery, event, endpoint) = names();
                let took = Duration::from_millis(u64::try_from(attempt.took_ms).unwrap_or(0));
                Delivered { delivery, event, endpoint, took }
            }),
            DeliveryVerdict::Dead { reason } if recorded.is_dead => self.lifecycle.post(|| {
                let (delivery, event, endpoint) = names();
                DeadLetter { delivery, event, endpoint, reason: reason.clone() }
            }),
            // The endpoint was deleted during the attempt: the delivery is a dead letter already, and its event was
            // posted.
            _ if recorded.retry_at.is_none() => {}
            DeliveryVerdict::Retry(_) | DeliveryVerdict::Dead { .. } => self.lifecycle.post(|| {
                let (delivery, event, endpoint) = names();
                AttemptFailed { delivery, event, endpoint, error: attempt.error.clone().unwrap_or_default() }
            }),
        }
        let Some(change) = recorded.change else { return };
        let endpoint = || ids.format(IdKind::Endpoint, endpoint);
        match change {
            HoldChange::Held(held) => self.lifecycle.post(|| EndpointDisabled {
                endpoint: endpoint(),
                reason: match held {
                    HoldReason::Gone => DisabledReason::Gone,
                    HoldReason::Failing => DisabledReason::Failing,
                },
            }),
            HoldChange::StillFailing => {
                self.lifecycle.post(|| EndpointProbed { endpoint: endpoint(), succeeded: false });
            }
            HoldChange::Recovered => {
                self.lifecycle.post(|| EndpointProbed { endpoint: endpoint(), succeeded: true });
                let reason = EnabledReason::Recovered;
                self.lifecycle.post(|| EndpointEnabled { endpoint: endpoint(), reason });
            }
        }
    }

    /// Records an attempt. Returns the time at which its delivery is due again, if it is pending.
    ///
    /// Keeps trying while the store refuses writes. The delivery stays leased in that time, so it is not sent twice,
    /// and the number of outcomes that are not recorded is bounded, so nothing piles up.
    ///
    /// # Cancel safety
    /// If the future is dropped before the record is queued, the delivery stays due.
    pub(super) async fn record(&self, finished: FinishedAttempt) -> Option<Millis> {
        loop {
            match self.store.record(finished.outcome.clone()).await {
                Ok(recorded) => {
                    self.post_events(&finished, &recorded);
                    return recorded.retry_at;
                }
                // The delivery is due at the next start.
                Err(StoreError::Closed) => return None,
                // Damage does not heal with time, and other outcomes must not wait behind this one.
                Err(StoreError::Corrupt(why)) => {
                    let delivery = finished.outcome.delivery;
                    tracing::error!(
                        why,
                        delivery,
                        "cannot record an outcome; the delivery is not attempted again until the next start"
                    );
                    self.store.skip(delivery);
                    return None;
                }
                Err(error) => {
                    let delivery = finished.outcome.delivery;
                    tracing::error!(%error, delivery, "cannot record an outcome yet; trying again");
                    sleep(RECORD_RETRY).await;
                }
            }
        }
    }
}

/// Returns the headers of a request without those of the signature, which are inserted later: no setting may replace
/// them.
///
/// # Errors
/// A header of the endpoint cannot be sent, or there are too many.
fn own_headers(of_endpoint: &BTreeMap<String, String>) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::try_with_capacity(8 + of_endpoint.len())?;
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(USER_AGENT, AGENT);
    headers.insert(ACCEPT, ANYTHING);
    for (name, value) in of_endpoint {
        let mut value = HeaderValue::try_from(value)?;
        value.set_sensitive(true);
        headers.try_insert(HeaderName::try_from(name)?, value)?;
    }
    Ok(headers)
}

fn count(verdict: &DeliveryVerdict, class: Option<FailureClass>, took: Duration, age: Millis) {
    let outcome = match verdict {
        DeliveryVerdict::Delivered => "delivered",
        DeliveryVerdict::Retry(_) => "retry",
        DeliveryVerdict::Dead { .. } => "dead",
    };
    metrics::counter!("relay_attempts_total", "outcome" => outcome).increment(1);
    if let Some(class) = class {
        metrics::counter!("relay_failed_attempts_total", "class" => class.as_str()).increment(1);
    }
    metrics::histogram!("relay_attempt_seconds").record(took);
    if *verdict == DeliveryVerdict::Delivered {
        metrics::histogram!("relay_delivery_seconds").record(age as f64 / 1_000.0);
    }
}

/// Returns the body of the request: `{"type":..,"timestamp":..,"data":..}`, as Standard Webhooks recommends. Every
/// attempt sends the same bytes.
fn envelope(due: &DueDelivery) -> Vec<u8> {
    let timestamp = rfc3339(due.created_at);
    let mut body = Vec::with_capacity(due.data.len() + due.event_type.len() + timestamp.len() + 40);
    // An event type and a time stamp contain no character that JSON escapes.
    body.extend_from_slice(br#"{"type":""#);
    body.extend_from_slice(due.event_type.as_bytes());
    body.extend_from_slice(br#"","timestamp":""#);
    body.extend_from_slice(timestamp.as_bytes());
    body.extend_from_slice(br#"","data":"#);
    body.extend_from_slice(&due.data);
    body.push(b'}');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_do_not_fit_are_an_error_and_no_panic() {
        let headers = |count: u32| (0..count).map(|n| (format!("h{n}"), String::new())).collect();
        assert_eq!(own_headers(&headers(32)).unwrap().len(), 32 + 3);
        assert!(own_headers(&headers(40_000)).is_err());
        assert!(own_headers(&[("a b".to_owned(), String::new())].into()).is_err());
    }
}
