//! Malformed requests are refused with a reason, and nothing is stored.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Client, Receiver, Relay, eventually, within};

async fn nothing_is_stored(client: &Client) {
    for list in ["/v1/events", "/v1/endpoints", "/v1/deliveries"] {
        assert_eq!(client.list(list).await, Vec::<Value>::new(), "{list}");
    }
}

#[tokio::test]
async fn malformed_requests_are_refused_with_a_reason() {
    let relay = Relay::start().await;
    let client = relay.client();
    let bearer = format!("Bearer {}", client.key);
    let ndjson = "application/x-ndjson";
    let json_type = "application/json";
    let huge = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(300 << 10));
    let huge_line = format!("{huge}\n");
    let long_type = format!(r#"{{"type":"{}","data":1}}"#, "a".repeat(129));
    let long_key = format!(r#"{{"type":"a","data":1,"idempotency_key":"{}"}}"#, "k".repeat(256));
    let many_patterns = json!({"url": "http://127.0.0.1/", "event_types": vec!["a"; 65]}).to_string();
    let foreign = "evt_000000000000000000000001";
    // method, path, content type, body, status, part of the reason
    type Case<'a> = (Method, String, &'a str, &'a [u8], u16, &'a str);
    let table: Vec<Case<'_>> = vec![
        (Method::POST, "/v1/events".into(), json_type, b"", 400, "JSON"),
        (Method::POST, "/v1/events".into(), json_type, b"{", 400, "line 1 column 1"),
        (Method::POST, "/v1/events".into(), json_type, b"[]", 400, "JSON"),
        (Method::POST, "/v1/events".into(), json_type, b"null", 400, "JSON"),
        (Method::POST, "/v1/events".into(), json_type, b"{\"type\":\"a\"}", 400, "missing field `data`"),
        (Method::POST, "/v1/events".into(), json_type, b"{\"data\":1}", 400, "missing field `type`"),
        (Method::POST, "/v1/events".into(), json_type, b"{\"type\":1,\"data\":1}", 400, "expected a string"),
        (Method::POST, "/v1/events".into(), json_type, b"{\"type\":\"\",\"data\":1}", 400, "is empty"),
        (Method::POST, "/v1/events".into(), json_type, b"{\"type\":\"a b\",\"data\":1}", 400, "' '"),
        (
            Method::POST,
            "/v1/events".into(),
            json_type,
            b"{\"type\":\"a..b\",\"data\":1}",
            400,
            "empty segment",
        ),
        (Method::POST, "/v1/events".into(), json_type, b"{\"type\":\"a.*\",\"data\":1}", 400, "'*'"),
        (Method::POST, "/v1/events".into(), json_type, long_type.as_bytes(), 400, "129 characters"),
        (
            Method::POST,
            "/v1/events".into(),
            json_type,
            b"{\"type\":\"a\",\"data\":1,\"id\":2}",
            400,
            "unknown field `id`",
        ),
        (
            Method::POST,
            "/v1/events".into(),
            json_type,
            b"{\"type\":\"a\",\"data\":1} x",
            400,
            "trailing characters",
        ),
        (Method::POST, "/v1/events".into(), json_type, b"{\"type\":\"a\",\"data\":NaN}", 400, "JSON"),
        (Method::POST, "/v1/events".into(), json_type, b"{\"type\":\"a\",\"data\":\"\xff\"}", 400, "JSON"),
        (
            Method::POST,
            "/v1/events".into(),
            json_type,
            b"{\"type\":\"a\",\"data\":1,\"data\":2}",
            400,
            "duplicate field",
        ),
        (
            Method::POST,
            "/v1/events".into(),
            json_type,
            b"{\"type\":\"a\",\"data\":1,\"idempotency_key\":\"\"}",
            400,
            "0 bytes",
        ),
        (Method::POST, "/v1/events".into(), json_type, long_key.as_bytes(), 400, "256 bytes"),
        (Method::POST, "/v1/events".into(), json_type, huge.as_bytes(), 413, "278528 bytes"),
        (
            Method::POST,
            "/v1/events".into(),
            "text/plain",
            b"{\"type\":\"a\",\"data\":1}",
            415,
            "application/json",
        ),
        (Method::POST, "/v1/events".into(), "", b"{\"type\":\"a\",\"data\":1}", 415, "application/json"),
        (Method::POST, "/v1/events".into(), ndjson, b"\n \n", 400, "no event"),
        (Method::PUT, "/v1/events".into(), json_type, b"{}", 405, "PUT"),
        (Method::GET, "/v1/events?limit=0".into(), "", b"", 400, "limit"),
        (Method::GET, "/v1/events?limit=101".into(), "", b"", 400, "limit"),
        (Method::GET, "/v1/events?limit=-1".into(), "", b"", 400, "limit"),
        (Method::GET, "/v1/events?limit=many".into(), "", b"", 400, "limit"),
        (Method::GET, "/v1/events?page=2".into(), "", b"", 400, "page"),
        (Method::GET, "/v1/events?cursor=17".into(), "", b"", 400, "cursor"),
        (Method::GET, format!("/v1/events?cursor={foreign}"), "", b"", 400, "cursor"),
        (Method::GET, format!("/v1/events/{foreign}"), "", b"", 404, foreign),
        (Method::GET, "/v1/events/%ff".into(), "", b"", 400, "UTF-8"),
        (Method::GET, "/v1/events/17".into(), "", b"", 404, "17"),
        (Method::GET, "/v1/deliveries/17".into(), "", b"", 404, "17"),
        (Method::GET, "/v1/deliveries?state=lost".into(), "", b"", 400, "lost"),
        (Method::GET, "/v1/deliveries?endpoint_id=17".into(), "", b"", 404, "17"),
        (Method::POST, "/v1/deliveries/17/resend".into(), "", b"", 404, "17"),
        (Method::POST, "/v1/dead-letters/redrive".into(), json_type, b"", 400, "JSON"),
        (Method::POST, "/v1/dead-letters/redrive".into(), json_type, b"{\"endpoint_id\":\"17\"}", 404, "17"),
        (Method::POST, "/v1/endpoints".into(), json_type, b"{}", 400, "missing field `url`"),
        (Method::POST, "/v1/endpoints".into(), json_type, b"{\"url\":\"nowhere\"}", 400, "not a URL"),
        (Method::POST, "/v1/endpoints".into(), json_type, b"{\"url\":\"ftp://127.0.0.1/\"}", 400, "ftp"),
        (
            Method::POST,
            "/v1/endpoints".into(),
            json_type,
            b"{\"url\":\"http://a:b@127.0.0.1/\"}",
            400,
            "password",
        ),
        (Method::POST, "/v1/endpoints".into(), json_type, b"{\"url\":\"http://10.0.0.1/\"}", 400, "private"),
        (
            Method::POST,
            "/v1/endpoints".into(),
            json_type,
            b"{\"url\":\"http://127.0.0.1/\",\"event_types\":[]}",
            400,
            "0 entries",
        ),
        (
            Method::POST,
            "/v1/endpoints".into(),
            json_type,
            b"{\"url\":\"http://127.0.0.1/\",\"event_types\":\"a\"}",
            400,
            "sequence",
        ),
        (
            Method::POST,
            "/v1/endpoints".into(),
            json_type,
            b"{\"url\":\"http://127.0.0.1/\",\"event_types\":[\">.a\"]}",
            400,
            "wildcard",
        ),
        (Method::POST, "/v1/endpoints".into(), json_type, many_patterns.as_bytes(), 400, "65 entries"),
        (
            Method::POST,
            "/v1/endpoints".into(),
            json_type,
            b"{\"url\":\"http://127.0.0.1/\",\"secret\":\"hush\"}",
            400,
            "whsec_",
        ),
        (
            Method::POST,
            "/v1/endpoints".into(),
            json_type,
            b"{\"url\":\"http://127.0.0.1/\",\"enabled\":\"yes\"}",
            400,
            "boolean",
        ),
        (Method::PATCH, "/v1/endpoints/17".into(), json_type, b"{}", 404, "17"),
        (Method::DELETE, "/v1/endpoints/17".into(), "", b"", 404, "17"),
        (Method::GET, "/v1/nothing".into(), "", b"", 404, "/v1/nothing"),
        (Method::GET, "/nothing".into(), "", b"", 404, "/nothing"),
        (Method::DELETE, "/healthz".into(), "", b"", 405, "DELETE"),
    ];
    for (method, path, content_type, body, status, reason) in table {
        let mut headers = vec![("authorization", bearer.as_str())];
        if !content_type.is_empty() {
            headers.push(("content-type", content_type));
        }
        let answer = client.request(method.clone(), &path, &headers, body.to_vec()).await.unwrap();
        let case = format!("{method} {path} {}", String::from_utf8_lossy(&body[..body.len().min(80)]));
        assert_eq!(answer.status.as_u16(), status, "{case}: {}", answer.text());
        assert!(answer.problem().contains(reason), "{case}: {}", answer.problem());
    }
    let (status, answers) = client.ndjson(huge_line).await;
    assert_eq!((status, &answers[0]["status"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!(413)));
    // Small lines would make a large response, so their number is limited.
    let too_many = "{\"type\":\"a\",\"data\":1}\n".repeat(10_001);
    let headers = [("authorization", bearer.as_str()), ("content-type", ndjson)];
    let answer = client.request(Method::POST, "/v1/events", &headers, too_many).await.unwrap();
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.problem().contains("10000 events"), "{}", answer.problem());
    nothing_is_stored(client).await;
}

