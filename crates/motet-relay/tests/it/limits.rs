//! Limits of the API: sizes, depth, and the memory that clients can make relay hold.

use http::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Client, Relay, eventually, within};

const MIB: usize = 1 << 20;

/// Returns the peak memory of the process in bytes.
fn peak_memory(relay: &Relay) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

async fn metric(client: &Client, series: &str) -> Option<f64> {
    let text = client.request(Method::GET, "/metrics", &[], "").await.unwrap().text();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

fn event(data: &str) -> String {
    // As many bytes around the data as are allowed.
    format!(
        r#" {{ "type": "{}", "idempotency_key": "{}", "data": {data} }} "#,
        "t".repeat(128),
        "k".repeat(255)
    )
}

async fn publish(client: &Client, body: String) -> crate::harness::Answer {
    let bearer = format!("Bearer {}", client.key);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    client.request(Method::POST, "/v1/events", &headers, body).await.unwrap()
}

#[tokio::test]
async fn size_limit_applies_to_the_data_of_an_event_alone() {
    let relay = Relay::start().await;
    let client = relay.client();
    let of_size = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let accepted = publish(client, event(&of_size(256 << 10))).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.text());
    let refused = publish(client, event(&of_size((256 << 10) + 1))).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(refused.problem().contains("262145 bytes; at most 262144 are allowed"), "{}", refused.problem());
    let line = event(&of_size(256 << 10)).replace("kk", "ll") + "\n" + &event(&of_size((256 << 10) + 1));
    let (_, answers) = client.ndjson(line).await;
    assert_eq!((&answers[0]["status"], &answers[1]["status"]), (&json!(202), &json!(413)), "{answers:?}");
}

