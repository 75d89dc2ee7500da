//! A used resource is released once, however its caller ends: in its opening, its use or its release.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, pending};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use motet::resource::{Exit, ResourceError, resource};
use motet::task::{Nursery, Policy, Reason, Scope, ScopeError, scope};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use crate::caught::caught;
use crate::notes::{Log, Noted};

const SECOND: Duration = Duration::from_secs(1);

/// Opens in a second, is used for a second, and is released in a second.
async fn three_seconds(log: Log) -> Result<(), ResourceError<Infallible>> {
    let (opening, using, closing) = (log.clone(), log.clone(), log);
    resource(async move {
        sleep(SECOND).await;
        opening.note("open");
        Ok(())
    })
    .release(async move |(), exit: Exit| {
        closing.note(format!("release: {exit}"));
        sleep(SECOND).await;
        closing.note("released");
    })
    .with(async move |()| {
        sleep(SECOND).await;
        using.note("used");
        Ok(())
    })
    .await
}

/// The notes if the caller ends after half a second, after one and a half, and after two and a half.
const ENDS: [&[&str]; 3] = [
    &["open", "release: cancelled", "released"],
    &["open", "release: cancelled", "released"],
    &["open", "used", "release: ok", "released"],
];

#[tokio::test(start_paused = true)]
async fn resource_is_released_once_whenever_its_caller_is_dropped() {
    for (seconds, expected) in (0..).zip(ENDS) {
        let log = Log::default();
        let mut counts = None;
        scope(async |n: &Nursery| {
            counts = Some(Scope::clone(n));
            let used = timeout(SECOND * seconds + SECOND / 2, three_seconds(log.clone())).await;
            assert!(used.is_err());
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(log.read(), expected, "{seconds}");
        let counts = counts.unwrap().release_counts();
        assert_eq!((counts.started, counts.finished, counts.timed_out, counts.lost), (1, 1, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn resource_is_released_once_whenever_its_scope_is_cancelled() {
    for (seconds, expected) in (0..).zip(ENDS) {
        for late in [false, true] {
            let (log, after) = (Log::default(), SECOND * seconds + SECOND / 2);
            let builder = if late { Scope::builder().timeout(after) } else { Scope::builder() };
            let ended = builder.run(async |n: &Nursery| {
                let canceller = Scope::clone(n);
                n.spawn("cancels", async move {
                    sleep(after).await;
                    canceller.cancel(Reason::requested("enough"));
                });
                three_seconds(log.clone()).await.map_err(|error| panic!("{error}"))
            });
            let ended = ended.await.unwrap_err();
            assert_eq!(ended.is_deadline(), late);
            assert_eq!(log.read(), expected, "{seconds}, {late}");
        }
    }
}

/// The task that continues the release has the time that is left, not the whole timeout.
#[tokio::test(start_paused = true)]
async fn release_timeout_counts_from_the_begin_of_the_release() {
    let begin = Instant::now();
    let mut counts = None;
    let ended = scope(async |n: &Nursery| {
        counts = Some(Scope::clone(n));
        let hangs = resource(async { Ok::<_, Infallible>(()) })
            .release(async |(), _| pending::<()>().await)
            .name("hangs")
            .release_timeout(SECOND * 3)
            .with(async |()| Ok(()));
        assert!(timeout(SECOND * 2, hangs).await.is_err());
        Ok(())
    })
    .await;
    assert_eq!(begin.elapsed(), SECOND * 3);
    let Err(ScopeError::Release(failed)) = ended else { panic!("{ended:?}") };
    assert!(failed[0].is_timeout() && failed[0].resource() == "hangs");
    let counts = counts.unwrap().release_counts();
    assert_eq!((counts.started, counts.finished, counts.timed_out, counts.lost), (1, 0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn release_that_waits_exceeds_a_timeout_of_zero_and_not_of_max() {
    for (limit, is_late) in [(Duration::ZERO, true), (Duration::MAX, false)] {
        let used = resource(async { Ok::<_, Infallible>(()) })
            .release(async |(), _| sleep(SECOND * 1_000_000).await)
            .release_timeout(limit)
            .with(async |()| Ok(()));
        match used.await {
            Ok(()) => assert!(!is_late),
            Err(ResourceError::Release(failed)) => assert!(is_late && failed.is_timeout()),
            Err(other) => panic!("{other}"),
        }
    }
}

/// A future that is ready at once, and panics in its drop.
struct PanicsInDrop(bool);

impl Future for PanicsInDrop {
    type Output = Result<(), Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        if self.0 {
            std::panic::panic_any("drop");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn panic_while_opening_is_a_panic_of_the_scope() {
    for dropped in [false, true] {
        let log = Log::default();
        let ended = caught(scope(async |_: &Nursery| {
            let opening = async {
                sleep(SECOND).await;
                std::panic::panic_any("open")
            };
            let noted = log.clone();
            let used = resource(opening)
                .release(async move |(), _| noted.note("released"))
                .with(async |()| Ok::<_, Infallible>(()));
            match timeout(if dropped { SECOND / 2 } else { SECOND * 2 }, used).await {
                Err(_) => assert!(dropped),
                Ok(ended) => assert!(!dropped && matches!(ended, Err(ResourceError::OpenEnded))),
            }
            Ok(())
        }));
        assert_eq!(ended.await.unwrap_err().downcast_ref(), Some(&"open"));
        assert!(log.read().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn resource_is_released_though_the_drop_of_its_opening_panics() {
    let log = Log::default();
    let ended = Scope::builder().policy(Policy::Isolate).run(async |_: &Nursery| {
        let noted = log.clone();
        let used = resource(PanicsInDrop(true))
            .release(async move |(), exit: Exit| noted.note(format!("release: {exit}")))
            .with(async |()| Ok(()));
        used.await.unwrap();
        Ok(())
    });
    ended.await.unwrap();
    assert_eq!(log.read(), ["release: ok"]);
}

#[tokio::test(start_paused = true)]
async fn panic_of_a_closure_without_a_future_is_a_panic_of_the_use() {
    let log = Log::default();
    let noted = log.clone();
    let used = resource(async { Ok::<_, Infallible>(()) })
        .release(async move |(), exit: Exit| noted.note(format!("release: {exit}")))
        .with(|(): &mut ()| -> Ready<Result<(), Infallible>> { std::panic::panic_any("use") });
    assert_eq!(caught(used).await.unwrap_err().downcast_ref(), Some(&"use"));
    assert_eq!(log.read(), ["release: panic"]);
}

/// In the closure, in its future, and in the drop of that future.
#[tokio::test(start_paused = true)]
async fn panic_of_a_release_is_its_error() {
    let used = resource(async { Ok::<_, Infallible>(()) });
    let closure =
        used.release(|(), _| -> Ready<()> { std::panic::panic_any("release") }).with(async |()| Ok(())).await;
    let future = resource(async { Ok::<_, Infallible>(()) })
        .release(async |(), _| -> () { std::panic::panic_any("release") })
        .with(async |()| Ok(()))
        .await;
    let dropped = resource(async { Ok::<_, Infallible>(()) })
        .release(|(), _| PanicsInDrop(true))
        .with(async |()| Ok(()))
        .await;
    for (ended, message) in [(closure, "release"), (future, "release"), (dropped, "drop")] {
        let ResourceError::Release(failed) = ended.unwrap_err() else { panic!("not of the release") };
        assert!(failed.is_panic());
        assert_eq!(failed.source().unwrap().to_string(), format!("it panicked: {message}"));
    }
}

#[test]
fn release_cut_off_by_the_end_of_its_runtime_counts_as_lost() {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let log = Log::default();
    let mut counts = None;
    runtime.block_on(async {
        let scoped = Box::pin(scope(async |n: &Nursery| {
            counts = Some(Scope::clone(n));
            for seconds in 0..3 {
                n.spawn("uses", {
                    let log = log.clone();
                    async move {
                        let _ = timeout(SECOND * seconds + SECOND / 2, three_seconds(log)).await;
                    }
                });
            }
            pending::<Result<(), Infallible>>().await
        }));
        assert!(timeout(SECOND * 2 + SECOND * 3 / 4, scoped).await.is_err());
    });
    drop(runtime);
    let counts = counts.unwrap().release_counts();
    // The last of the three: the releases of the first and the second have ended at 2 s and 2.5 s.
    assert_eq!((counts.started, counts.finished, counts.timed_out, counts.lost), (3, 2, 0, 1));
}

/// A use that never waits takes part in the budget of its task.
#[tokio::test]
async fn loop_of_ready_uses_lets_other_tasks_run() {
    let log = Log::default();
    let uses = async {
        let _ended: Noted = log.at_drop("uses ended");
        for _ in 0..10_000 {
            let used = resource(async { Ok::<_, Infallible>(()) }).release(async |(), _| ());
            used.with(async |()| Ok(())).await.unwrap();
        }
    };
    let others = async {
        yield_now().await;
        log.note("other task");
    };
    tokio::join!(uses, others);
    assert_eq!(log.read(), ["other task", "uses ended"]);
}
