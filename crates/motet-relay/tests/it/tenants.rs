//! Tenants: what one of them owns, no other sees; their deletion; their quotas.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Client, FAIL, Feed, Receiver, Relay, eventually};

async fn put_tenant(client: &Client, id: &str, body: Value) -> Value {
    let answer = client.put(&format!("/v1/tenants/{id}"), body).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    answer.json()
}

async fn endpoint(client: &Client, tenant: &str, url: &str) -> String {
    let answer = client.post(&format!("/v1/tenants/{tenant}/endpoints"), json!({"url": url})).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn publish(client: &Client, tenant: &str, data: Value) -> String {
    let event = json!({"type": "a.b", "data": data});
    let answer = client.post(&format!("/v1/tenants/{tenant}/events"), event).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// An import keeps the ids of another system, so that the programs of its users find their applications again.
#[tokio::test]
async fn id_of_a_tenant_may_be_of_another_system_but_not_relays() {
    let relay = Relay::start().await;
    let client = relay.client();
    put_tenant(client, "app_2bX9srOrx2ZWZBpBUvZwXKQmoEY", json!({})).await;
    let own = client.post("/api/v1/app", json!({"name": "without a uid"})).await.json();
    let own = own["id"].as_str().unwrap();
    assert_eq!(put_tenant(client, own, json!({"name": "changed"})).await["name"], "changed");
    let (rest, last) = own.split_at(own.len() - 1);
    let other = format!("{rest}{}", if last == "0" { "1" } else { "0" });
    let refused = client.put(&format!("/v1/tenants/{other}"), json!({})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text());
    assert!(refused.text().contains("has the form of an id of this relay"), "{}", refused.text());
}

#[tokio::test]
async fn tenants_are_created_read_listed_changed_and_deleted() {
    let relay = Relay::start().await;
    let client = relay.client();
    let body = json!({"name": "Acme", "metadata": {"plan": "pro"}, "policy": {"endpoints_max": 5}});
    let created = client.put("/v1/tenants/acme", body.clone()).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let created = created.json();
    assert_eq!((&created["id"], &created["name"]), (&json!("acme"), &json!("Acme")));
    assert_eq!(client.put("/v1/tenants/acme", body).await.status, StatusCode::OK);
    assert_eq!(client.get("/v1/tenants/acme").await.json()["metadata"], json!({"plan": "pro"}));

    let patch = json!({"metadata": {"plan": null, "since": "2026"}, "policy": {"events_per_day": 9}});
    let patched = client.patch("/v1/tenants/acme", patch).await.json();
    assert_eq!(patched["metadata"], json!({"since": "2026"}));
    assert_eq!(patched["policy"], json!({"events_per_day": 9, "endpoints_max": 5}));
    assert_eq!(patched["name"], "Acme");
    let replaced = put_tenant(client, "acme", json!({})).await;
    assert_eq!((&replaced["name"], &replaced["policy"]), (&json!(""), &json!({})));

    let ids = client.list("/v1/tenants").await;
    let ids: Vec<_> = ids.iter().map(|tenant| tenant["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["acme", "default"]);
    let page = client.get("/v1/tenants?limit=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let last = client.get(&format!("/v1/tenants?limit=1&cursor={cursor}")).await.json();
    assert_eq!((&last["items"][0]["id"], &last["next_cursor"]), (&json!("default"), &Value::Null));
    assert_eq!(client.delete("/v1/tenants/default").await.status, StatusCode::CONFLICT);
    let deleted = client.delete("/v1/tenants/acme").await.json();
    assert_eq!(deleted["pending_deliveries"], 0, "{deleted}");
    assert!(deleted["erasure_id"].as_str().unwrap().starts_with("ers_"), "{deleted}");
    for method in ["get", "patch", "delete"] {
        let answer = match method {
            "get" => client.get("/v1/tenants/acme").await,
            "patch" => client.patch("/v1/tenants/acme", json!({})).await,
            _ => client.delete("/v1/tenants/acme").await,
        };
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method}");
    }
    for (id, body, why) in [
        ("_own", json!({}), "reserved"),
        ("a%20b", json!({}), "' '"),
        (&"a".repeat(65), json!({}), "65 characters"),
        ("x", json!({"policy": {"events_per_hour": 1}}), "events_per_hour"),
        ("x", json!({"metadata": {"a": "x".repeat(5_000)}}), "at most 4096"),
        ("x", json!({"id": "y"}), "unknown field"),
    ] {
        let refused = client.put(&format!("/v1/tenants/{id}"), body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{id}: {}", refused.text());
        assert!(refused.problem().contains(why), "{id}: {}", refused.problem());
    }
}

#[tokio::test]
async fn rows_of_another_tenant_are_not_found() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    for id in ["one", "two"] {
        put_tenant(client, id, json!({})).await;
    }
    let endpoint = endpoint(client, "one", &receiver.url()).await;
    let event = publish(client, "one", json!(1)).await;
    receiver.hits_at_least(1).await;
    let delivery = eventually("the delivery to be recorded", || async {
        let delivered = client.list("/v1/tenants/one/deliveries?state=delivered").await;
        delivered.first().map(|delivery| delivery["id"].as_str().unwrap().to_owned())
    })
    .await;
    // The short form means the tenant `default`.
    for prefix in ["/v1/tenants/two", "/v1", "/v1/tenants/none"] {
        for path in [
            format!("events/{event}"),
            format!("endpoints/{endpoint}"),
            format!("deliveries/{delivery}"),
            format!("deliveries?event_id={event}"),
            format!("deliveries?endpoint_id={endpoint}"),
        ] {
            let answer = client.get(&format!("{prefix}/{path}")).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{prefix}/{path}: {}", answer.text());
        }
        for path in [
            format!("endpoints/{endpoint}/pause"),
            format!("endpoints/{endpoint}/resume"),
            format!("deliveries/{delivery}/resend"),
        ] {
            let answer = client.post(&format!("{prefix}/{path}"), json!({})).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{prefix}/{path}");
        }
        let redrive =
            client.post(&format!("{prefix}/dead-letters/redrive"), json!({"endpoint_id": endpoint})).await;
        assert_eq!(redrive.status, StatusCode::NOT_FOUND, "{prefix}: {}", redrive.text());
        let path = format!("{prefix}/endpoints/{endpoint}");
        assert_eq!(client.patch(&path, json!({"enabled": false})).await.status, StatusCode::NOT_FOUND);
        assert_eq!(client.delete(&path).await.status, StatusCode::NOT_FOUND);
    }
    for list in ["events", "endpoints", "deliveries", "dead-letters"] {
        assert_eq!(client.list(&format!("/v1/tenants/two/{list}")).await, Vec::<Value>::new());
        assert_eq!(client.list(&format!("/v1/{list}")).await, Vec::<Value>::new());
        let own = client.list(&format!("/v1/tenants/one/{list}")).await;
        assert_eq!(client.list(&format!("/v1/{list}?tenant=one")).await, own, "{list}");
        assert_eq!(client.list(&format!("/v1/{list}?tenant=*")).await, own, "{list}");
        assert!(own.iter().all(|item| item["tenant"] == "one"));
        let named_twice = client.get(&format!("/v1/tenants/two/{list}?tenant=one")).await;
        assert_eq!(named_twice.status, StatusCode::BAD_REQUEST);
        assert_eq!(client.get(&format!("/v1/{list}?tenant=none")).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(client.get(&format!("/v1/tenants/one/events/{event}")).await.json()["tenant"], "one");
}

#[tokio::test]
async fn deleted_tenant_is_gone_at_once_and_its_rows_soon() {
    let failing = Receiver::start(|_| FAIL).await;
    let relay = Relay::start_with(&["--retry-base", "36000", "--retry-cap", "36000"]).await;
    let client = relay.client();
    let home = client.home().clone();
    put_tenant(client, "acme", json!({})).await;
    endpoint(client, "acme", &failing.url()).await;
    for n in 0..300 {
        publish(client, "acme", json!(n)).await;
    }
    eventually("an attempt to be recorded", || async {
        (home.count("SELECT count(*) FROM attempts") > 0).then_some(())
    })
    .await;
    let deleted = client.delete("/v1/tenants/acme").await;
    assert_eq!(deleted.json()["pending_deliveries"], 300);
    assert_eq!(client.get("/v1/tenants/acme/events").await.status, StatusCode::NOT_FOUND);
    let refused = client.post("/v1/tenants/acme/events", json!({"type": "a", "data": 1})).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert_eq!(client.list("/v1/events?tenant=*").await, Vec::<Value>::new());

    // The id can be used again at once, and its new owner sees no old row.
    put_tenant(client, "acme", json!({"name": "the second"})).await;
    for list in ["events", "endpoints", "deliveries", "dead-letters"] {
        assert_eq!(client.list(&format!("/v1/tenants/acme/{list}")).await, Vec::<Value>::new(), "{list}");
    }
    let own = publish(client, "acme", json!("own")).await;
    let rows = || {
        ["events", "deliveries", "due", "attempts", "endpoints", "rollups"]
            .map(|table| home.count(&format!("SELECT count(*) FROM {table}")))
    };
    // The second tenant keeps its event and the count of it.
    eventually("the rows to be deleted", || async { (rows() == [1, 0, 0, 0, 0, 1]).then_some(()) }).await;
    assert_eq!(client.list("/v1/tenants/acme/events").await[0]["id"], own);
    relay.stop().await;
}

#[tokio::test]
async fn sweep_that_a_crash_cut_off_is_completed_at_start() {
    let relay = Relay::start().await;
    let home = relay.client().home().clone();
    put_tenant(relay.client(), "acme", json!({})).await;
    endpoint(relay.client(), "acme", "http://127.0.0.1:9/").await;
    publish(relay.client(), "acme", json!(1)).await;
    relay.stop().await;
    assert_eq!(home.sql("UPDATE tenants SET deleted_at = 1 WHERE id = 'acme'"), 1);
    let relay = Relay::start_in(&home, &[]).await;
    assert_eq!(relay.client().get("/v1/tenants/acme").await.status, StatusCode::NOT_FOUND);
    eventually("the rows to be deleted", || async {
        let rows = ["events", "due", "deliveries", "endpoints"]
            .map(|table| home.count(&format!("SELECT count(*) FROM {table}")));
        (rows == [0; 4]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn paused_tenant_waits_while_another_goes_on() {
    let [quiet, busy] = [Receiver::accepting().await, Receiver::accepting().await];
    let relay = Relay::start().await;
    let client = relay.client();
    for (id, receiver) in [("quiet", &quiet), ("busy", &busy)] {
        put_tenant(client, id, json!({})).await;
        endpoint(client, id, &receiver.url()).await;
    }
    assert_eq!(client.post("/v1/tenants/quiet/pause", json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(client.get("/v1/tenants/quiet").await.json()["paused"], true);
    for id in ["quiet", "busy"] {
        publish(client, id, json!(1)).await;
    }
    busy.hits_at_least(1).await;
    assert_eq!(client.list("/v1/tenants/quiet/deliveries?state=pending").await.len(), 1);
    assert_eq!(quiet.hits().len(), 0);
    assert_eq!(client.post("/v1/tenants/quiet/resume", json!({})).await.status, StatusCode::NO_CONTENT);
    quiet.hits_at_least(1).await;
    assert_eq!(client.post("/v1/tenants/none/pause", json!({})).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn key_of_a_tenant_ends_no_pause_of_the_operator_and_no_quota() {
    let relay = Relay::start().await;
    let admin = relay.client();
    put_tenant(admin, "acme", json!({"policy": {"backlog_max": 2}})).await;
    let made = json!({"scopes": ["manage", "publish", "replay"], "tenant": "acme"});
    let made = admin.post("/v1/keys", made).await.json();
    let acme = admin.with_key(made["key"].as_str().unwrap().to_owned());
    let endpoint = acme.endpoint_at("http://127.0.0.1:9/", json!({"enabled": false})).await;
    let event = acme.publish("a", json!(1)).await;
    let path = format!("/v1/endpoints/{endpoint}");
    let paused = admin.post(&format!("/v1/tenants/acme/endpoints/{endpoint}/pause"), json!({})).await;
    assert_eq!(paused.status, StatusCode::NO_CONTENT);
    let refused = acme.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    assert!(refused.problem().contains("all tenants"), "{}", refused.problem());

    assert_eq!(acme.patch(&path, json!({"enabled": true})).await.status, StatusCode::OK);
    for n in 2..4 {
        acme.publish("a", json!(n)).await;
    }
    let skipped = admin.list("/v1/tenants/acme/deliveries?state=skipped").await;
    let delivery = skipped[0]["id"].as_str().unwrap();
    let resend = format!("/v1/deliveries/{delivery}/resend");
    let of_svix = format!("/api/v1/app/acme/msg/{event}/endpoint/{endpoint}/resend");
    for path in [&resend, &of_svix] {
        let refused = acme.post(path, json!({})).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{path}: {}", refused.text());
        assert_eq!(refused.json()["code"], "quota_backlog", "{path}");
        assert!(refused.headers.contains_key("retry-after"), "{path}");
    }
    put_tenant(admin, "acme", json!({"policy": {}})).await;
    assert_eq!(acme.post(&resend, json!({})).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn feed_of_a_tenant_has_only_its_events_and_resumes() {
    let relay = Relay::start().await;
    let client = relay.client();
    for id in ["one", "two"] {
        put_tenant(client, id, json!({})).await;
    }
    let first = publish(client, "one", json!(1)).await;
    publish(client, "two", json!("other")).await;
    // From the beginning, and live.
    let mut feed = Feed::open_at(client, "/v1/tenants/one/events/feed", Some(&first)).await;
    let second = publish(client, "one", json!(2)).await;
    publish(client, "two", json!("other")).await;
    let third = publish(client, "one", json!(3)).await;
    for id in [&second, &third] {
        let event = feed.event().await.unwrap();
        assert_eq!((&event["id"], &event["tenant"]), (&json!(id), &json!("one")));
        assert_eq!(client.get(&format!("/v1/tenants/one/events/{id}")).await.json(), event);
    }
    // The id of another tenant's event is not a position.
    let bearer = format!("Bearer {}", client.key);
    let headers = [("authorization", bearer.as_str()), ("last-event-id", first.as_str())];
    let foreign =
        client.request(http::Method::GET, "/v1/tenants/two/events/feed", &headers, "").await.unwrap();
    assert_eq!(foreign.status, StatusCode::GONE, "{}", foreign.text());
    assert_eq!(client.get("/v1/tenants/none/events/feed").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn quotas_refuse_with_a_code_before_anything_is_stored() {
    let relay = Relay::start_with(&["--retry-base", "36000", "--retry-cap", "36000"]).await;
    let client = relay.client();
    let send = async |tenant: &str, data: &str| {
        client.post(&format!("/v1/tenants/{tenant}/events"), json!({"type": "a", "data": data})).await
    };
    for (policy, status, code, waits) in [
        (json!({"events_per_second": 1, "events_burst": 2}), 429, "quota_events_rate", true),
        (json!({"events_per_day": 2}), 429, "quota_events_day", true),
        (json!({"backlog_max": 2}), 429, "quota_backlog", true),
    ] {
        put_tenant(client, code, json!({"policy": policy})).await;
        endpoint(client, code, "http://127.0.0.1:9/").await;
        for _ in 0..2 {
            assert_eq!(send(code, "x").await.status, StatusCode::ACCEPTED, "{code}");
        }
        let refused = send(code, "x").await;
        assert_eq!(refused.status.as_u16(), status, "{code}: {}", refused.text());
        assert_eq!(refused.json()["code"], code);
        assert_eq!(refused.headers.contains_key("retry-after"), waits, "{code}");
        assert_eq!(client.list(&format!("/v1/tenants/{code}/events")).await.len(), 2, "{code}");
    }
    put_tenant(client, "small", json!({"policy": {"event_bytes_max": 5, "endpoints_max": 1}})).await;
    endpoint(client, "small", "http://127.0.0.1:9/").await;
    let more = client.post("/v1/tenants/small/endpoints", json!({"url": "http://127.0.0.1:9/"})).await;
    assert_eq!((more.status, &more.json()["code"]), (StatusCode::CONFLICT, &json!("quota_endpoints")));
    let large = send("small", "xxxx").await;
    assert_eq!(
        (large.status, &large.json()["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("quota_event_bytes"))
    );
    assert_eq!(send("small", "xxx").await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn tenants_inherit_the_quotas_of_relay_and_override_them() {
    let relay = Relay::start_with(&["--tenant-events-per-day", "1", "--tenant-endpoints-max", "1"]).await;
    let client = relay.client();
    put_tenant(client, "large", json!({"policy": {"events_per_day": 3, "endpoints_max": 2}})).await;
    for (tenant, limit) in [("default", 1), ("large", 2)] {
        for _ in 0..limit {
            endpoint(client, tenant, "http://127.0.0.1:9/").await;
        }
        let more = client
            .post(&format!("/v1/tenants/{tenant}/endpoints"), json!({"url": "http://127.0.0.1:9/"}))
            .await;
        assert_eq!((more.status, &more.json()["code"]), (StatusCode::CONFLICT, &json!("quota_endpoints")));
    }
    // Midnight may fall between two events.
    let accepted = async |tenant: &str| {
        let path = format!("/v1/tenants/{tenant}/events");
        let mut accepted = 0;
        while client.post(&path, json!({"type": "a", "data": 1})).await.status == StatusCode::ACCEPTED {
            accepted += 1;
        }
        accepted
    };
    assert!(matches!(accepted("default").await, 1 | 2));
    assert!(matches!(accepted("large").await, 3..=6));
    // The answer has the settings of the tenant alone.
    assert_eq!(client.get("/v1/tenants/default").await.json()["policy"], json!({}));
}

#[tokio::test]
async fn quota_of_the_day_is_counted_per_line_and_across_restarts() {
    let relay = Relay::start().await;
    let home = relay.client().home().clone();
    put_tenant(relay.client(), "acme", json!({"policy": {"events_per_day": 3}})).await;
    let line = "{\"type\":\"a\",\"data\":1}\n";
    let post = async |client: &Client, lines: usize| {
        let bearer = format!("Bearer {}", client.key);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
        let path = "/v1/tenants/acme/events";
        let answer = client.request(http::Method::POST, path, &headers, line.repeat(lines)).await.unwrap();
        let lines: Vec<Value> =
            answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines
    };
    let answers = post(relay.client(), 2).await;
    assert!(answers.iter().all(|answer| answer["status"] == 202), "{answers:?}");
    relay.kill().await;
    let relay = Relay::start_in(&home, &[]).await;
    let answers = post(relay.client(), 3).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].as_u64().unwrap()).collect();
    // Over midnight UTC the day begins anew.
    assert!(statuses == [202, 429, 429] || statuses == [202, 202, 202], "{statuses:?}");
    if statuses[1] == 429 {
        assert_eq!(answers[1]["code"], "quota_events_day");
        assert!(answers[1]["retry_after"].as_u64().unwrap() <= 86_400);
    }
}

#[tokio::test]
async fn lists_are_filtered_by_the_url_and_answer_partially() {
    let relay = Relay::start().await;
    let client = relay.client();
    client.endpoint_at("http://127.0.0.1:9/", json!({"event_types": ["order.>"]})).await;
    let mut lines = String::new();
    for n in 0..2_500 {
        let (kind, tags) = if n == 3 { ("order.paid", json!(["vip"])) } else { ("user.seen", json!([])) };
        lines += &format!("{}\n", json!({"type": kind, "data": n, "tags": tags, "channels": ["web"]}));
    }
    assert_eq!(client.ndjson(lines).await.0, StatusCode::ACCEPTED);
    let first = client.get("/v1/events?tag=vip").await.json();
    assert_eq!((&first["items"], &first["partial"]), (&json!([]), &json!(true)), "{first}");
    for query in ["tag=vip", "event_types=order.*", "tag=vip&channel=web&since=2020-01-01T00:00:00Z"] {
        let found = client.list(&format!("/v1/events?{query}")).await;
        assert_eq!(found.len(), 1, "{query}");
        assert_eq!(found[0]["type"], "order.paid");
    }
    for query in ["channel=mail", "until=2020-01-01T00:00:00Z", "event_types=order.made,x"] {
        assert_eq!(client.list(&format!("/v1/events?{query}")).await.len(), 0, "{query}");
    }
    for query in ["tag=vip", "channel=web", "event_types=order.paid", "since=2020-01-01T00:00:00Z"] {
        assert_eq!(client.list(&format!("/v1/deliveries?{query}")).await.len(), 1, "{query}");
    }
    for query in ["tag=x", "event_types=user.seen", "status_class=5xx", "until=2020-01-01T00:00:00Z"] {
        assert_eq!(client.list(&format!("/v1/deliveries?{query}")).await.len(), 0, "{query}");
    }
    for (query, why) in [("status_class=9xx", "status_class"), ("since=today", "RFC 3339")] {
        let refused = client.get(&format!("/v1/deliveries?{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(refused.problem().contains(why), "{}", refused.problem());
    }
}
