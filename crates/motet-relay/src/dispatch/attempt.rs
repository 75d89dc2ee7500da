//! One attempt at one delivery, from the request to its record on disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use motet::resilience::{self, BreakerPermit};
use motet_http::Fault;
use tokio::time::{Instant, sleep};

use super::RetrySchedule;
use super::lanes::Standing;
use super::trouble::OwnTrouble;
use crate::clock::{Millis, millis, rfc3339};
use crate::ids::Kind;
use crate::lifecycle::{
    AttemptFailed, DeadLetter, Delivered, DisabledBecause, EnabledBecause, EndpointDisabled, EndpointEnabled,
    EndpointProbed, Lifecycle,
};
use crate::outbound::{Answer, Outbound, Rest, SendError};
use crate::store::{
    Attempt, Change, Due, FailureClass, Held, Outcome, Recorded, Store, StoreError, Target, Verdict,
};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("motet-relay/", env!("CARGO_PKG_VERSION")));
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Between tries to record an outcome while the store refuses writes.
const RECORD_RETRY: Duration = Duration::from_secs(1);

/// An attempt that fails within this time gives its slot back as soon as one that succeeds. What matters of a slow failure
/// is the time: a receiver that answers one of its events with an error does not have to wait beside those that hang.
const QUICK: Duration = Duration::from_secs(1);

/// An error's text is cut here: it stands in every list.
const MOST_ERROR_BYTES: usize = 1 << 10;

/// An attempt that was made, without the payload.
#[derive(Debug)]
pub(super) struct Made {
    event: i64,
    outcome: Outcome,
}

impl Made {
    /// What the attempt says of its endpoint's use of slots.
    pub(super) fn standing(&self) -> Option<Standing> {
        let attempt = &self.outcome.attempt;
        match attempt.class {
            None => Some(Standing::Trusted),
            Some(FailureClass::Receiver) if attempt.took_ms <= millis(QUICK) => Some(Standing::Trusted),
            Some(FailureClass::Receiver) => Some(Standing::Suspect),
            // The receiver was not asked.
            Some(FailureClass::Relay | FailureClass::Config) => None,
        }
    }
}

/// What is left to do after an attempt, beside recording it.
#[derive(Debug, Default)]
pub(super) struct After {
    /// The rest of an answer whose status has said all.
    pub(super) rest: Option<Rest>,
    /// The receiver asked that nothing is sent to it for so long.
    pub(super) hold: Option<Duration>,
}

/// What every attempt needs.
#[derive(Debug)]
pub(super) struct Attempts {
    store: Store,
    outbound: Arc<Outbound>,
    schedule: RetrySchedule,
    lifecycle: Arc<Lifecycle>,
    trouble: OwnTrouble,
}

impl Attempts {
    pub(super) fn new(
        store: Store,
        outbound: Arc<Outbound>,
        schedule: RetrySchedule,
        lifecycle: Arc<Lifecycle>,
    ) -> Self {
        Self { store, outbound, schedule, lifecycle, trouble: OwnTrouble::default() }
    }

    /// What keeps relay from attempting anything, if something does.
    pub(super) fn own_trouble(&self) -> Option<String> {
        self.trouble.known()
    }

    /// Makes the attempt. Dropped, nothing of it is kept and the delivery stays due.
    pub(super) async fn make(
        &self,
        target: &Target,
        due: &Due,
        permit: BreakerPermit<'static>,
    ) -> (Made, After) {
        let clock = self.store.clock();
        let (started, started_at) = (Instant::now(), clock.wall());
        tracing::debug!(delivery = due.delivery, endpoint = target.endpoint, "an attempt begins");
        let sent = self.send(target, due, started_at).await;
        let took = started.elapsed();
        permit.record(health(&sent));
        let class = class(&sent);
        let (status, error, response, asked, rest) = match sent {
            Ok(Answer { status, excerpt, retry_after, rest }) => {
                let error = class.map(|_| format!("status {status}"));
                (Some(status), error, excerpt, retry_after, rest)
            }
            Err(error) => (None, Some(cut(error.to_string())), None, None, None),
        };
        let asked = asked.filter(|_| class.is_some());
        let hold = asked.filter(|_| status == Some(429)).map(|asked| asked.min(self.schedule.cap));
        let attempt = Attempt { started_at, took_ms: millis(took), status, class, error, response };
        (self.made(target, due, attempt, asked, took), After { rest, hold })
    }

    /// The attempt ended with a panic, of a bug. It is relay's own trouble, and made again.
    pub(super) fn died(&self, target: &Target, due: &Due, began: Instant, said: &str) -> Made {
        let took = began.elapsed();
        let attempt = Attempt {
            started_at: self.store.clock().wall().saturating_sub(millis(took)),
            took_ms: millis(took),
            status: None,
            class: Some(FailureClass::Relay),
            error: Some(cut(format!("relay panicked in the attempt: {said}"))),
            response: None,
        };
        self.made(target, due, attempt, None, took)
    }

