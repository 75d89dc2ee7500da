//! Every row of the table of routes, requested with every kind of key.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, StatusCode};
use motet::task::{CancelToken, Nursery, Scope, scope};
use serde_json::{Value, json};
use tower_service::Service;

use super::auth::ApiKey;
use super::routes::{Access, Reach, RouteRow};
use super::{ApiState, FeedState, router, v1};
use crate::access::KeyScope::{self, Admin, Manage, Publish, Read, Replay, Secrets};
use crate::config::Config;
use crate::error::StartError;
use crate::parts::{container, part};
use crate::store::{Creator, NewKey};

/// The resource that a row names in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Nothing,
    Event,
    Delivery,
    Endpoint,
    Key,
    Replay,
    Erasure,
    Backup,
}

/// The scope that a row must have, and a request that succeeds with it.
struct Expected {
    access: Access,
    named: Named,
    body: Value,
}

fn expected(row: &RouteRow) -> Expected {
    let path = row.path.strip_prefix("/tenants/{tenant}").unwrap_or(&row.path);
    let (scope, named, body) = match (row.method.as_str(), path) {
        ("POST", "/events") => (Publish, Named::Nothing, json!({"type": "a.b", "data": {"n": 1}})),
        ("GET", "/events" | "/events/feed" | "/endpoints" | "/deliveries" | "/dead-letters" | "/replays") => {
            (Read, Named::Nothing, Value::Null)
        }
        ("POST", "/events/erase") => (Manage, Named::Nothing, Value::Null),
        ("GET", "/erasures/{id}") => (Read, Named::Erasure, Value::Null),
        ("POST", "/replays") => (Replay, Named::Nothing, json!({"mode": "failed"})),
        ("GET", "/replays/{id}") => (Read, Named::Replay, Value::Null),
        ("POST", "/replays/{id}/cancel") => (Replay, Named::Replay, Value::Null),
        ("GET", "/events/{id}") => (Read, Named::Event, Value::Null),
        ("DELETE", "/events/{id}/data") => (Manage, Named::Event, Value::Null),
        ("GET", "/endpoints/{id}") => (Read, Named::Endpoint, Value::Null),
        ("GET", "/deliveries/{id}") => (Read, Named::Delivery, Value::Null),
        ("POST", "/endpoints") => {
            let body = json!({"url": "https://receiver.example/", "event_types": ["none"]});
            (Manage, Named::Nothing, body)
        }
        ("PATCH", "/endpoints/{id}") => (Manage, Named::Endpoint, json!({"event_types": ["none"]})),
        ("DELETE", "/endpoints/{id}") | ("POST", "/endpoints/{id}/pause" | "/endpoints/{id}/resume") => {
            (Manage, Named::Endpoint, Value::Null)
        }
        ("GET", "/endpoints/{id}/secret") => (Secrets, Named::Endpoint, Value::Null),
        ("POST", "/endpoints/{id}/secret") => (Secrets, Named::Endpoint, json!({})),
        ("POST", "/deliveries/{id}/resend") => (Replay, Named::Delivery, Value::Null),
        ("POST", "/dead-letters/redrive") => (Replay, Named::Nothing, json!({})),
        ("POST", "/keys") => (Admin, Named::Nothing, json!({"scopes": ["read"]})),
        ("GET", "/keys" | "/tenants" | "/retention" | "") | ("DELETE", "") => {
            (Admin, Named::Nothing, Value::Null)
        }
        ("DELETE", "/keys/{id}") => (Admin, Named::Key, Value::Null),
        ("POST", "/backups") => (Admin, Named::Nothing, json!({})),
        ("GET", "/backups" | "/rekey") => (Admin, Named::Nothing, Value::Null),
        ("GET", "/backups/{id}") => (Admin, Named::Backup, Value::Null),
        ("POST", "/pause" | "/resume" | "/rekey") => (Admin, Named::Nothing, Value::Null),
        ("PUT" | "PATCH", "") => (Admin, Named::Nothing, json!({"name": "n"})),
        (method, path) => panic!("the matrix has no entry for {method} {path}: add one to `expected`"),
    };
    let is_of_relay = match path {
        "/tenants" | "/pause" | "/resume" | "/retention" | "/rekey" | "/backups" | "/backups/{id}" => true,
        "" => row.method != Method::GET,
        _ => false,
    };
    let access = if is_of_relay { Access::of_relay(scope) } else { scope.into() };
    Expected { access, named, body }
}

