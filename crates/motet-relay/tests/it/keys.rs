//! API keys with scopes, and the commands that make them.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Client, End, FAIL, Feed, Home, Receiver, Relay, eventually, program, within};

/// Creates a key by the API. Returns a client that uses it, and its id.
async fn with_scopes(admin: &Client, scopes: &[&str]) -> (Client, String) {
    let answer = admin.post("/v1/keys", json!({"scopes": scopes, "name": "test"})).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    let created = answer.json();
    let text = |field: &str| created[field].as_str().unwrap().to_owned();
    (admin.with_key(text("key")), text("id"))
}

/// Runs `motet-relay key` with these arguments.
async fn key(args: &[&str]) -> Output {
    within("the command to end", program().arg("key").args(args).output()).await.unwrap()
}

/// Runs `motet-relay key` on a data directory; it must succeed. Returns its output.
async fn key_in(data: &Path, args: &[&str]) -> String {
    let output = key(&[args, &["--data", data.to_str().unwrap()]].concat()).await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(output: &Output) -> String {
    let message = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    message
}

#[tokio::test]
async fn payloads_and_secrets_are_shown_only_with_their_scopes() {
    let receiver = Receiver::start(|_| FAIL).await;
    let relay = Relay::start_with(&["--max-attempts", "1"]).await;
    let admin = relay.client();
    let (owner, _) = with_scopes(admin, &["manage"]).await;
    let created = owner.post("/v1/endpoints", json!({"url": receiver.url()})).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text());
    // The sender must know the secret that relay has created.
    assert!(created.json()["secret"].as_str().unwrap().starts_with("whsec_"));
    let endpoint = format!("/v1/endpoints/{}", created.json()["id"].as_str().unwrap());
    let event = admin.publish("a.b", json!({"card": 4242})).await;
    let dead = admin.delivery_in_state(&event, "dead").await;
    let delivery = format!("/v1/deliveries/{}", dead["id"].as_str().unwrap());

    let (reader, _) = with_scopes(admin, &["read"]).await;
    let (full, _) = with_scopes(admin, &["read", "read_payload", "secrets"]).await;
    for (client, is_shown) in [(&reader, false), (&full, true), (admin, true)] {
        let read = client.get(&format!("/v1/events/{event}")).await.json();
        assert_eq!((read["type"].as_str(), read.get("data").is_some()), (Some("a.b"), is_shown), "{read}");
        let listed = client.list("/v1/events").await;
        assert_eq!(listed[0].get("data").is_some(), is_shown, "{listed:?}");
        let attempt = &client.get(&delivery).await.json()["attempt_log"][0];
        assert_eq!(attempt.get("response").is_some(), is_shown, "{attempt}");
        assert_eq!(client.get(&endpoint).await.json().get("secret").is_some(), is_shown);
        let mut feed = Feed::open(client, "", None).await;
        let next = admin.publish("a.c", json!({"card": 4243})).await;
        let sent = feed.event().await.unwrap();
        assert_eq!(
            (sent["id"].as_str(), sent.get("data").is_some()),
            (Some(next.as_str()), is_shown),
            "{sent}"
        );
        assert_eq!(sent, client.get(&format!("/v1/events/{next}")).await.json());
    }

    let changed = owner.patch(&endpoint, json!({"event_types": ["a.b"]})).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text());
    assert!(changed.json().get("secret").is_none(), "{}", changed.text());
    for rotation in [json!({"secret": "whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcyE="}), json!({"overlap": 0})] {
        let refused = owner.patch(&endpoint, rotation).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
        assert!(refused.problem().contains("'secrets'"), "{}", refused.problem());
    }
}

