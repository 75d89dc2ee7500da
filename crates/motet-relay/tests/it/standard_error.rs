//! Logging never stops relay or makes it wait, whatever standard error is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Client, FAIL, Home, OK, Receiver, Relay, Stderr, eventually, program, within};

/// A circuit breaker opens and closes, which is logged, before a delivery succeeds.
async fn deliver_past_an_open_breaker(client: &Client) {
    let repaired = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&repaired);
    let receiver = Receiver::start(move |_| if works.load(Ordering::Relaxed) { OK } else { FAIL }).await;
    client.endpoint(&receiver).await;
    let event = client.publish("user.created", json!({})).await;
    receiver.hits_at_least(4).await;
    repaired.store(true, Ordering::Relaxed);
    client.delivery_in_state(&event, "delivered").await;
    // The endpoint works as before, also for other deliveries than the probe.
    let next = client.publish("user.created", json!({})).await;
    client.delivery_in_state(&next, "delivered").await;
}

async fn works_and_stops(stderr: Stderr) -> String {
    let breaker = ["--breaker-failures", "2", "--retry-base", "0.01", "--retry-cap", "0.05"];
    let relay = Relay::start_with_stderr(stderr, &Home::new(), &breaker).await;
    deliver_past_an_open_breaker(relay.client()).await;
    // The tree of tasks is printed to standard error as well.
    relay.signal(Signal::USR1);
    let metrics = eventually("the metrics to be rendered", || async {
        let text = relay.client().request(Method::GET, "/metrics", &[], "").await.unwrap().text();
        text.contains("relay_log_lines_lost_total").then_some(text)
    })
    .await;
    relay.stop().await;
    metrics
}

/// Returns the number of lines that were lost for this reason.
fn lost(metrics: &str, reason: &str) -> f64 {
    let series = format!("relay_log_lines_lost_total{{reason=\"{reason}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("{series}is missing:\n{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn full_log_device_loses_only_log_lines() {
    let metrics = works_and_stops(Stderr::Full).await;
    assert!(lost(&metrics, "failed") > 0.0, "{metrics}");
}

#[tokio::test]
async fn closed_log_pipe_loses_only_log_lines() {
    let metrics = works_and_stops(Stderr::Closed).await;
    assert!(lost(&metrics, "failed") > 0.0, "{metrics}");
}

#[tokio::test]
async fn unread_log_pipe_does_not_block_relay() {
    // Lines in the buffer are not lost yet.
    works_and_stops(Stderr::Unread).await;
}

#[tokio::test]
async fn key_and_demo_succeed_if_standard_error_is_full() {
    let home = Home::new();
    Relay::start_in(&home, &[]).await.stop().await;
    let run = async |args: &[&str]| {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = program().args(args).stderr(full).output();
        let output = within("the command to end", output).await.unwrap();
        assert!(output.status.success(), "{args:?}: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    };
    let key = run(&["key", "create", "--scope", "read", "--data", home.data().to_str().unwrap()]).await;
    assert!(key.starts_with("rk_"), "{key}");
    let report = run(&["demo", "--events", "20"]).await;
    assert!(report.contains("delivered"), "{report}");
}
