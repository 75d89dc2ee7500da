//! The address guard in use; the unit tests of `guard` check its table of addresses.

use http::StatusCode;
use serde_json::json;

use crate::harness::{Home, Receiver, Relay};

#[tokio::test]
async fn refusal_of_an_internal_url_names_the_allow_net_option() {
    let relay = Relay::start_unshared(&Home::new(), &[]).await;
    for url in [
        "http://127.0.0.1:9000/",
        "http://localhost/",
        "http://[::1]/",
        "http://10.0.0.1/",
        "http://169.254.169.254/",
    ] {
        let answer = relay.client().post("/v1/endpoints", json!({"url": url})).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{url}");
        assert!(answer.problem().contains("--allow-net"), "{}", answer.problem());
    }
    assert_eq!(relay.client().list("/v1/endpoints").await.len(), 0);
}

#[tokio::test]
async fn allowed_network_is_logged_and_a_url_in_it_is_accepted() {
    let relay = Relay::start_unshared(&Home::new(), &["--allow-net", "10.1.0.0/16"]).await;
    let log = relay.log_line("relay is ready").await;
    assert!(!relay.log_is_read() || log.contains("10.1.0.0/16"), "{log}");
    let answer = relay.client().post("/v1/endpoints", json!({"url": "http://10.1.2.3/"})).await;
    assert_eq!(answer.status, StatusCode::CREATED);
}

/// relay checks the URL when an endpoint is created, and the address each time it connects.
#[tokio::test]
async fn dialled_address_is_checked_at_every_attempt() {
    let receiver = Receiver::accepting().await;
    let home = Home::new();
    let relay = Relay::start_in(&home, &[]).await;
    relay.client().endpoint(&receiver).await;
    let by_name = format!("http://localhost:{}/hook", receiver.port());
    relay.client().endpoint_at(&by_name, json!({})).await;
    relay.client().publish("allowed", json!({})).await;
    receiver.hits_at_least(2).await;
    relay.stop().await;

    let settings = ["--max-attempts", "3", "--breaker-failures", "1", "--retry-base", "0.001"];
    let relay = Relay::start_unshared(&home, &settings).await;
    relay.client().publish("refused", json!({})).await;
    let letters = crate::harness::eventually("both deliveries to be refused", || async {
        let letters = relay.client().list("/v1/dead-letters").await;
        (letters.len() == 2).then_some(letters)
    })
    .await;
    for letter in letters {
        let reason = letter["reason"].as_str().unwrap();
        assert!(reason.contains("is a loopback address"), "{reason}");
        let delivery =
            relay.client().get(&format!("/v1/deliveries/{}", letter["id"].as_str().unwrap())).await.json();
        assert_eq!(
            (&delivery["attempts"], &delivery["attempt_log"][0]["class"]),
            (&json!(3), &json!("config"))
        );
    }
    assert!(!relay.log().contains("breaker of an endpoint has opened"), "a breaker opened:\n{}", relay.log());
    assert_eq!(receiver.hits().len(), 2, "a refused address was connected to");
}

#[tokio::test]
async fn unresolvable_name_is_a_failed_attempt_with_a_reason() {
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    relay.client().endpoint_at("http://no-such-host.invalid/", json!({})).await;
    let event = relay.client().publish("user.created", json!({})).await;
    let dead = relay.client().delivery_in_state(&event, "dead").await;
    let error = dead["attempt_log"][0]["error"].as_str().unwrap();
    assert!(error.contains("no-such-host.invalid") || error.contains("no connection within"), "{error}");
}
