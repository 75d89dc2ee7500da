//! Replays: jobs that send past events again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Act, Client, FAIL, Hit, Home, OK, Receiver, Relay, eventually};

/// Creates a replay. Returns its id.
async fn replay(client: &Client, replay: Value) -> String {
    let answer = client.post("/v1/replays", replay).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Returns a replay once it is in this state.
async fn in_state(client: &Client, id: &str, state: &str) -> Value {
    eventually(&format!("the replay to be {state}"), || async {
        let replay = client.get(&format!("/v1/replays/{id}")).await.json();
        (replay["state"] == state).then_some(replay)
    })
    .await
}

async fn publish_many(client: &Client, count: usize) {
    let events: String =
        (0..count).map(|n| json!({"type": "past", "data": {"n": n}}).to_string() + "\n").collect();
    let (status, answers) = client.ndjson(events).await;
    assert_eq!((status, answers.len()), (StatusCode::ACCEPTED, count));
}

#[tokio::test]
async fn replay_is_planned_and_sends_what_an_endpoint_has_missed() {
    let healthy = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&healthy);
    let receiver = Receiver::start(move |_| if switch.load(Ordering::Relaxed) { OK } else { FAIL }).await;
    let late = Receiver::accepting().await;
    let relay = Relay::start_with(&["--max-attempts", "1", "--breaker-failures", "100"]).await;
    let client = relay.client();
    let endpoint = client.endpoint(&receiver).await;
    let mut events = Vec::new();
    for n in 0..5 {
        let event = client.publish("a", json!(n)).await;
        client.delivery_in_state(&event, "dead").await;
        events.push(event);
    }

    // A plan creates nothing.
    let failed = json!({"mode": "failed", "endpoint_id": endpoint});
    let plan = client.post("/v1/replays?dry_run=true", failed.clone()).await;
    assert_eq!(plan.status, StatusCode::OK, "{}", plan.text());
    let parts = json!([{"endpoint_id": endpoint, "planned": 5}]);
    assert_eq!(plan.json(), json!({"mode": "failed", "planned": 5, "more": false, "endpoints": parts}));
    assert!(client.list("/v1/replays").await.is_empty());

    healthy.store(true, Ordering::Relaxed);
    let id = replay(client, failed).await;
    let finished = in_state(client, &id, "finished").await;
    assert_eq!(
        (&finished["planned"], &finished["done"], &finished["skipped"]),
        (&json!(5), &json!(5), &json!(0))
    );
    assert!(finished["finished_at"].is_string() && finished["requested_by"].is_string(), "{finished}");
    for event in &events {
        let delivery = client.delivery_in_state(event, "delivered").await;
        assert_eq!(delivery["attempt_log"][1]["manual"], true, "{delivery}");
    }
    let cancel = format!("/v1/replays/{id}/cancel");
    assert_eq!(client.post(&cancel, json!({})).await.status, StatusCode::CONFLICT);

    // An endpoint that is disabled skips its events, and is offered them when it is enabled.
    let path = format!("/v1/endpoints/{endpoint}");
    let answer = client.patch(&path, json!({"enabled": false})).await.json();
    assert!(answer.get("missed").is_none(), "{answer}");
    let skipped = client.publish("a", json!("skipped")).await;
    let waiting = replay(client, json!({"mode": "skipped", "endpoint_id": endpoint})).await;
    let held = client.get(&format!("/v1/replays/{waiting}")).await.json();
    assert_eq!((&held["state"], &held["endpoints"][0]["held"]), (&json!("running"), &json!(true)), "{held}");
    let cancel = format!("/v1/replays/{waiting}/cancel");
    assert_eq!(client.post(&cancel, json!({})).await.json()["state"], "cancelled");
    let answer = client.patch(&path, json!({"enabled": true})).await.json();
    let missed = &answer["missed"];
    assert_eq!(
        (&missed["mode"], &missed["count"], &missed["more"]),
        (&json!("skipped"), &json!(1), &json!(false))
    );
    assert!(missed["since"].is_string(), "{missed}");
    let id = replay(client, json!({"mode": "skipped", "since": missed["since"]})).await;
    in_state(client, &id, "finished").await;
    client.delivery_in_state(&skipped, "delivered").await;

    // A new endpoint has missed all of them.
    let answer = client.post("/v1/endpoints", json!({"url": late.url()})).await.json();
    assert_eq!((&answer["missed"]["mode"], &answer["missed"]["count"]), (&json!("missing"), &json!(6)));
    replay(client, json!({"mode": "missing", "endpoint_id": answer["id"]})).await;
    let hits = late.hits_at_least(6).await;
    events.push(skipped);
    // Three at a time, so those arrive in any order.
    let mut ids: Vec<_> = hits.iter().map(Hit::id).collect();
    ids.sort_unstable();
    assert_eq!(ids, events);

    let newest = client.get("/v1/replays?limit=1").await.json();
    assert_eq!(newest["items"][0]["mode"], "missing");
    let cancelled = client.list("/v1/replays?state=cancelled").await;
    assert_eq!(cancelled.iter().map(|replay| &replay["id"]).collect::<Vec<_>>(), [&json!(waiting)]);
    for (refused, status) in [
        (json!({}), StatusCode::BAD_REQUEST),
        (json!({"mode": "lost"}), StatusCode::BAD_REQUEST),
        (json!({"mode": "all", "rate": 0}), StatusCode::BAD_REQUEST),
        (json!({"mode": "all", "event_types": ["a..b"]}), StatusCode::BAD_REQUEST),
        (json!({"mode": "missing", "status_class": "5xx"}), StatusCode::BAD_REQUEST),
        (
            json!({"mode": "all", "since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}),
            StatusCode::BAD_REQUEST,
        ),
        (json!({"mode": "all", "endpoint_id": "ep_1"}), StatusCode::NOT_FOUND),
    ] {
        let answer = client.post("/v1/replays", refused.clone()).await;
        assert_eq!(answer.status, status, "{refused}: {}", answer.text());
    }
    assert_eq!(client.get("/v1/replays/rpl_1").await.status, StatusCode::NOT_FOUND);
}

const PAST: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_survives_kills_and_keeps_turns_for_new_events() {
    let receiver = Receiver::start(|_| Act::Slow(Duration::from_millis(10), StatusCode::OK)).await;
    let home = Home::new();
    let mut relay = Relay::start_in(&home, &[]).await;
    publish_many(relay.client(), PAST).await;
    let endpoint = relay.client().endpoint(&receiver).await;
    let id = replay(relay.client(), json!({"mode": "missing", "endpoint_id": endpoint})).await;
    let mut kills = 0;
    for enough in [PAST / 8, PAST / 4] {
        receiver.hits_at_least(enough).await;
        relay.kill().await;
        kills += 1;
        relay = Relay::start_in(&home, &[]).await;
    }
    let client = relay.client();
    receiver.hits_at_least(PAST / 2).await;
    let before = receiver.hits().len();
    let new = client.publish("new", json!(1)).await;
    client.delivery_in_state(&new, "delivered").await;
    let hits = receiver.hits();
    let at = hits.iter().position(|hit| hit.id() == new).unwrap();
    // Three replayed deliveries at a time; those of the time that the publish takes are beside it.
    assert!(at < before + PAST / 4, "the new event came after {} replayed ones", at - before);

    let finished = in_state(client, &id, "finished").await;
    assert_eq!((&finished["done"], &finished["skipped"]), (&json!(PAST), &json!(0)), "{finished}");
    eventually("all to be delivered", || async {
        client.list("/v1/deliveries?state=pending").await.is_empty().then_some(())
    })
    .await;
    let hits = receiver.hits();
    let distinct: BTreeSet<_> = hits.iter().map(|hit| hit.id()).collect();
    assert_eq!(distinct.len(), PAST + 1, "every event was sent");
    // A kill repeats only the attempts in flight: three replayed ones, whose outcomes were not on disk.
    let repeated = hits.len() - distinct.len();
    assert!(repeated <= kills * 16, "{repeated} were sent again after {kills} kills");
    relay.stop().await;
}
