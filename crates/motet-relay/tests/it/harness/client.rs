//! A client of relay's API.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Pool, Error};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::contract::{self, Sent};
use super::{Home, Receiver, eventually, within};

#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(super) pool: Pool<HttpConnector, Full<Bytes>>,
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    home: Option<Arc<Home>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {} {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    /// Returns the reason of a refusal, and checks the form of the response.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json", "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr, key: String, home: Arc<Home>) -> Self {
        Self { address, key, home: Some(home), ..Self::nowhere() }
    }

    /// Returns the same client with another key.
    pub(crate) fn with_key(&self, key: String) -> Self {
        Self { key, ..self.clone() }
    }

    pub(super) fn nowhere() -> Self {
        let pool = Pool::builder(TokioExecutor::new()).build_http();
        Self { pool, address: SocketAddr::from(([0; 4], 0)), key: String::new(), home: None }
    }

    /// The data directory, which is kept as long as the client.
    pub(crate) fn home(&self) -> &Arc<Home> {
        self.home.as_ref().unwrap()
    }

    /// Sends any request, and compares the response with the OpenAPI documents. An error is a connection that ended early.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Error> {
        let body = body.into();
        let sent = Sent { method: &method, path, headers, body: &body };
        let mut request =
            Request::builder().method(method.clone()).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.pool.request(request.body(Full::new(body.clone())).unwrap()).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        // A body that ends early is not a response; it reads as an empty one.
        let is_whole = body.is_ok();
        let answer = Answer { status: head.status, headers: head.headers, body: body.unwrap_or_default() };
        if is_whole {
            contract::check(&sent, &answer);
        }
        Ok(answer)
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let key = format!("Bearer {}", self.key);
        let headers = [(AUTHORIZATION.as_str(), key.as_str()), (CONTENT_TYPE.as_str(), "application/json")];
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        within("an answer", self.request(method, path, &headers, body)).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    pub(crate) async fn ndjson(&self, body: impl Into<Bytes>) -> (StatusCode, Vec<Value>) {
        let key = format!("Bearer {}", self.key);
        let headers =
            [(AUTHORIZATION.as_str(), key.as_str()), (CONTENT_TYPE.as_str(), "application/x-ndjson")];
        let answer = self.request(Method::POST, "/v1/events", &headers, body).await.unwrap();
        let lines = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (answer.status, lines)
    }

    /// Creates an endpoint for all event types. Returns its id.
    pub(crate) async fn endpoint(&self, receiver: &Receiver) -> String {
        self.endpoint_at(&receiver.url(), json!({})).await
    }

    /// Creates an endpoint with further fields. Returns its id.
    pub(crate) async fn endpoint_at(&self, url: &str, mut more: Value) -> String {
        more["url"] = json!(url);
        let answer = self.post("/v1/endpoints", more).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Publishes an event that must be accepted. Returns its id.
    pub(crate) async fn publish(&self, event_type: &str, data: Value) -> String {
        let answer = self.post("/v1/events", json!({"type": event_type, "data": data})).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Returns all items of a list, page by page.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let answer = self.get(&format!("{path}{separator}limit=100{cursor}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            let page = answer.json();
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// Returns the only delivery of an event, with its attempts.
    pub(crate) async fn delivery_of(&self, event: &str) -> Value {
        let deliveries = self.list(&format!("/v1/deliveries?event_id={event}")).await;
        assert_eq!(deliveries.len(), 1, "{deliveries:?}");
        self.get(&format!("/v1/deliveries/{}", deliveries[0]["id"].as_str().unwrap())).await.json()
    }

    /// Waits until the only delivery of an event is in this state. Returns it with its attempts.
    pub(crate) async fn delivery_in_state(&self, event: &str, state: &str) -> Value {
        eventually(&format!("the delivery of {event} to be {state}"), || async {
            let delivery = self.delivery_of(event).await;
            (delivery["state"] == state).then_some(delivery)
        })
        .await
    }
}
