//! Races: which future wins, and that the losers are dropped by then.

use std::cell::Cell;
use std::future::{Ready, pending, poll_fn, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use motet::task::{Either, race, race_all};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn losers_are_dropped_when_the_race_ends() {
    let lock = Mutex::new(());
    let holds = async |seconds| {
        let _guard = lock.lock().await;
        sleep(SECOND * seconds).await;
    };
    // Awaited in place: nothing but its end drops what it holds.
    let mut won = pin!(race(holds(9), sleep(SECOND)));
    assert_eq!(won.as_mut().await, Either::Right(()));
    assert!(lock.try_lock().is_ok());
    let mut won = pin!(race(sleep(SECOND), holds(9)));
    assert_eq!(won.as_mut().await, Either::Left(()));
    assert!(lock.try_lock().is_ok());
    // A loser that waits for the lock, in the queue, is as bad: the lock would be handed to it.
    let held = lock.lock().await;
    let mut won = pin!(race(async { drop(lock.lock().await) }, async {
        sleep(SECOND).await;
        drop(held);
    }));
    assert_eq!(won.as_mut().await, Either::Right(()));
    drop(timeout(SECOND, lock.lock()).await.unwrap());
    let mut won = race_all([9, 1, 9].map(|seconds| {
        let lock = &lock;
        async move {
            if seconds == 9 {
                let _guard = lock.lock().await;
                pending::<()>().await;
            }
            sleep(SECOND).await;
        }
    }));
    assert_eq!((&mut won).await, Some((1, ())));
    assert!(lock.try_lock().is_ok());
}

#[tokio::test(start_paused = true)]
async fn tie_goes_to_the_first_and_leaves_the_loser_unpolled() {
    let (send, mut first) = mpsc::channel(1);
    let (send_too, mut second) = mpsc::channel(1);
    send.send(1).await.unwrap();
    send_too.send(2).await.unwrap();
    assert_eq!(race(first.recv(), second.recv()).await, Either::Left(Some(1)));
    assert_eq!(second.try_recv(), Ok(2));
    let polled = Cell::new(0);
    let racers = [false, true, true].map(|ready| {
        let polled = &polled;
        poll_fn(move |_| {
            polled.set(polled.get() + 1);
            if ready { Poll::Ready(polled.get()) } else { Poll::Pending }
        })
    });
    assert_eq!(race_all(racers).await, Some((1, 2)));
    assert_eq!(polled.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn race_ends_with_the_fastest_future() {
    let begin = Instant::now();
    let fast = async {
        sleep(SECOND).await;
        "fast"
    };
    assert_eq!(race(fast, sleep(SECOND * 2)).await, Either::Left("fast"));
    let won = race_all([4, 2, 3].map(async |seconds| sleep(SECOND * seconds).await));
    assert_eq!(won.await, Some((1, ())));
    assert_eq!(begin.elapsed(), SECOND * 3);
}

#[tokio::test(start_paused = true)]
async fn race_of_no_futures_returns_none() {
    assert_eq!(race_all(Vec::<Ready<u8>>::new()).await, None);
}

#[tokio::test]
async fn either_of_one_type_converts_into_its_value() {
    assert_eq!(race(ready(1), ready(2)).await.into_inner(), 1);
    assert_eq!(race(pending(), ready(2)).await.into_inner(), 2);
}

#[test]
#[should_panic = "`race` was polled after its end"]
fn polling_a_race_after_its_end_panics() {
    let mut race = pin!(race(ready(1), pending::<()>()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(race.as_mut().poll(&mut cx).is_ready());
    let _ = race.as_mut().poll(&mut cx);
}

#[test]
#[should_panic = "`race_all` was polled after its end"]
fn polling_race_all_after_its_end_panics() {
    let mut race = pin!(race_all([ready(1)]));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(race.as_mut().poll(&mut cx).is_ready());
    let _ = race.as_mut().poll(&mut cx);
}
