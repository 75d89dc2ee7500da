//! Bodies that stream, in either direction, and ones that lie.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::Request;
use axum::routing::post;
use bytes::Bytes;
use futures_core::Stream;
use http_body_util::BodyExt as _;
use motet_http::{Body, ErrorKind, Versions};

use crate::harness::{builder, client, scripted, serve, test};
use crate::versions;

const CHUNK: usize = 16 << 10;

/// A stream of a number of chunks; counts those that were asked for.
struct Chunks {
    left: usize,
    asked: Arc<AtomicUsize>,
    fails: bool,
}

impl Stream for Chunks {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            let failure = Some(Err(std::io::Error::other("the disk is gone")));
            return Poll::Ready(if self.fails { failure } else { None });
        }
        self.left -= 1;
        self.asked.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Bytes::from_static(&[7; CHUNK]))))
    }
}

fn chunks(left: usize) -> (Chunks, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    (Chunks { left, asked: Arc::clone(&asked), fails: false }, asked)
}

#[tokio::test]
async fn streamed_bodies_arrive_whole_both_ways_and_when_passed_on() {
    test(async |n| {
        let echo = post(async |request: Request| AxumBody::new(request.into_body()));
        let api = client(n, &serve(n, Router::new().route("/", echo)).await);
        let (stream, _) = chunks(1_000);
        let mut answer = api.post("/").body(Body::stream(stream)).send().await.unwrap();
        let mut bytes = 0;
        while let Some(chunk) = answer.chunk().await.unwrap() {
            assert!(chunk.iter().all(|byte| *byte == 7));
            bytes += chunk.len();
        }
        assert_eq!(bytes, 1_000 * CHUNK);
        // It is more than may be read whole, and its pieces go on as a body of their own.
        let (stream, _) = chunks(1_100);
        let answer = api.post("/").body(Body::stream(stream)).send().await.unwrap();
        let passed_on = api.post("/").body(Body::wrap(answer.into_body())).send().await.unwrap();
        assert_eq!(passed_on.into_body().collect().await.unwrap().to_bytes().len(), 1_100 * CHUNK);
    })
    .await;
}

#[tokio::test]
async fn early_413_is_returned_before_an_unread_upload_is_sent_whole() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection| {
            connection.head().await;
            connection.answer("413 Content Too Large", "").await;
            // What the client has sent until now stays unread.
            std::future::pending::<()>().await;
        })
        .await;
        let (stream, asked) = chunks(1_000_000);
        let api = client(n, &base);
        let answer =
            api.post("/").header("content-length", "16384000000").body(Body::stream(stream)).send().await;
        assert_eq!(answer.unwrap().status(), 413);
        // What fits into the buffers of the kernel, and no more.
        assert!(asked.load(Ordering::SeqCst) < 10_000, "{asked:?}");
    })
    .await;
}

#[tokio::test]
async fn failed_body_stream_is_a_request_body_error_with_its_cause() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection| connection.closed().await).await;
        let (stream, _) = chunks(1);
        let body = Body::stream(Chunks { fails: true, ..stream });
        let error = client(n, &base).post("/").body(body).send().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RequestBody(_)), "{error:?}");
        assert!(error.to_string().ends_with("the body of the request failed: the disk is gone"), "{error}");
    })
    .await;
}

/// A stream that panics at its third poll.
struct Panics(u32);

impl Stream for Panics {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0 += 1;
        assert!(self.0 < 3, "no third chunk");
        Poll::Ready(Some(Ok(Bytes::from_static(&[7; CHUNK]))))
    }
}

#[tokio::test]
async fn panic_of_a_body_stream_fails_its_call_alone() {
    test(async |n| {
        let (http1, _) = scripted(n, async |mut connection| {
            while let Some(head) = connection.head().await {
                if head.starts_with("POST") {
                    return connection.closed().await;
                }
                connection.answer("200 OK", "hello").await;
            }
        })
        .await;
        let api = client(n, &http1);
        let error = api.post("/").body(Body::stream(Panics(0))).send().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RequestBody(_)), "{error:?}");
        assert!(error.to_string().ends_with("the stream panicked: no third chunk"), "{error}");
        assert_eq!(api.get("/").fetch_bytes().await.unwrap(), "hello");

        let (http2, _) = versions::h2(n).await;
        let api = builder(n, &http2).versions(Versions::Http2).build().unwrap();
        // The server answers at once, so the panic may come too late to matter.
        let _either = api.post("/").body(Body::stream(Panics(0))).send().await;
        assert!(api.get("/").fetch_bytes().await.unwrap().starts_with(b"HTTP/2.0"));
    })
    .await;
}

#[tokio::test]
async fn body_shorter_than_its_framing_is_an_error() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection| {
            connection.request().await;
            let lie = ["content-length: 10\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"];
            connection.write(&format!("HTTP/1.1 200 OK\r\n{}", lie[connection.number % 2])).await;
        })
        .await;
        let api = builder(n, &base).without_retry().build().unwrap();
        for _ in 0..2 {
            let mut answer = api.get("/").send().await.unwrap();
            assert_eq!(answer.chunk().await.unwrap().unwrap(), "hello");
            let error = answer.chunk().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Transport(_)), "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_past_the_body_are_not_the_next_answer() {
    test(async |n| {
        let (base, connections) = scripted(n, async |mut connection| {
            connection.request().await;
            let smuggled = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
            connection.write(&format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello{smuggled}")).await;
            connection.closed().await;
        })
        .await;
        let api = client(n, &base);
        for _ in 0..2 {
            assert_eq!(api.get("/").fetch_bytes().await.unwrap(), "hello");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    })
    .await;
}
