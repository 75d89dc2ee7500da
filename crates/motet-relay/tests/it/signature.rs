//! Signatures, verified by the reference library of Standard Webhooks.

use std::path::Path;
use std::process::Stdio;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::harness::{Act, FAIL, Hit, OK, Receiver, Relay};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn as_json(hit: &Hit) -> Value {
    let header = |name| hit.headers[name].to_str().unwrap();
    json!({
        "headers": {
            "webhook-id": header("webhook-id"),
            "webhook-timestamp": header("webhook-timestamp"),
            "webhook-signature": header("webhook-signature"),
        },
        "body": String::from_utf8(hit.body.to_vec()).unwrap(),
    })
}

/// Verifies each delivery. Returns "ok" or the library's reason for each.
async fn verdicts(secret: &str, deliveries: &[Value]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../../target/test-tools/python/bin/python");
    assert!(python.exists(), "{} is missing; `cargo xtask test` installs it", python.display());
    let mut child = Command::new(python)
        .arg(root.join("tests/it/verify_signatures.py"))
        .arg(secret)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(deliveries).unwrap();
    child.stdin.take().unwrap().write_all(&input).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn reference_library_accepts_deliveries_and_refuses_forgeries() {
    // Every delivery fails once, so that the signatures of retries are verified too.
    let receiver = Receiver::start(|hit| if hit.nth == 1 { FAIL } else { OK }).await;
    let relay = Relay::start().await;
    relay.client().endpoint_at(&receiver.url(), json!({"secret": SECRET})).await;
    let payloads = [
        json!({}),
        json!(null),
        json!("plain text"),
        json!({"name": "Zoë 🦀", "nested": [[1.5e300, -0.0, {"a": null}]], "escaped": "\u{0}\"\\\n\u{7f}"}),
        json!({"large": "x".repeat(200_000)}),
    ];
    for payload in &payloads {
        relay.client().publish("signature.checked", payload.clone()).await;
    }
    let hits = receiver.hits_at_least(2 * payloads.len()).await;
    let mut deliveries: Vec<_> = hits.iter().map(as_json).collect();

    let mut forged_body = as_json(&hits[0]);
    forged_body["body"] = json!(forged_body["body"].as_str().unwrap().replace("signature", "Signature"));
    let mut forged_id = as_json(&hits[0]);
    forged_id["headers"]["webhook-id"] = json!("evt_another");
    deliveries.extend([forged_body, forged_id]);

    let verdicts = verdicts(SECRET, &deliveries).await;
    let (real, forged) = verdicts.split_at(hits.len());
    assert!(real.iter().all(|verdict| verdict == "ok"), "{real:?}");
    assert_eq!(forged, ["No matching signature found", "No matching signature found"]);
}

#[tokio::test]
async fn payload_arrives_as_sent_under_the_id_of_the_event() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    // Sent as text: a JSON library would normalise the number and the spaces.
    let sent = r#"{"type":"user.created","data":{"a" : 1.000, "b":"\u00e9"}}"#;
    let key = format!("Bearer {}", client.key);
    let headers = [("authorization", key.as_str()), ("content-type", "application/json; charset=utf-8")];
    let answer = client.request(http::Method::POST, "/v1/events", &headers, sent).await.unwrap();
    assert_eq!(answer.status, StatusCode::ACCEPTED);

    let hit = receiver.hits_at_least(1).await.remove(0);
    assert_eq!(hit.id(), answer.json()["id"]);
    assert_eq!(hit.headers["content-type"], "application/json");
    assert_eq!(hit.headers["accept"], "*/*");
    assert!(hit.headers["user-agent"].to_str().unwrap().starts_with("motet-relay/"));
    let body = String::from_utf8(hit.body.to_vec()).unwrap();
    assert!(body.starts_with(r#"{"type":"user.created","timestamp":""#), "{body}");
    assert!(body.ends_with(r#"Z","data":{"a" : 1.000, "b":"\u00e9"}}"#), "{body}");
}

#[tokio::test]
async fn retry_has_the_same_id_and_body_and_its_own_time_stamp() {
    let receiver = Receiver::start(|hit| match hit.nth {
        // Two seconds apart, so that the time stamps differ.
        1 | 2 => Act::AnswerWith(StatusCode::SERVICE_UNAVAILABLE, "retry-after", "2".to_owned()),
        _ => OK,
    })
    .await;
    let relay = Relay::start_with(&["--retry-cap", "2"]).await;
    relay.client().endpoint(&receiver).await;
    relay.client().publish("user.created", json!({"n": 1})).await;
    let hits = receiver.hits_at_least(3).await;
    for hit in &hits[1..] {
        assert_eq!(hit.id(), hits[0].id());
        assert_eq!(hit.body, hits[0].body);
    }
    let stamp = |hit: &Hit| hit.headers["webhook-timestamp"].to_str().unwrap().parse::<u64>().unwrap();
    for (a, b) in hits.iter().zip(&hits[1..]) {
        let apart = (b.at - a.at).as_secs_f64();
        let stamped_apart = (stamp(b) - stamp(a)) as f64;
        assert!(stamped_apart >= 1.0, "the retry has the time stamp of the first attempt");
        assert!((stamped_apart - apart).abs() <= 1.5, "{stamped_apart} s on the stamps, {apart} s apart");
    }
}

#[tokio::test]
async fn replaced_secret_signs_until_its_overlap_ends() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    let path =
        format!("/v1/endpoints/{}", client.endpoint_at(&receiver.url(), json!({"secret": SECRET})).await);
    let new = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(client.patch(&path, json!({"secret": new})).await.json()["secret"], new);
    client.publish("during", json!({})).await;
    assert_eq!(client.patch(&path, json!({"overlap": 0})).await.status, StatusCode::OK);
    client.publish("after", json!({})).await;
    let mut hits = receiver.hits_at_least(2).await;
    hits.sort_by_key(|hit| hit.json()["type"] == "after");
    let deliveries: Vec<_> = hits.iter().map(as_json).collect();
    assert_eq!(verdicts(new, &deliveries).await, ["ok", "ok"]);
    assert_eq!(verdicts(SECRET, &deliveries).await, ["ok", "No matching signature found"]);

    // From the change on relay does not sign with the leaked secret any more.
    client.patch(&path, json!({"secret": SECRET, "overlap": 0})).await;
    client.publish("leaked", json!({})).await;
    let hit = receiver.hits_at_least(3).await.remove(2);
    assert_eq!(hit.headers["webhook-signature"].to_str().unwrap().split(' ').count(), 1);
    let refused = client.patch(&path, json!({"overlap": 1_000_000_000})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn rotated_secret_verifies_beside_the_old_one_for_its_overlap() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    let id = client.endpoint_at(&receiver.url(), json!({"secret": SECRET})).await;
    let path = format!("/v1/endpoints/{id}/secret");
    assert_eq!(client.get(&path).await.json(), json!({"secret": SECRET, "previous_valid_until": null}));

    let rotated = client.post(&path, json!({})).await.json();
    let new = rotated["secret"].as_str().unwrap();
    let endpoint = client.get(&format!("/v1/endpoints/{id}")).await.json();
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let overlap = time(&rotated["previous_valid_until"]) - time(&endpoint["updated_at"]);
    assert!(new != SECRET && overlap.abs_diff(24 * 60 * 60 * 1_000) < 60_000, "{rotated} {endpoint}");
    assert_eq!(client.get(&path).await.json(), rotated);
    client.publish("during", json!({})).await;
    let last = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    receiver.hits_at_least(1).await;
    let answer = client.post(&path, json!({"secret": last, "overlap_hours": 0})).await;
    assert_eq!(answer.json(), json!({"secret": last, "previous_valid_until": null}));
    client.publish("after", json!({})).await;
    let hits: Vec<_> = receiver.hits_at_least(2).await.iter().map(as_json).collect();
    let refused = "No matching signature found";
    for (secret, expected) in [(SECRET, ["ok", refused]), (new, ["ok", refused]), (last, [refused, "ok"])] {
        assert_eq!(verdicts(secret, &hits).await, expected, "{secret}");
    }
    for invalid in [json!({"overlap_hours": 169}), json!({"secret": "short"}), json!({"rotate": true})] {
        let answer = client.post(&path, invalid.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{invalid}: {}", answer.text());
    }
    assert_eq!(client.get(&path).await.json()["secret"], last);
}
