//! Bodies of requests that fail, are empty, or are answered before they are sent; and the connections beside them.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use motet::stream::{Yielder, try_generator};
use motet::task::{Either, Scope, race, timeout};
use motet_http::{Body, Connections, ReceivedBody, SendError, Versions};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::harness::{Connection, scripted, test};

fn post(base: &str, body: Body) -> Request<Body> {
    Request::post(format!("{base}/hook")).body(body).unwrap()
}

async fn exchange(connections: &Connections, request: Request<Body>) -> Result<(u16, Bytes), SendError> {
    let answer: Response<ReceivedBody> = connections.send(request).await?;
    let status = answer.status().as_u16();
    Ok((status, answer.into_body().collect().await.unwrap().to_bytes()))
}

/// Has hyper's tasks belong to the scope of the test.
#[derive(Clone)]
struct InScope(Scope);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for InScope {
    fn execute(&self, future: F) {
        drop(self.0.service("hyper", future));
    }
}

/// Serves HTTP/2 without TLS; gives its base URL.
async fn h2<F, Fut>(n: &Scope, answer: F) -> String
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = String> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let scope = n.clone();
    let serving = async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(answered.await))) }
            });
            let http = http2::Builder::new(InScope(scope.clone()));
            let connection = http.serve_connection(TokioIo::new(stream), service);
            drop(scope.service("h2 connection", async move { drop(connection.await) }));
        }
    };
    drop(n.service("h2 server", serving).unwrap());
    base
}

/// A connection that takes one write. The next write fails, and the answer can be read from then on.
struct OneWrite {
    written: usize,
    answer: &'static [u8],
}

