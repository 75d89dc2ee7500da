//! `/api/v1`: applications, event types and sessions of the portal.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Relay;
use crate::svix_errors::invalid_field;

#[tokio::test]
async fn application_is_named_by_its_id_or_its_uid() {
    let relay = Relay::start().await;
    let client = relay.client();
    let made =
        client.post("/api/v1/app", json!({"name": "Acme", "uid": "acme", "metadata": {"a": "b"}})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let app = made.json();
    let id = app["id"].as_str().unwrap();
    assert!(id.starts_with("app_"), "{app}");
    assert_eq!(
        (&app["uid"], &app["name"], &app["metadata"]),
        (&json!("acme"), &json!("Acme"), &json!({"a": "b"}))
    );
    for name in [id, "acme"] {
        assert_eq!(client.get(&format!("/api/v1/app/{name}")).await.json(), app);
    }
    let again = json!({"name": "Other", "uid": "acme"});
    assert_eq!(client.post("/api/v1/app", again.clone()).await.status, StatusCode::CONFLICT);
    let same = client.post("/api/v1/app?get_if_exists=true", again).await;
    assert_eq!((same.status, same.json()), (StatusCode::OK, app.clone()));

    // The tenant is the same in the other API.
    assert_eq!(client.get("/v1/tenants/acme").await.json()["name"], "Acme");

    let patched = client.patch(&format!("/api/v1/app/{id}"), json!({"uid": null})).await;
    assert_eq!((patched.status, &patched.json()["uid"]), (StatusCode::OK, &Value::Null));
    assert_eq!(patched.json()["name"], "Acme");
    assert_eq!(client.get("/api/v1/app/acme").await.status, StatusCode::NOT_FOUND);
    let patched = client.patch(&format!("/api/v1/app/{id}"), json!({"uid": "acme-2", "name": "A"})).await;
    assert_eq!(patched.json()["id"], id);
    assert_eq!(client.get("/api/v1/app/acme-2").await.json()["name"], "A");
    client.post("/api/v1/app", json!({"name": "b", "uid": "b"})).await;
    let taken = client.patch(&format!("/api/v1/app/{id}"), json!({"uid": "b"})).await;
    assert_eq!(taken.status, StatusCode::CONFLICT, "{}", taken.text());

    let put = client.put("/api/v1/app/new", json!({"name": "New"})).await;
    assert_eq!((put.status, &put.json()["uid"]), (StatusCode::CREATED, &json!("new")));
    let put = client.put("/api/v1/app/new", json!({"name": "Newer", "uid": "new"})).await;
    assert_eq!((put.status, &put.json()["name"]), (StatusCode::OK, &json!("Newer")));

    assert_eq!(client.delete("/api/v1/app/new").await.status, StatusCode::NO_CONTENT);
    assert_eq!(client.get("/api/v1/app/new").await.status, StatusCode::NOT_FOUND);
    assert_eq!(client.delete("/api/v1/app/default").await.status, StatusCode::CONFLICT);
    // The uid is free again, and names another application.
    let next = client.post("/api/v1/app", json!({"name": "Next", "uid": "new"})).await.json();
    assert_ne!(next["id"], put.json()["id"]);
}

#[tokio::test]
async fn lists_are_read_forwards_and_backwards_in_pages() {
    let relay = Relay::start().await;
    let client = relay.client();
    for name in ["a", "b", "c", "d", "e"] {
        client.post("/api/v1/app", json!({"name": name, "uid": name})).await;
        client.post("/api/v1/event-type", json!({"name": name, "description": name})).await;
    }
    for (path, first) in [("app", "default"), ("event-type", "")] {
        let names = |page: &Value| -> Vec<String> {
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let all: Vec<&str> =
            [first, "a", "b", "c", "d", "e"].into_iter().filter(|name| !name.is_empty()).collect();
        let mut seen = Vec::new();
        let mut iterator = String::new();
        let mut pages = Vec::new();
        loop {
            let page = client.get(&format!("/api/v1/{path}?limit=2{iterator}")).await.json();
            seen.extend(names(&page));
            iterator = format!("&iterator={}", page["iterator"].as_str().unwrap());
            pages.push(page.clone());
            if page["done"] == true {
                break;
            }
        }
        assert_eq!(seen, all);
        // Back from the second page to the first one.
        let back = pages[1]["prevIterator"].as_str().unwrap();
        let page = client.get(&format!("/api/v1/{path}?limit=2&iterator={back}")).await.json();
        assert_eq!(names(&page), names(&pages[0]));
        let descending = client.get(&format!("/api/v1/{path}?order=descending")).await.json();
        assert_eq!(names(&descending), all.into_iter().rev().collect::<Vec<_>>());
    }
    let empty = client.get("/api/v1/app/a/endpoint").await.json();
    assert_eq!(empty, json!({"data": [], "iterator": null, "prevIterator": null, "done": true}));
}

#[tokio::test]
async fn paths_may_end_with_a_slash_or_begin_with_two() {
    let relay = Relay::start().await;
    let client = relay.client();
    for path in ["/api/v1/app", "/api/v1/app/", "//api/v1/app", "//api/v1/app/"] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    }
    for path in ["/api/v1/health", "//api/v1/health/"] {
        for method in [Method::GET, Method::HEAD] {
            let answer = client.request(method, path, &[], "").await.unwrap();
            assert_eq!(answer.status, StatusCode::NO_CONTENT, "{path}");
        }
    }
    assert_eq!(client.get("/api/v1/background-task").await.json()["data"], json!([]));
    assert_eq!(client.get("/api/v1/background-task/qtask_1").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn event_types_are_archived_and_revived() {
    let relay = Relay::start().await;
    let client = relay.client();
    let new =
        json!({"name": "user-account.signed_up", "description": "d", "schemas": {"1": {"type": "object"}}});
    let made = client.post("/api/v1/event-type", new.clone()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    assert_eq!(client.post("/api/v1/event-type", new.clone()).await.status, StatusCode::CONFLICT);
    let path = "/api/v1/event-type/user-account.signed_up";
    assert_eq!(client.get(path).await.json(), made.json());
    let listed = client.get("/api/v1/event-type").await.json();
    assert_eq!(listed["data"][0]["schemas"], Value::Null);
    let listed = client.get("/api/v1/event-type?with_content=true").await.json();
    assert_eq!(listed["data"][0]["schemas"], new["schemas"]);

    let patched =
        client.patch(path, json!({"deprecated": true, "groupName": "users", "schemas": null})).await.json();
    assert_eq!((&patched["deprecated"], &patched["groupName"]), (&json!(true), &json!("users")));
    assert_eq!((&patched["schemas"], &patched["description"]), (&Value::Null, &json!("d")));

    assert_eq!(client.delete(path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(client.get("/api/v1/event-type").await.json()["data"], json!([]));
    let archived = client.get("/api/v1/event-type?include_archived=true").await.json();
    assert_eq!(archived["data"][0]["archived"], true);
    let revived = client.post("/api/v1/event-type", new).await;
    assert_eq!((revived.status, &revived.json()["archived"]), (StatusCode::CREATED, &json!(false)));
    assert_eq!(client.delete(&format!("{path}?expunge=true")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(client.get(path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(client.patch(path, json!({})).await.status, StatusCode::NOT_FOUND);
    let put = client.put(path, json!({"description": "again"})).await;
    assert_eq!((put.status, &put.json()["description"]), (StatusCode::CREATED, &json!("again")));
}

#[tokio::test]
async fn portal_access_makes_a_session_that_logout_ends() {
    let relay = Relay::start().await;
    let client = relay.client();
    let body = json!({"application": {"name": "a", "uid": "a"}, "expiry": 3_600, "sessionId": "s1"});
    let access = client.post("/api/v1/auth/app-portal-access/a", body).await;
    assert_eq!(access.status, StatusCode::OK, "{}", access.text());
    let access = access.json();
    let token = access["token"].as_str().unwrap();
    assert!(!token.contains('.'));
    let url = access["url"].as_str().unwrap();
    assert_eq!(url, format!("http://{}/portal#key={token}", client.address));
    let page = client.request(Method::GET, "/portal", &[], "").await.unwrap();
    assert!(page.text().contains("no portal"), "{}", page.text());

    // A session is not a key of the API.
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let refused = client.request(Method::GET, "/api/v1/app", &headers, "").await.unwrap();
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let logout = || client.request(Method::POST, "/api/v1/auth/logout", &headers, "");
    assert_eq!(logout().await.unwrap().status, StatusCode::NO_CONTENT);
    assert_eq!(logout().await.unwrap().status, StatusCode::UNAUTHORIZED);

    let sessions = || {
        client.home().count("SELECT count(*) FROM portal_sessions WHERE expires_at > created_at + 1000000")
    };
    for session in ["s2", "s3"] {
        client
            .post("/api/v1/auth/app-portal-access/a", json!({"sessionId": session, "readOnly": true}))
            .await;
    }
    assert_eq!(sessions(), 2);
    let some = client.post("/api/v1/auth/app/a/expire-all", json!({"sessionIds": ["s2"]})).await;
    assert_eq!((some.status, sessions()), (StatusCode::NO_CONTENT, 1));
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    let refused = client.post("/api/v1/auth/app/a/expire-all", json!({"sessionIds": many})).await;
    assert_eq!(invalid_field(&refused), ["body", "sessionIds"]);
    let doubled = json!({"capabilities": vec!["ViewBase"; 10_000]});
    client.post("/api/v1/auth/app-portal-access/a", doubled).await;
    assert_eq!(
        client.home().count("SELECT max(length(capabilities)) FROM portal_sessions WHERE session IS NULL"),
        8
    );
    client.post("/api/v1/auth/app/a/expire-all", json!({})).await;
    assert_eq!(sessions(), 0);
}
