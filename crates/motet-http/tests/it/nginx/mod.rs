//! Against nginx, which does what servers out there do: limits, closes, cuts off and passes on.

mod server;

use std::collections::BTreeSet;
use std::time::Duration;

use http::{StatusCode, Version};
use motet::task::gather;
use motet_http::{Connections, ErrorKind, SendError, TimeLimit};
use tokio::time::{Instant, sleep};

use crate::harness::{Certificate, builder, client, scripted, test};
use server::Nginx;

#[tokio::test]
async fn connection_at_its_request_limit_is_replaced() {
    test(async |n| {
        let nginx = Nginx::start(
            "server { listen 127.0.0.1:@PLAIN@; keepalive_requests 3;
                location / { return 200 $connection; } }",
            &[],
        );
        let api = client(n, &nginx.base);
        let mut connections = BTreeSet::new();
        for _ in 0..12 {
            // Of a POST, too, and at the first attempt.
            let answer = api.post("/").once().fetch().await.unwrap();
            connections.insert(answer.text().await.unwrap());
        }
        assert_eq!(connections.len(), 4);
    })
    .await;
}

/// The server closes a connection just as it is used again. A request that the server has not read is sent again; a
/// request that the server may have read is sent again only if it is repeatable.
#[tokio::test]
async fn post_on_a_connection_that_nginx_closes_arrives_at_most_once() {
    test(async |n| {
        let nginx = Nginx::start(
            "server { listen 127.0.0.1:@PLAIN@; keepalive_timeout 20ms;
                location / { return 200 hello; } }",
            &[],
        );
        let api = client(n, &nginx.base);
        for number in 0..60_u64 {
            // In real time, for that is nginx's.
            sleep(Duration::from_micros(19_500 + 50 * number)).await;
            assert_eq!(api.get(&format!("/get{number}")).fetch_bytes().await.unwrap(), "hello");
            sleep(Duration::from_micros(22_500 - 50 * number)).await;
            if let Err(error) = api.post(&format!("/post{number}")).body("x").fetch().await {
                assert!(matches!(error.kind(), ErrorKind::Transport(_)), "{error:?}");
                assert_eq!(error.attempts(), 1);
            }
        }
        let log = nginx.log();
        for number in 0..60 {
            let twice = log.iter().filter(|line| line.contains(&format!("POST /post{number} "))).count();
            assert!(twice <= 1, "{log:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn rate_limited_call_waits_for_the_retry_after() {
    test(async |n| {
        let nginx = Nginx::start(
            "limit_req_zone $uri zone=each:1m rate=2r/s;
            server { listen 127.0.0.1:@PLAIN@; limit_req zone=each; add_header Retry-After 1 always;
                location /many { limit_req_status 429; }
                location /busy { limit_req_status 503; } }",
            &[("many", "hello"), ("busy", "hello")],
        );
        let api = client(n, &nginx.base);
        let calls = gather([("/many", 429), ("/busy", 503)].map(|(path, status)| {
            let api = &api;
            async move {
                assert_eq!(api.get(path).fetch().await.unwrap().attempts(), 1);
                let begun = Instant::now();
                // A call that may not be repeated fails at once, with the time to wait.
                let error = api.get(path).once().fetch().await.unwrap_err();
                assert_eq!(error.status().unwrap().as_u16(), status);
                assert_eq!((error.attempts(), error.retry_after()), (1, Some(Duration::from_secs(1))));
                // The client waits for as long as it is asked to; it would not by itself.
                let answer = api.get(path).fetch().await.unwrap();
                assert_eq!(answer.attempts(), 2);
                assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
                assert_eq!(answer.text().await.unwrap(), "hello");
            }
        }));
        calls.await;
        let log = nginx.log_of(2 * 4).await;
        assert_eq!(log.len(), 2 * 4, "{log:?}");
    })
    .await;
}

#[tokio::test]
async fn answer_is_compressed_only_on_request_and_is_not_decoded() {
    test(async |n| {
        let text = "so it goes ".repeat(100);
        let nginx = Nginx::start(
            "gzip on; gzip_min_length 1; gzip_types text/plain;
            server { listen 127.0.0.1:@PLAIN@; }",
            &[("text", &text)],
        );
        let api = client(n, &nginx.base);
        let answer = api.get("/text").fetch().await.unwrap();
        assert_eq!(answer.headers().get("content-encoding"), None);
        assert_eq!(answer.text().await.unwrap(), text);
        // A caller that asks for a compressed body receives it as it is.
        let answer = api.get("/text").header("accept-encoding", "gzip").fetch().await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], "gzip");
        let body = answer.bytes().await.unwrap();
        assert!(body.starts_with(&[0x1f, 0x8b]) && body.len() < text.len() / 2);
    })
    .await;
}

#[tokio::test]
async fn large_heads_are_read_up_to_max_head() {
    test(async |n| {
        let large = format!("add_header X-Large {} always;\n", "x".repeat(3_000));
        let nginx = Nginx::start(
            &format!(
                "server {{ listen 127.0.0.1:@PLAIN@; {}
                    location / {{ return 200 hello; }} }}",
                large.repeat(10)
            ),
            &[],
        );
        let api = client(n, &nginx.base);
        let answer = api.get("/").fetch().await.unwrap();
        assert_eq!(answer.headers().get_all("x-large").iter().count(), 10);
        assert_eq!(answer.text().await.unwrap(), "hello");
        let careful = Connections::builder(n).max_head(8 << 10).build().unwrap();
        let request = http::Request::get(&nginx.base).body("".into()).unwrap();
        let error = careful.send(request).await.unwrap_err();
        assert!(matches!(error, SendError::Transport(_)), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn request_with_too_large_a_header_gets_400_and_is_not_retried() {
    test(async |n| {
        let nginx =
            Nginx::start("server { listen 127.0.0.1:@PLAIN@; location / { return 200 hello; } }", &[]);
        let call = client(n, &nginx.base);
        let error = call.get("/").header("x-large", "x".repeat(10_000)).fetch().await.unwrap_err();
        assert_eq!((error.status(), error.attempts()), (Some(StatusCode::BAD_REQUEST), 1));
    })
    .await;
}

/// nginx sends `GOAWAY` after `keepalive_requests` requests, while others are in flight.
#[tokio::test]
async fn goaway_loses_no_call_and_repeats_none() {
    test(async |n| {
        let localhost = Certificate::of_localhost();
        let nginx = Nginx::start(
            "server { listen 127.0.0.1:@SECURE@ ssl http2; keepalive_requests 100;
                ssl_certificate certificate.pem; ssl_certificate_key key.pem;
                location / { return 200 $connection; } }",
            &[("certificate.pem", &localhost.certificate_pem), ("key.pem", &localhost.key_pem)],
        );
        let api = builder(n, &nginx.secure_base).tls(localhost.trusted()).build().unwrap();
        // Also a POST: nginx names the streams that it has not processed.
        let calls = (0..500).map(|number| match number % 2 {
            0 => api.get("/").fetch(),
            _ => api.post("/").fetch(),
        });
        let answers = gather(calls).await;
        let mut connections = BTreeSet::new();
        for answer in answers {
            let answer = answer.unwrap();
            assert_eq!(answer.version(), Version::HTTP_2);
            connections.insert(answer.text().await.unwrap());
        }
        assert!((5..20).contains(&connections.len()), "{connections:?}");
        assert_eq!(nginx.log_of(500).await.len(), 500, "some were made twice");
    })
    .await;
}

/// The server behind nginx dies in the middle of its response, with or without a length.
#[tokio::test]
async fn truncated_answer_is_retried_for_get_and_an_error_for_post() {
    test(async |n| {
        for begun in [
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ] {
            let nginx = proxy(n, async move |mut connection, number| {
                connection.request().await;
                if number % 2 == 0 {
                    return connection.write(begun).await;
                }
                connection.answer("200 OK", "hellohello").await;
            })
            .await;
            let api = client(n, &nginx.base);
            let answer = api.get("/").fetch().await.unwrap();
            assert_eq!(answer.attempts(), 2);
            assert_eq!(answer.text().await.unwrap(), "hellohello");
            let error = api.post("/").fetch().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Transport(_)), "{error:?}");
            assert_eq!(error.attempts(), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn gateway_errors_fail_a_post_and_are_retried_for_a_get() {
    test(async |n| {
        let nginx = proxy(n, async |mut connection, number| {
            connection.request().await;
            match number % 4 {
                0 => connection.closed().await,
                1 => connection.reset(),
                2 => {}
                _ => connection.answer("200 OK", "hello").await,
            }
        })
        .await;
        let api = client(n, &nginx.base);
        let error = api.post("/").fetch().await.unwrap_err();
        assert_eq!((error.status(), error.attempts()), (Some(StatusCode::GATEWAY_TIMEOUT), 1));
        let answer = api.get("/").fetch().await.unwrap();
        assert_eq!((answer.attempts(), answer.text().await.unwrap().as_str()), (3, "hello"));
    })
    .await;
}

#[tokio::test]
async fn call_behind_a_hanging_proxy_ends_at_its_own_timeout() {
    test(async |n| {
        let nginx = proxy(n, async |mut connection, _| connection.closed().await).await;
        let call = client(n, &nginx.base);
        let error = call.get("/").once().timeout(Duration::from_millis(30)).fetch().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut(TimeLimit::Total)), "{error:?}");
    })
    .await;
}

/// nginx before a server that is scripted; it gives that 300 ms.
async fn proxy<F, Fut>(n: &motet::task::Scope, script: F) -> Nginx
where
    F: Fn(crate::harness::Connection, usize) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (upstream, _) = scripted(n, move |connection| {
        let number = connection.number;
        script(connection, number)
    })
    .await;
    let http = format!(
        "server {{ listen 127.0.0.1:@PLAIN@; proxy_read_timeout 300ms; proxy_http_version 1.1;
            location / {{ proxy_pass {upstream}; }} }}"
    );
    Nginx::start(&http, &[])
}
