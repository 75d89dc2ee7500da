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
fn timeout_of_a_ready_future_needs_no_timer_and_no_runtime() {
    // No runtime at all: reading tokio's clock would do, arming a timer would panic.
    let mut ready = pin!(timeout(SECOND, ready(7)));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(ready.as_mut().poll(&mut cx), Poll::Ready(Ok(7)));
}

#[tokio::test(start_paused = true)]
async fn timeout_elapses_exactly_at_its_time() {
    let begin = Instant::now();
    assert!(timeout(SECOND, pending::<()>()).await.is_err());
    assert_eq!(begin.elapsed(), SECOND);
    assert!(timeout(SECOND, sleep(SECOND / 2)).await.is_ok());
    assert_eq!(begin.elapsed(), SECOND * 3 / 2);
    assert!(timeout_at(begin + SECOND * 2, pending::<()>()).await.is_err());
    assert_eq!(begin.elapsed(), SECOND * 2);
}

#[tokio::test(start_paused = true)]
async fn timeout_runs_from_the_first_poll() {
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
async fn future_ready_at_or_after_the_deadline_yields_its_value() {
    let deadline = Instant::now() + SECOND;
    assert!(timeout(SECOND, sleep(SECOND)).await.is_ok());
    advance(SECOND).await;
    // The deadline has passed. A future that is ready succeeds; any other times out at once.
    assert_eq!(timeout_at(deadline, ready(3)).await, Ok(3));
    assert!(timeout_at(deadline, pending::<()>()).await.is_err());
    assert!(timeout(Duration::ZERO, pending::<()>()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn late_future_is_dropped_before_the_error_is_returned() {
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
async fn future_that_uses_up_the_coop_budget_still_times_out() {
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
async fn timeout_of_duration_max_lets_a_million_seconds_pass() {
    assert!(timeout(Duration::MAX, sleep(SECOND * 1_000_000)).await.is_ok());
}

#[test]
#[should_panic = "`timeout` was polled after its end"]
fn polling_a_timeout_after_its_end_panics() {
    let mut ready = pin!(timeout(SECOND, ready(7)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(ready.as_mut().poll(&mut cx).is_ready());
    let _ = ready.as_mut().poll(&mut cx);
}
