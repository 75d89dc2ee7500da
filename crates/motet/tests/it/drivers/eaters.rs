//! A budget eater beside everything of the library that polls foreign work: what stands beside it gets its turn.
#![allow(clippy::unit_arg, reason = "the value of a future that never ends is not looked at")]

use std::convert::Infallible;
use std::future::{Ready, pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use motet::resilience::{Hedge, Pipeline};
use motet::run::{App, ExitOutcome, Root};
use motet::stream::StreamCombinators as _;
use motet::task::{CancelToken, Either, Nursery, Reason, Scope, race, race_all, scope, timeout};
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::{consume_budget, coop};
use tokio::time::{Instant, advance, sleep};
use tokio_stream::{Stream, StreamExt as _};

use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver { drives: &[], cancel, sweep };

#[test]
fn future_beside_one_that_eats_the_coop_budget_gets_its_turn() {
    passes(sweep);
}

/// Uses up the budget of its task at every poll, without end. A millisecond passes at each poll: there is always a task to
/// run, so a paused clock does not move by itself.
struct Eater(Pin<Box<dyn Future<Output = ()> + Send>>);

fn eater() -> Eater {
    Eater(Box::pin(coop::unconstrained(advance(millis(1)))))
}

impl Eater {
    fn eat(&mut self, cx: &mut Context<'_>) {
        if self.0.as_mut().poll(cx).is_ready() {
            *self = eater();
        }
        while coop::has_budget_remaining() {
            let _ate = pin!(consume_budget()).poll(cx);
        }
        cx.waker().wake_by_ref();
    }
}

impl Future for Eater {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.eat(cx);
        Poll::Pending
    }
}

/// A stream of one item, and of no other.
struct EatenStream(Eater, Option<u32>);

impl Stream for EatenStream {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        if let Some(item) = self.1.take() {
            return Poll::Ready(Some(item));
        }
        self.0.eat(cx);
        Poll::Pending
    }
}

/// A future that takes part in tokio's budget, like a channel or a timer.
async fn in_budget() {
    for _ in 0..3 {
        consume_budget().await;
    }
}

const SOON: Duration = millis(20);

fn cancel() {}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let begun = Instant::now();
        match draw(12) {
            0 => assert!(timeout(SOON, eater()).await.is_err()),
            1 => assert_eq!(race(eater(), in_budget()).await, Either::Right(())),
            2 => {
                let all: [Pin<Box<dyn Future<Output = ()>>>; 4] =
                    [Box::pin(eater()), Box::pin(pending()), Box::pin(eater()), Box::pin(in_budget())];
                assert_eq!(race_all(all).await, Some((3, ())));
            }
            3 => {
                let late = Scope::builder().timeout(SOON).run(async |_: &Nursery<Infallible>| {
                    eater().await;
                    Ok(())
                });
                assert!(late.await.unwrap_err().is_deadline());
            }
            4 => {
                let ended = Scope::builder().grace(SOON).run(async |n: &Nursery<Infallible>| {
                    n.spawn_coop("eats", async |_cx: CancelToken| eater().await);
                    sleep(millis(1)).await;
                    n.cancel(Reason::requested("enough"));
                    Ok(())
                });
                drop(ended.await);
            }
            5 => hedged().await,
            6 => {
                let mut chunks = pin!(EatenStream(eater(), Some(1)).chunks_within(10, SOON).unwrap());
                assert_eq!(chunks.next().await, Some(vec![1]));
            }
            7 => {
                let mut last = pin!(EatenStream(eater(), Some(1)).debounce(SOON));
                assert_eq!(last.next().await, Some(1));
            }
            8 => {
                let token = CancelToken::new();
                let mut items = pin!(EatenStream(eater(), None).until(token.clone()));
                assert!(poll_fn(|cx| Poll::Ready(items.as_mut().poll_next(cx).is_pending())).await);
                token.cancel(Reason::requested("enough"));
                assert_eq!(items.next().await, None);
            }
            9 => {
                let policies = Pipeline::new().timeout(SOON);
                policies.run(|| async { Ok::<_, Infallible>(eater().await) }).await.unwrap_err();
            }
            10 => told_to_stop().await,
            _ => gives_up().await,
        }
        assert!(begun.elapsed() < millis(2_000), "{:?}", begun.elapsed());
    })
}

/// The second attempt begins, and answers.
async fn hedged() {
    let first = AtomicBool::new(true);
    let policies = Pipeline::new().hedge(Hedge::after(SOON).without_budget());
    let answer = policies
        .run(|| {
            let is_first = first.swap(false, Ordering::Relaxed);
            async move {
                if is_first {
                    eater().await;
                }
                in_budget().await;
                Ok::<_, Infallible>(2)
            }
        })
        .await;
    assert_eq!(answer.unwrap(), 2);
}

/// The body uses up the budget while the program shuts down.
async fn told_to_stop() {
    let stop = async {
        sleep(SOON).await;
        Reason::requested("enough")
    };
    let finished =
        App::new().name("eats").run_until(stop, async |_: &Root<Infallible>| Ok(eater().await)).await;
    assert!(matches!(finished.outcome, ExitOutcome::Stopped));
}

/// A child uses up the budget, and does not end.
async fn gives_up() {
    let app = App::new().name("eats").phase("drain", SOON).total(SOON * 5).work(SOON);
    let stop: Ready<Reason> = ready(Reason::requested("enough"));
    let finished = app.run_until(stop, async |root: &Root<Infallible>| {
        root.in_phase("drain").service_coop("eats", async |_| eater().await);
        Ok(eater().await)
    });
    let outcome = finished.await.outcome;
    assert!(matches!(outcome, ExitOutcome::Stopped | ExitOutcome::GaveUp { .. }), "{outcome:?}");
    let _waited = scope(async |_: &Nursery<Infallible>| Ok(Arc::new(()))).await;
}
