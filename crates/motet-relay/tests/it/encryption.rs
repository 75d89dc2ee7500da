//! The encryption of the secrets in the store.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Client, FAIL, Home, OK, Receiver, Relay, eventually, program, within};

/// The bytes of signing secrets: the first of an endpoint, and those that replace it.
const SECRETS: [&str; 3] =
    ["recognisable-first-secret", "recognisable-second-secret", "recognisable-third-secret"];
const HEADERS: [&str; 2] = ["recognisable-first-header", "recognisable-second-header"];

fn secret(bytes: &str) -> String {
    format!("whsec_{}", STANDARD.encode(bytes))
}

/// Everything that must not be shown: the values, and the encoded form of secrets without their prefix.
fn values() -> Vec<String> {
    let encoded = SECRETS.map(|bytes| STANDARD.encode(bytes).trim_end_matches('=').to_owned());
    let plain = SECRETS.iter().chain(&HEADERS).chain(&["hunter2"]).map(|text| (*text).to_owned());
    plain.chain(encoded).collect()
}

/// Adds a key as the first line of the key file. Returns the ids of the keys.
fn add_key(home: &Home, id: &str, byte: u8) -> Vec<String> {
    let path = home.key_file();
    let old = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{id}:{}\n{old}", STANDARD.encode([byte; 32]))).unwrap();
    let lines = fs::read_to_string(&path).unwrap();
    let keys = lines.lines().filter(|line| !line.starts_with('#'));
    keys.map(|line| line.split(':').next().unwrap().to_owned()).collect()
}

