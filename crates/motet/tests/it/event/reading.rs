use std::num::NonZeroUsize;
use std::time::Duration;

use motet::event::{Emitter, EmitterClosedError, Lag, LagError};
use motet::task::{Nursery, Scope, scope, timeout};
use tokio::time::{Instant, sleep};

use super::{SECOND, Tick, count};

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

#[tokio::test(start_paused = true)]
async fn lag_wait_misses_nothing_and_blocks_emit_only_when_full() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let mut ticks = emitter.stream::<Tick>(Lag::Wait(TWO));
        let emits = emitter.clone();
        let task = n.spawn("emits", async move {
            for number in 0..5 {
                assert!(emits.emit(Tick(number)).await.unwrap().is_ok());
            }
            Instant::now()
        });
        let begin = Instant::now();
        sleep(SECOND).await;
        for number in 0..5 {
            assert_eq!(ticks.next().await.unwrap().unwrap().0, number);
            sleep(SECOND).await;
        }
        // Two events fit at first; the last of the other three fits when the third event is read.
        assert_eq!(task.await.unwrap() - begin, SECOND * 3);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn emit_waits_for_a_full_stream_until_timeout_or_stream_drop() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::builder(n).timeout(SECOND).build();
        let ticks = emitter.stream::<Tick>(Lag::Wait(count(1)));
        assert!(emitter.emit(Tick(0)).await.unwrap().is_ok());
        let emitted = emitter.emit(Tick(1)).await.unwrap();
        assert_eq!(emitted.failed()[0].listener(), "stream");
        assert!(emitted.failed()[0].is_timeout());
        // Dropping the stream releases the emit that waits for it.
        let emits = emitter.clone();
        let waits = n.spawn("emits", async move { emits.emit(Tick(2)).await.unwrap().is_ok() });
        sleep(SECOND / 2).await;
        drop(ticks);
        let begin = Instant::now();
        assert!(waits.await.unwrap());
        assert_eq!(begin.elapsed(), Duration::ZERO);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn lagging_stream_reports_the_number_of_missed_events() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let mut lags = emitter.stream::<Tick>(Lag::DropOldest(TWO));
        for number in 0..5 {
            assert!(emitter.emit(Tick(number)).await.unwrap().is_ok());
        }
        assert_eq!(lags.next().await.unwrap().unwrap_err(), LagError(3));
        assert_eq!(lags.next().await.unwrap().unwrap().0, 3);
        assert!(emitter.post(Tick(5)).unwrap().queued == 1);
        assert_eq!(lags.next().await.unwrap().unwrap().0, 4);
        assert_eq!(lags.next().await.unwrap().unwrap().0, 5);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn lag_latest_yields_the_last_event_and_ends_at_a_close() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let mut latest = emitter.stream::<Tick>(Lag::Latest);
        for number in 0..5 {
            assert!(emitter.emit(Tick(number)).await.unwrap().is_ok());
        }
        assert_eq!(latest.next().await.unwrap().unwrap().0, 4);
        emitter.close();
        assert!(latest.next().await.is_none());
        assert!(latest.next().await.is_none());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn stream_is_a_listener_until_it_is_dropped() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let (first, second) = (emitter.stream::<Tick>(Lag::Latest), emitter.stream::<Tick>(Lag::Latest));
        assert_eq!(emitter.listener_count::<Tick>(), 2);
        drop(first);
        assert_eq!(emitter.listener_count::<Tick>(), 1);
        drop(second);
        assert_eq!(emitter.listener_count::<Tick>(), 0);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn stream_yields_pending_posts_and_ends_after_a_close() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let mut ticks = emitter.stream::<Tick>(Lag::Wait(count(1)));
        for number in 0..3 {
            assert_eq!(emitter.post(Tick(number)).unwrap().queued, 1);
        }
        emitter.close();
        for number in 0..3 {
            assert_eq!(ticks.next().await.unwrap().unwrap().0, number);
        }
        assert!(timeout(SECOND, ticks.next()).await.expect("the stream ends").is_none());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn stream_of_a_closed_emitter_has_ended() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        emitter.close();
        assert!(emitter.stream::<Tick>(Lag::Latest).next().await.is_none());
        assert!(emitter.stream::<Tick>(Lag::Wait(count(1))).next().await.is_none());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn next_receives_the_first_event_and_leaves_no_listener() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let next = emitter.next::<Tick>();
        assert!(emitter.emit(Tick(1)).await.unwrap().is_ok());
        assert!(emitter.emit(Tick(2)).await.unwrap().is_ok());
        assert_eq!(next.await.unwrap().0, 1);
        // A `next` that is dropped before its event leaves nothing behind.
        assert!(timeout(SECOND, emitter.next::<Tick>()).await.is_err());
        assert_eq!(emitter.listener_count::<Tick>(), 0);
        let waits = n.spawn("waits", emitter.next::<Tick>());
        sleep(SECOND).await;
        assert_eq!(emitter.post(Tick(3)).unwrap().queued, 1);
        assert_eq!(waits.await.unwrap().unwrap().0, 3);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_next_fails_when_its_emitter_is_closed() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let waits = n.spawn("waits", emitter.next::<Tick>());
        sleep(SECOND).await;
        emitter.close();
        assert!(matches!(waits.await.unwrap(), Err(EmitterClosedError(()))));
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn stream_of_the_largest_capacity_yields_an_event() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        for lag in [Lag::Wait(NonZeroUsize::MAX), Lag::DropOldest(NonZeroUsize::MAX)] {
            let mut ticks = emitter.stream::<Tick>(lag);
            assert!(emitter.emit(Tick(1)).await.unwrap().is_ok());
            assert_eq!(ticks.next().await.unwrap().unwrap().0, 1);
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn streams_yield_pending_events_and_end_with_their_scope() {
    let mut streams = Vec::new();
    let mut next = None;
    Scope::builder()
        .run(async |n: &Nursery| {
            let emitter = Emitter::new(n);
            for lag in [Lag::Wait(TWO), Lag::DropOldest(TWO), Lag::Latest] {
                streams.push(emitter.stream::<Tick>(lag));
            }
            assert!(emitter.emit(Tick(1)).await.unwrap().is_ok());
            next = Some((emitter.next::<Tick>(), emitter));
            Ok(())
        })
        .await
        .unwrap();
    for mut stream in streams {
        assert_eq!(stream.next().await.unwrap().unwrap().0, 1);
        assert!(stream.next().await.is_none());
    }
    let (next, _emitter) = next.unwrap();
    assert!(next.await.is_err());
}
