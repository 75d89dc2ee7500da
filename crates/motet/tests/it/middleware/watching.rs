//! Parts that observe calls.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use motet::middleware::{
    CallEnd, Chain, Handler, Metrics, Next, PanicError, catch_panic, catch_panic_with, metrics, metrics_with,
    trace, watch,
};
use motet::resilience::Verdict;
use motet::task::{Nursery, scope, timeout};
use tokio::time::sleep;

use super::Noting;
use crate::notes::Log;

const SECOND: Duration = Duration::from_secs(1);

/// Answers, fails, hangs or panics after a second.
async fn any(n: u32) -> Result<u32, &'static str> {
    sleep(SECOND).await;
    match n {
        0 => Err("nothing"),
        1 => pending().await,
        2 => panic!("broken"),
        n => Ok(n),
    }
}

/// Calls the handler once per outcome, and gives up after two seconds.
async fn call_all(handler: &Handler<u32, Result<u32, &'static str>>) {
    for n in 0..4 {
        let _ = outcome(timeout(SECOND * 2, handler.call(n))).await;
    }
}

/// Returns the output of `future`, or `None` if it panicked.
async fn outcome<F>(future: F) -> Option<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let options = motet::task::Scope::builder().policy(motet::task::Policy::Isolate);
    let outcome = options.run(async |n: &Nursery| Ok(n.spawn("call", future).await.ok())).await;
    outcome.ok().flatten()
}

#[tokio::test(start_paused = true)]
async fn watch_reports_each_kind_of_end_with_its_duration() {
    let log = Log::default();
    let noted = log.clone();
    let listener = move |end: CallEnd<'_, Result<u32, &'static str>>, took: Duration| {
        let how = match end {
            CallEnd::Answered(Ok(n)) => format!("answered {n}"),
            CallEnd::Answered(Err(error)) => format!("failed: {error}"),
            CallEnd::Dropped => "dropped".to_owned(),
            CallEnd::Panicked => "panicked".to_owned(),
        };
        noted.note(format!("{how} after {} s", took.as_secs()));
    };
    call_all(&Chain::new().with(watch(listener)).to(any)).await;
    let expected =
        ["failed: nothing after 1 s", "dropped after 2 s", "panicked after 1 s", "answered 3 after 1 s"];
    assert_eq!(log.read(), expected);
}

#[tokio::test]
async fn panic_of_a_watch_listener_leaves_the_call_intact() {
    let handler = Chain::new().with(watch(|_: CallEnd<'_, u32>, _| panic!("listener"))).to(async |n: u32| n);
    assert_eq!(handler.call(1).await, 1);
    let mut call = handler.call(1);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    drop(handler);
    assert!(call.as_mut().poll(&mut cx).is_ready());
}

#[tokio::test(start_paused = true)]
async fn metrics_count_calls_in_flight_and_ended_and_their_latency() {
    let calls = Metrics::new();
    let handler = Chain::new().with(metrics(&calls)).to(any);
    let in_flight = handler.call(1);
    let mut in_flight = std::pin::pin!(in_flight);
    assert!(waits(in_flight.as_mut()).await);
    call_all(&handler).await;
    let seen = calls.stats();
    assert_eq!((seen.begun, seen.in_flight, seen.succeeded, seen.failed), (5, 1, 1, 1));
    assert_eq!((seen.ignored, seen.dropped, seen.panicked), (0, 1, 1));
    let (p50, p99) = (seen.p50.unwrap().as_secs_f64(), seen.p99.unwrap().as_secs_f64());
    assert!((1.0..1.125).contains(&p50) && (2.0..2.25).contains(&p99), "{p50} {p99}");
}

/// Polls the future once. Returns `true` if it is pending.
async fn waits<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn metrics_are_in_snapshots_until_their_registration_is_dropped() {
    let calls = Metrics::new();
    let part = metrics_with(&calls, |answer: &u32| match answer {
        0 => Verdict::Failure,
        1 => Verdict::Ignore,
        _ => Verdict::Success,
    });
    let handler = Chain::new().with(part).to(async |n: u32| n);
    for n in 0..5 {
        assert_eq!(handler.call(n).await, n);
    }
    scope(async |n: &Nursery| {
        let shown = calls.register(n, "users");
        let text = n.snapshot().to_string();
        assert!(
            text.contains("calls `users`: begun 5, in_flight 0, succeeded 3, failed 1, ignored 1"),
            "{text}"
        );
        drop(shown);
        assert!(n.snapshot().components.is_empty());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn catch_panic_turns_a_panic_into_an_answer() {
    let log = Log::default();
    let handler = Chain::new()
        .with(catch_panic_with(|panicked: PanicError| panicked.message().to_owned()))
        .with(Noting("inside", log.clone()))
        .to(async |n: u32| {
            assert!(n > 0, "{n} is too little");
            n.to_string()
        });
    assert_eq!(handler.call(0).await, "0 is too little");
    assert_eq!(log.read(), ["inside begins", "inside dropped"]);
    assert_eq!(handler.call(1).await, "1");
    assert_eq!(handler.describe().to_string(), "catch_panic > inside > closure");
}

#[tokio::test]
async fn catch_panic_answers_though_its_payload_panics_on_drop() {
    struct Mine;
    impl Drop for Mine {
        fn drop(&mut self) {
            panic!("in the drop of the payload");
        }
    }
    let handler = Chain::new()
        .with(catch_panic_with(|_: PanicError| 0))
        .to(async |n: u32| if n == 0 { std::panic::panic_any(Mine) } else { n });
    assert_eq!((handler.call(0).await, handler.call(1).await), (0, 1));
}

#[tokio::test]
async fn catch_panic_catches_a_panic_outside_of_a_future() {
    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error(transparent)]
    struct Failed(#[from] PanicError);
    let forward = |n: u32, next: Next<u32, Result<u32, Failed>>| {
        assert!(n > 0, "nothing");
        next.run(n)
    };
    let handler = Chain::new().with(catch_panic()).with(forward).to(async |n| Ok(n));
    assert_eq!(handler.call(0).await.unwrap_err().to_string(), "the call panicked: nothing");
    assert_eq!(handler.call(1).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn trace_makes_a_span_per_call_and_logs_how_the_call_ended() {
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata};

    struct Seen(Log, AtomicU32);
    impl tracing::Subscriber for Seen {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().contains("middleware")
        }
        fn new_span(&self, attributes: &Attributes<'_>) -> Id {
            self.0.note(format!("span {}", attributes.metadata().name()));
            Id::from_u64(u64::from(self.1.fetch_add(1, Ordering::Relaxed)) + 1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            struct Text(String);
            impl tracing::field::Visit for Text {
                fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                    if field.name() == "message" {
                        self.0 = format!("{value:?}");
                    }
                }
            }
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.note(text.0);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    let log = Log::default();
    let handler = Chain::new().with(trace(|n: &u32| tracing::info_span!("user", n))).to(async |n: u32| {
        sleep(SECOND).await;
        n
    });
    assert_eq!(handler.call(1).await, 1);
    let subscriber = Arc::new(Seen(log.clone(), AtomicU32::new(0)));
    let _guard = tracing::subscriber::set_default(subscriber);
    assert_eq!(handler.call(1).await, 1);
    assert!(timeout(SECOND / 2, handler.call(1)).await.is_err());
    assert_eq!(log.read(), ["span user", "the call returned", "span user", "the call was dropped"]);
}