impl AsyncRead for OneWrite {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.written < 2 {
            return Poll::Pending;
        }
        buf.put_slice(std::mem::take(&mut self.answer));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for OneWrite {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.written += 1;
        if self.written == 1 {
            return Poll::Ready(Ok(buf.len()));
        }
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn answer_that_arrived_before_a_reset_reaches_the_caller() {
    test(async |n| {
        for (answer, expected) in [
            ("HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\n\r\nlarge", Some((413, "large".into()))),
            ("HTTP/1.1 410 Gone\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", Some((410, "".into()))),
            ("", None),
        ] {
            let dial = async move |_| Ok(OneWrite { written: 0, answer: answer.as_bytes() });
            let connections = Connections::builder(n).connect_by(dial).build().unwrap();
            let answered = exchange(&connections, post("http://host", Body::from(vec![1; 8 << 20]))).await;
            match (answered, expected) {
                (Ok(answered), Some(expected)) => assert_eq!(answered, expected),
                (Err(SendError::Transport(error)), None) => {
                    assert!(format!("{error:?}").contains("ConnectionReset"), "{error:?}");
                }
                wrong => panic!("{wrong:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn connection_opened_by_a_body_outlives_the_call_of_the_body() {
    test(async |n| {
        let (shared, asked, go_on) = holding(n).await;
        let (silent, _) = scripted(n, async |_: Connection| std::future::pending().await).await;
        let source = Connections::builder(n).versions(Versions::Http2).build().unwrap();
        let opened = Arc::new(Notify::new());
        let body = {
            let (source, opened, shared) = (source.clone(), Arc::clone(&opened), shared.clone());
            Body::stream(try_generator(async move |mut y: Yielder<Bytes>| {
                let first = Request::get(format!("{shared}/first")).body(Body::empty()).unwrap();
                y.emit(exchange(&source, first).await?.1).await;
                opened.notify_one();
                std::future::pending::<()>().await;
                Ok::<_, SendError>(())
            }))
        };
        let connections = Connections::builder(n).build().unwrap();
        let upload = async {
            drop(race(connections.send(post(&silent, body)), asked.notified()).await);
            go_on.notify_one();
        };
        let beside = async {
            opened.notified().await;
            exchange(&source, post(&shared, Body::from("x"))).await
        };
        let (answered, ()) = tokio::join!(beside, upload);
        assert_eq!(answered.unwrap(), (200, "answer".into()));
    })
    .await;
}

/// Serves HTTP/2: a call of `/hook` is answered once it may go on.
async fn holding(n: &Scope) -> (String, Arc<Notify>, Arc<Notify>) {
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (asks, goes_on) = (Arc::clone(&asked), Arc::clone(&go_on));
    let base = h2(n, move |request| {
        let (asks, goes_on) = (Arc::clone(&asks), Arc::clone(&goes_on));
        async move {
            if request.uri().path() == "/hook" {
                asks.notify_one();
                goes_on.notified().await;
            }
            "answer".to_owned()
        }
    })
    .await;
    (base, asked, go_on)
}

#[tokio::test]
async fn http2_connection_that_waits_for_a_response_stays_open() {
    test(async |n| {
        let builder = || Connections::builder(n).versions(Versions::Http2);
        for (builder, is_limited) in
            [(builder().max_age(Duration::ZERO), false), (builder().max_open(1), true)]
        {
            let (base, asked, go_on) = holding(n).await;
            let (other, ..) = holding(n).await;
            let connections = builder.build().unwrap();
            let get = |base: &str| Request::get(format!("{base}/first")).body(Body::empty()).unwrap();
            let others = async {
                asked.notified().await;
                assert_eq!(exchange(&connections, get(&base)).await.unwrap(), (200, "answer".into()));
                let refused = exchange(&connections, get(&other)).await;
                assert_eq!(refused.is_err(), is_limited, "{refused:?}");
                go_on.notify_one();
            };
            let (held, ()) = tokio::join!(exchange(&connections, post(&base, Body::from("x"))), others);
            assert_eq!(held.unwrap(), (200, "answer".into()));
            // All of its requests have ended: now it gives up its slot.
            assert_eq!(exchange(&connections, get(&other)).await.unwrap(), (200, "answer".into()));
        }
    })
    .await;
}

#[tokio::test]
async fn large_answer_of_an_old_http2_connection_arrives_whole() {
    test(async |n| {
        let base = h2(n, async |_: Request<Incoming>| "x".repeat(300_000)).await;
        let connections =
            Connections::builder(n).versions(Versions::Http2).max_age(Duration::ZERO).build().unwrap();
        for _ in 0..5 {
            let (status, body) = exchange(&connections, post(&base, Body::from("x"))).await.unwrap();
            assert_eq!((status, body.len()), (200, 300_000));
        }
        // The last handle is gone before the body has been read.
        let answer = connections.send(post(&base, Body::from("x"))).await.unwrap();
        drop(connections);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 300_000);
    })
    .await;
}

#[tokio::test]
async fn reset_by_the_server_is_no_refusal_on_an_old_connection() {
    test(async |n| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let serving = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut http = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_request, mut respond))) = http.accept().await {
                    respond.send_reset(h2::Reason::INTERNAL_ERROR);
                }
            }
        };
        drop(n.service("resetting server", serving));
        let connections =
            Connections::builder(n).versions(Versions::Http2).max_age(Duration::ZERO).build().unwrap();
        for _ in 0..5 {
            let error = exchange(&connections, post(&base, Body::from("x"))).await.unwrap_err();
            assert!(matches!(error, SendError::Transport(_)), "the server has it: {error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn http2_connection_of_a_cancelled_request_gives_up_its_slot() {
    test(async |n| {
        let (base, asked, _go_on) = holding(n).await;
        let (other, ..) = holding(n).await;
        let connections = Connections::builder(n).versions(Versions::Http2).max_open(1).build().unwrap();
        let held = connections.send(post(&base, Body::from("x")));
        assert!(matches!(race(held, asked.notified()).await, Either::Right(())));
        let get = || Request::get(format!("{other}/first")).body(Body::empty()).unwrap();
        // The reset is written by the task of the connection.
        while exchange(&connections, get()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn connections_closed_by_the_server_free_their_part_of_max_open() {
    test(async |n| {
        let (closing, _) = scripted(n, async |mut connection: Connection| {
            connection.request().await;
            connection.answer("200 OK\r\nconnection: close", "hello").await;
        })
        .await;
        let keeping = async |mut connection: Connection| {
            while connection.request().await.is_some() {
                connection.answer("200 OK", "hello").await;
            }
        };
        let (first, _) = scripted(n, keeping).await;
        let (second, _) = scripted(n, keeping).await;
        let connections = Connections::builder(n).max_open(1).build().unwrap();
        // More than the idle connections that are closed for a new one.
        for _ in 0..50 {
            exchange(&connections, post(&closing, Body::from("event"))).await.unwrap();
        }
        for keeping in [first, second] {
            let answered = exchange(&connections, post(&keeping, Body::from("event"))).await;
            assert_eq!(answered.unwrap(), (200, "hello".into()));
        }
    })
    .await;
}

#[tokio::test]
async fn failed_http2_body_is_a_request_body_error_with_its_cause() {
    test(async |n| {
        let base = h2(n, async |request: Request<Incoming>| {
            let received = request.into_body().collect().await;
            received.is_ok().to_string()
        })
        .await;
        let connections = Connections::builder(n).versions(Versions::Http2).build().unwrap();
        for chunks in 0..3 {
            let breaks = try_generator(async move |mut y: Yielder<Bytes>| {
                for _ in 0..chunks {
                    y.emit(Bytes::from_static(b"ev")).await;
                    tokio::task::yield_now().await;
                }
                Err(io::Error::other("the disk is gone"))
            });
            let failed = exchange(&connections, post(&base, Body::stream(breaks))).await;
            let Err(SendError::RequestBody(error)) = failed else { panic!("{failed:?}") };
            assert_eq!(error.to_string(), "the disk is gone");
        }
        // Only their streams were reset.
        let answered = exchange(&connections, post(&base, Body::from("event"))).await.unwrap();
        assert_eq!(answered, (200, "true".into()));
    })
    .await;
}

#[tokio::test]
async fn empty_chunks_of_an_http2_body_are_not_sent() {
    test(async |n| {
        let base = h2(n, async |request: Request<Incoming>| {
            let (mut body, mut frames) = (request.into_body(), 0);
            while let Some(Ok(_)) = body.frame().await {
                frames += 1;
            }
            format!("{frames} frames")
        })
        .await;
        let connections = Connections::builder(n).versions(Versions::Http2).build().unwrap();
        let mostly_empty = try_generator(async |mut y: Yielder<Bytes>| {
            for _ in 0..5_000 {
                y.emit(Bytes::new()).await;
            }
            y.emit(Bytes::from_static(b"event")).await;
            Ok::<_, Infallible>(())
        });
        let answered = exchange(&connections, post(&base, Body::stream(mostly_empty))).await.unwrap();
        // The last one has no data: it ends the stream.
        assert!(["1 frames", "2 frames"].map(Bytes::from).contains(&answered.1), "{answered:?}");
    })
    .await;
}

/// A stream without end, which is always ready.
struct Endless;

impl Stream for Endless {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(Bytes::new())))
    }
}

#[tokio::test]
async fn endless_body_of_empty_chunks_lets_its_call_time_out() {
    test(async |n| {
        let (base, _) = scripted(n, async |mut connection: Connection| connection.closed().await).await;
        for versions in [Versions::Http1, Versions::Http2] {
            let connections = Connections::builder(n).versions(versions).build().unwrap();
            let sent = connections.send(post(&base, Body::stream(Endless)));
            assert!(timeout(Duration::from_millis(50), sent).await.is_err());
        }
    })
    .await;
}

#[tokio::test]
async fn content_length_other_than_that_of_the_body_is_refused() {
    test(async |n| {
        let (base, dialled) = scripted(n, async |mut connection: Connection| connection.closed().await).await;
        for versions in [Versions::Http1, Versions::Http2] {
            let connections = Connections::builder(n).versions(versions).build().unwrap();
            for (length, body) in [("10", "hello"), ("3", "hello"), ("0", "hello"), ("5", "")] {
                let mut request = post(&base, Body::from(body));
                request.headers_mut().insert("content-length", length.parse().unwrap());
                let error = connections.send(request).await.unwrap_err();
                assert!(matches!(error, SendError::RequestBody(_)), "{error:?}");
            }
        }
        assert_eq!(dialled.load(std::sync::atomic::Ordering::SeqCst), 0);
    })
    .await;
}