/// The routes of a relay without listeners and without deliveries.
pub(super) struct World {
    pub(super) router: Router,
    pub(super) api: Arc<ApiState>,
    rows: Vec<RouteRow>,
    pub(super) admin: String,
    deliveries: AtomicUsize,
}

impl World {
    async fn start(data: &Path, scope: &Scope) -> Result<Self, StartError> {
        let config = Config::new(data.to_owned(), ([127, 0, 0, 1], 0).into());
        let running = Arc::new(container(config).start(scope).await?);
        let api = part::<ApiState>(&running);
        let stop = CancelToken::new();
        let rows = v1(FeedState { api: Arc::clone(&api), stop: stop.clone() }).rows().to_vec();
        let router = router(Arc::clone(&api), running, scope, stop);
        let mut world = Self { router, api, rows, admin: String::new(), deliveries: AtomicUsize::new(0) };
        world.admin = world.key(&[Admin], None, None).await;
        for tenant in ["acme", "globex"] {
            world.make_tenant(tenant).await;
        }
        Ok(world)
    }

    /// Creates a key in the store itself, which also takes a time of expiry in the past.
    pub(super) async fn key(
        &self,
        scopes: &[KeyScope],
        tenant: Option<&str>,
        expires_at: Option<i64>,
    ) -> String {
        let key = ApiKey::generate().unwrap();
        let new = NewKey {
            id: key.id().to_owned(),
            hash: key.hash(),
            tenant: tenant.map(str::to_owned),
            scopes: scopes.iter().copied().collect(),
            name: String::new(),
            expires_at,
        };
        self.api.store.add_key(new, Creator::Owner).await.unwrap().unwrap();
        key.expose().to_owned()
    }

    pub(super) async fn send(
        &self,
        key: Option<&str>,
        method: &Method,
        path: &str,
        body: &Value,
    ) -> (StatusCode, String) {
        // The same id for all, so that responses can be compared.
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "relay")
            .header("x-request-id", "matrix");
        if let Some(key) = key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let mut sent = Body::empty();
        if !body.is_null() {
            request = request.header(CONTENT_TYPE, "application/json");
            sent = Body::from(body.to_string());
        }
        let Ok(response) = self.router.clone().call(request.body(sent).unwrap()).await;
        let status = response.status();
        // A feed has no end.
        let text = if path.ends_with("/feed") && status.is_success() {
            String::new()
        } else {
            let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        (status, text)
    }

    pub(super) async fn make_tenant(&self, tenant: &str) {
        let path = format!("/v1/tenants/{tenant}");
        let (status, text) = self.send(Some(&self.admin), &Method::PUT, &path, &json!({})).await;
        assert!(status.is_success(), "{path}: {status} {text}");
    }

