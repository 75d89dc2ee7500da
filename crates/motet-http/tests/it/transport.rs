//! Limits beneath a request: heads, idle connections, and their age.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use motet::task::Nursery;
use motet_http::{Body, Connections, ConnectionsBuilder, Fault, ReceivedBody, SendError};

use tokio::sync::Notify;

use crate::harness::{Connection, scripted, test};

async fn send(connections: &Connections, base: &str) -> Result<Response<ReceivedBody>, SendError> {
    connections.send(Request::post(format!("{base}/hook")).body(Body::from("event")).unwrap()).await
}

/// Sends, and reads the answer to its end.
async fn exchange(connections: &Connections, base: &str) -> Result<u16, SendError> {
    let answer = send(connections, base).await?;
    let status = answer.status().as_u16();
    answer.into_body().collect().await.unwrap();
    Ok(status)
}

/// A server that answers one request with these bytes.
async fn answering(n: &Nursery<Infallible>, head: &'static str) -> String {
    let (base, _) = scripted(n, async move |mut connection: Connection| {
        let _request = connection.request().await;
        connection.write(head).await;
        connection.closed().await;
    })
    .await;
    base
}

/// A server that answers every request, and reports when one of its connections is closed.
async fn keeping(n: &Nursery<Infallible>) -> (String, Arc<Notify>) {
    let closed = Arc::new(Notify::new());
    let closes = Arc::clone(&closed);
    let (base, _) = scripted(n, move |mut connection: Connection| {
        let closes = Arc::clone(&closes);
        async move {
            while connection.request().await.is_some() {
                connection.answer("200 OK", "hello").await;
            }
            closes.notify_one();
        }
    })
    .await;
    (base, closed)
}

#[tokio::test]
async fn interim_responses_count_towards_max_head() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection: Connection| {
            let _request = connection.request().await;
            // Until the client has hung up.
            while connection.try_write("HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n").await.is_ok()
            {
            }
        })
        .await;
        for builder in [Connections::builder(n), Connections::builder(n).max_head(8 << 10)] {
            let error = send(&builder.build().unwrap(), &base).await.unwrap_err();
            assert!(matches!(error, SendError::Transport(_)), "{error:?}");
            assert_eq!(error.fault(), Fault::Remote);
            assert!(format!("{error:?}").contains("TooLong"), "{error:?}");
        }
        let few =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        let base = answering(n, few).await;
        let connections = Connections::builder(n).build().unwrap();
        assert_eq!(exchange(&connections, &base).await.unwrap(), 204);
    })
    .await;
}

#[tokio::test]
async fn lenient_heads_accept_odd_fields_and_refuse_odd_framing() {
    let many: String = (0..101).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let many = format!("HTTP/1.1 204 No Content\r\n{many}\r\n").leak();
    test(async |n| {
        let lenient = Connections::builder(n).lenient_heads().build().unwrap();
        let strict = Connections::builder(n).build().unwrap();
        for (head, is_read) in [
            (&*many, true),
            ("HTTP/1.1 204 No Content\r\nx: 1\r\n folded\r\n\r\n", true),
            ("HTTP/1.1 204 No Content\r\nx : 1\r\n\r\n", true),
            ("HTTP/1.1 204 No Content\r\nno field at all\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked,\r\n gzip\r\ncontent-length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 5\r\n\r\n", false),
        ] {
            let base = answering(n, head).await;
            let found = send(&lenient, &base).await;
            assert_eq!(found.is_ok(), is_read, "{head}: {found:?}");
            let error = send(&strict, &base).await.unwrap_err();
            assert!(matches!(error, SendError::Transport(_)), "{head}: {error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn max_idle_closes_the_longest_idle_connection_of_any_host() {
    test(async |n| {
        let connections = Connections::builder(n).max_idle(2).build().unwrap();
        let (mut bases, mut closed) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (base, closes) = keeping(n).await;
            assert_eq!(exchange(&connections, &base).await.unwrap(), 200);
            bases.push(base);
            closed.push(closes);
        }
        // The one that has been idle longest is closed.
        closed[0].notified().await;
        // The other connections are reused, and the older idle connection is closed.
        exchange(&connections, &bases[1]).await.unwrap();
        exchange(&connections, &bases[0]).await.unwrap();
        closed[2].notified().await;
    })
    .await;
}

#[tokio::test]
async fn max_open_closes_an_idle_connection_or_fails_if_all_are_used() {
    test(async |n| {
        let connections = Connections::builder(n).max_open(2).build().unwrap();
        let (first, closed) = keeping(n).await;
        let (second, _) = keeping(n).await;
        let (third, _) = keeping(n).await;
        for base in [&first, &second, &third] {
            assert_eq!(exchange(&connections, base).await.unwrap(), 200);
        }
        closed.notified().await;
        let held = [send(&connections, &second).await.unwrap(), send(&connections, &third).await.unwrap()];
        let error = send(&connections, &first).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Local, "{error:?}");
        assert!(format!("{error:?}").contains("TooManyOpen"), "{error:?}");
        drop(held);
        assert_eq!(exchange(&connections, &first).await.unwrap(), 200);
    })
    .await;
}

#[tokio::test]
async fn connection_past_max_age_is_not_used_again() {
    test(async |n| {
        let dialled = async |builder: ConnectionsBuilder| {
            let (base, dialled) = scripted(n, async |mut connection: Connection| {
                while connection.request().await.is_some() {
                    connection.answer("200 OK", "hello").await;
                }
            })
            .await;
            let connections = builder.build().unwrap();
            for _ in 0..5 {
                // Given up before a byte was sent, it is for the caller to send it again.
                while let Err(error) = exchange(&connections, &base).await {
                    assert!(matches!(error, SendError::Refused(_)), "{error:?}");
                }
            }
            dialled.load(Ordering::SeqCst)
        };
        assert_eq!(dialled(Connections::builder(n).max_age(Duration::ZERO)).await, 5);
        assert_eq!(dialled(Connections::builder(n).max_age(Duration::MAX)).await, 1);
    })
    .await;
}

#[tokio::test]
async fn lost_connection_is_a_stale_error_only_if_it_was_reused() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection: Connection| {
            if connection.number == 0 {
                let _request = connection.request().await;
                connection.answer("200 OK", "hello").await;
            }
            let _request = connection.request().await;
            if connection.number == 2 {
                connection.write("HTTP/1.1").await;
            }
        })
        .await;
        let connections = Connections::builder(n).build().unwrap();
        exchange(&connections, &base).await.unwrap();
        let error = send(&connections, &base).await.unwrap_err();
        assert!(matches!(error, SendError::Stale(_)), "{error:?}");
        for _ in 0..2 {
            let error = send(&connections, &base).await.unwrap_err();
            assert!(matches!(error, SendError::Transport(_)), "{error:?}");
        }
    })
    .await;
}
