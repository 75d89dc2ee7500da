//! `--cors-origin`: which scripts of browsers may call the API.

use http::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Answer, Client, Relay};

const ORIGIN: &str = "https://app.example";

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().unwrap())
}

async fn preflight(client: &Client, path: &str, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,x-request-id"),
    ];
    client.request(Method::OPTIONS, path, &headers, "").await.unwrap()
}

async fn publish(client: &Client, origin: &str, key: &str) -> Answer {
    let key = format!("Bearer {key}");
    let headers = [("origin", origin), ("authorization", &key), ("content-type", "application/json")];
    let body = json!({"type": "a.b", "data": 1}).to_string();
    client.request(Method::POST, "/v1/events", &headers, body).await.unwrap()
}

#[tokio::test]
async fn scripts_of_allowed_origins_may_call_the_api() {
    let relay = Relay::start_with(&["--cors-origin", "https://other.example", "--cors-origin", ORIGIN]).await;
    let client = relay.client();
    for path in ["/v1/events", "/api/v1/app/default/msg"] {
        let answer = preflight(client, path, ORIGIN).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{path}: {}", answer.text());
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(ORIGIN));
        assert_eq!(header(&answer, "vary"), Some("origin"));
        assert_eq!(header(&answer, "access-control-max-age"), Some("3600"));
        let methods = header(&answer, "access-control-allow-methods").unwrap();
        assert!(["GET", "POST", "PUT", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)));
        let headers = header(&answer, "access-control-allow-headers").unwrap();
        for allowed in ["authorization", "content-type", "idempotency-key", "x-request-id", "last-event-id"] {
            assert!(headers.split(", ").any(|header| header == allowed), "{allowed}: {headers}");
        }
        let answer = preflight(client, path, "https://evil.example").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(header(&answer, "access-control-allow-origin"), None);
        assert_eq!(header(&answer, "vary"), Some("origin"));
    }
    // A script may read errors as well.
    for (key, status) in [(client.key.as_str(), StatusCode::ACCEPTED), ("none", StatusCode::UNAUTHORIZED)] {
        let answer = publish(client, ORIGIN, key).await;
        assert_eq!(answer.status, status);
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(ORIGIN));
        let exposed = header(&answer, "access-control-expose-headers").unwrap();
        assert!(exposed.contains("x-request-id") && exposed.contains("retry-after"), "{exposed}");
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
        let answer = publish(client, "https://evil.example", key).await;
        assert_eq!(header(&answer, "access-control-allow-origin"), None);
        assert_eq!(header(&answer, "vary"), Some("origin"));
    }
}

#[tokio::test]
async fn every_origin_or_none_may_call_the_api() {
    let relay = Relay::start_with(&["--cors-origin", "*"]).await;
    let answer = preflight(relay.client(), "/v1/events", "https://any.example").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(header(&answer, "access-control-allow-origin"), Some("*"));
    relay.stop().await;

    let relay = Relay::start().await;
    let client = relay.client();
    let answer = preflight(client, "/v1/events", ORIGIN).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let published = publish(client, ORIGIN, &client.key).await;
    for answer in [answer, published] {
        let names = answer.headers.keys().map(|name| name.as_str());
        assert!(!names.into_iter().any(|name| name.starts_with("access-control") || name == "vary"));
    }
}