    async fn make(&self, path: &str, body: Value) -> Value {
        let (status, text) = self.send(Some(&self.admin), &Method::POST, path, &body).await;
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Creates a resource of a tenant. Returns its id.
    async fn resource(&self, named: Named, tenant: &str) -> String {
        let id = |made: Value| made["id"].as_str().unwrap().to_owned();
        let of = format!("/v1/tenants/{tenant}");
        // Each delivery has a type of its own, so that an event has one delivery however many endpoints there are.
        let n = self.deliveries.fetch_add(1, Ordering::Relaxed);
        let event_type = if named == Named::Delivery { format!("d.n{n}") } else { "none".to_owned() };
        let endpoint = json!({"url": "https://receiver.example/", "event_types": [event_type]});
        match named {
            Named::Nothing => String::new(),
            Named::Event => id(self.make(&format!("{of}/events"), json!({"type": "a.b", "data": 1})).await),
            Named::Endpoint => id(self.make(&format!("{of}/endpoints"), endpoint).await),
            Named::Delivery => {
                self.make(&format!("{of}/endpoints"), endpoint).await;
                let event = json!({"type": event_type, "data": 1});
                let event = id(self.make(&format!("{of}/events"), event).await);
                let list = format!("{of}/deliveries?event_id={event}&limit=1");
                let (_, text) = self.send(Some(&self.admin), &Method::GET, &list, &Value::Null).await;
                id(serde_json::from_str::<Value>(&text).unwrap()["items"][0].clone())
            }
            Named::Replay => {
                // It waits, because its endpoint is disabled.
                let endpoint = json!({"url": "https://receiver.example/", "enabled": false});
                let endpoint = id(self.make(&format!("{of}/endpoints"), endpoint).await);
                let replay = json!({"mode": "all", "endpoint_id": endpoint});
                let replay = id(self.make(&format!("{of}/replays"), replay).await);
                // The number of running replays is limited.
                let cancel = format!("{of}/replays/{replay}/cancel");
                let (status, text) = self.send(Some(&self.admin), &Method::POST, &cancel, &Value::Null).await;
                assert!(status.is_success(), "{cancel}: {status} {text}");
                replay
            }
            Named::Erasure => id(self.make(&format!("{of}/events/erase"), Value::Null).await),
            Named::Backup => {
                // The one of another request may be running.
                self.api.store.backup_ended().await;
                let name = self.api.store.start_backup(None).unwrap().name;
                self.api.store.backup_ended().await;
                name
            }
            Named::Key => id(self.make("/v1/keys", json!({"scopes": ["read"], "tenant": tenant})).await),
        }
    }

    /// Requests a row with a new resource of one tenant, and the same or another tenant in the path, if the row has one.
    async fn request(
        &self,
        row: &RouteRow,
        key: Option<&str>,
        in_path: &str,
        owner: &str,
    ) -> (StatusCode, String) {
        let Expected { named, body, .. } = expected(row);
        let id = self.resource(named, owner).await;
        // The default tenant cannot be deleted.
        let is_deletion = row.method == Method::DELETE && row.path == "/tenants/{tenant}";
        let in_path = if is_deletion && in_path == "default" { "doomed" } else { in_path };
        if is_deletion {
            self.make_tenant(in_path).await;
        }
        let path = format!("/v1{}", row.path.replace("{tenant}", in_path).replace("{id}", &id));
        self.send(key, &row.method, &path, &body).await
    }
}

/// All scopes that do not include `scope`.
fn all_but(scope: KeyScope) -> Vec<KeyScope> {
    let is_other = |other: &KeyScope| *other != scope && *other != Admin;
    KeyScope::ALL.into_iter().filter(is_other).collect()
}

/// Returns `true` if a key of all tenants reaches the resource of every tenant by the same path.
fn is_of_any_tenant(named: Named) -> bool {
    matches!(named, Named::Key | Named::Erasure)
}

/// Returns `true` if the row has the tenant in its path.
fn names_tenant(row: &RouteRow) -> bool {
    row.path.starts_with("/tenants/{tenant}")
}

pub(super) fn run(test: &impl AsyncFn(&World)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let tested = scope(async |n: &Nursery<StartError>| {
        let world = World::start(&directory.path().join("data"), n).await?;
        test(&world).await;
        Ok(())
    });
    runtime.block_on(tested).unwrap();
}

#[test]
fn every_route_needs_a_valid_key_with_its_scope() {
    run(&async |world| {
        let revoked = world.key(&[Admin], None, None).await;
        let revocation = format!("/v1/keys/{}", revoked.split('_').nth(1).unwrap());
        world.send(Some(&world.admin), &Method::DELETE, &revocation, &Value::Null).await;
        let expired = world.key(&[Admin], None, Some(1)).await;
        for row in &world.rows {
            let case = format!("{} {}", row.method, row.path);
            assert_eq!(row.access, expected(row).access, "{case}");
            let request = async |key: Option<&str>| world.request(row, key, "default", "default").await;
            for refused in [None, Some("rk_unknown1_secret"), Some(&*revoked), Some(&*expired)] {
                let (status, text) = request(refused).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{case} {refused:?}: {text}");
            }
            let scope = row.access.scope;
            for given in KeyScope::ALL {
                let key = world.key(&[given], None, None).await;
                let (status, text) = request(Some(&key)).await;
                if given == scope || given == Admin {
                    assert!(status.is_success(), "{case} with {given}: {status} {text}");
                } else {
                    assert_eq!(status, StatusCode::FORBIDDEN, "{case} with {given}: {text}");
                    assert!(text.contains(&format!("'{scope}'")), "{case} with {given}: {text}");
                }
            }
            let key = world.key(&all_but(scope), None, None).await;
            let (status, text) = request(Some(&key)).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{case} without {scope}: {text}");
        }
    });
}

#[test]
fn key_of_one_tenant_reaches_no_other_tenant_by_any_route() {
    run(&async |world| {
        for row in &world.rows {
            let case = format!("{} {}", row.method, row.path);
            let (scope, named) = (row.access.scope, expected(row).named);
            let own = world.key(&[scope], Some("acme"), None).await;
            let (status, text) = world.request(row, Some(&own), "acme", "acme").await;
            if row.access.reach == Reach::Relay {
                assert_eq!(status, StatusCode::FORBIDDEN, "{case} with a key of a tenant: {text}");
                assert!(text.contains("all tenants"), "{case} with a key of a tenant: {text}");
                if names_tenant(row) {
                    let (status, text) = world.request(row, Some(&own), "globex", "acme").await;
                    assert_eq!(status, StatusCode::NOT_FOUND, "{case} of another tenant: {text}");
                }
                continue;
            }
            assert!(status.is_success(), "{case} in its own tenant: {status} {text}");

            let unscoped = world.key(&all_but(scope), Some("globex"), None).await;
            let (status, text) = world.request(row, Some(&unscoped), "globex", "globex").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{case} in its own tenant without {scope}: {text}");
            for key in [&world.key(&[scope], Some("globex"), None).await, &world.admin] {
                if named != Named::Nothing && !(is_of_any_tenant(named) && key == &world.admin) {
                    // The resource of another tenant than the one in the path, or than that of the key.
                    let (status, text) = world.request(row, Some(key), "globex", "acme").await;
                    assert_eq!(status, StatusCode::NOT_FOUND, "{case} with a foreign resource: {text}");
                }
            }
            if names_tenant(row) {
                for scopes in [vec![scope], all_but(scope), vec![Admin]] {
                    let foreign = world.key(&scopes, Some("globex"), None).await;
                    let (status, text) = world.request(row, Some(&foreign), "acme", "acme").await;
                    assert_eq!(
                        status,
                        StatusCode::NOT_FOUND,
                        "{case} of another tenant with {scopes:?}: {text}"
                    );
                    // The response is the one for a tenant that does not exist.
                    let (_, unknown) = world.request(row, Some(&foreign), "nowhere", "acme").await;
                    assert_eq!(text, unknown.replace("nowhere", "acme"), "{case}");
                }
                let (status, text) = world.request(row, Some(&world.admin), "acme", "acme").await;
                assert!(status.is_success(), "{case} with a key of all tenants: {status} {text}");
                let (status, text) = world.request(row, Some(&world.admin), "nowhere", "acme").await;
                assert_eq!(status, StatusCode::NOT_FOUND, "{case} of no tenant: {text}");
            }
        }
    });
}

#[test]
fn lists_show_a_key_of_one_tenant_its_own_resources_only() {
    run(&async |world| {
        let mut foreign = Vec::new();
        for named in [Named::Event, Named::Endpoint, Named::Delivery, Named::Key, Named::Replay] {
            foreign.push(world.resource(named, "acme").await);
            world.resource(named, "globex").await;
        }
        let scopes = [Read, KeyScope::ReadPayload, Admin];
        let key = world.key(&scopes, Some("globex"), None).await;
        let is_list = |row: &&RouteRow| {
            row.method == Method::GET && expected(row).named == Named::Nothing && !row.path.ends_with("/feed")
        };
        let of_tenant =
            |row: &&RouteRow| row.access.reach == Reach::Tenant && row.path != "/tenants/{tenant}";
        for row in world.rows.iter().filter(is_list).filter(of_tenant) {
            let case = format!("{} {}", row.method, row.path);
            let (status, text) = world.request(row, Some(&key), "globex", "globex").await;
            assert_eq!(status, StatusCode::OK, "{case}: {text}");
            let items = serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().unwrap().len();
            assert!(items > 0 || row.path.ends_with("/dead-letters"), "{case}: {text}");
            assert!(!foreign.iter().any(|id| text.contains(id)), "{case} shows {foreign:?}: {text}");
            for filter in ["event_id", "endpoint_id", "cursor", "tenant"] {
                for id in foreign.iter().map(String::as_str).chain(["acme"]) {
                    let path = row.path.replace("{tenant}", "globex");
                    let path = format!("/v1{path}?{filter}={id}");
                    let (status, text) = world.send(Some(&key), &Method::GET, &path, &Value::Null).await;
                    let leaks = foreign.iter().any(|other| other != id && text.contains(other));
                    assert!(!leaks && !status.is_server_error(), "{path}: {status} {text}");
                }
            }
        }
    });
}

#[test]
fn every_svix_route_needs_its_scope_and_the_senders_app() {
    run(&async |world| {
        for row in super::svix::table(Arc::clone(&world.api)).rows() {
            let case = format!("{} {}", row.method, row.path);
            let scope = row.access.scope;
            let request = async |key: Option<&str>, app: &str| {
                let path = ["{endpoint}", "{msg}", "{attempt}", "{name}", "{task}"]
                    .into_iter()
                    .fold(row.path.replace("{app}", app), |path, part| path.replace(part, "none"));
                world.send(key, &row.method, &format!("/api/v1{path}"), &json!({})).await
            };
            for refused in [None, Some("rk_unknown1_secret")] {
                let (status, text) = request(refused, "acme").await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{case} {refused:?}: {text}");
            }
            let without = world.key(&all_but(scope), None, None).await;
            let (status, text) = request(Some(&without), "acme").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{case} without {scope}: {text}");
            assert!(text.contains(&format!("'{scope}'")), "{case} without {scope}: {text}");
            // The body is refused, or the resource does not exist; the key is not refused.
            let is_key_taken = |status| status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN;
            world.make_tenant("doomed").await;
            for given in [scope, Admin] {
                let key = world.key(&[given], None, None).await;
                let (status, text) = request(Some(&key), "doomed").await;
                assert!(is_key_taken(status), "{case} with {given}: {status} {text}");
            }
            let own = world.key(&[scope], Some("acme"), None).await;
            let (status, text) = request(Some(&own), "acme").await;
            assert_eq!(is_key_taken(status), row.access.reach == Reach::Tenant, "{case}: {status} {text}");
            if row.path.contains("{app}") {
                for scopes in [vec![scope], all_but(scope), vec![Admin]] {
                    let foreign = world.key(&scopes, Some("globex"), None).await;
                    let (status, text) = request(Some(&foreign), "acme").await;
                    assert_eq!(status, StatusCode::NOT_FOUND, "{case} of another app, {scopes:?}: {text}");
                    let (_, unknown) = request(Some(&foreign), "nowhere").await;
                    assert_eq!(text, unknown.replace("nowhere", "acme"), "{case}");
                }
            }
        }
    });
}
