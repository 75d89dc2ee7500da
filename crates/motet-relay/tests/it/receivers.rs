//! Receivers of all kinds: the outcome of each delivery, and that each delivery ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use crate::harness::{Act, FAIL, Hit, OK, Receiver, Relay, within};

/// Short timeouts, so that attempts at hanging receivers end soon.
const SHORT: [&str; 4] = ["--headers-timeout", "0.3", "--total-timeout", "0.6"];

/// Timeouts that are not reached on a busy machine.
const LONG: [&str; 4] = ["--headers-timeout", "30", "--total-timeout", "60"];

/// Runs a receiver that misbehaves at the first attempt and accepts the second. Returns the first attempt.
async fn second_attempt_after(act: Act) -> (Value, Receiver) {
    let receiver = Receiver::start(move |hit| if hit.nth == 1 { act.clone() } else { OK }).await;
    let relay = Relay::start_with(&LONG).await;
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("user.created", json!({})).await;
    let delivery = relay.client().delivery_in_state(&event, "delivered").await;
    assert_eq!(delivery["attempts"], 2);
    let log = delivery["attempt_log"].as_array().unwrap();
    assert_eq!(log.len(), 2);
    assert_eq!((&log[0]["number"], &log[1]["number"]), (&json!(1), &json!(2)));
    assert_eq!((&log[1]["status"], &log[1]["error"]), (&json!(200), &Value::Null));
    assert_eq!(receiver.most_at_once(), 1, "a delivery was attempted twice at once");
    (delivery["attempt_log"][0].clone(), receiver)
}

#[tokio::test]
async fn delivery_answered_with_500_is_retried_and_the_body_recorded() {
    let (failed, _) = second_attempt_after(FAIL).await;
    assert_eq!(failed["status"], 500);
    assert_eq!(failed["error"], "status 500");
    assert_eq!(failed["response"], "seen");
}

#[tokio::test]
async fn delivery_answered_with_404_is_retried() {
    let (failed, _) = second_attempt_after(Act::Answer(StatusCode::NOT_FOUND)).await;
    assert_eq!(failed["status"], 404);
}

#[tokio::test]
async fn event_is_delivered_if_a_slow_answer_is_within_the_timeout() {
    let receiver = Receiver::start(|_| Act::Slow(Duration::from_millis(150), StatusCode::CREATED)).await;
    let relay = Relay::start_with(&LONG).await;
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("user.created", json!({})).await;
    let delivery = relay.client().delivery_in_state(&event, "delivered").await;
    assert_eq!(delivery["attempts"], 1);
    assert_eq!(delivery["attempt_log"][0]["status"], 201);
    assert!(delivery["attempt_log"][0]["took_ms"].as_u64().unwrap() >= 150);
}

#[tokio::test]
async fn hanging_receiver_fails_at_the_headers_timeout() {
    let receiver = Receiver::start(|hit| if hit.nth == 1 { Act::Hang } else { OK }).await;
    let relay = Relay::start_with(&SHORT).await;
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("user.created", json!({})).await;
    // On a busy machine, further attempts may exceed the timeout as well.
    let delivery = relay.client().delivery_in_state(&event, "delivered").await;
    let failed = &delivery["attempt_log"][0];
    assert_eq!(failed["status"], Value::Null);
    assert_eq!(failed["error"], "no response within 300 ms");
    assert!(failed["took_ms"].as_u64().unwrap() >= 300);
}

#[tokio::test]
async fn total_timeout_covers_the_headers() {
    let receiver = Receiver::start(|hit| if hit.nth == 1 { Act::Hang } else { OK }).await;
    let relay = Relay::start_with(&["--headers-timeout", "3000", "--total-timeout", "0.3"]).await;
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("user.created", json!({})).await;
    let delivery = relay.client().delivery_in_state(&event, "delivered").await;
    assert_eq!(delivery["attempt_log"][0]["error"], "no response within 300 ms");
}

#[tokio::test]
async fn delivery_on_a_dropped_connection_is_retried() {
    let (failed, _) = second_attempt_after(Act::Drop).await;
    assert_eq!(failed["status"], Value::Null);
    assert!(failed["error"].as_str().unwrap().contains("connection"), "{failed}");
}

#[tokio::test]
async fn dripping_body_is_cut_off_and_its_event_sent_once() {
    let receiver = Receiver::start(|_| Act::Drip).await;
    let relay = Relay::start_with(&SHORT).await;
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("user.created", json!({})).await;
    // The status was 200: the event was delivered, however long the receiver goes on sending.
    relay.client().delivery_in_state(&event, "delivered").await;
    receiver.bodies_given_up(1).await;
    assert_eq!(receiver.most_at_once(), 1, "a delivery was attempted twice at once");
    assert_eq!(receiver.hits().len(), 1);
}

