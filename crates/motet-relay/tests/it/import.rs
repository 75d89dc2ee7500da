//! `motet-relay import svix`: from another relay, and from a source that has what relay does not have.

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::harness::{Client, Home, Relay, program, within};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The options that name a source and its token.
fn source(url: &str, token: &str) -> Vec<String> {
    ["--source", url, "--token", token, "--json"].map(str::to_owned).to_vec()
}

fn source_of(client: &Client) -> Vec<String> {
    // As users of the clients' versions 1.x and 2.x write it.
    source(&format!("http://{}/", client.address), &client.key)
}

fn data_of(home: &Home) -> Vec<String> {
    vec!["--data".to_owned(), home.data().to_str().unwrap().to_owned()]
}

async fn import(parts: &[&[String]]) -> Output {
    let mut command = program();
    command.args(["import", "svix"]).args(parts.concat());
    within("the import to end", command.output()).await.unwrap()
}

/// Runs an import that must succeed. Returns its report.
async fn report(parts: &[&[String]]) -> Value {
    let output = import(parts).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The counts of a kind: created, present, refused.
fn counts(report: &Value, kind: &str) -> [u64; 3] {
    ["created", "present", "refused"].map(|field| report[kind][field].as_u64().unwrap())
}

/// Returns why something of an object was not taken.
fn reason_for<'a>(report: &'a Value, object: &str) -> &'a str {
    let notes = report["not_taken"].as_array().unwrap();
    let found = notes.iter().find(|note| note["object"].as_str().unwrap().contains(object));
    found.unwrap_or_else(|| panic!("no {object:?} in {report}"))["reason"].as_str().unwrap()
}

