//! Timeouts: when the clock runs, and that the future is gone when it is over.

use std::future::{pending, poll_fn, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use motet::task::{timeout, timeout_at};
use tokio::sync::Mutex;
use tokio::task::coop::poll_proceed;
use tokio::time::{Instant, advance, sleep};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_future_that_is_ready_needs_a_clock_or_a_timer() {
    // No runtime at all: reading tokio's clock would do, arming a timer would panic.
    let mut ready = pin!(timeout(SECOND, ready(7)));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(ready.as_mut().poll(&mut cx), Poll::Ready(Ok(7)));
}

#[tokio::test(start_paused = true)]
async fn time_is_up_too_early_or_too_late() {
    let begin = Instant::now();
    assert!(timeout(SECOND, pending::<()>()).await.is_err());
    assert_eq!(begin.elapsed(), SECOND);
    assert!(timeout(SECOND, sleep(SECOND / 2)).await.is_ok());
    assert_eq!(begin.elapsed(), SECOND * 3 / 2);
    assert!(timeout_at(begin + SECOND * 2, pending::<()>()).await.is_err());
    assert_eq!(begin.elapsed(), SECOND * 2);
}

#[tokio::test(start_paused = true)]
async fn time_runs_before_the_first_poll() {
    let later = timeout(SECOND * 2, sleep(SECOND));
    advance(SECOND * 5).await;
    assert!(later.await.is_ok());
    let begin = Instant::now();
    let later = timeout(SECOND, pending::<()>());
    advance(SECOND * 5).await;
    assert!(later.await.is_err());
    assert_eq!(begin.elapsed(), SECOND * 6);
}

#[tokio::test(start_paused = true)]
async fn a_future_ready_when_time_is_up_loses_its_value() {
    let deadline = Instant::now() + SECOND;
    assert!(timeout(SECOND, sleep(SECOND)).await.is_ok());
    advance(SECOND).await;
    // The deadline has passed, yet what is ready counts; what is not, is over at once.
    assert_eq!(timeout_at(deadline, ready(3)).await, Ok(3));
    assert!(timeout_at(deadline, pending::<()>()).await.is_err());
    assert!(timeout(Duration::ZERO, pending::<()>()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_future_is_still_there_when_the_error_is_seen() {
    let lock = Mutex::new(());
    let holds = async {
        let _guard = lock.lock().await;
        pending::<()>().await;
    };
    let mut late = pin!(timeout(SECOND, holds));
    assert!(late.as_mut().await.is_err());
    // The timeout's own place is not left yet.
    assert!(lock.try_lock().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_future_that_uses_up_the_budget_keeps_time_from_being_up() {
    let hungry = poll_fn(|cx| {
        while let Poll::Ready(budget) = poll_proceed(cx) {
            budget.made_progress();
        }
        Poll::<()>::Pending
    });
    let mut late = pin!(timeout(SECOND, hungry));
    for turn in 0.. {
        let polled = poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx))).await;
        if polled.is_ready() {
            break;
        }
        assert!(turn < 9);
        advance(SECOND / 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_duration_beyond_the_clock_overflows_or_is_over_at_once() {
    assert!(timeout(Duration::MAX, sleep(SECOND * 1_000_000)).await.is_ok());
}

#[test]
#[should_panic = "`timeout` was polled after its end"]
fn a_timeout_polled_after_its_end_hangs() {
    let mut ready = pin!(timeout(SECOND, ready(7)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(ready.as_mut().poll(&mut cx).is_ready());
    let _ = ready.as_mut().poll(&mut cx);
}
