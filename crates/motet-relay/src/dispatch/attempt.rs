//! One attempt at one delivery, from the request to its record on disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use motet::resilience::{self, BreakerPermit};
use tokio::time::{Instant, sleep};

use super::RetrySchedule;
use super::lanes::Standing;
use crate::clock::{Millis, millis, rfc3339};
use crate::ids::Kind;
use crate::lifecycle::{
    AttemptFailed, DeadLetter, Delivered, DisabledBecause, EnabledBecause, EndpointDisabled, EndpointEnabled,
    EndpointProbed, Lifecycle,
};
use crate::outbound::{Answer, Outbound, SendError};
use crate::store::{
    Attempt, Change, Due, FailureClass, Held, Outcome, Recorded, Store, StoreError, Target, Verdict,
};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("motet-relay/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Between tries to record an outcome while the store refuses writes.
const RECORD_RETRY: Duration = Duration::from_secs(1);

/// An attempt that fails within this time gives its slot back as soon as one that succeeds. What matters of a slow failure
/// is the time: a receiver that answers one of its events with an error does not have to wait beside those that hang.
const QUICK: Duration = Duration::from_secs(1);

/// An attempt that was made, without the payload.
#[derive(Debug)]
pub(super) struct Made {
    event: i64,
    outcome: Outcome,
}

impl Made {
    /// What the attempt says of its endpoint's use of slots.
    pub(super) fn standing(&self) -> Option<Standing> {
        let is_quick = self.outcome.attempt.took_ms <= millis(QUICK);
        Some(if self.outcome.attempt.error.is_none() || is_quick {
            Standing::Trusted
        } else {
            Standing::Suspect
        })
    }
}

/// What every attempt needs.
#[derive(Debug)]
pub(super) struct Attempts {
    store: Store,
    outbound: Arc<Outbound>,
    schedule: RetrySchedule,
    lifecycle: Arc<Lifecycle>,
}

impl Attempts {
    pub(super) fn new(
        store: Store,
        outbound: Arc<Outbound>,
        schedule: RetrySchedule,
        lifecycle: Arc<Lifecycle>,
    ) -> Self {
        Self { store, outbound, schedule, lifecycle }
    }

    /// Makes the attempt. Dropped, nothing of it is kept and the delivery stays due.
    pub(super) async fn make(&self, target: &Target, due: Due, permit: BreakerPermit<'static>) -> Made {
        let clock = self.store.clock();
        let (started, started_at) = (Instant::now(), clock.wall());
        let sent = self.send(target, &due, started_at).await;
        let took = started.elapsed();
        permit.record(health(&sent));
        let (status, error, response, asked) = match sent {
            Ok(Answer { status, .. }) if (200..300).contains(&status) => (Some(status), None, None, None),
            Ok(Answer { status, excerpt, retry_after }) => {
                let asked = retry_after.map(|asked| asked.from(clock.wall()));
                (Some(status), Some(format!("status {status}")), excerpt, asked)
            }
            Err(error) => (None, Some(error.to_string()), None, None),
        };
        let verdict = match &error {
            None => Verdict::Delivered,
            Some(error) => self.after_failure(&due, error, asked),
        };
        count(&verdict, took, clock.wall() - due.created_at);
        let class = error.is_some().then_some(FailureClass::Receiver);
        let attempt = Attempt { started_at, took_ms: millis(took), status, class, error, response };
        let Due { delivery, event, round, .. } = due;
        let Target { endpoint, generation, .. } = *target;
        Made { event, outcome: Outcome { delivery, round, endpoint, generation, attempt, verdict } }
    }

    async fn send(&self, target: &Target, due: &Due, at: Millis) -> Result<Answer, SendError> {
        let id = self.store.ids().format(Kind::Event, due.event);
        let body = envelope(due);
        // Signed with the time of the attempt: a retry days later is still inside a receiver's tolerance.
        let timestamp = at / 1_000;
        let signature = target.secret.sign(&id, timestamp, &body);
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(USER_AGENT, AGENT);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
        for (name, value) in [(WEBHOOK_ID, id), (WEBHOOK_SIGNATURE, signature)] {
            let value = HeaderValue::try_from(value).map_err(|e| SendError::Url(e.into()))?;
            headers.insert(name, value);
        }
        self.outbound.post(&target.url, headers, Bytes::from(body)).await
    }

    fn after_failure(&self, due: &Due, error: &str, asked: Option<Duration>) -> Verdict {
        let failed = due.round_attempts + 1;
        match self.schedule.delay(failed, asked) {
            Some(delay) => Verdict::Retry(self.store.clock().due_now().saturating_add(delay)),
            None => Verdict::Dead { reason: format!("{failed} attempts failed; the last one: {error}") },
        }
    }

    /// Tells what a recorded attempt has brought.
    fn tell(&self, made: &Made, recorded: &Recorded) {
        let ids = self.store.ids();
        let Made { event, ref outcome } = *made;
        let Outcome { endpoint, delivery, ref attempt, ref verdict, .. } = *outcome;
        let names = || {
            (
                ids.format(Kind::Delivery, delivery),
                ids.format(Kind::Event, event),
                ids.format(Kind::Endpoint, endpoint),
            )
        };
        match verdict {
            Verdict::Delivered => self.lifecycle.tell(|| {
                let (delivery, event, endpoint) = names();
                let took = Duration::from_millis(u64::try_from(attempt.took_ms).unwrap_or(0));
                Delivered { delivery, event, endpoint, took }
            }),
            Verdict::Dead { reason } if recorded.is_dead => self.lifecycle.tell(|| {
                let (delivery, event, endpoint) = names();
                DeadLetter { delivery, event, endpoint, reason: reason.clone() }
            }),
            // Buried meanwhile, it is not made again, and that was told.
            _ if recorded.retry_at.is_none() => {}
            Verdict::Retry(_) | Verdict::Dead { .. } => self.lifecycle.tell(|| {
                let (delivery, event, endpoint) = names();
                AttemptFailed { delivery, event, endpoint, error: attempt.error.clone().unwrap_or_default() }
            }),
        }
        let Some(change) = recorded.change else { return };
        let endpoint = || ids.format(Kind::Endpoint, endpoint);
        match change {
            Change::Held(held) => self.lifecycle.tell(|| EndpointDisabled {
                endpoint: endpoint(),
                because: match held {
                    Held::Gone => DisabledBecause::Gone,
                    Held::Failing => DisabledBecause::Failing,
                },
            }),
            Change::StillFailing => {
                self.lifecycle.tell(|| EndpointProbed { endpoint: endpoint(), succeeded: false });
            }
            Change::Recovered => {
                self.lifecycle.tell(|| EndpointProbed { endpoint: endpoint(), succeeded: true });
                let because = EnabledBecause::Recovered;
                self.lifecycle.tell(|| EndpointEnabled { endpoint: endpoint(), because });
            }
        }
    }

    /// Records an attempt; returns when its delivery is due again, if it is. Dropped before the record is queued, the
    /// delivery stays due.
    ///
    /// Keeps trying while the store refuses writes: the delivery stays leased meanwhile, so it is not sent twice, and
    /// what is not recorded is bounded, so nothing piles up.
    pub(super) async fn record(&self, made: Made) -> Option<Millis> {
        loop {
            match self.store.record(made.outcome.clone()).await {
                Ok(recorded) => {
                    self.tell(&made, &recorded);
                    return recorded.retry_at;
                }
                // The next start finds the delivery due.
                Err(StoreError::Closed) => return None,
                // Time does not cure it, and other outcomes must not wait behind this one.
                Err(StoreError::Corrupt(why)) => {
                    let delivery = made.outcome.delivery;
                    tracing::error!(
                        why,
                        delivery,
                        "an outcome cannot be recorded; the delivery is left alone"
                    );
                    self.store.pass_over(delivery);
                    return None;
                }
                Err(error) => {
                    let delivery = made.outcome.delivery;
                    tracing::error!(%error, delivery, "an outcome is not recorded yet; trying again");
                    sleep(RECORD_RETRY).await;
                }
            }
        }
    }
}

/// What the attempt says of its endpoint. A receiver that refuses one event may well take the next.
fn health(sent: &Result<Answer, SendError>) -> resilience::Verdict {
    match sent {
        Ok(Answer { status: 200..=299, .. }) => resilience::Verdict::Success,
        Ok(Answer { status: 408 | 429 | 500.., .. }) | Err(_) => resilience::Verdict::Failure,
        Ok(_) => resilience::Verdict::Ignore,
    }
}

fn count(verdict: &Verdict, took: Duration, age: Millis) {
    let outcome = match verdict {
        Verdict::Delivered => "delivered",
        Verdict::Retry(_) => "retry",
        Verdict::Dead { .. } => "dead",
    };
    metrics::counter!("relay_attempts_total", "outcome" => outcome).increment(1);
    metrics::histogram!("relay_attempt_seconds").record(took);
    if *verdict == Verdict::Delivered {
        metrics::histogram!("relay_delivery_seconds").record(age as f64 / 1_000.0);
    }
}

/// The body receivers get: `{"type":..,"timestamp":..,"data":..}`, as Standard Webhooks recommends. The same
/// bytes in every attempt.
fn envelope(due: &Due) -> Vec<u8> {
    let timestamp = rfc3339(due.created_at);
    let mut body = Vec::with_capacity(due.data.len() + due.event_type.len() + timestamp.len() + 40);
    // An event type and a time stamp hold no character that JSON escapes.
    body.extend_from_slice(br#"{"type":""#);
    body.extend_from_slice(due.event_type.as_bytes());
    body.extend_from_slice(br#"","timestamp":""#);
    body.extend_from_slice(timestamp.as_bytes());
    body.extend_from_slice(br#"","data":"#);
    body.extend_from_slice(&due.data);
    body.push(b'}');
    body
}