/// Returns the files in a directory and in those below it.
fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(files_in(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

fn assert_hidden_in_files(home: &Home) {
    for path in files_in(&home.data()) {
        // SQLite may have removed a file of its own since.
        let Ok(bytes) = fs::read(&path) else { continue };
        for value in values() {
            let is_shown = bytes.windows(value.len()).any(|window| window == value.as_bytes());
            assert!(!is_shown, "{value} is in {}", path.display());
        }
    }
}

/// Runs `motet-relay rekey` on a data directory.
async fn rekey(home: &Home, args: &[&str]) -> Output {
    let mut command = program();
    command.arg("rekey").args(args).arg("--data").arg(home.data());
    within("the command to end", command.output()).await.unwrap()
}

/// Waits for the end of a change of keys.
async fn rekeyed(client: &Client) -> Value {
    eventually("the change of keys to finish", || async {
        let report = client.get("/v1/rekey").await.json();
        (report["state"] == "finished").then_some(report)
    })
    .await
}

async fn svix(client: &Client, method: Method, path: &str, body: Value) -> Value {
    let key = format!("Bearer {}", client.key);
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = client.request(method, &format!("/api/v1/app/default{path}"), &headers, body).await.unwrap();
    assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.text());
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

#[tokio::test]
async fn secrets_of_a_whole_life_are_in_no_log_and_no_file() {
    let receiver = Receiver::start(|hit| if hit.nth == 1 { FAIL } else { OK }).await;
    let home = Home::new();
    let trace = [("RUST_LOG", Path::new("trace"))];
    let relay = Relay::start_in_environment(&home, &[], &trace).await;
    let client = relay.client();
    let body = json!({"secret": secret(SECRETS[0]), "headers": {"authorization": HEADERS[0]}});
    let id = client.endpoint_at(&receiver.url(), body).await;
    let endpoint = format!("/v1/endpoints/{id}");
    let refused = client.post("/v1/endpoints", json!({"url": "http://me:hunter2@127.0.0.1/"})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(!refused.text().contains("hunter2"), "{}", refused.text());
    let changed = client.patch(&endpoint, json!({"headers": {"x-token": HEADERS[1]}})).await;
    assert!(changed.status.is_success() && !changed.text().contains("recognisable"), "{}", changed.text());
    let rotated = client.post(&format!("{endpoint}/secret"), json!({"secret": secret(SECRETS[1])})).await;
    assert_eq!(rotated.json()["secret"], secret(SECRETS[1]));
    let path = format!("/endpoint/{id}");
    svix(client, Method::POST, &format!("{path}/secret/rotate"), json!({"key": secret(SECRETS[2])})).await;
    let shown = svix(client, Method::GET, &format!("{path}/headers"), Value::Null).await;
    assert_eq!(shown["sensitive"], json!(["authorization", "x-token"]));
    let shown = svix(client, Method::GET, &format!("{path}/secret"), Value::Null).await;
    assert_eq!(shown["key"], secret(SECRETS[2]));

    for number in 0..4 {
        client.publish("a.b", json!(number)).await;
    }
    let hits = receiver.hits_when("a retry", |hits| hits.len() >= 6).await;
    assert!(hits.iter().all(|hit| hit.headers["authorization"] == HEADERS[0]));
    // A signature with each of the three secrets.
    assert!(
        hits.iter().all(|hit| hit.headers["webhook-signature"].to_str().unwrap().split(' ').count() == 3)
    );
    for path in ["/", "/metrics", "/readyz", "/v1/endpoints", "/v1/deliveries", "/v1/events"] {
        let answer = client.get(path).await.text();
        assert!(values().iter().all(|value| !answer.contains(value)), "{path}: {answer}");
    }
    add_key(&home, "second", 2);
    assert_eq!(client.post("/v1/rekey", json!({})).await.status, StatusCode::ACCEPTED);
    rekeyed(client).await;
    assert_hidden_in_files(&home);
    let log = relay.log();
    if relay.log_is_read() {
        assert!(log.contains("TRACE"), "{log}");
    }
    for value in values() {
        let line = log.lines().find(|line| line.contains(&value));
        assert!(line.is_none(), "{value} is in the log: {line:?}");
    }
    relay.stop().await;
    assert_hidden_in_files(&home);
}

#[tokio::test]
async fn rekey_command_changes_the_key_of_a_running_relay() {
    let receiver = Receiver::accepting().await;
    let home = Home::new();
    let relay = Relay::start_in(&home, &[]).await;
    assert_eq!(fs::metadata(home.key_file()).unwrap().permissions().mode() & 0o777, 0o600);
    let body = json!({"headers": {"authorization": HEADERS[0]}});
    relay.client().endpoint_at(&receiver.url(), body).await;
    let first = relay.client().get("/v1/rekey").await.json()["key"].as_str().unwrap().to_owned();
    let whole = fs::read(home.key_file()).unwrap();

    fs::write(home.key_file(), format!("new:{}\n", STANDARD.encode([7; 32]))).unwrap();
    let refused = rekey(&home, &[]).await;
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && message.contains(&first), "{message}");

    fs::write(home.key_file(), whole).unwrap();
    assert_eq!(add_key(&home, "new", 7), ["new", &first]);
    let done = rekey(&home, &[]).await;
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{text} {}", String::from_utf8_lossy(&done.stderr));
    assert!(text.contains("with the key new: 1 endpoints, 1 of them changed"), "{text}");
    assert!(text.contains(&format!("no longer needed: {first}")), "{text}");
    let again = rekey(&home, &["--json"]).await;
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&again["changed"], &again["lost"]), (&json!(0), &json!(0)));
    let lost = rekey(&home, &["--lost-key", "new"]).await;
    assert!(String::from_utf8(lost.stderr).unwrap().contains("stopped relay"));
    relay.client().publish("a", json!(1)).await;
    receiver.hits_when("a delivery", |hits| !hits.is_empty()).await;
    relay.stop().await;

    fs::write(home.key_file(), format!("new:{}\n", STANDARD.encode([7; 32]))).unwrap();
    let relay = Relay::start_in(&home, &[]).await;
    relay.client().publish("a", json!(2)).await;
    let hits = receiver.hits_when("a delivery", |hits| hits.len() == 2).await;
    assert!(hits.iter().all(|hit| hit.headers["authorization"] == HEADERS[0]));
    relay.stop().await;
}