#[tokio::test]
async fn data_nested_too_deeply_or_with_lone_surrogates_is_refused() {
    let relay = Relay::start().await;
    let client = relay.client();
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    for (data, reason) in [
        (nested(128), "nested more than 127 levels"),
        (r#""\ud800""#.to_owned(), "surrogate pair"),
        (r#"{"\udc00":1}"#.to_owned(), "surrogate pair"),
    ] {
        let refused = publish(client, event(&data)).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{data}");
        assert!(refused.problem().contains(reason), "{}", refused.problem());
        let (status, answers) = client.ndjson(event(&data)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answers[0]["detail"].as_str().unwrap().contains(reason), "{answers:?}");
    }
    assert_eq!(client.list("/v1/events").await.len(), 0);
    for data in [nested(127), r#""\ud83d\ude00 \\ud800""#.to_owned()] {
        let accepted = publish(client, format!(r#"{{"type":"a","data":{data}}}"#)).await;
        assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.text());
        let stored = client.get(&format!("/v1/events/{}", accepted.json()["id"].as_str().unwrap())).await;
        assert!(stored.text().contains(&data), "{}", stored.text());
    }
}

/// Sends bytes and returns the status of the response.
async fn status_of(client: &Client, request: &str) -> String {
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let read = within("an answer", stream.read(&mut answer)).await.unwrap();
    let line = String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned();
    line.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn http_1_1_request_must_have_one_host_header() {
    let relay = Relay::start().await;
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n", "200"),
        ("GET /healthz HTTP/1.1\r\n\r\n", "400"),
        ("GET /healthz HTTP/1.1\r\nhost: relay\r\nhost: relay\r\n\r\n", "400"),
        ("GET /healthz HTTP/1.1\r\nhost: relay\r\nhost: other\r\n\r\n", "400"),
        // Load balancers send such requests.
        ("GET /healthz HTTP/1.0\r\n\r\n", "200"),
    ] {
        assert_eq!(status_of(relay.client(), request).await, status, "{request}");
    }
}

#[tokio::test]
async fn api_answers_forbid_caching() {
    let relay = Relay::start().await;
    let client = relay.client();
    let made = client.post("/v1/endpoints", json!({"url": "http://127.0.0.1:9/"})).await;
    let endpoint = format!("/v1/endpoints/{}", made.json()["id"].as_str().unwrap());
    let read = client.get(&endpoint).await;
    assert!(read.json()["secret"].as_str().unwrap().starts_with("whsec_"));
    for answer in [made, read, client.get("/v1/events").await, client.get("/v1/nothing").await] {
        assert_eq!(answer.headers["cache-control"], "no-store", "{}", answer.text());
    }
}

#[tokio::test]
async fn requests_with_unknown_api_keys_are_logged_and_counted() {
    let relay = Relay::start().await;
    let mut stranger = relay.client().clone();
    stranger.key = "rk_guessed".to_owned();
    for _ in 0..20 {
        assert_eq!(stranger.get("/v1/events").await.status, StatusCode::UNAUTHORIZED);
    }
    let log = relay.log_line("requests with unknown API keys were refused").await;
    assert!(!log.contains("guessed"), "{log}");
    eventually("the metric", || async {
        (metric(&stranger, "relay_api_keys_refused_total").await == Some(20.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn stalled_uploads_are_bounded_in_memory_together() {
    let relay = Relay::start().await;
    let client = relay.client();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {}\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        client.key,
        16 * MIB
    );
    let mut stalled = Vec::new();
    for _ in 0..32 {
        let mut stream = TcpStream::connect(client.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // relay refuses early and may close the connection during the write.
        let _sent = within("15 MiB to be sent", stream.write_all(&vec![b'x'; 15 * MIB])).await;
        stalled.push(stream);
    }
    let refused = "relay_http_requests_total{method=\"POST\",path=\"/v1/events\",status=\"503\"}";
    eventually("most requests to be refused", || async {
        metric(client, refused).await.filter(|refused| *refused >= 20.0)
    })
    .await;
    let peak = peak_memory(&relay);
    assert!(peak < 256 * MIB, "{} MiB", peak / MIB);
    // There is memory left for single events.
    client.publish("small", json!({})).await;
    drop(stalled);
    eventually("the memory to be released", || async {
        let used = metric(client, "relay_body_bytes{of=\"requests\"}").await?;
        (used < 1_000.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn memory_held_for_stalled_readers_is_bounded() {
    let relay = Relay::start().await;
    let client = relay.client();
    let filler = "x".repeat(250 << 10);
    for n in 0..100 {
        client.publish("large", json!({"n": n, "filler": filler})).await;
    }
    let head = format!(
        "GET /v1/events?limit=100 HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {}\r\n\r\n",
        client.key
    );
    let mut readers = Vec::new();
    for _ in 0..60 {
        let mut stream = TcpStream::connect(client.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        readers.push(stream);
    }
    for stream in &mut readers {
        let mut status = [0; 12];
        within("the status line", stream.read_exact(&mut status)).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    let peak = peak_memory(&relay);
    assert!(peak < 256 * MIB, "{} MiB", peak / MIB);
    // Pages that are cut short because of their size lack no event.
    assert_eq!(client.list("/v1/events").await.len(), 100);
}

/// Opens `count` connections from one loopback address, and sends `request` on each.
async fn crowd(relay: &Relay, from: [u8; 4], connections: usize, request: &str) -> Vec<TcpStream> {
    let mut crowd = Vec::with_capacity(connections);
    for _ in 0..connections {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = within("a connection", socket.connect(relay.client().address)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        crowd.push(stream);
    }
    crowd
}

#[tokio::test]
async fn health_and_metrics_answer_while_all_connections_are_busy() {
    let relay = Relay::start_with(&["--max-connections", "64"]).await;
    let client = relay.client();
    let silent = crowd(&relay, [127, 0, 0, 2], 48, "").await;
    let half = crowd(&relay, [127, 0, 0, 3], 100, "GET /healthz HTTP/1.1\r\nhost:").await;
    // Idle connections are closed in favour of new ones.
    client.publish("among.the.silent", json!({})).await;
    drop((silent, half));

    // All connections have requests that wait for their bodies, which relay has asked for.
    let stalled = format!(
        "POST /v1/events HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n",
        client.key
    );
    let mut busy = Vec::new();
    for from in [[127, 0, 0, 4], [127, 0, 0, 5]] {
        for mut stream in crowd(&relay, from, 32, &stalled).await {
            let mut asked = [0; 12];
            within("the go-ahead", stream.read_exact(&mut asked)).await.unwrap();
            assert_eq!(&asked, b"HTTP/1.1 100");
            busy.push(stream);
        }
    }
    let ask = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: relay\r\n\r\n");
        status_of(client, &request).await
    };
    assert_eq!(ask("/v1/events").await, "503");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(ask(path).await, "200", "{path}");
    }
    drop(busy);
    eventually("the API to accept connections", || async {
        (ask("/v1/events").await == "401").then_some(())
    })
    .await;
}
