//! The demo's client of the API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use motet::task::{Nursery, Scope, scope};
use motet_http::ApiClient;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::receiver::Receiver;
use super::{DemoError, failed};
use crate::signature::Secret;

/// Number of clients that publish at once.
const CLIENTS: u32 = 16;

/// The delay after a 503, which means that nothing was stored.
const RETRY: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub(super) struct Publisher {
    relay: ApiClient,
}

#[derive(Deserialize)]
struct DeadLetters {
    items: Vec<Value>,
    next_cursor: Option<String>,
}

impl Publisher {
    pub(super) fn new(relay: SocketAddr, key: &str, scope: &Scope) -> Result<Self, DemoError> {
        let relay = ApiClient::builder(scope)
            .base_url(&format!("http://{relay}"))
            .header(AUTHORIZATION, format!("Bearer {key}"))
            // The demo handles a 503 itself.
            .without_retry()
            .without_breakers()
            .build();
        Ok(Self { relay: relay.map_err(|error| DemoError::Answer(error.to_string()))? })
    }

    pub(super) async fn create_endpoint(&self, url: &str, secret: &Secret) -> Result<(), DemoError> {
        let body = json!({"url": url, "event_types": ["demo.>"], "secret": secret.expose()});
        match self.call(Method::POST, "/v1/endpoints", Some(&body)).await? {
            (StatusCode::CREATED, _) => Ok(()),
            (status, body) => Err(unexpected(status, &body)),
        }
    }

    /// Publishes the events 0 to `events`, each under an idempotency key, and repeats each until it is accepted.
    pub(super) async fn publish_all(&self, events: u32, receiver: &Arc<Receiver>) -> Result<(), DemoError> {
        let next = Arc::new(AtomicU32::new(0));
        let published = scope(async |n: &Nursery<DemoError>| {
            for _ in 0..CLIENTS {
                let client = self.clone().client(Arc::clone(&next), events, Arc::clone(receiver));
                n.try_spawn("client", client);
            }
            Ok(())
        });
        published.await.map_err(failed)
    }

    async fn client(
        self,
        next: Arc<AtomicU32>,
        events: u32,
        receiver: Arc<Receiver>,
    ) -> Result<(), DemoError> {
        loop {
            let event = next.fetch_add(1, Ordering::Relaxed);
            if event >= events {
                return Ok(());
            }
            receiver.sending(event);
            self.publish(event).await?;
        }
    }

    async fn publish(&self, n: u32) -> Result<(), DemoError> {
        let body = json!({"type": "demo.counted", "data": {"n": n}, "idempotency_key": format!("demo-{n}")});
        loop {
            match self.call(Method::POST, "/v1/events", Some(&body)).await? {
                (StatusCode::ACCEPTED, _) => return Ok(()),
                (StatusCode::SERVICE_UNAVAILABLE, _) => sleep(RETRY).await,
                (status, body) => return Err(unexpected(status, &body)),
            }
        }
    }

    pub(super) async fn count_dead(&self) -> Result<u32, DemoError> {
        let mut dead = 0;
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/dead-letters?limit=100{cursor}");
            let (status, body) = self.call(Method::GET, &path, None).await?;
            if status != StatusCode::OK {
                return Err(unexpected(status, &body));
            }
            let page: DeadLetters =
                serde_json::from_slice(&body).map_err(|error| DemoError::Answer(error.to_string()))?;
            dead += u32::try_from(page.items.len()).unwrap_or(u32::MAX);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(dead),
            }
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), DemoError> {
        let request = self.relay.request(method, path);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = async {
            let answer = request.send().await?;
            Ok((answer.status(), answer.bytes().await?))
        };
        answer.await.map_err(|error: motet_http::Error| DemoError::Answer(error.to_string()))
    }
}

fn unexpected(status: StatusCode, body: &[u8]) -> DemoError {
    DemoError::Answer(format!("{status}: {}", String::from_utf8_lossy(body)))
}
