//! A call that is dropped, and a scope that ends.

use std::future::{Future as _, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use motet::task::{CancelToken, Either, Nursery, Reason, race, scope};
use tokio::sync::Notify;

use crate::harness::{Connection, builder, client, scripted, serve, test};

/// The events on the server's side.
#[derive(Default)]
struct Seen {
    request: Notify,
    closed: Notify,
}

async fn hangs(n: &Nursery, begins_to_answer: bool) -> (String, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let tells = Arc::clone(&seen);
    let script = move |mut connection: Connection| {
        let tells = Arc::clone(&tells);
        async move {
            if connection.request().await.is_some() {
                if begins_to_answer {
                    connection.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
                }
                tells.request.notify_one();
                connection.closed().await;
                tells.closed.notify_one();
            }
        }
    };
    let (base, _) = scripted(n, script).await;
    (base, seen)
}

#[tokio::test]
async fn dropped_call_closes_its_connection() {
    test(async |n| {
        for begins_to_answer in [false, true] {
            let (base, seen) = hangs(n, begins_to_answer).await;
            let api = builder(n, &base).max_in_flight(1, 0).build().unwrap();
            match race(api.get("/").fetch(), seen.request.notified()).await {
                Either::Right(()) => {}
                Either::Left(done) => panic!("{done:?}"),
            }
            seen.closed.notified().await;
            assert_eq!(api.stats().in_flight, 0);
        }
    })
    .await;
}

#[tokio::test]
async fn answer_dropped_before_its_end_closes_its_connection() {
    test(async |n| {
        let (base, seen) = hangs(n, true).await;
        let api = client(n, &base);
        let mut answer = api.get("/").send().await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "hello");
        drop(answer);
        seen.closed.notified().await;
    })
    .await;
}

#[tokio::test]
async fn connections_end_with_the_scope_of_their_client() {
    test(async |n| {
        // One that is idle.
        let closed = Arc::new(Notify::new());
        let closes = Arc::clone(&closed);
        let script = move |mut connection: Connection| {
            let closes = Arc::clone(&closes);
            async move {
                while connection.request().await.is_some() {
                    connection.answer("200 OK", "hello").await;
                }
                closes.notify_one();
            }
        };
        let (idle, _) = scripted(n, script).await;
        scope(async |inner: &Nursery| {
            let api = client(inner, &idle);
            assert_eq!(api.get("/").fetch_bytes().await.unwrap(), "hello");
            assert!(inner.snapshot().to_string().contains("http connection"), "{}", inner.snapshot());
            Ok(())
        })
        .await
        .unwrap();
        closed.notified().await;
        // One whose call belongs to a task of the scope, which is cancelled.
        let (base, seen) = hangs(n, false).await;
        let stopped = scope(async |inner: &Nursery| {
            let api = client(inner, &base);
            inner.spawn("call", async move { drop(api.get("/").fetch().await) });
            seen.request.notified().await;
            inner.cancel(Reason::requested("enough"));
            std::future::pending::<()>().await;
            Ok(())
        });
        assert!(stopped.await.unwrap_err().is_cancelled());
        seen.closed.notified().await;
    })
    .await;
}

#[tokio::test]
async fn end_of_the_clients_scope_fails_a_call_of_another_scope() {
    test(async |n| {
        let (base, seen) = hangs(n, false).await;
        let over = CancelToken::new();
        let (sender, client_of) = tokio::sync::oneshot::channel();
        let stop = over.clone();
        let owner = n.spawn("owner", async move {
            let lives = scope(async |inner: &Nursery| {
                drop(sender.send(client(inner, &base)));
                stop.cancelled().await;
                Ok(())
            });
            lives.await.unwrap();
        });
        let api = client_of.await.unwrap();
        let call = n.spawn("call", async move { api.get("/").once().fetch().await });
        seen.request.notified().await;
        over.cancel(Reason::requested("enough"));
        owner.await.unwrap();
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), motet_http::ErrorKind::Closed), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn call_dropped_after_any_poll_frees_its_slot() {
    test(async |n| {
        let base = serve(n, Router::new().route("/", get(async || "hello"))).await;
        // Over one connection that is kept, and over a new one each time.
        for idle in [Duration::from_secs(30), Duration::ZERO] {
            let api = builder(n, &base).max_in_flight(1, 0).idle_timeout(idle).build().unwrap();
            let (mut polls, mut is_done) = (0, false);
            while !is_done {
                let mut call = Box::pin(api.get("/").fetch_bytes());
                let mut left = polls;
                is_done = poll_fn(|cx| match call.as_mut().poll(cx) {
                    Poll::Ready(done) => {
                        assert_eq!(done.unwrap(), "hello");
                        Poll::Ready(true)
                    }
                    Poll::Pending if left == 0 => Poll::Ready(false),
                    Poll::Pending => {
                        left -= 1;
                        Poll::Pending
                    }
                })
                .await;
                drop(call);
                assert_eq!(api.stats().in_flight, 0, "after {polls} polls");
                polls += 1;
            }
            assert!(polls > 1, "it was never dropped while it waited");
        }
    })
    .await;
}