#[tokio::test]
async fn answer_200_is_recorded_before_its_body_ends() {
    let receiver = Receiver::start(|_| Act::Drip).await;
    let relay = Relay::start_with(&["--total-timeout", "3000", "--in-flight-per-endpoint", "1"]).await;
    relay.client().endpoint(&receiver).await;
    let events =
        [relay.client().publish("first", json!({})).await, relay.client().publish("second", json!({})).await];
    let delivery = relay.client().delivery_in_state(&events[0], "delivered").await;
    assert_eq!(delivery["attempt_log"][0]["status"], 200);
    // The receiver is still busy with the first request, and the endpoint has one slot.
    assert_eq!(relay.client().delivery_of(&events[1]).await["state"], "pending");
}

#[tokio::test]
async fn endless_response_body_is_given_up_after_a_limit() {
    let receiver = Receiver::start(|_| Act::Flood).await;
    let relay = Relay::start_with(&["--total-timeout", "3000"]).await;
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("user.created", json!({})).await;
    let delivery = relay.client().delivery_in_state(&event, "delivered").await;
    assert_eq!(delivery["attempt_log"][0]["status"], 200);
    let sent = receiver.bodies_given_up(1).await;
    // relay reads 64 KiB; the other bytes are in the buffers of the sockets.
    assert!(sent < 16 << 20, "{sent} bytes were taken");
}

#[tokio::test]
async fn redirect_is_a_failure_and_is_not_followed() {
    let elsewhere = Receiver::accepting().await;
    for status in [StatusCode::MOVED_PERMANENTLY, StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
        let (failed, _) = second_attempt_after(Act::AnswerWith(status, "location", elsewhere.url())).await;
        assert_eq!(failed["status"], status.as_u16());
    }
    assert_eq!(elsewhere.hits().len(), 0);
}

#[tokio::test]
async fn retry_waits_for_the_retry_after() {
    let asked = Duration::from_secs(2);
    let receiver = Receiver::start(move |hit| match hit.nth {
        1 => Act::AnswerWith(StatusCode::TOO_MANY_REQUESTS, "retry-after", asked.as_secs().to_string()),
        _ => OK,
    })
    .await;
    let relay = Relay::start_with(&["--retry-base", "0.001", "--retry-cap", "60"]).await;
    relay.client().endpoint(&receiver).await;
    relay.client().publish("user.created", json!({})).await;
    let hits = receiver.hits_at_least(2).await;
    assert!(hits[1].at - hits[0].at >= asked, "{:?}", hits[1].at - hits[0].at);
}

#[tokio::test]
async fn retry_after_of_a_429_delays_all_deliveries_of_the_endpoint() {
    let asked = Duration::from_secs(3);
    let first = AtomicBool::new(true);
    let receiver = Receiver::start(move |_| {
        if first.swap(false, Ordering::Relaxed) {
            Act::AnswerWith(StatusCode::TOO_MANY_REQUESTS, "retry-after", asked.as_secs().to_string())
        } else {
            OK
        }
    })
    .await;
    let relay = Relay::start_with(&["--retry-base", "0.001", "--retry-cap", "60"]).await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    let refused = client.publish("refused", json!({})).await;
    crate::harness::eventually("the refusal to be recorded", || async {
        (client.delivery_of(&refused).await["attempts"] == 1).then_some(())
    })
    .await;
    client.publish("another", json!({})).await;
    let hits = receiver.hits_at_least(3).await;
    for hit in &hits[1..] {
        assert!(hit.at - hits[0].at >= asked, "{:?}", hit.at - hits[0].at);
    }
}

#[tokio::test]
async fn delivery_on_a_stale_connection_counts_as_one_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut request = [0; 4096];
        // Responds to the first request of each connection, and closes the connection at the second.
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if stream.read(&mut request).await.unwrap() > 0 {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                let _next = stream.read(&mut request).await;
            }
        }
    });
    let relay = Relay::start().await;
    relay.client().endpoint_at(&url, json!({})).await;
    for n in 0..3 {
        let event = relay.client().publish("user.created", json!(n)).await;
        let delivery = relay.client().delivery_in_state(&event, "delivered").await;
        assert_eq!(delivery["attempts"], 1, "{delivery}");
    }
}

#[tokio::test]
async fn answer_200_with_malformed_headers_is_a_success() {
    let many: String = (0..101).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    for (case, fields) in [
        ("folded", "x: 1\r\n 2\r\n"),
        ("blank", "x : 1\r\n"),
        ("many", many.as_str()),
        ("invalid", "nothing like a field\r\n"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n");
        let (url, _server) = raw_server(answer.into_bytes()).await;
        relay.client().endpoint_at(&url, json!({"event_types": [case]})).await;
        let event = relay.client().publish(case, json!({})).await;
        relay.client().delivery_in_state(&event, "delivered").await;
    }
}

#[tokio::test]
async fn exhausted_delivery_is_a_dead_letter_with_all_attempts() {
    let receiver = Receiver::start(|_| FAIL).await;
    let relay = Relay::start_with(&["--max-attempts", "4", "--retry-base", "0.01"]).await;
    let client = relay.client();
    let endpoint = client.endpoint(&receiver).await;
    let event = client.publish("user.created", json!({})).await;
    let dead = client.delivery_in_state(&event, "dead").await;
    assert_eq!(dead["attempts"], 4);
    assert_eq!(dead["attempt_log"].as_array().unwrap().len(), 4);
    assert_eq!(dead["reason"], "4 attempts failed; the last error: status 500");
    assert_eq!(dead["next_attempt_at"], Value::Null);
    assert_eq!(receiver.hits().len(), 4);
    let letters = client.list(&format!("/v1/dead-letters?endpoint_id={endpoint}")).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["event_id"], event);
}

