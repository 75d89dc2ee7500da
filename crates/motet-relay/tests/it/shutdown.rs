//! Shutdown: in order, in time, and without losing or repeating a delivery.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::harness::{Act, Hit, OK, Receiver, Relay, eventually, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_under_load_loses_and_repeats_nothing() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    relay.client().endpoint(&receiver).await;
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let stop = Arc::new(Notify::new());
    let mut publishers = JoinSet::new();
    for publisher in 0..8 {
        let client = relay.client().clone();
        let (acknowledged, stop) = (Arc::clone(&acknowledged), Arc::clone(&stop));
        publishers.spawn(async move {
            let bearer = format!("Bearer {}", client.key);
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            for n in 0.. {
                if publisher == 0 && n == 30 {
                    stop.notify_one();
                }
                let event = json!({"type": "load", "data": {"n": n, "publisher": publisher}}).to_string();
                // An error is a closed connection, the end of the shutdown.
                let Ok(answer) = client.request(Method::POST, "/v1/events", &headers, event).await else {
                    break;
                };
                match answer.status {
                    StatusCode::ACCEPTED => {
                        acknowledged.lock().unwrap().insert(answer.json()["id"].as_str().unwrap().to_owned());
                    }
                    StatusCode::SERVICE_UNAVAILABLE => {}
                    other => panic!("{other}: {}", answer.text()),
                }
            }
        });
    }
    stop.notified().await;
    relay.stop().await;
    publishers.join_all().await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= 30);

    // The next start delivers the events that the shutdown left pending, and none of them twice.
    let relay = Relay::start_in(&home, &[]).await;
    eventually("everything to be delivered", || async {
        relay.client().list("/v1/deliveries?state=pending").await.is_empty().then_some(())
    })
    .await;
    let hits: Vec<_> = receiver.hits().iter().map(Hit::id).collect();
    let distinct: BTreeSet<_> = hits.iter().cloned().collect();
    assert!(acknowledged.is_subset(&distinct));
    assert_eq!(hits.len(), distinct.len(), "a shutdown in order caused duplicates");
}

#[tokio::test]
async fn stop_refuses_new_events_and_completes_attempts_in_flight() {
    let release = Arc::new(Notify::new());
    // The receiver responds at the notification of the test, long before the timeout.
    let receiver = Receiver::held(&release, OK).await;
    let relay =
        Relay::start_with(&["--headers-timeout", "60", "--total-timeout", "60", "--shutdown-grace", "60"])
            .await;
    let client = relay.client().clone();
    let home = Arc::clone(client.home());
    client.endpoint(&receiver).await;
    let event = client.publish("in.flight", json!({})).await;
    receiver.hits_at_least(1).await;

    relay.signal(Signal::TERM);
    relay.is_stopping().await;
    let refused = client.post("/v1/events", json!({"type": "late", "data": 1})).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.problem().contains("shutting down"), "{}", refused.problem());
    let stranger = client.request(Method::POST, "/v1/events", &[], "").await.unwrap();
    assert_eq!(
        stranger.status,
        StatusCode::UNAUTHORIZED,
        "a request without the key got the status of relay"
    );
    assert_eq!(client.get("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(client.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(client.delivery_of(&event).await["state"], "pending", "reads still work");

    release.notify_one();
    assert_eq!(relay.ended().await.code(), Some(0));
    let relay = Relay::start_in(&home, &[]).await;
    let delivery = relay.client().delivery_of(&event).await;
    assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("delivered"), &json!(1)));
    assert_eq!(relay.client().list("/v1/events").await.len(), 1);
}

#[tokio::test]
async fn attempt_cut_off_by_a_stop_is_repeated_and_not_counted() {
    let receiver = Receiver::start(|hit| if hit.nth == 1 { Act::Hang } else { OK }).await;
    let relay = Relay::start_with(&[
        "--headers-timeout",
        "3000",
        "--total-timeout",
        "3000",
        "--shutdown-grace",
        "0.2",
    ])
    .await;
    let home = Arc::clone(relay.client().home());
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("in.flight", json!({})).await;
    receiver.hits_at_least(1).await;
    relay.signal(Signal::INT);
    let log = relay.log_line("the dispatcher has stopped").await;
    assert!(!relay.log_is_read() || log.contains("handed_back=1"), "{log}");
    assert_eq!(relay.ended().await.code(), Some(0));

    let relay = Relay::start_in(&home, &[]).await;
    let delivery = relay.client().delivery_in_state(&event, "delivered").await;
    assert_eq!(delivery["attempts"], 1);
}

#[tokio::test]
async fn repeated_interrupts_end_a_relay_that_waits_for_an_attempt() {
    let receiver = Receiver::start(|_| Act::Hang).await;
    let endless = ["--headers-timeout", "3000", "--total-timeout", "3000", "--shutdown-grace", "3000"];
    let relay = Relay::start_with(&endless).await;
    relay.client().endpoint(&receiver).await;
    relay.client().publish("in.flight", json!({})).await;
    receiver.hits_at_least(1).await;
    relay.signal(Signal::TERM);
    relay.is_stopping().await;
    // A signal within one second may be the same request, sent to the process and to its group.
    let pid = Pid::from_raw(relay.pid().cast_signed()).unwrap();
    let mut asking = JoinSet::new();
    asking.spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            // The process has ended and was not waited for yet.
            let _gone = kill_process(pid, Signal::INT);
        }
    });
    assert_eq!(relay.ended().await.code(), Some(130));
}

#[tokio::test]
async fn idle_connections_do_not_prevent_a_stop() {
    let relay = Relay::start().await;
    // The client keeps this connection open; a shutdown must not wait for it.
    relay.client().list("/v1/events").await;
    relay.stop().await;
}

#[tokio::test]
async fn request_begun_before_a_stop_is_answered_and_stored() {
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    let body = r#"{"type":"late","data":1}"#;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        relay.client().key,
        body.len()
    );
    let mut stream = TcpStream::connect(relay.client().address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // relay asks for the body, so the request has passed the point at which it could be refused.
    let mut answer = vec![0; 1_024];
    let read = within("the go-ahead", stream.read(&mut answer)).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&answer[..read]));
    relay.signal(Signal::TERM);
    relay.log_line("the dispatcher has stopped").await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let read = within("the answer", stream.read(&mut answer)).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 202 "), "{}", String::from_utf8_lossy(&answer[..read]));
    assert_eq!(relay.ended().await.code(), Some(0));
    let relay = Relay::start_in(&home, &[]).await;
    assert_eq!(relay.client().list("/v1/events").await.len(), 1);
}