async fn created(client: &Client, path: &str, body: Value) -> Value {
    let answer = client.post(&format!("/api/v1/{path}"), body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{path}: {}", answer.text());
    answer.json()
}

#[tokio::test]
async fn import_copies_all_of_another_relay_and_repeats_nothing() {
    let (old, new) = (Relay::start().await, Relay::start().await);
    let (from, to) = (old.client(), new.client());
    created(
        from,
        "event-type",
        json!({"name": "a.b", "description": "d", "schemas": {"1": {"type": "object"}}}),
    )
    .await;
    created(from, "event-type", json!({"name": "old", "description": "", "archived": true})).await;
    created(from, "app", json!({"name": "Acme", "uid": "acme", "metadata": {"plan": "pro"}})).await;
    let unnamed = created(from, "app", json!({"name": "Unnamed"})).await["id"].as_str().unwrap().to_owned();
    let endpoint = json!({
        "uid": "e", "url": "https://example.com/hook", "description": "d", "metadata": {"k": "v"},
        "eventTypes": ["a.b", "old"], "channels": ["c"], "disabled": true, "secret": SECRET,
        "headers": {"x-team": "blue", "authorization": "Bearer 1"}, "throttleRate": 7,
    });
    created(from, "app/acme/endpoint", endpoint).await;
    let plain = json!({"url": "https://example.com/plain"});
    let plain =
        created(from, &format!("app/{unnamed}/endpoint"), plain).await["id"].as_str().unwrap().to_owned();

    let dry = report(&[&source_of(from), &data_of(to.home()), &["--dry-run".to_owned()]]).await;
    assert_eq!((&dry["dry_run"], &dry["complete"]), (&json!(true), &json!(true)));
    assert_eq!(counts(&dry, "endpoints"), [2, 0, 0]);
    assert_eq!(to.get("/api/v1/app/acme").await.status, StatusCode::NOT_FOUND);

    let first = report(&[&source_of(from), &data_of(to.home())]).await;
    assert_eq!(counts(&first, "event_types"), [2, 0, 0], "{first}");
    // Each relay has the application `default`.
    assert_eq!(counts(&first, "applications"), [2, 1, 0], "{first}");
    assert_eq!(counts(&first, "endpoints"), [2, 0, 0], "{first}");
    assert!(reason_for(&first, "\"e\"").contains("authorization; set them in relay"), "{first}");

    let both = |path: &str| {
        let path = format!("/api/v1/{path}");
        async move { (from.get(&path).await.json(), to.get(&path).await.json()) }
    };
    for (path, fields) in [
        ("event-type/a.b", &["name", "description", "schemas", "archived"][..]),
        ("event-type/old", &["archived", "description"]),
        ("app/acme", &["uid", "name", "metadata"]),
        (&format!("app/{unnamed}"), &["name"]),
        (
            "app/acme/endpoint/e",
            &["url", "description", "metadata", "eventTypes", "channels", "disabled", "throttleRate"],
        ),
        ("app/acme/endpoint/e/secret", &["key"]),
        ("app/acme/endpoint/e/headers", &["headers"]),
        // Programs find these by the ids that they have stored.
        (&format!("app/{unnamed}/endpoint/{plain}"), &["url", "disabled", "eventTypes"]),
        (&format!("app/{unnamed}/endpoint/{plain}/secret"), &["key"]),
    ] {
        let (there, here) = both(path).await;
        for field in fields {
            assert_eq!(there[field], here[field], "{field} of {path}: {here}");
        }
    }
    assert_eq!(both("app/acme/endpoint/e/headers").await.1["sensitive"], json!([]));

    to.patch("/api/v1/app/acme/endpoint/e", json!({"url": "https://example.com/moved"})).await;
    let rotated = from.post("/api/v1/app/acme/endpoint/e/secret/rotate", json!({})).await;
    assert_eq!(rotated.status, StatusCode::OK);
    from.patch("/api/v1/app/acme/endpoint/e/headers", json!({"headers": {"x-team": "red"}})).await;
    let again = report(&[
        &source_of(from),
        &["--server".to_owned(), format!("http://{}", to.address), "--key".to_owned(), to.key.clone()],
    ])
    .await;
    for (kind, present) in [("event_types", 2), ("applications", 3), ("endpoints", 2)] {
        assert_eq!(counts(&again, kind), [0, present, 0], "{again}");
    }
    assert!(
        reason_for(&again, "\"e\"").contains("another value of url, secret, headers, which was kept"),
        "{again}"
    );
    let kept = to.get("/api/v1/app/acme/endpoint/e").await.json();
    assert_eq!(kept["url"], "https://example.com/moved");

    // A stopped relay is written through its store.
    created(from, "app", json!({"name": "Late", "uid": "late"})).await;
    let home = Arc::clone(to.home());
    new.stop().await;
    let late = report(&[&source_of(from), &data_of(&home)]).await;
    assert_eq!(counts(&late, "applications"), [1, 3, 0], "{late}");
    let new = Relay::start_in(&home, &[]).await;
    assert_eq!(new.client().get("/api/v1/app/late").await.json()["name"], "Late");
}

/// A source of applications with one endpoint each, which has what relay does not have.
#[derive(Debug)]
struct Fake {
    applications: Vec<Value>,
    /// By the id of the application.
    endpoints: BTreeMap<String, Vec<Value>>,
    /// The secret of this endpoint is answered when `release` is notified.
    held: Option<String>,
    /// The list of endpoints has no end.
    repeats: bool,
    reached: Notify,
    release: Notify,
}

impl Fake {
    fn new(applications: Value, endpoints: Value) -> Self {
        Self {
            applications: serde_json::from_value(applications).unwrap(),
            endpoints: serde_json::from_value(endpoints).unwrap(),
            held: None,
            repeats: false,
            reached: Notify::new(),
            release: Notify::new(),
        }
    }

    /// Serves the source. Returns its URL.
    async fn serve(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> String {
        let routes = Router::new()
            .route(
                "/api/v1/event-type",
                get(async || {
                    Json(json!({"done": true, "iterator": null, "data": [
                        {"name": "a.b", "description": "", "featureFlag": "beta"},
                        {"name": "a b", "description": ""},
                    ]}))
                }),
            )
            .route("/api/v1/app", get(list_applications))
            .route(
                "/api/v1/app/{app}/endpoint",
                get(async |State(fake): State<Arc<Self>>, Path(app): Path<String>| {
                    let found = fake.endpoints.get(&app).cloned().unwrap_or_default();
                    Json(json!({"done": !fake.repeats, "iterator": "same", "data": found}))
                }),
            )
            .route("/api/v1/app/{app}/endpoint/{endpoint}/{of}", get(part_of_endpoint))
            .with_state(Arc::clone(self));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tasks.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        url
    }
}

/// Each page has one application.
async fn list_applications(
    State(fake): State<Arc<Fake>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<Value> {
    let ids: Vec<_> = fake.applications.iter().map(|app| app["id"].as_str().unwrap()).collect();
    let next = query.get("iterator").map_or(0, |id| ids.iter().position(|known| known == id).unwrap() + 1);
    let done = next + 1 >= ids.len();
    Json(json!({"done": done, "iterator": ids[next], "data": [&fake.applications[next]]}))
}

async fn part_of_endpoint(
    State(fake): State<Arc<Fake>>,
    Path((_, endpoint, part)): Path<(String, String, String)>,
) -> Response {
    match part.as_str() {
        "secret" => {
            if fake.held.as_ref() == Some(&endpoint) {
                fake.reached.notify_one();
                fake.release.notified().await;
            }
            let key =
                if endpoint == "ep_asymmetric" { "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" } else { SECRET };
            Json(json!({"key": key})).into_response()
        }
        "headers" => Json(json!({"headers": {}, "sensitive": []})).into_response(),
        _ => Json(json!({"code": "handler(x) { return x }", "enabled": endpoint == "ep_transformed"}))
            .into_response(),
    }
}

#[tokio::test]
async fn import_reports_what_relay_cannot_take_and_why() {
    let relay = Relay::start().await;
    let endpoint = |id: &str, url: &str| json!({"id": id, "url": url, "description": ""});
    let fake = Arc::new(Fake::new(
        json!([
            {"id": "app_1", "uid": "fast", "name": "Fast", "throttleRate": 5},
            {"id": "app_2", "uid": "_own", "name": "Reserved"},
            {"id": "app_3", "uid": "../../v1/keys", "name": "Elsewhere"},
        ]),
        json!({"app_1": [
            endpoint("ep_transformed", "https://example.com/a"),
            endpoint("ep_asymmetric", "https://example.com/b"),
            endpoint("ep_private", "http://10.0.0.1/"),
        ]}),
    ));
    let mut tasks = JoinSet::new();
    let url = fake.serve(&mut tasks).await;
    let report = report(&[&source(&url, "token"), &data_of(relay.client().home())]).await;
    assert_eq!(counts(&report, "event_types"), [1, 0, 1], "{report}");
    assert_eq!(counts(&report, "applications"), [1, 0, 2], "{report}");
    assert_eq!(counts(&report, "endpoints"), [1, 0, 2], "{report}");
    for (object, reason) in [
        ("\"a.b\"", "feature flag"),
        ("\"a b\"", "names are made of"),
        ("application \"fast\"", "rate limit"),
        ("\"_own\"", "reserved"),
        ("../../v1/keys", "names are made of"),
        ("\"ep_transformed\"", "transformation"),
        ("\"ep_asymmetric\"", "asymmetric"),
        ("\"ep_private\"", "10.0.0.1"),
    ] {
        assert!(reason_for(&report, object).contains(reason), "{object}: {report}");
    }
    assert_eq!(report["not_taken"].as_array().unwrap().len(), 8, "{report}");
}

#[tokio::test]
async fn interrupted_import_reports_and_is_continued() {
    let relay = Relay::start().await;
    let endpoint =
        |id: &str| json!({"id": id, "url": format!("https://example.com/{id}"), "description": ""});
    let mut fake = Fake::new(
        json!([{"id": "app_1", "uid": "one", "name": "One"}, {"id": "app_2", "uid": "two", "name": "Two"}]),
        json!({"app_1": [endpoint("ep_1"), endpoint("ep_2"), endpoint("ep_3")], "app_2": [endpoint("ep_4")]}),
    );
    fake.held = Some("ep_2".to_owned());
    let fake = Arc::new(fake);
    let mut tasks = JoinSet::new();
    let url = fake.serve(&mut tasks).await;
    let options = [
        source(&url, "token"),
        data_of(relay.client().home()),
        vec!["--parallel".to_owned(), "1".to_owned()],
    ];
    let mut command = program();
    command.args(["import", "svix"]).args(options.concat());
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    within("the second endpoint", fake.reached.notified()).await;
    kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), Signal::INT).unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    within("the import to notice the signal", async {
        while !lines.next_line().await.unwrap().unwrap().contains("shuts down") {}
    })
    .await;
    let stopped = within("the import to end", child.wait_with_output()).await.unwrap();
    assert_eq!(stopped.status.code(), Some(130));
    let part: Value = serde_json::from_slice(&stopped.stdout).unwrap();
    assert_eq!((&part["complete"], counts(&part, "endpoints")), (&json!(false), [1, 0, 0]), "{part}");

    fake.release.notify_one();
    let rest = report(&options.each_ref().map(Vec::as_slice)).await;
    assert_eq!((&rest["complete"], counts(&rest, "endpoints")), (&json!(true), [3, 1, 0]), "{rest}");
}

#[tokio::test]
async fn source_that_repeats_a_page_ends_the_import() {
    let relay = Relay::start().await;
    let mut fake = Fake::new(json!([{"id": "app_1", "uid": "one", "name": "One"}]), json!({}));
    fake.repeats = true;
    let mut tasks = JoinSet::new();
    let url = Arc::new(fake).serve(&mut tasks).await;
    let output = import(&[&source(&url, "token"), &data_of(relay.client().home())]).await;
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("repeats a page of /api/v1/app/app_1/endpoint"), "{message}");
    assert!(message.contains("not complete"), "{message}");
}

#[tokio::test]
async fn unusable_source_or_token_ends_the_import_with_its_reason() {
    let relay = Relay::start().await;
    let client = relay.client();
    let refusal = |output: Output| {
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let base = format!("http://{}", client.address);
    let wrong = refusal(import(&[&source(&base, "wrong"), &data_of(client.home())]).await);
    assert!(wrong.contains("the source of the import refused a request") && wrong.contains("401"), "{wrong}");
    let elsewhere =
        refusal(import(&[&source(&format!("{base}/nowhere"), &client.key), &data_of(client.home())]).await);
    assert!(elsewhere.contains("--source is the URL"), "{elsewhere}");
    let none = refusal(import(&[&["--source".to_owned(), base], &data_of(client.home())]).await);
    assert!(none.contains("SVIX_TOKEN"), "{none}");
}