    fn made(
        &self,
        target: &Target,
        due: &Due,
        attempt: Attempt,
        asked: Option<Duration>,
        took: Duration,
    ) -> Made {
        let verdict = match (&attempt.error, attempt.class) {
            (Some(error), Some(class)) => self.after_failure(due, class, error, asked),
            _ => Verdict::Delivered,
        };
        count(&verdict, attempt.class, took, self.store.clock().wall() - due.created_at);
        match (&attempt.error, attempt.class) {
            (Some(error), Some(FailureClass::Relay)) => self.trouble.failed(error),
            // The guard and the name of a host are looked at before relay needs anything of the machine.
            (_, Some(FailureClass::Config)) => {}
            _ => self.trouble.passed(),
        }
        let Due { delivery, event, round, .. } = *due;
        let Target { endpoint, generation, .. } = *target;
        Made { event, outcome: Outcome { delivery, round, endpoint, generation, attempt, verdict } }
    }

    async fn send(&self, target: &Target, due: &Due, at: Millis) -> Result<Answer, SendError> {
        let id = self.store.ids().format(Kind::Event, due.event);
        let body = envelope(due);
        // Signed with the time of the attempt: a retry days later is still inside a receiver's tolerance.
        let timestamp = at / 1_000;
        let mut signature = target.secret.sign(&id, timestamp, &body);
        // Standard Webhooks: a receiver accepts the message if one of them is right.
        for secret in target.old_secrets.at(self.store.clock().due_now()) {
            signature.push(' ');
            signature += &secret.sign(&id, timestamp, &body);
        }
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(USER_AGENT, AGENT);
        headers.insert(ACCEPT, ANYTHING);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
        for (name, value) in [(WEBHOOK_ID, id), (WEBHOOK_SIGNATURE, signature)] {
            let value = HeaderValue::try_from(value).map_err(|e| SendError::Url(e.into()))?;
            headers.insert(name, value);
        }
        self.outbound.post(&target.url, headers, Bytes::from(body)).await
    }

    fn after_failure(&self, due: &Due, class: FailureClass, error: &str, asked: Option<Duration>) -> Verdict {
        let now = self.store.clock().due_now();
        let (delay, reason) = if class == FailureClass::Relay {
            let since = due.relay_since.unwrap_or(now);
            let lasting = Duration::from_millis(u64::try_from(now.saturating_sub(since)).unwrap_or(0));
            let delay = self.schedule.delay_of_relay(due.relay_attempts.saturating_add(1), lasting);
            (delay, format!("relay could not attempt it for {} s; the last time: {error}", lasting.as_secs()))
        } else {
            let failed = due.round_attempts + 1;
            let reason = format!("{failed} attempts failed; the last one: {error}");
            (self.schedule.delay(failed, asked), reason)
        };
        match delay {
            Some(delay) => Verdict::Retry(now.saturating_add(delay)),
            None => Verdict::Dead { reason },
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

/// What a failed attempt is charged to; `None` for a success.
fn class(sent: &Result<Answer, SendError>) -> Option<FailureClass> {
    match sent {
        Ok(Answer { status: 200..=299, .. }) => None,
        Ok(_) => Some(FailureClass::Receiver),
        Err(error) => Some(match error.fault() {
            Fault::Local => FailureClass::Relay,
            Fault::Settings => FailureClass::Config,
            _ => FailureClass::Receiver,
        }),
    }
}

/// Cuts a text to the bytes that an error may have.
fn cut(mut text: String) -> String {
    if text.len() > MOST_ERROR_BYTES {
        text.truncate(text.floor_char_boundary(MOST_ERROR_BYTES - 3));
        text.push_str("...");
    }
    text
}

/// What the attempt says of its endpoint. A receiver that refuses one event may well take the next.
fn health(sent: &Result<Answer, SendError>) -> resilience::Verdict {
    match sent {
        Ok(Answer { status: 200..=299, .. }) => resilience::Verdict::Success,
        Ok(Answer { status: 408 | 429 | 500.., .. }) => resilience::Verdict::Failure,
        Err(_) if class(sent) == Some(FailureClass::Receiver) => resilience::Verdict::Failure,
        Ok(_) | Err(_) => resilience::Verdict::Ignore,
    }
}

fn count(verdict: &Verdict, class: Option<FailureClass>, took: Duration, age: Millis) {
    let outcome = match verdict {
        Verdict::Delivered => "delivered",
        Verdict::Retry(_) => "retry",
        Verdict::Dead { .. } => "dead",
    };
    metrics::counter!("relay_attempts_total", "outcome" => outcome).increment(1);
    if let Some(class) = class {
        metrics::counter!("relay_failed_attempts_total", "class" => class.as_str()).increment(1);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_cut_between_characters() {
        assert_eq!(cut("short".to_owned()), "short");
        for text in ["x".repeat(51_000), "\u{20ac}".repeat(17_000), format!("x{}", "\u{20ac}".repeat(17_000))]
        {
            let text = cut(text);
            assert!((MOST_ERROR_BYTES - 6..=MOST_ERROR_BYTES).contains(&text.len()), "{}", text.len());
            assert!(text.ends_with("..."));
        }
    }
}