#[tokio::test]
async fn connections_to_a_receiver_are_reused() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    relay.client().endpoint_at(&receiver.url(), json!({})).await;
    for n in 0..50 {
        relay.client().publish("user.created", json!(n)).await;
        receiver.hits_at_least(n + 1).await;
    }
    // Sequential events need one connection; a second may be opened while the first is being put back.
    assert!(receiver.connections() <= 3, "{} connections for 50 deliveries", receiver.connections());
}

/// A server that sends these bytes on every connection, whatever the request is, and closes it.
async fn raw_server(answer: Vec<u8>) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await;
            if read.is_ok_and(|n| n > 0) {
                // relay may have closed the connection already, as some of these responses require.
                let _hung_up = stream.write_all(&answer).await;
            }
        }
    });
    (url, server)
}

#[tokio::test]
async fn invalid_http_answers_are_failures_with_a_reason() {
    let mut endless_headers = b"HTTP/1.1 200 OK\r\n".to_vec();
    for n in 0..20_000 {
        endless_headers.extend_from_slice(format!("x-{n}: {n}\r\n").as_bytes());
    }
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    for (case, answer) in [
        ("garbage", b"\x16\x03\x01 nothing like HTTP \r\n\r\n".to_vec()),
        ("nothing", Vec::new()),
        ("half a status line", b"HTTP/1.1 20".to_vec()),
        ("headers without end", endless_headers),
        ("interim answers without end", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(20_000)),
        ("framing of two readings", b"HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\nhello".to_vec()),
        ("a header too long", [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; 1 << 20]].concat()),
    ] {
        let (url, _server) = raw_server(answer).await;
        let kind = case.replace(' ', "_");
        relay.client().endpoint_at(&url, json!({"event_types": [kind]})).await;
        let event = relay.client().publish(&kind, json!({})).await;
        let dead = relay.client().delivery_in_state(&event, "dead").await;
        assert_eq!(dead["attempt_log"][0]["status"], Value::Null, "{case}: {dead}");
        assert!(!dead["attempt_log"][0]["error"].as_str().unwrap().is_empty(), "{case}");
    }
}

#[tokio::test]
async fn answer_200_with_a_truncated_body_counts_as_delivered() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nshort".to_vec();
    let (url, _server) = raw_server(answer).await;
    let relay = Relay::start().await;
    relay.client().endpoint_at(&url, json!({})).await;
    let event = relay.client().publish("user.created", json!({})).await;
    let delivery = relay.client().delivery_in_state(&event, "delivered").await;
    assert_eq!(delivery["attempts"], 1);
}

#[tokio::test]
async fn receiver_that_refused_connections_gets_its_event_later() {
    // Bound but not listening: connections are refused, and no other test gets the port.
    let gone = TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = gone.local_addr().unwrap();
    let relay = Relay::start().await;
    relay.client().endpoint_at(&format!("http://{address}/"), json!({})).await;
    let event = relay.client().publish("user.created", json!({})).await;
    crate::harness::eventually("two refused attempts", || async {
        (relay.client().delivery_of(&event).await["attempts"].as_u64().unwrap() >= 2).then_some(())
    })
    .await;
    let back = gone.listen(16).unwrap();
    let (mut stream, _) = within("the next attempt", back.accept()).await.unwrap();
    // The response must not be there before the request.
    assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let delivery = relay.client().delivery_in_state(&event, "delivered").await;
    let error = delivery["attempt_log"][0]["error"].as_str().unwrap();
    assert!(error.contains(&address.to_string()) && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn events_go_to_the_endpoints_whose_patterns_match() {
    let relay = Relay::start().await;
    let mut receivers = Vec::new();
    for patterns in
        [json!(["user.created"]), json!(["user.*"]), json!([">"]), json!(["order.>", "user.deleted"])]
    {
        let receiver = Receiver::accepting().await;
        relay.client().endpoint_at(&receiver.url(), json!({"event_types": patterns})).await;
        receivers.push(receiver);
    }
    for event_type in ["user.created", "user.deleted", "order.paid.late", "unmatched"] {
        relay.client().publish(event_type, json!({})).await;
    }
    let types = |hits: Vec<Hit>| {
        let mut types: Vec<_> =
            hits.iter().map(|hit| hit.json()["type"].as_str().unwrap().to_owned()).collect();
        types.sort_unstable();
        types.join(" ")
    };
    let expected = [
        "user.created",
        "user.created user.deleted",
        "order.paid.late unmatched user.created user.deleted",
        "order.paid.late user.deleted",
    ];
    for (receiver, expected) in receivers.iter().zip(expected) {
        assert_eq!(types(receiver.hits_at_least(expected.split(' ').count()).await), expected);
    }
    assert_eq!(relay.client().list("/v1/deliveries").await.len(), 9);
}
