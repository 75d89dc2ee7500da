//! Endpoints: creation, changes, deletion.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::harness::{Act, Answer, FAIL, OK, Receiver, Relay, eventually};

#[tokio::test]
async fn endpoints_are_created_read_listed_updated_and_deleted() {
    let relay = Relay::start().await;
    let client = relay.client();
    let created = client.post("/v1/endpoints", json!({"url": "http://127.0.0.1:9"})).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let created = created.json();
    let id = created["id"].as_str().unwrap();
    assert_eq!(created["url"], "http://127.0.0.1:9/");
    assert_eq!(created["event_types"], json!([">"]));
    assert_eq!(created["enabled"], true);
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"));

    let path = format!("/v1/endpoints/{id}");
    assert_eq!(client.get(&path).await.json(), created);
    let listed = client.list("/v1/endpoints").await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].get("secret"), None, "secrets are not listed");

    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let change = json!({"event_types": ["a.*", "b"], "enabled": false, "secret": secret});
    let updated = client.patch(&path, change).await.json();
    assert_eq!(updated["url"], created["url"], "a field that the change does not name was changed");
    assert_eq!(updated["event_types"], json!(["a.*", "b"]));
    assert_eq!(updated["enabled"], false);
    assert_eq!(updated["secret"], secret);
    assert_eq!(client.get(&path).await.json(), updated);
    let refused = client.patch(&path, json!({"url": "http://10.0.0.1/"})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(client.get(&path).await.json(), updated);

    client.patch(&path, json!({"event_types": ["a"], "enabled": true})).await;
    let goes_to = async || {
        client.post("/v1/events", json!({"type": "a", "data": 1})).await.json()["deliveries"].clone()
    };
    assert_eq!(goes_to().await, 1);
    assert_eq!(client.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(goes_to().await, 0, "a deleted endpoint gets a new delivery");
    assert_eq!(client.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(client.patch(&path, json!({})).await.status, StatusCode::NOT_FOUND);
    assert_eq!(client.delete(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(client.list("/v1/endpoints").await, Vec::<Value>::new());
}

#[tokio::test]
async fn disabled_endpoint_gets_no_new_events_and_keeps_pending_ones() {
    let receiver = Receiver::start(|hit| if hit.nth == 1 { FAIL } else { OK }).await;
    let relay = Relay::start_with(&["--retry-base", "600", "--retry-cap", "600"]).await;
    let client = relay.client();
    let endpoint = client.endpoint(&receiver).await;
    let path = format!("/v1/endpoints/{endpoint}");
    let pending = client.publish("before", json!({})).await;
    eventually("the first attempt to be recorded", || async {
        (client.delivery_of(&pending).await["attempts"] == 1).then_some(())
    })
    .await;
    client.patch(&path, json!({"enabled": false})).await;
    let answer = client.post("/v1/events", json!({"type": "during", "data": 1})).await;
    assert_eq!(answer.json()["deliveries"], 0);
    // Due at once, but kept: the endpoint is disabled.
    let delivery = client.delivery_of(&pending).await;
    let resend = format!("/v1/deliveries/{}/resend", delivery["id"].as_str().unwrap());
    assert_eq!(client.post(&resend, json!({})).await.status, StatusCode::ACCEPTED);
    let other = Receiver::accepting().await;
    client.endpoint_at(&other.url(), json!({"event_types": ["other"]})).await;
    client.publish("other", json!({})).await;
    other.hits_at_least(1).await;
    assert_eq!(receiver.hits().len(), 1);

    client.patch(&path, json!({"enabled": true})).await;
    client.delivery_in_state(&pending, "delivered").await;
    assert_eq!(receiver.hits().len(), 2);
}

#[tokio::test]
async fn pending_deliveries_follow_a_new_url() {
    let broken = Receiver::start(|_| FAIL).await;
    let repaired = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    let endpoint = client.endpoint(&broken).await;
    let event = client.publish("user.created", json!({})).await;
    broken.hits_at_least(1).await;
    client.patch(&format!("/v1/endpoints/{endpoint}"), json!({"url": repaired.url()})).await;
    client.delivery_in_state(&event, "delivered").await;
    assert_eq!(repaired.hits_at_least(1).await[0].id(), event);
}

#[tokio::test]
async fn new_url_reenables_a_failing_endpoint_with_its_deliveries() {
    let broken = Receiver::start(|_| FAIL).await;
    let repaired = Receiver::accepting().await;
    // Failed deliveries are not due again within the test, and one failure disables the endpoint.
    let slow = ["--retry-base", "36000", "--retry-cap", "36000", "--max-attempts", "30"];
    let held = ["--disable-after", "0.001", "--probe-every", "36000", "--breaker-failures", "1000"];
    let relay = Relay::start_with(&[&slow[..], &held].concat()).await;
    let client = relay.client();
    let path = format!("/v1/endpoints/{}", client.endpoint(&broken).await);
    // More deliveries than one step makes due.
    let lines: String = (0..300).map(|n| format!("{{\"type\":\"a\",\"data\":{n}}}\n")).collect();
    assert_eq!(client.ndjson(lines).await.0, StatusCode::ACCEPTED);
    eventually("relay to disable the endpoint", || async {
        (client.get(&path).await.json()["disabled_because"] == "failing").then_some(())
    })
    .await;
    let patched = client.patch(&path, json!({"url": repaired.url()})).await;
    assert_eq!(patched.json()["disabled_because"], Value::Null, "{}", patched.text());
    repaired.hits_at_least(300).await;
}

#[tokio::test]
async fn deleted_endpoint_leaves_dead_letters_that_cannot_be_resent() {
    let receiver = Receiver::start(|_| Act::Hang).await;
    let relay = Relay::start_with(&["--headers-timeout", "3000", "--total-timeout", "3000"]).await;
    let client = relay.client();
    let endpoint = client.endpoint(&receiver).await;
    let lines: String = (0..600).map(|n| format!("{{\"type\":\"a\",\"data\":{n}}}\n")).collect();
    assert_eq!(client.ndjson(lines).await.0, StatusCode::ACCEPTED);
    // Hanging requests hold all slots: the deletion must not need one.
    receiver.hits_at_least(16).await;
    client.delete(&format!("/v1/endpoints/{endpoint}")).await;
    let letters = eventually("all deliveries to be dead letters", || async {
        let letters = client.list("/v1/dead-letters").await;
        (letters.len() == 600).then_some(letters)
    })
    .await;
    assert!(letters.iter().all(|letter| letter["reason"] == "the endpoint was deleted"));
    // They can be read, but not resent.
    let path = format!("/v1/deliveries/{}/resend", letters[0]["id"].as_str().unwrap());
    assert_eq!(client.post(&path, json!({})).await.status, StatusCode::CONFLICT);
    let redriven = client.post("/v1/dead-letters/redrive", json!({})).await.json();
    assert_eq!(redriven, json!({"redriven": 0, "more": false}));
}

#[tokio::test]
async fn deletion_cut_off_by_a_crash_is_completed_at_start() {
    let receiver = Receiver::start(|_| FAIL).await;
    let slow = ["--retry-base", "600", "--retry-cap", "600"];
    let relay = Relay::start_with(&slow).await;
    let home = Arc::clone(relay.client().home());
    relay.client().endpoint(&receiver).await;
    let event = relay.client().publish("user.created", json!({})).await;
    receiver.hits_at_least(1).await;
    relay.stop().await;
    // As if relay had died before the deliveries became dead letters.
    let deleted = home.sql("UPDATE endpoints SET deleted_at = 1, enabled = 0");
    assert_eq!(deleted, 1);
    let relay = Relay::start_in(&home, &slow).await;
    let dead = relay.client().delivery_in_state(&event, "dead").await;
    assert_eq!(dead["reason"], "the endpoint was deleted");
}

#[tokio::test]
async fn success_after_the_endpoint_is_deleted_counts_as_delivered() {
    let release = Arc::new(Notify::new());
    let receiver = Receiver::held(&release, OK).await;
    let relay = Relay::start().await;
    let client = relay.client();
    let endpoint = client.endpoint(&receiver).await;
    let event = client.publish("user.created", json!({})).await;
    receiver.hits_at_least(1).await;
    client.delete(&format!("/v1/endpoints/{endpoint}")).await;
    client.delivery_in_state(&event, "dead").await;
    release.notify_one();
    let delivered = client.delivery_in_state(&event, "delivered").await;
    assert_eq!(delivered["reason"], Value::Null);
}

#[tokio::test]
async fn events_of_a_disabled_endpoint_are_skipped_listed_and_resent() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    let endpoint = client.endpoint_at(&receiver.url(), json!({"enabled": false})).await;
    let event = client.publish("a", json!(1)).await;
    let skipped = client.delivery_of(&event).await;
    assert_eq!((&skipped["state"], &skipped["next_attempt_at"]), (&json!("skipped"), &Value::Null));
    assert_eq!(skipped["reason"], "the endpoint is disabled");
    let listed = client.list(&format!("/v1/deliveries?state=skipped&endpoint_id={endpoint}")).await;
    assert_eq!(listed.len(), 1);
    client.patch(&format!("/v1/endpoints/{endpoint}"), json!({"enabled": true})).await;
    // A skipped delivery is final: enabling the endpoint does not send it.
    let next = client.publish("a", json!(2)).await;
    client.delivery_in_state(&next, "delivered").await;
    assert_eq!(client.delivery_of(&event).await["state"], "skipped");
    let resend = format!("/v1/deliveries/{}/resend", skipped["id"].as_str().unwrap());
    assert_eq!(client.post(&resend, json!({})).await.status, StatusCode::ACCEPTED);
    let delivered = client.delivery_in_state(&event, "delivered").await;
    assert_eq!((&delivered["reason"], &delivered["attempt_log"][0]["manual"]), (&Value::Null, &json!(true)));
    assert!(delivered["attempt_log"][0]["id"].as_str().unwrap().starts_with("atmpt_"));
}

#[tokio::test]
async fn endpoint_is_changed_by_a_merge_patch() {
    let relay = Relay::start().await;
    let client = relay.client();
    let all = json!({
        "uid": "billing", "description": "the bills", "metadata": {"team": "a", "env": "test"},
        "headers": {"X-Token": "secret-value"}, "channels": ["red"], "policy": {"rate": 5}, "event_types": ["a"],
    });
    let id = client.endpoint_at("http://127.0.0.1:9/", all).await;
    let path = format!("/v1/endpoints/{id}");
    let before = client.get(&path).await;
    assert!(!before.text().contains("secret-value"), "the value of a header is shown");
    let before = before.json();
    assert_eq!(before["headers"], json!(["X-Token"]));
    assert_eq!((&before["uid"], &before["kind"]), (&json!("billing"), &json!("http")));

    let patch = json!({"metadata": {"team": null, "owner": "b"}, "headers": {"X-Other": "1"}, "policy": {"rate": null}});
    let after = client.patch(&path, patch).await.json();
    assert_eq!(after["metadata"], json!({"env": "test", "owner": "b"}));
    assert_eq!(after["headers"], json!(["X-Other", "X-Token"]));
    assert_eq!(after["policy"], json!({}));
    for unchanged in ["uid", "description", "channels", "event_types", "url", "secret"] {
        assert_eq!(after[unchanged], before[unchanged], "{unchanged}");
    }
    let nulls = json!({
        "uid": null, "description": null, "metadata": null, "headers": null, "channels": null, "event_types": null,
    });
    let cleared = client.patch(&path, nulls).await.json();
    for (field, empty) in [
        ("uid", Value::Null),
        ("description", json!("")),
        ("metadata", json!({})),
        ("headers", json!([])),
        ("channels", json!([])),
        ("event_types", json!([">"])),
    ] {
        assert_eq!(cleared[field], empty, "{field}");
    }
}

#[tokio::test]
async fn invalid_fields_of_an_endpoint_are_refused() {
    let relay = Relay::start().await;
    let client = relay.client();
    let id = client.endpoint_at("http://127.0.0.1:9/", json!({"uid": "one"})).await;
    let path = format!("/v1/endpoints/{id}");
    for (field, status, why) in [
        (json!({"uid": id}), 400, "has the form of an id"),
        (json!({"uid": "a b"}), 400, "' '"),
        (json!({"uid": "one"}), 409, "uid"),
        (json!({"kind": "queue"}), 400, "unknown variant"),
        (json!({"channels": vec!["a"; 11]}), 400, "at most 10"),
        (json!({"metadata": {"a": "x".repeat(5_000)}}), 400, "at most 4096"),
        (json!({"metadata": {"a": 1}}), 400, "string"),
        (json!({"headers": {"Webhook-Id": "x"}}), 400, "set by relay"),
        (json!({"headers": {"host": "x"}}), 400, "set by relay"),
        (json!({"headers": {"a b": "x"}}), 400, "name of a header"),
        (json!({"headers": {"a": "x\r\ny: z"}}), 400, "cannot be sent"),
        (json!({"policy": {"rate": 0}}), 400, "nonzero"),
        (json!({"policy": {"speed": 1}}), 400, "speed"),
        (json!({"description": "x".repeat(1_025)}), 400, "at most 1024"),
    ] {
        let mut new = field.clone();
        new["url"] = json!("http://127.0.0.1:9/");
        let refused = client.post("/v1/endpoints", new).await;
        assert_eq!(refused.status.as_u16(), status, "{field}: {}", refused.text());
        assert!(refused.problem().contains(why), "{field}: {}", refused.problem());
        if status == 400 {
            let refused = client.patch(&path, field.clone()).await;
            assert_eq!(refused.status.as_u16(), status, "{field}: {}", refused.text());
        }
    }
    assert_eq!(client.list("/v1/endpoints").await.len(), 1);
}

#[tokio::test]
async fn headers_of_an_endpoint_are_limited_as_a_whole() {
    let relay = Relay::start().await;
    let client = relay.client();
    let path = format!("/v1/endpoints/{}", client.endpoint_at("http://127.0.0.1:9/", json!({})).await);
    let many = |prefix: &str, entries: usize, bytes: usize| -> Value {
        (0..entries).map(|n| (format!("{prefix}{n}"), json!("x".repeat(bytes)))).collect::<Map<_, _>>().into()
    };
    let patched = client.patch(&path, json!({"headers": many("a", 32, 1)})).await;
    assert_eq!(patched.status, StatusCode::OK, "{}", patched.text());
    let is_refused = |answer: Answer, why: &str| {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
        assert!(answer.problem().contains(why), "{}", answer.problem());
    };
    is_refused(client.patch(&path, json!({"headers": {"b": "x"}})).await, "33 entries; at most 32");
    // Names that replace others.
    let mut replaced = many("a", 32, 0);
    replaced.as_object_mut().unwrap().values_mut().for_each(|value| *value = Value::Null);
    replaced.as_object_mut().unwrap().extend(many("b", 4, 4_000).as_object().unwrap().clone());
    let patched = client.patch(&path, json!({"headers": replaced})).await;
    assert_eq!(patched.json()["headers"].as_array().map(Vec::len), Some(4), "{}", patched.text());
    is_refused(client.patch(&path, json!({"headers": many("c", 1, 400)})).await, "at most 16384");
    let new = json!({"url": "http://127.0.0.1:9/", "headers": many("d", 5, 4_000)});
    is_refused(client.post("/v1/endpoints", new).await, "at most 16384");
    assert_eq!(client.list("/v1/endpoints").await.len(), 1);
}

#[tokio::test]
async fn headers_and_channels_of_an_endpoint_apply_to_its_deliveries() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    let own =
        json!({"headers": {"Authorization": "Bearer theirs", "User-Agent": "ours/1"}, "channels": ["red"]});
    client.endpoint_at(&receiver.url(), own).await;
    let send = async |channels: Value| {
        let event = json!({"type": "a", "data": 1, "channels": channels, "tags": ["t-1"]});
        client.post("/v1/events", event).await.json()
    };
    assert_eq!(send(json!(["blue"])).await["deliveries"], 0);
    assert_eq!(send(json!([])).await["deliveries"], 0);
    let sent = send(json!(["blue", "red"])).await;
    assert_eq!(sent["deliveries"], 1);
    let hits = receiver.hits_at_least(1).await;
    assert_eq!(hits[0].headers["authorization"], "Bearer theirs");
    assert_eq!(hits[0].headers["user-agent"], "ours/1");
    assert!(hits[0].headers.contains_key("webhook-signature"));
    let event = client.get(&format!("/v1/events/{}", sent["id"].as_str().unwrap())).await.json();
    assert_eq!((&event["channels"], &event["tags"]), (&json!(["blue", "red"]), &json!(["t-1"])));
}

#[tokio::test]
async fn event_with_a_known_uid_is_refused_with_the_id_of_the_first() {
    let relay = Relay::start().await;
    let client = relay.client();
    let event = json!({"type": "a", "data": 1, "uid": "order-1"});
    let first = client.post("/v1/events", event.clone()).await.json();
    let again = client.post("/v1/events", event.clone()).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.problem().contains(first["id"].as_str().unwrap()), "{}", again.problem());
    let (status, lines) = client.ndjson(format!("{event}\n")).await;
    assert_eq!((status, &lines[0]["status"]), (StatusCode::CONFLICT, &json!(409)));
    let stored = client.get(&format!("/v1/events/{}", first["id"].as_str().unwrap())).await.json();
    assert_eq!(stored["uid"], "order-1");
}
