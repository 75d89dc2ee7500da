//! Retention of a running relay: its options, its route and its command.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Feed, Receiver, Relay, eventually, program, within};

const SHORT: [&str; 4] = ["--payload-keep", "1s", "--rows-keep", "2s"];

async fn is_gone(relay: &Relay, event: &str) {
    let path = format!("/v1/events/{event}");
    eventually("the event to be deleted", || async {
        (relay.client().get(&path).await.status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}

#[tokio::test]
async fn finished_events_disappear_and_pending_ones_stay() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start_with(&SHORT).await;
    let client = relay.client();
    relay.log_line("payload_keep 1s, rows_keep 2s, max_bytes no limit").await;
    client.endpoint_at(&receiver.url(), json!({"event_types": ["sent.*"]})).await;
    let paused = client.endpoint_at(&receiver.url(), json!({"event_types": ["held.*"]})).await;
    assert_eq!(
        client.post(&format!("/v1/endpoints/{paused}/pause"), json!(null)).await.status,
        StatusCode::NO_CONTENT
    );
    let held = client.publish("held.back", json!({"n": 1})).await;
    let sent = client.publish("sent.now", json!({"n": 2})).await;
    is_gone(&relay, &sent).await;
    let shown = client.get(&format!("/v1/events/{held}")).await.json();
    assert_eq!(shown["data"], json!({"n": 1}), "{shown}");
    assert_eq!(client.list("/v1/deliveries").await.len(), 1);

    // A feed after the deleted event goes on, and one before it has a gap.
    let newest = client.publish("held.newer", json!(3)).await;
    let refused = Feed::try_open(client, "", Some(&held)).await.unwrap_err();
    let problem: Value = refused.json();
    assert_eq!((refused.status, &problem["oldest_id"]), (StatusCode::GONE, &json!(held)), "{problem}");
    let mut feed = Feed::open(client, "", Some(&sent)).await;
    assert_eq!(feed.event().await.unwrap()["id"], json!(newest));

    assert_eq!(
        client.post(&format!("/v1/endpoints/{paused}/resume"), json!(null)).await.status,
        StatusCode::NO_CONTENT
    );
    receiver.hits_when("the held event", |hits| hits.iter().any(|hit| hit.id() == held)).await;
    is_gone(&relay, &held).await;
    let metrics = client.get("/metrics").await.text();
    for metric in ["relay_retention_rows_total", "relay_retention_lag_seconds", "relay_oldest_event_seconds"]
    {
        assert!(metrics.contains(metric), "{metric}");
    }
}

#[tokio::test]
async fn size_above_nine_tenths_of_the_limit_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let sizes = ["--max-bytes", "95000000", "--max-store-bytes", "100000000"];
    let serve = program().args(["serve", "--data"]).arg(directory.path().join("data")).args(sizes).output();
    let output = within("relay to refuse", serve).await.unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("95000000") && message.contains("100000000"), "{message}");
}

/// Runs `motet-relay retention` on a data directory. Returns its output.
async fn plan(relay: &std::path::Path, args: &[&str]) -> Value {
    let command =
        program().args(["retention", "--dry-run", "--json", "--data"]).arg(relay).args(args).output();
    let output = within("the command to end", command).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn command_shows_what_is_due_and_deletes_nothing() {
    let relay = Relay::start_with(&["--rows-keep", "0", "--max-bytes", "1000000000"]).await;
    let client = relay.client();
    let home = std::sync::Arc::clone(client.home());
    let data = home.data();
    for n in 0..3 {
        client.publish("a.b", json!({"n": n})).await;
    }
    let shown = plan(&data, &[]).await;
    assert_eq!((&shown["is_running"], &shown["rows_keep_s"]), (&json!(true), &Value::Null), "{shown}");
    assert_eq!((&shown["payload_keep_s"], &shown["over_bytes"]), (&json!(30 * 86_400), &json!(0)), "{shown}");
    let due = |shown: &Value| {
        let tenant = &shown["tenants"][0];
        [&tenant["tenant"], &tenant["events"], &tenant["payloads"]].map(Clone::clone)
    };
    assert_eq!(due(&shown), [json!("default"), json!(0), json!(0)]);
    let trying = ["--rows-keep", "1s", "--max-bytes", "1"];
    let tried = eventually("the events to be older than the time", || async {
        let shown = plan(&data, &trying).await;
        (due(&shown)[1] == json!(3)).then_some(shown)
    })
    .await;
    assert!(tried["over_bytes"].as_u64().unwrap() > 0, "{tried}");
    assert_eq!(client.list("/v1/events").await.len(), 3);
    relay.stop().await;
    let stopped = plan(&data, &trying).await;
    assert_eq!((&stopped["is_running"], due(&stopped)[1].clone()), (&json!(false), json!(3)), "{stopped}");

    let run = program().args(["retention", "--data"]).arg(&data).output();
    let output = within("the command to end", run).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--dry-run"));
}
