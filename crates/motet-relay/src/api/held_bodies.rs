//! Requests that outlive their tenant or their key, because their bodies arrive late or their responses have no end.
//!
//! A client may hold back its body for [`BODY_TIMEOUT`](super::body). The head of the request is checked before that.

use std::task::Poll;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use motet::stream::{Yielder, try_generator};
use serde_json::{Value, json};
use tower_service::Service;

use super::matrix::{World, run};
use crate::access::KeyScope::{Admin, Publish, Read};
use crate::store::StoreError;

impl World {
    /// Sends a request, and makes these requests once its body is read for the first time.
    async fn send_late(
        &self,
        key: &str,
        path: &str,
        body: &Value,
        meanwhile: &[(Method, &str)],
    ) -> (StatusCode, String) {
        let (router, admin, body) = (self.router.clone(), self.admin.clone(), body.to_string());
        let meanwhile: Vec<_> =
            meanwhile.iter().map(|(method, path)| (method.clone(), (*path).to_owned())).collect();
        let sent = try_generator(async move |mut y: Yielder<Bytes>| {
            for (method, path) in meanwhile {
                let request = head(&method, &path, &admin).body(Body::from("{}")).unwrap();
                let Ok(response) = router.clone().call(request).await;
                assert!(response.status().is_success(), "{method} {path}: {}", response.status());
            }
            y.emit(Bytes::from(body)).await;
            Ok::<(), StoreError>(())
        });
        let request = head(&Method::POST, path, key).body(Body::from_stream(sent)).unwrap();
        let Ok(response) = self.router.clone().call(request).await;
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn count(&self, path: &str, items: &str) -> usize {
        let (status, text) = self.send(Some(&self.admin), &Method::GET, path, &Value::Null).await;
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str::<Value>(&text).unwrap()[items].as_array().unwrap().len()
    }
}

fn head(method: &Method, path: &str, key: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "relay")
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, format!("Bearer {key}"))
}

#[test]
fn request_for_a_deleted_tenant_does_not_reach_its_successor() {
    run(&async |world| {
        let again = [(Method::DELETE, "/v1/tenants/acme"), (Method::PUT, "/v1/tenants/acme")];
        for (scope, path, body) in [
            (Publish, "/v1/tenants/acme/events", json!({"type": "a", "data": {}})),
            (Publish, "/v1/events", json!({"type": "a", "data": {}})),
            (Publish, "/api/v1/app/acme/msg", json!({"eventType": "a", "payload": {}})),
            (Admin, "/api/v1/auth/app-portal-access/acme", json!({})),
        ] {
            let key = world.key(&[scope], Some("acme"), None).await;
            let (status, text) = world.send_late(&key, path, &body, &again).await;
            assert!(
                status == StatusCode::NOT_FOUND || status == StatusCode::UNAUTHORIZED,
                "{path}: {status} {text}"
            );
            assert_eq!(world.count("/v1/tenants/acme/events", "items").await, 0, "{path}");
        }
    });
}

#[test]
fn key_that_ended_during_its_request_creates_no_key_or_session() {
    run(&async |world| {
        let keys = world.count("/v1/keys", "items").await;
        for path in ["/v1/keys", "/api/v1/auth/app-portal-access/acme"] {
            let body = if path == "/v1/keys" { json!({"scopes": ["admin"]}) } else { json!({}) };
            for (tenant, end) in [(None, "key"), (Some("acme"), "key"), (Some("acme"), "tenant")] {
                let key = world.key(&[Admin], tenant, None).await;
                let revoked = format!("/v1/keys/{}", key.split('_').nth(1).unwrap());
                let end = if end == "key" { &revoked } else { "/v1/tenants/acme" };
                let (status, text) = world.send_late(&key, path, &body, &[(Method::DELETE, end)]).await;
                let ended = [StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND];
                assert!(ended.contains(&status), "{path} {tenant:?} {end}: {status} {text}");
                world.make_tenant("acme").await;
            }
        }
        let (_, text) = world.send(Some(&world.admin), &Method::GET, "/v1/keys", &Value::Null).await;
        let listed: Value = serde_json::from_str(&text).unwrap();
        let valid = listed["items"].as_array().unwrap().iter().filter(|key| key["revoked_at"].is_null());
        assert_eq!(valid.count(), keys, "{text}");
    });
}

#[test]
fn feed_ends_when_its_key_expires() {
    run(&async |world| {
        let now = jiff::Timestamp::now().as_millisecond();
        let hour = 3_600_000;
        let key = world.key(&[Read], Some("acme"), Some(now + hour)).await;
        let request = head(&Method::GET, "/v1/events/feed", &key).body(Body::empty()).unwrap();
        let Ok(response) = world.router.clone().call(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut feed = response.into_body();
        assert!(feed.frame().await.unwrap().is_ok());
        let ring = world.api.store.key_ring();
        ring.end_expired(now + hour - 1);
        let mut next = Box::pin(feed.frame());
        assert!(std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await);
        ring.end_expired(now + hour);
        assert!(next.await.is_none());
    });
}

#[test]
fn key_expires_no_later_than_the_key_that_created_it() {
    run(&async |world| {
        let soon = jiff::Timestamp::now().as_millisecond() + 3_600_000;
        let brief = world.key(&[Admin], None, Some(soon)).await;
        let create = async |body: Value| {
            let (status, text) = world.send(Some(&brief), &Method::POST, "/v1/keys", &body).await;
            (status.as_u16(), serde_json::from_str::<Value>(&text).unwrap())
        };
        let (status, made) = create(json!({"scopes": ["read"]})).await;
        assert_eq!(
            (
                status,
                made["expires_at"].as_str().map(|at| at.parse::<jiff::Timestamp>().unwrap().as_millisecond())
            ),
            (201, Some(soon)),
            "{made}"
        );
        assert_eq!(create(json!({"scopes": ["read"], "expires_in": 60})).await.0, 201);
        let (status, refused) = create(json!({"scopes": ["read"], "expires_in": 7_200})).await;
        assert_eq!(status, 400, "{refused}");
        assert!(refused["detail"].as_str().unwrap().contains("expires_at"), "{refused}");
    });
}