#[tokio::test]
async fn key_works_until_it_is_revoked_or_expires() {
    let relay = Relay::start().await;
    let admin = relay.client();
    let (publisher, id) = with_scopes(admin, &["publish"]).await;
    publisher.publish("a", json!(1)).await;
    let refused = publisher.get("/v1/events").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.problem().contains("'read'") && refused.problem().contains(&id), "{}", refused.problem());

    assert_eq!(admin.delete(&format!("/v1/keys/{id}")).await.status, StatusCode::NO_CONTENT);
    let refused = publisher.post("/v1/events", json!({"type": "a", "data": 2})).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.problem().contains("revoked"), "{}", refused.problem());
    // To revoke a key again changes nothing.
    assert_eq!(admin.delete(&format!("/v1/keys/{id}")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(admin.delete("/v1/keys/unknown1").await.status, StatusCode::NOT_FOUND);

    let brief = admin.post("/v1/keys", json!({"scopes": ["read"], "expires_in": 1})).await.json();
    let brief = admin.with_key(brief["key"].as_str().unwrap().to_owned());
    let refused = eventually("the key to expire", || async {
        let answer = brief.get("/v1/events").await;
        (answer.status != StatusCode::OK).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.problem().contains("expired at"), "{}", refused.problem());
}

#[tokio::test]
async fn last_admin_key_of_all_tenants_cannot_be_revoked() {
    let relay = Relay::start().await;
    let admin = relay.client();
    let own = admin.key.split('_').nth(1).unwrap().to_owned();
    // None of these keys can create keys for all tenants.
    with_scopes(admin, &["publish", "read", "read_payload", "manage", "secrets", "replay"]).await;
    let of_one = admin.post("/v1/keys", json!({"scopes": ["admin"], "tenant": "default"})).await;
    assert_eq!(of_one.status, StatusCode::CREATED, "{}", of_one.text());
    let refused = admin.delete(&format!("/v1/keys/{own}")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.problem().contains("last valid key"), "{}", refused.problem());
    assert_eq!(admin.get("/v1/keys").await.status, StatusCode::OK);

    let (second, _) = with_scopes(admin, &["admin"]).await;
    assert_eq!(second.delete(&format!("/v1/keys/{own}")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(admin.get("/v1/keys").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(second.get("/v1/keys").await.status, StatusCode::OK);
}

#[tokio::test]
async fn keys_are_listed_newest_first_without_their_secrets() {
    let relay = Relay::start().await;
    let admin = relay.client();
    for n in 0..5 {
        let new = json!({"scopes": ["read", "publish"], "name": format!("n{n}"), "expires_in": 3_600});
        assert_eq!(admin.post("/v1/keys", new).await.status, StatusCode::CREATED);
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = admin.get(&format!("/v1/keys?limit=2{cursor}")).await;
        assert!(!page.text().contains("rk_"), "{}", page.text());
        let page = page.json();
        names.extend(page["items"].as_array().unwrap().iter().map(|key| key["name"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["n4", "n3", "n2", "n1", "n0", "first"]);
    let newest = &admin.get("/v1/keys?limit=1").await.json()["items"][0];
    assert_eq!(newest["scopes"], json!(["publish", "read"]));
    assert_eq!((&newest["tenant"], &newest["revoked_at"]), (&Value::Null, &Value::Null));
    assert!(newest["expires_at"].is_string());

    for (body, reason) in [
        (json!({"scopes": []}), "publish, read"),
        (json!({"scopes": ["everything"]}), "read_payload"),
        (json!({"scopes": ["read"], "expires_in": 0}), "expired already"),
        (json!({"scopes": ["read"], "name": "x".repeat(257)}), "257 bytes"),
        (json!({"scopes": ["read"], "id": "mine"}), "unknown field `id`"),
    ] {
        let refused = admin.post("/v1/keys", body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text());
        assert!(refused.problem().contains(reason), "{}", refused.problem());
    }
    let refused = admin.post("/v1/keys", json!({"scopes": ["read"], "tenant": "nowhere"})).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND, "{}", refused.text());
    let refused = admin.get("/v1/keys?cursor=unknown1").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text());
}

#[tokio::test]
async fn key_of_one_tenant_sees_and_makes_keys_of_its_tenant_only() {
    let relay = Relay::start().await;
    let admin = relay.client();
    let (_, foreign) = with_scopes(admin, &["read"]).await;
    let own = admin.post("/v1/keys", json!({"scopes": ["admin"], "tenant": "default", "name": "own"})).await;
    let own = admin.with_key(own.json()["key"].as_str().unwrap().to_owned());
    let made = own.post("/v1/keys", json!({"scopes": ["read"], "name": "made"})).await;
    assert_eq!((made.status, &made.json()["tenant"]), (StatusCode::CREATED, &json!("default")));
    let listed: Vec<_> = own.list("/v1/keys").await.into_iter().map(|key| key["name"].clone()).collect();
    assert_eq!(listed, ["made", "own"]);
    assert_eq!(own.delete(&format!("/v1/keys/{foreign}")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(own.get(&format!("/v1/keys?cursor={foreign}")).await.status, StatusCode::BAD_REQUEST);
    // All of relay is not the business of one tenant.
    let refused = own.post("/v1/pause", json!({})).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.problem().contains("all tenants"), "{}", refused.problem());
    // The key can revoke itself: the keys of all tenants remain.
    let id = own.key.split('_').nth(1).unwrap().to_owned();
    assert_eq!(own.delete(&format!("/v1/keys/{id}")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(own.get("/v1/keys").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn key_of_one_tenant_names_no_other_tenant() {
    let relay = Relay::start().await;
    let admin = relay.client();
    for tenant in ["acme", "globex"] {
        assert_eq!(admin.put(&format!("/v1/tenants/{tenant}"), json!({})).await.status, StatusCode::CREATED);
    }
    let scopes = ["publish", "read", "read_payload", "manage", "replay", "admin"];
    let made = admin.post("/v1/keys", json!({"scopes": scopes, "tenant": "acme"})).await.json();
    let acme = admin.with_key(made["key"].as_str().unwrap().to_owned());
    // The short form is for the tenant of the key, and for `default` with a key of all tenants.
    let own = acme.publish("a", json!(1)).await;
    let of_default = admin.publish("a", json!(2)).await;
    assert_eq!(acme.list("/v1/events").await[0]["id"], own.as_str());
    assert_eq!(admin.list("/v1/events").await[0]["id"], of_default.as_str());
    for (path, status) in [
        (format!("/v1/events/{own}"), 200),
        (format!("/v1/tenants/acme/events/{own}"), 200),
        ("/v1/events?tenant=acme".to_owned(), 200),
        ("/v1/tenants/acme".to_owned(), 200),
        (format!("/v1/events/{of_default}"), 404),
        ("/v1/events?tenant=globex".to_owned(), 404),
        ("/v1/events?tenant=nowhere".to_owned(), 404),
        ("/v1/events?tenant=*".to_owned(), 403),
        ("/v1/keys?tenant=globex".to_owned(), 404),
        ("/v1/tenants/globex".to_owned(), 404),
        ("/v1/tenants/globex/events".to_owned(), 404),
        ("/v1/tenants".to_owned(), 403),
    ] {
        let answer = acme.get(&path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
    }
    // An administrator of one tenant changes no quota.
    let refused = acme.patch("/v1/tenants/acme", json!({"policy": {}})).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
    let refused = acme.put("/v1/tenants/initech", json!({})).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND, "{}", refused.text());
    let refused = acme.post("/v1/keys", json!({"scopes": ["read"], "tenant": "globex"})).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND, "{}", refused.text());
    // The routes of Svix's clients need a key for everything.
    for (client, status) in [(&acme, 403), (&with_scopes(admin, &["read"]).await.0, 403), (admin, 200)] {
        let answer = client.get("/api/v1/app").await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    }
    // The page shows all tenants.
    let page = async |key: &str| {
        let basic = format!("Basic {}", STANDARD.encode(format!("anyone:{key}")));
        acme.request(Method::GET, "/", &[("authorization", basic.as_str())], "").await.unwrap().status
    };
    assert_eq!(page(&acme.key).await, StatusCode::FORBIDDEN);
    assert_eq!(page(&with_scopes(admin, &["publish"]).await.0.key).await, StatusCode::FORBIDDEN);
    assert_eq!(page(&with_scopes(admin, &["read"]).await.0.key).await, StatusCode::OK);
}

#[tokio::test]
async fn keys_of_a_deleted_tenant_are_refused_at_once() {
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    let admin = relay.client();
    admin.put("/v1/tenants/acme", json!({})).await;
    let made = admin.post("/v1/keys", json!({"scopes": ["read"], "tenant": "acme"})).await.json();
    let acme = admin.with_key(made["key"].as_str().unwrap().to_owned());
    let mut feed = Feed::open(&acme, "", None).await;
    assert_eq!(admin.delete("/v1/tenants/acme").await.status, StatusCode::OK);
    assert_eq!(acme.get("/v1/events").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(feed.event().await, Err(End::InOrder));
    // Another tenant with the same id has none of its keys.
    assert_eq!(admin.put("/v1/tenants/acme", json!({})).await.status, StatusCode::CREATED);
    assert_eq!(acme.get("/v1/events").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(admin.list("/v1/keys?tenant=acme").await, Vec::<Value>::new());
    relay.stop().await;
    let relay = Relay::start_in(&home, &[]).await;
    let acme = relay.client().with_key(acme.key);
    assert_eq!(acme.get("/v1/events").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn feed_ends_when_its_key_is_revoked() {
    let relay = Relay::start().await;
    let admin = relay.client();
    let (reader, id) = with_scopes(admin, &["read"]).await;
    let mut feed = Feed::open(&reader, "", None).await;
    let event = admin.publish("a", json!(1)).await;
    assert_eq!(feed.event().await.unwrap()["id"], event);
    admin.delete(&format!("/v1/keys/{id}")).await;
    assert_eq!(feed.event().await, Err(End::InOrder));
}

#[tokio::test]
async fn command_reaches_a_running_relay_a_stopped_one_and_a_server() {
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    let data = home.data();

    // By the socket, without a key.
    let made = key_in(&data, &["create", "--scope", "admin", "--name", "by socket"]).await;
    let by_socket = relay.client().with_key(made.trim().to_owned());
    assert_eq!(by_socket.get("/v1/keys").await.status, StatusCode::OK);

    // By the URL, with a key in the environment.
    let url = format!("http://{}/", by_socket.address);
    let mut command = program();
    command.args(["key", "create", "--scope", "read", "--json", "--server", &url]);
    let output = command.env("RELAY_KEY", &by_socket.key).output();
    let output = within("the command to end", output).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(made["scopes"], json!(["read"]));
    let by_url = relay.client().with_key(made["key"].as_str().unwrap().to_owned());
    assert_eq!(by_url.get("/v1/events").await.status, StatusCode::OK);
    // With a key that may not create keys.
    let refused = key(&["list", "--server", &url, "--key", &by_url.key]).await;
    assert!(refusal(&refused).contains("'admin'"), "{}", refusal(&refused));
    let mut nameless = program();
    nameless.args(["key", "list", "--server", &url]).env_remove("RELAY_KEY");
    assert!(refusal(&nameless.output().await.unwrap()).contains("RELAY_KEY"));

    relay.stop().await;
    assert!(!data.join("control.sock").exists());
    // By the store itself.
    let revoked = key_in(&data, &["revoke", by_socket.key.split('_').nth(1).unwrap()]).await;
    assert!(revoked.contains("revoked"), "{revoked}");
    let table = key_in(&data, &["list"]).await;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].starts_with("ID") && lines[0].contains("LAST USED"), "{table}");
    assert!(lines[2].contains("by socket") && lines[2].ends_with("revoked"), "{table}");
    let listed: Vec<Value> = serde_json::from_str(&key_in(&data, &["list", "--json"]).await).unwrap();
    // The uses were stored at the shutdown.
    let used: Vec<_> = listed.iter().map(|key| key["last_used_on"].is_string()).collect();
    assert_eq!(used, [true, true, false], "{listed:?}");

    let relay = Relay::start_in(&home, &[]).await;
    let refused = relay.client().with_key(by_socket.key).get("/v1/keys").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(relay.client().with_key(by_url.key).get("/v1/events").await.status, StatusCode::OK);
}

#[tokio::test]
async fn command_reaches_the_relay_after_a_killed_one() {
    let relay = Relay::start().await;
    let home = Arc::clone(relay.client().home());
    // The first key is stored once relay serves.
    relay.client().publish("a", json!({})).await;
    relay.kill().await;
    // The socket of the killed process remains, and nothing listens on it.
    assert!(home.data().join("control.sock").exists());
    key_in(&home.data(), &["create", "--scope", "read"]).await;
    let relay = Relay::start_in(&home, &[]).await;
    key_in(&home.data(), &["create", "--scope", "read"]).await;
    assert_eq!(relay.client().list("/v1/keys").await.len(), 3);
}

#[tokio::test]
async fn relay_works_without_a_socket_if_its_path_is_too_long() {
    let home = Home::at("directory/".repeat(12).as_ref());
    let relay = Relay::start_in(&home, &[]).await;
    relay.log_line("no control socket").await;
    relay.client().publish("works", json!({})).await;
    let data = home.data();
    let refused = key(&["list", "--data", data.to_str().unwrap()]).await;
    assert!(refusal(&refused).contains("--server"), "{}", refusal(&refused));
    let url = format!("http://{}", relay.client().address);
    let listed = key(&["list", "--server", &url, "--key", &relay.client().key]).await;
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    relay.stop().await;
    assert!(key_in(&data, &["list"]).await.contains("first"));
}

#[tokio::test]
async fn command_needs_an_existing_store() {
    let home = Home::new();
    let refused = key(&["list", "--data", home.data().to_str().unwrap()]).await;
    assert!(refusal(&refused).contains("there is no store"), "{}", refusal(&refused));
    assert!(!home.data().exists(), "the command created a data directory");
}

#[tokio::test]
async fn replaced_command_names_its_successor() {
    for args in [&["rotate-key"][..], &["rotate-key", "--data", "somewhere"]] {
        let output = within("the command to end", program().args(args).output()).await.unwrap();
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("key create --scope admin"), "{message}");
    }
}