#[tokio::test]
async fn lost_key_is_given_up_and_its_endpoints_get_new_secrets() {
    let receiver = Receiver::accepting().await;
    let home = Home::new();
    let relay = Relay::start_in(&home, &[]).await;
    let id = relay.client().endpoint(&receiver).await;
    relay.stop().await;
    fs::write(home.key_file(), format!("new:{}\n", STANDARD.encode([7; 32]))).unwrap();
    let mut serve = program();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(home.data());
    let refused = within("relay to end", serve.output()).await.unwrap();
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && message.contains("does not have it"), "{message}");
    let lost = message.split("with the key ").nth(1).unwrap().split(',').next().unwrap();

    let given_up = rekey(&home, &["--lost-key", lost]).await;
    let text = String::from_utf8(given_up.stdout).unwrap();
    assert_eq!(given_up.status.code(), Some(1), "{text}");
    assert!(text.contains(&id), "{text}");
    let relay = Relay::start_in(&home, &[]).await;
    let client = relay.client();
    client.publish("a", json!(1)).await;
    let endpoint = format!("/v1/endpoints/{id}");
    assert_eq!(client.get(&endpoint).await.status, StatusCode::OK);
    let unreadable = client.get(&format!("{endpoint}/secret")).await;
    assert_eq!(unreadable.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(unreadable.problem().contains("cannot be decrypted"), "{}", unreadable.problem());
    assert!(receiver.hits().is_empty());
    assert_eq!(client.post(&format!("{endpoint}/secret"), json!({})).await.status, StatusCode::OK);
    receiver.hits_when("the event that waited", |hits| hits.len() == 1).await;
    relay.stop().await;
}

#[tokio::test]
async fn rekey_that_is_killed_loses_no_secret() {
    const ENDPOINTS: usize = 450;
    let home = Home::new();
    let relay = Relay::start_in(&home, &[]).await;
    let mut endpoints = Vec::with_capacity(ENDPOINTS);
    for number in 0..ENDPOINTS {
        let secret = secret(&format!("recognisable-secret-{number:08}"));
        let body = json!({"secret": secret, "event_types": ["none"]});
        endpoints.push((relay.client().endpoint_at("http://127.0.0.1:9/", body).await, secret));
    }
    relay.stop().await;
    for round in 0..6 {
        add_key(&home, &format!("round-{round}"), round);
        // The start begins to encrypt with the new first key.
        let relay = Relay::start_in(&home, &[]).await;
        eventually("a step of the change", || async {
            let report = relay.client().get("/v1/rekey").await.json();
            (report["done"].as_u64().unwrap() > 0 || round % 2 == 0).then_some(())
        })
        .await;
        relay.kill().await;
    }
    let relay = Relay::start_in(&home, &[]).await;
    // The last change may have finished before the process was killed.
    assert_eq!(relay.client().post("/v1/rekey", json!({})).await.status, StatusCode::ACCEPTED);
    let report = rekeyed(relay.client()).await;
    assert_eq!((&report["key"], &report["lost"]), (&json!("round-5"), &json!(0)), "{report}");
    assert_eq!(report["unneeded_keys"].as_array().unwrap().len(), 6, "{report}");
    for (id, secret) in &endpoints {
        assert_eq!(&relay.client().get(&format!("/v1/endpoints/{id}")).await.json()["secret"], secret);
    }
    relay.stop().await;
    let plain = "SELECT count(*) FROM endpoints WHERE secret NOT LIKE 'enc1:%'";
    assert_eq!(home.count(plain), 0);
}

#[tokio::test]
async fn store_in_clear_text_is_encrypted_without_the_option() {
    let home: Arc<Home> = Home::new();
    let relay = Relay::start_in(&home, &["--plaintext-secrets"]).await;
    relay.log_line("secrets are stored in clear text").await;
    let id = relay.client().endpoint_at("http://127.0.0.1:9/", json!({"secret": secret(SECRETS[0])})).await;
    let refused = relay.client().post("/v1/rekey", json!({})).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.problem().contains("--plaintext-secrets"), "{}", refused.problem());
    relay.stop().await;
    assert!(!home.key_file().exists());

    let relay = Relay::start_in(&home, &[]).await;
    relay.log_line("back this up").await;
    rekeyed(relay.client()).await;
    assert_hidden_in_files(&home);
    let shown = relay.client().get(&format!("/v1/endpoints/{id}/secret")).await.json();
    assert_eq!(shown["secret"], secret(SECRETS[0]));
    relay.stop().await;
    let mut serve = program();
    serve.args(["serve", "--plaintext-secrets", "--listen", "127.0.0.1:0", "--data"]).arg(home.data());
    let refused = within("relay to end", serve.output()).await.unwrap();
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && message.contains("without --plaintext-secrets"), "{message}");
}