#[tokio::test]
async fn request_without_a_valid_key_is_refused_and_stores_nothing() {
    let relay = Relay::start().await;
    let client = relay.client();
    let almost = format!("Bearer {}x", client.key);
    let no_scheme = client.key.clone();
    let basic = format!("Basic {}", client.key);
    for given in [None, Some(almost), Some(no_scheme), Some(basic), Some("Bearer ".to_owned())] {
        for (method, path) in [
            (Method::GET, "/v1/events"),
            (Method::POST, "/v1/events"),
            (Method::POST, "/v1/endpoints"),
            (Method::GET, "/v1/nothing"),
            (Method::PUT, "/v1/events"),
        ] {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(given.as_deref().map(|given| ("authorization", given)));
            let body = r#"{"type":"a","data":1}"#;
            let answer = client.request(method.clone(), path, &headers, body).await.unwrap();
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} {given:?}");
            assert!(answer.problem().contains("API key"), "{}", answer.problem());
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    nothing_is_stored(client).await;
}

/// Sends bytes that may not be HTTP. Returns the status line of the response, or an empty text if there is none.
async fn raw(client: &Client, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    // The server may refuse the request before it has read everything; only its response matters.
    let _refused_early = stream.write_all(request).await;
    let _refused_early = stream.shutdown().await;
    let mut answer = Vec::new();
    let _reset = within("an answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn malformed_http_is_refused() {
    let relay = Relay::start().await;
    let client = relay.client();
    let authorized = format!(
        "POST /v1/events HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n",
        client.key
    );
    let body = r#"{"type":"a","data":1}"#;
    let cases = [
        ("garbage", b"\x00\x01\x02\r\n\r\n".to_vec(), "400"),
        ("a bad version", b"GET / HTTP/9.9\r\n\r\n".to_vec(), "400"),
        ("a bad length", format!("{authorized}content-length: many\r\n\r\n{body}").into_bytes(), "400"),
        ("a negative length", format!("{authorized}content-length: -1\r\n\r\n{body}").into_bytes(), "400"),
        (
            "two lengths",
            format!("{authorized}content-length: 3\r\ncontent-length: 21\r\n\r\n{body}").into_bytes(),
            "400",
        ),
        (
            "a body that breaks off",
            format!("{authorized}content-length: 1000\r\n\r\n{body}").into_bytes(),
            "400",
        ),
        (
            "a bad chunk",
            format!("{authorized}transfer-encoding: chunked\r\n\r\nxyz\r\n{body}").into_bytes(),
            "400",
        ),
        ("headers too long", format!("{authorized}x: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes(), "431"),
        ("nothing", Vec::new(), ""),
    ];
    for (case, request, status) in cases {
        let line = raw(client, &request).await;
        // If the server closes the connection before everything is sent, the response may be lost.
        let lost = line.is_empty() && case == "headers too long";
        assert_eq!(line.split(' ').nth(1).unwrap_or_default() == status, !lost, "{case}: {line}");
    }
    nothing_is_stored(client).await;
}

#[tokio::test]
async fn ndjson_is_accepted_and_refused_line_by_line() {
    let receiver = Receiver::accepting().await;
    let relay = Relay::start().await;
    let client = relay.client();
    client.endpoint(&receiver).await;
    let mixed =
        "\n{\"type\":\"a\",\"data\":1}\r\n{\"type\":\"a\"}\n\n{\"type\":\"b\",\"data\":[2]}\nnot json";
    let (status, answers) = client.ndjson(mixed).await;
    assert_eq!(status, StatusCode::MULTI_STATUS);
    let summary: Vec<_> =
        answers.iter().map(|a| (a["line"].as_u64().unwrap(), a["status"].as_u64().unwrap())).collect();
    assert_eq!(summary, [(2, 202), (3, 400), (5, 202), (6, 400)]);
    assert!(answers[1]["detail"].as_str().unwrap().contains("missing field `data`"));
    assert_eq!(answers[0]["deliveries"], 1);

    // More than the weight of a commit: every line still gets its own answer, in order.
    let many: String = (0..1_000).map(|n| format!("{{\"type\":\"many\",\"data\":{n}}}\n")).collect();
    let (status, answers) = client.ndjson(many).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert!(answers.iter().zip(1..).all(|(answer, line)| answer["line"] == line && answer["status"] == 202));
    let hits = receiver.hits_at_least(1_002).await;
    let mut ids: Vec<_> = hits.iter().map(crate::harness::Hit::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1_002);

    let all_bad = "nope\nnope";
    assert_eq!(client.ndjson(all_bad).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn unmatched_endpoints_do_not_reduce_events_per_commit() {
    let relay = Relay::start().await;
    let client = relay.client();
    for n in 0..100 {
        let other = json!({"event_types": [format!("other.n{n}")]});
        client.endpoint_at("http://127.0.0.1:9/", other).await;
    }
    client.publish("a", json!(0)).await;
    let commits = async || {
        let text = client.request(Method::GET, "/metrics", &[], "").await.unwrap().text();
        let line = text.lines().find(|line| line.starts_with("relay_store_commit_jobs_count")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = commits().await;
    let lines: String = (0..2_000).map(|n| format!("{{\"type\":\"a\",\"data\":{n}}}\n")).collect();
    assert_eq!(client.ndjson(lines).await.0, StatusCode::ACCEPTED);
    // The metrics are up to one second old.
    let after = eventually("the metrics to follow", || async {
        let after = commits().await;
        (after > before).then_some(after)
    })
    .await;
    assert!(after - before < 50, "{} commits for 2 000 events of one row each", after - before);
}
