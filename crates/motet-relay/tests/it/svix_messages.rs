//! `/api/v1`: messages, their attempts, and what receivers get.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Act, Client, FAIL, OK, Receiver, Relay, eventually};
use crate::svix_endpoints::endpoint;

/// Creates a message. Returns it.
async fn message(client: &Client, mut more: Value) -> Value {
    if more["payload"].is_null() {
        more["payload"] = json!({"n": 1});
    }
    let made = client.post("/api/v1/app/a/msg", more).await;
    assert_eq!(made.status, StatusCode::ACCEPTED, "{}", made.text());
    made.json()
}

fn ids(list: &Value) -> Vec<String> {
    list["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn receivers_get_the_raw_payload_and_svix_headers() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    endpoint(client, &receiver.url(), json!({})).await;
    let key = format!("Bearer {}", client.key);
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    // The bytes of the payload stay as they are.
    let payload = r#"{ "z":1.0, "a" : 12345678901234567890 }"#;
    let body = format!(r#"{{"eventType":"user-account.created","payload":{payload}}}"#);
    let made = client.request(Method::POST, "/api/v1/app/a/msg", &headers, body).await.unwrap();
    assert_eq!(made.status, StatusCode::ACCEPTED, "{}", made.text());
    assert!(made.text().contains(payload), "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let hits = receiver.hits_at_least(1).await;
    assert_eq!(hits[0].body, payload);
    assert_eq!(hits[0].headers["svix-id"], id);
    assert!(hits[0].headers.contains_key("svix-timestamp") && hits[0].headers.contains_key("svix-signature"));
    assert!(!hits[0].headers.contains_key("webhook-id"));

    // A tenant of the other API keeps its envelope, unless its policy sets another body.
    let path = "/v1/tenants/b";
    client.put(path, json!({"policy": {"body": "data"}})).await;
    client.post(&format!("{path}/endpoints"), json!({"url": receiver.url()})).await;
    client.post(&format!("{path}/events"), json!({"type": "a", "data": [1]})).await;
    let hits = receiver.hits_at_least(2).await;
    assert_eq!(hits[1].body, "[1]");
    assert!(hits[1].headers.contains_key("webhook-id"));
    client.patch(path, json!({"policy": {"body": null, "header_prefix": "svix"}})).await;
    client.post(&format!("{path}/events"), json!({"type": "a", "data": [2]})).await;
    let hits = receiver.hits_at_least(3).await;
    assert_eq!((&hits[2].json()["data"], &hits[2].json()["type"]), (&json!([2]), &json!("a")));
    assert!(hits[2].headers.contains_key("svix-id"));
    // Such an event is an object in this API.
    let listed = client.get("/api/v1/app/b/msg").await.json();
    assert_eq!(listed["data"][0]["payload"], json!({"data": [2]}));
}

#[tokio::test]
async fn message_is_found_by_its_id_its_alias_and_its_event_id() {
    let relay = Relay::start().await;
    let client = relay.client();
    let application = json!({"name": "a", "uid": "a"});
    let new = json!({
        "eventType": "a.b", "eventId": "order-1", "channels": ["c1"], "tags": ["t1"], "payload": {"x": [1, 2]},
        "payloadRetentionPeriod": 90, "application": application,
    });
    let made = message(client, new.clone()).await;
    assert_eq!(made["eventId"], "order-1");
    assert_eq!((&made["channels"], &made["tags"]), (&json!(["c1"]), &json!(["t1"])));
    assert_eq!(made["payload"], json!({"x": [1, 2]}));
    let id = made["id"].as_str().unwrap();
    for name in [id, &id.replace("evt_", "msg_"), "order-1"] {
        let path = format!("/api/v1/app/a/msg/{name}");
        assert_eq!(client.get(&path).await.json(), made);
        assert_eq!(client.get(&format!("{path}?with_content=false")).await.json()["payload"], json!({}));
    }
    let duplicate = client.post("/api/v1/app/a/msg", new.clone()).await;
    assert_eq!((duplicate.status, &duplicate.json()["code"]), (StatusCode::CONFLICT, &json!("conflict")));
    client.post("/api/v1/app", json!({"name": "b", "uid": "b"})).await;
    for name in [id, "order-1"] {
        let foreign = client.get(&format!("/api/v1/app/b/msg/{name}")).await;
        assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    }
    let without = client
        .post("/api/v1/app/a/msg?with_content=false", json!({"eventType": "a", "payload": {"x": 1}}))
        .await;
    assert_eq!(without.json()["payload"], json!({}));
    assert_eq!(client.home().count("SELECT keep_ms FROM events WHERE uid = 'order-1'"), 90 * 86_400_000);
}

#[tokio::test]
async fn repeated_idempotency_key_returns_the_first_message() {
    let relay = Relay::start().await;
    let client = relay.client();
    client.post("/api/v1/app", json!({"name": "a", "uid": "a"})).await;
    let key = format!("Bearer {}", client.key);
    let send = |idempotency_key: &'static str, n: u32| {
        let body = json!({"eventType": "a", "payload": {"n": n}}).to_string();
        let headers = [
            ("authorization", key.clone()),
            ("content-type", "application/json".to_owned()),
            ("idempotency-key", idempotency_key.to_owned()),
        ];
        async move {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            client.request(Method::POST, "/api/v1/app/a/msg", &headers, body).await.unwrap()
        }
    };
    let first = send("auto_1", 1).await;
    let again = send("auto_1", 1).await;
    assert_eq!((again.status, again.json()), (StatusCode::ACCEPTED, first.json()));
    assert_eq!(send("auto_1", 2).await.status, StatusCode::CONFLICT);
    assert_ne!(send("auto_2", 1).await.json()["id"], first.json()["id"]);
}

#[tokio::test]
async fn messages_are_listed_newest_first_and_filtered() {
    let relay = Relay::start().await;
    let client = relay.client();
    client.post("/api/v1/app", json!({"name": "a", "uid": "a"})).await;
    let mut made = Vec::new();
    for (event_type, channel, tag) in [("a.b", "c1", "t1"), ("a.c", "c2", "t2"), ("a-d", "c1", "t2")] {
        let new = json!({"eventType": event_type, "channels": [channel], "tags": [tag]});
        made.push(message(client, new).await["id"].as_str().unwrap().to_owned());
    }
    let [first, second, third] = made.try_into().unwrap();
    for (query, expected) in [
        ("", vec![&third, &second, &first]),
        ("?event_types=a.b,a-d", vec![&third, &first]),
        ("?event_types[]=a.b&event_types[]=a.c", vec![&second, &first]),
        ("?channel=c1", vec![&third, &first]),
        ("?tag=t2", vec![&third, &second]),
        ("?before=2020-01-01T00:00:00Z", vec![]),
        ("?after=2020-01-01T00:00:00Z&tag=t1", vec![&first]),
    ] {
        let list = client.get(&format!("/api/v1/app/a/msg{query}")).await.json();
        assert_eq!(ids(&list).iter().collect::<Vec<_>>(), expected, "{query}");
        assert_eq!(list["done"], true);
        assert_eq!(list["iterator"].as_str(), expected.last().map(|id| id.as_str()), "{query}");
    }
    let page = client.get("/api/v1/app/a/msg?limit=2").await.json();
    assert_eq!((ids(&page), &page["done"]), (vec![third, second], &json!(false)));
    let path = format!("/api/v1/app/a/msg?limit=2&iterator={}", page["iterator"].as_str().unwrap());
    let page = client.get(&path).await.json();
    assert_eq!((ids(&page), &page["done"]), (vec![first], &json!(true)));
}

#[tokio::test]
async fn attempts_are_listed_by_message_and_by_endpoint() {
    let receiver = Receiver::start(|hit| if hit.nth == 1 { FAIL } else { OK }).await;
    let relay = Relay::start().await;
    let client = relay.client();
    let endpoint_id = endpoint(client, &receiver.url(), json!({"uid": "e"})).await["id"].clone();
    let made = message(client, json!({"eventType": "a.b", "tags": ["t"]})).await;
    let id = made["id"].as_str().unwrap();
    let by_message = format!("/api/v1/app/a/attempt/msg/{id}");
    let list = eventually("two attempts", || async {
        let list = client.get(&by_message).await.json();
        (list["data"].as_array().unwrap().len() == 2).then_some(list)
    })
    .await;
    let [newest, oldest] = list["data"].as_array().unwrap().as_slice() else { panic!("{list}") };
    assert_eq!((&newest["status"], &newest["statusText"]), (&json!(0), &json!("success")));
    assert_eq!((&oldest["status"], &oldest["statusText"]), (&json!(2), &json!("fail")));
    assert_eq!((&oldest["responseStatusCode"], &oldest["response"]), (&json!(500), &json!("seen")));
    assert_eq!((&oldest["msgId"], &oldest["endpointId"]), (&json!(id), &endpoint_id));
    assert_eq!((&oldest["triggerType"], &oldest["url"]), (&json!(0), &json!(receiver.url())));
    let [newest, oldest] = [newest, oldest].map(|attempt| attempt["id"].as_str().unwrap().to_owned());

    let by_endpoint = "/api/v1/app/a/attempt/endpoint/e";
    let old_path = format!("/api/v1/app/a/msg/{id}/attempt");
    for path in [by_message.as_str(), by_endpoint, &old_path] {
        for (query, expected) in [
            ("", vec![&newest, &oldest]),
            ("?status=0", vec![&newest]),
            ("?status=2", vec![&oldest]),
            ("?status=3", vec![]),
            ("?status_code_class=500", vec![&oldest]),
            ("?status_code_class=400", vec![]),
            ("?event_types=a.b", vec![&newest, &oldest]),
            ("?event_types=a.c", vec![]),
            ("?tag=t&expanded_statuses=true", vec![&newest, &oldest]),
            ("?channel=c", vec![]),
            ("?before=2020-01-01T00:00:00Z", vec![]),
            ("?limit=1", vec![&newest]),
        ] {
            let list = client.get(&format!("{path}{query}")).await.json();
            assert_eq!(ids(&list).iter().collect::<Vec<_>>(), expected, "{path}{query}");
            assert_eq!(list["done"], query != "?limit=1", "{path}{query}");
        }
        let page = client.get(&format!("{path}?limit=1&iterator={newest}")).await.json();
        assert_eq!((ids(&page), &page["done"]), (vec![oldest.clone()], &json!(true)));
        let back = client.get(&format!("{path}?limit=1&iterator=-{oldest}")).await.json();
        assert_eq!(ids(&back), std::slice::from_ref(&newest));
        let with = client.get(&format!("{path}?with_msg=true&with_content=false")).await.json();
        assert_eq!((&with["data"][1]["msg"]["id"], &with["data"][1]["response"]), (&json!(id), &json!("")));
    }
    assert_eq!(ids(&client.get(&format!("{by_message}?endpoint_id=e")).await.json()).len(), 2);
    let one = client.get(&format!("/api/v1/app/a/msg/{id}/attempt/{oldest}")).await.json();
    assert_eq!(one["id"], oldest);

    let of_endpoint = client.get("/api/v1/app/a/endpoint/e/msg").await.json();
    assert_eq!((ids(&of_endpoint), &of_endpoint["data"][0]["status"]), (vec![id.to_owned()], &json!(0)));
    assert_eq!(of_endpoint["data"][0]["payload"], json!({"n": 1}));
    for status in [1, 2, 3, 4] {
        let other = client.get(&format!("/api/v1/app/a/endpoint/e/msg?status={status}")).await.json();
        assert_eq!((&other["data"], &other["done"]), (&json!([]), &json!(true)));
    }
    let of_message = client.get(&format!("/api/v1/app/a/msg/{id}/endpoint")).await.json();
    let [only] = of_message["data"].as_array().unwrap().as_slice() else { panic!("{of_message}") };
    assert_eq!((&only["id"], &only["statusText"]), (&endpoint_id, &json!("success")));
}

#[tokio::test]
async fn resend_also_sends_a_message_from_before_the_endpoint() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    client.post("/api/v1/app", json!({"name": "a", "uid": "a"})).await;
    let made = message(client, json!({"eventType": "a.b"})).await;
    let id = made["id"].as_str().unwrap();
    endpoint(client, &receiver.url(), json!({"uid": "e"})).await;
    let path = format!("/api/v1/app/a/msg/{id}/endpoint/e/resend");
    for count in 1..=2 {
        let resent = client.post(&path, json!({})).await;
        assert_eq!((resent.status, resent.json()), (StatusCode::ACCEPTED, json!({})));
        receiver.hits_at_least(count).await;
    }
    let list = eventually("both attempts", || async {
        let list = client.get("/api/v1/app/a/attempt/endpoint/e").await.json();
        (list["data"].as_array().unwrap().len() == 2).then_some(list)
    })
    .await;
    assert_eq!(list["data"][0]["triggerType"], 1);
    let unknown = client.post(&path.replace("/e/", "/f/"), json!({})).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn precheck_answers_whether_any_endpoint_takes_the_message() {
    let relay = Relay::start().await;
    let client = relay.client();
    endpoint(client, "https://example.com/", json!({"uid": "e", "filterTypes": ["a"], "channels": ["c"]}))
        .await;
    for (body, active) in [
        (json!({"eventType": "a", "channels": ["c"]}), true),
        (json!({"eventType": "a"}), false),
        (json!({"eventType": "b", "channels": ["c"]}), false),
    ] {
        let answer = client.post("/api/v1/app/a/msg/precheck/active", body.clone()).await;
        assert_eq!(answer.json(), json!({"active": active}), "{body}");
    }
    client.patch("/api/v1/app/a/endpoint/e", json!({"disabled": true})).await;
    let answer =
        client.post("/api/v1/app/a/msg/precheck/active", json!({"eventType": "a", "channels": ["c"]})).await;
    assert_eq!(answer.json(), json!({"active": false}));
}

#[tokio::test]
async fn burst_waits_for_its_turn_before_it_is_refused() {
    let relay = Relay::start().await;
    let client = relay.client();
    client.post("/api/v1/app", json!({"name": "a", "uid": "a"})).await;
    let policy = json!({"policy": {"events_per_second": 2, "events_burst": 1}});
    assert_eq!(client.patch("/v1/tenants/a", policy).await.status, StatusCode::OK);
    // The second message waits for half a second.
    message(client, json!({"eventType": "a"})).await;
    message(client, json!({"eventType": "a"})).await;
    let policy = json!({"policy": {"events_per_second": 1, "events_burst": 1, "events_per_day": 3}});
    client.patch("/v1/tenants/a", policy).await;
    message(client, json!({"eventType": "a"})).await;
    let refused = client.post("/api/v1/app/a/msg", json!({"eventType": "a", "payload": {}})).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.json()["code"], "quota_events_day");
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn pages_of_large_payloads_are_short_and_continue() {
    let receiver = Receiver::start(|_| FAIL).await;
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    let client = relay.client();
    endpoint(client, &receiver.url(), json!({"uid": "e"})).await;
    let mut ids = Vec::new();
    for _ in 0..18 {
        let large = message(client, json!({"eventType": "a", "payload": {"x": "y".repeat(200 << 10)}})).await;
        ids.insert(0, large["id"].as_str().unwrap().to_owned());
    }
    eventually("all attempts", || async {
        let list = client.get("/api/v1/app/a/attempt/endpoint/e?limit=250").await.json();
        (list["data"].as_array().unwrap().len() == ids.len()).then_some(())
    })
    .await;
    for (path, id, most) in
        [("endpoint/e/msg?limit=250", "id", 7), ("attempt/endpoint/e?limit=250&with_msg=true", "msgId", 16)]
    {
        let (mut found, mut iterator) = (Vec::new(), String::new());
        loop {
            let page = client.get(&format!("/api/v1/app/a/{path}{iterator}")).await;
            assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text());
            let page = page.json();
            let rows = page["data"].as_array().unwrap();
            assert!(rows.len() <= most, "{path}: a page has {}", rows.len());
            found.extend(rows.iter().map(|row| row[id].as_str().unwrap().to_owned()));
            if page["done"] == true {
                break;
            }
            iterator = format!("&iterator={}", page["iterator"].as_str().unwrap());
        }
        found.sort();
        let mut expected = ids.clone();
        expected.sort();
        assert_eq!(found, expected, "{path}");
    }
}

#[tokio::test]
async fn contents_are_erased_and_the_rows_stay() {
    let receiver = Receiver::start(|_| {
        Act::AnswerWith(StatusCode::INTERNAL_SERVER_ERROR, "x-echo", "secret".to_owned())
    })
    .await;
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    let client = relay.client();
    endpoint(client, &receiver.url(), json!({"uid": "e"})).await;
    let first = message(client, json!({"eventType": "a", "eventId": "first"})).await;
    let second = message(client, json!({"eventType": "a"})).await;
    let [first, second] = [&first, &second].map(|made| made["id"].as_str().unwrap());
    let attempts = eventually("both attempts", || async {
        let list = client.get("/api/v1/app/a/attempt/endpoint/e").await.json();
        (list["data"].as_array().unwrap().len() == 2).then_some(list)
    })
    .await;
    let attempt = attempts["data"][1]["id"].as_str().unwrap();
    let content = format!("/api/v1/app/a/msg/first/attempt/{attempt}/content");
    assert_eq!(client.delete(&content).await.status, StatusCode::NO_CONTENT);
    let other = format!("/api/v1/app/a/msg/{second}/attempt/{attempt}/content");
    assert_eq!(client.delete(&other).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        client.get(&format!("/api/v1/app/a/msg/first/attempt/{attempt}")).await.json()["response"],
        ""
    );

    assert_eq!(client.delete("/api/v1/app/a/msg/first/content").await.status, StatusCode::NO_CONTENT);
    let erased = client.get("/api/v1/app/a/msg/first").await.json();
    assert_eq!((&erased["id"], &erased["payload"]), (&json!(first), &json!({"expired": true})));
    let shown = client.get(&format!("/v1/tenants/a/events/{first}")).await.json();
    assert_eq!((&shown["erased"], shown.get("data")), (&json!(true), None));
    let resend = client.post("/api/v1/app/a/msg/first/endpoint/e/resend", json!({})).await;
    assert_eq!((resend.status, &resend.json()["code"]), (StatusCode::CONFLICT, &json!("erased")));
    let replay = client.post("/v1/tenants/a/replays?dry_run=true", json!({"mode": "all"})).await.json();
    assert_eq!(replay["planned"], 1, "the erased message is not sent again: {replay}");

    let bulk = json!({"ids": ["first", second, "unknown"]});
    let bulk = client.post("/api/v1/app/a/msg/bulk-expunge", bulk).await;
    let expected = json!({"first": "expunged", second: "expunged", "unknown": "not-found"});
    assert_eq!((bulk.status, &bulk.json()["results"]), (StatusCode::OK, &expected));
    let many = json!({"ids": vec!["x"; 65]});
    let refused = client.post("/api/v1/app/a/msg/bulk-expunge", many).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);

    let all = client.post("/api/v1/app/a/msg/expunge-all-contents", json!({})).await;
    assert_eq!(
        (all.status, &all.json()["task"]),
        (StatusCode::ACCEPTED, &json!("application.purge_content"))
    );
    let task = format!("/api/v1/background-task/{}", all.json()["id"].as_str().unwrap());
    eventually("the task to finish", || async {
        (client.get(&task).await.json()["status"] == "finished").then_some(())
    })
    .await;
    assert_eq!(client.get("/api/v1/app/a/msg/first").await.status, StatusCode::OK, "it keeps its eventId");

    // The route of /v1
    let third = message(client, json!({"eventType": "a"})).await;
    let path = format!("/v1/tenants/a/events/{}", third["id"].as_str().unwrap());
    assert_eq!(client.delete(&format!("{path}/data")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(client.get(&path).await.json()["erased"], true);
    let listed = client.list("/v1/tenants/a/events").await;
    assert!(listed.len() == 3 && listed.iter().all(|event| event["erased"] == true), "{listed:?}");
}

#[tokio::test]
async fn example_of_an_event_type_is_sent_to_one_endpoint() {
    let receiver = Receiver::accepting().await;
    let other = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    endpoint(client, &receiver.url(), json!({"uid": "e", "filterTypes": ["other"]})).await;
    endpoint(client, &other.url(), json!({"uid": "f"})).await;
    let schemas = json!({"1": {"type": "object", "examples": [{"n": 1}, {"n": 2}]}});
    let made = client
        .post("/api/v1/event-type", json!({"name": "a.b", "description": "d", "schemas": schemas}))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let path = "/api/v1/app/a/endpoint/e/send-example";
    let sent = client.post(path, json!({"eventType": "a.b", "exampleIndex": 1})).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.text());
    assert_eq!((&sent.json()["payload"], &sent.json()["eventType"]), (&json!({"n": 2}), &json!("a.b")));
    let hit = receiver.hits_at_least(1).await.remove(0);
    assert_eq!((hit.id(), hit.json()), (sent.json()["id"].as_str().unwrap().to_owned(), json!({"n": 2})));
    let list = eventually("the attempt", || async {
        let list = client.get("/api/v1/app/a/attempt/endpoint/e").await.json();
        (list["data"].as_array().unwrap().len() == 1).then_some(list)
    })
    .await;
    assert_eq!(list["data"][0]["triggerType"], 1, "it is manual");
    assert_eq!(other.hits().len(), 0);
    for refused in [json!({"eventType": "a.b", "exampleIndex": 2}), json!({"eventType": "unknown"})] {
        let answer = client.post(path, refused.clone()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}: {}", answer.text());
    }
}
