//! The demo's receiver: it verifies signatures, misbehaves according to its seed, and counts.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use motet::rng::Rng;
use motet::task::{Nursery, Policy, Scope};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::signature::Secret;

/// Percentage of attempts that are answered with 5xx.
const FAILS: u64 = 12;
/// Percentage of attempts that get no response before their timeout.
const STALLS: u64 = 3;
/// Percentage of attempts whose connection is dropped without a response.
const DROPS: u64 = 3;

/// The receiver's reaction to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReceiverAct {
    Accept,
    Fail,
    Stall,
    Drop,
}

/// The receiver's misbehaviour. It depends only on the seed, the event and the number of the attempt, so the order of
/// arrival does not change it.
#[derive(Debug)]
pub(super) struct Misbehaviour {
    seed: u64,
    stall: Duration,
}

impl Misbehaviour {
    pub(super) const fn new(seed: u64, stall: Duration) -> Self {
        Self { seed, stall }
    }

    fn reaction(&self, event: u32, attempt: u32) -> ReceiverAct {
        let mixed = self.seed ^ (u64::from(event) << 32 | u64::from(attempt));
        let percent = Rng::seeded(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).below(100);
        match percent {
            _ if percent < FAILS => ReceiverAct::Fail,
            _ if percent < FAILS + STALLS => ReceiverAct::Stall,
            _ if percent < FAILS + STALLS + DROPS => ReceiverAct::Drop,
            _ => ReceiverAct::Accept,
        }
    }
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{FAILS} % 5xx, {STALLS} % stalled beyond the timeout, {DROPS} % dropped connections (seed {})",
            self.seed
        )
    }
}

/// The receiver's record of one event.
#[derive(Debug, Clone, Default)]
pub(super) struct SeenEvent {
    pub(super) sent: Option<Instant>,
    pub(super) attempts: u32,
    pub(super) accepted: u32,
    pub(super) arrived: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Receiver {
    secret: Secret,
    misbehaviour: Misbehaviour,
    state: Mutex<ReceiverState>,
    complete: Notify,
}

#[derive(Debug)]
struct ReceiverState {
    seen: Vec<SeenEvent>,
    arrived: u32,
    last_arrival: Option<Instant>,
}

#[derive(Deserialize)]
struct Envelope {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    n: u32,
}

impl Receiver {
    pub(super) fn new(events: u32, secret: Secret, misbehaviour: Misbehaviour) -> Self {
        let seen = vec![SeenEvent::default(); events as usize];
        let state = Mutex::new(ReceiverState { seen, arrived: 0, last_arrival: None });
        Self { secret, misbehaviour, state, complete: Notify::new() }
    }

    /// Notes that the event is about to be published.
    pub(super) fn sending(&self, event: u32) {
        if let Some(seen) = self.state().seen.get_mut(event as usize) {
            seen.sent = Some(Instant::now());
        }
    }

    /// Number of events that were accepted at least once.
    pub(super) fn arrived(&self) -> u32 {
        self.state().arrived
    }

    pub(super) fn last_arrival(&self) -> Option<Instant> {
        self.state().last_arrival
    }

    /// Waits until the last missing event has arrived.
    pub(super) async fn all_arrived(&self) {
        self.complete.notified().await;
    }

    pub(super) fn tally(&self) -> Vec<SeenEvent> {
        self.state().seen.clone()
    }

    fn state(&self) -> MutexGuard<'_, ReceiverState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn receive(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let Some(event) = self.verify(&head.headers, &body) else {
            return Ok(answer(StatusCode::BAD_REQUEST));
        };
        let attempt = match self.state().seen.get_mut(event as usize) {
            Some(seen) => {
                seen.attempts += 1;
                seen.attempts
            }
            None => return Ok(answer(StatusCode::BAD_REQUEST)),
        };
        match self.misbehaviour.reaction(event, attempt) {
            ReceiverAct::Accept => {
                self.accept(event);
                Ok(answer(StatusCode::NO_CONTENT))
            }
            ReceiverAct::Fail => Ok(answer(StatusCode::SERVICE_UNAVAILABLE)),
            ReceiverAct::Stall => {
                sleep(self.misbehaviour.stall).await;
                Ok(answer(StatusCode::SERVICE_UNAVAILABLE))
            }
            ReceiverAct::Drop => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Returns the number of the event if the signature is valid.
    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Option<u32> {
        let header = |name| headers.get(name)?.to_str().ok();
        let timestamp = header("webhook-timestamp")?.parse().ok()?;
        let expected = self.secret.sign(header("webhook-id")?, timestamp, body);
        if header("webhook-signature")? != expected {
            return None;
        }
        Some(serde_json::from_slice::<Envelope>(body).ok()?.data.n)
    }

    fn accept(&self, event: u32) {
        let mut state = self.state();
        let now = Instant::now();
        let all = state.seen.len();
        let Some(seen) = state.seen.get_mut(event as usize) else { return };
        seen.accepted += 1;
        if seen.arrived.is_none() {
            seen.arrived = Some(now);
            state.arrived += 1;
            state.last_arrival = Some(now);
        }
        if state.arrived as usize == all {
            self.complete.notify_one();
        }
    }
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// Accepts deliveries until the future is dropped.
pub(super) async fn serve(listener: TcpListener, receiver: Arc<Receiver>) {
    let connections = Scope::builder().name("connections").policy(Policy::Isolate);
    let served = connections.run(async |n: &Nursery| {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    n.spawn("connection", serve_connection(stream, Arc::clone(&receiver)));
                }
                Err(error) => tracing::error!(%error, "the receiver cannot accept a connection"),
            }
        }
    });
    let Err::<Infallible, _>(ended) = served.await;
    tracing::debug!(%ended, "the receiver ended");
}

async fn serve_connection(stream: TcpStream, receiver: Arc<Receiver>) {
    let service = service_fn(|request| receiver.receive(request));
    // The error is a dropped connection, which is part of the misbehaviour.
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the receiver ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_receiver_misbehaves_by_its_seed_and_reaches_its_rates() {
        let acts = |seed| -> Vec<_> {
            let misbehaviour = Misbehaviour::new(seed, Duration::ZERO);
            (0..10_000).map(|event| misbehaviour.reaction(event, 1)).collect()
        };
        assert_eq!(acts(1), acts(1));
        assert_ne!(acts(1), acts(2));
        for seed in 0..20 {
            let acts = acts(seed);
            let [fails, stalls, drops] = [ReceiverAct::Fail, ReceiverAct::Stall, ReceiverAct::Drop]
                .map(|act| acts.iter().filter(|a| **a == act).count());
            assert!(fails > 1_000 && stalls > 200 && drops > 200, "seed {seed}: {fails} {stalls} {drops}");
        }
    }
}
