//! A source with several readers.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use motet::event::{Lag, LagError};
use motet::stream::{Broadcast, StreamCombinators as _, generator};
use motet::task::{Nursery, Reason, Scope, scope, timeout};
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

use super::block_on;
use crate::caught::caught;
use crate::notes::Live;

const MS: Duration = Duration::from_millis(1);

fn many(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

async fn numbers(stream: Broadcast<u32>) -> Vec<Result<u32, LagError>> {
    stream.map(|item| item.map(|number| *number)).collect().await
}

#[test]
fn lag_wait_bounds_the_source_and_readers_miss_nothing() {
    block_on(async {
        scope(async |n: &Nursery| {
            let taken = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&taken);
            let source = tokio_stream::iter(0..50_u32).map(move |number| {
                counts.fetch_add(1, Ordering::Relaxed);
                number
            });
            let mut readers = source.broadcast(n, "numbers", many(2), Lag::Wait(many(3))).unwrap();
            let (mut slow, quick) = (readers.pop().unwrap(), readers.pop().unwrap());
            let quick = n.spawn("reads", numbers(quick));
            for number in 0..50 {
                sleep(MS).await;
                assert!(taken.load(Ordering::Relaxed) <= number as usize + 3);
                assert_eq!(slow.next().await, Some(Ok(Arc::new(number))));
            }
            assert_eq!((slow.next().await, slow.next().await), (None, None));
            assert_eq!(quick.await.unwrap(), (0..50).map(Ok).collect::<Vec<_>>());
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn drop_oldest_reports_missed_items_and_latest_omits_them() {
    block_on(async {
        scope(async |n: &Nursery| {
            for (lag, expected) in [
                (Lag::DropOldest(many(3)), vec![Err(LagError(7)), Ok(7), Ok(8), Ok(9)]),
                (Lag::Latest, vec![Ok(9)]),
            ] {
                let readers = tokio_stream::iter(0..10_u32).broadcast(n, "numbers", many(2), lag).unwrap();
                sleep(MS).await;
                for reader in readers {
                    // A reader that joins later gets what the cloned reader has yet to read.
                    assert_eq!(numbers(reader.clone()).await, expected);
                    assert_eq!(numbers(reader).await, expected);
                }
            }
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn source_is_dropped_with_its_last_reader() {
    block_on(async {
        scope(async |n: &Nursery| {
            let live = Live::default();
            let held = live.enter();
            let source = generator(async move |mut y| {
                let _held = held;
                for number in 0_u32.. {
                    y.emit(number).await;
                    sleep(MS).await;
                }
            });
            let mut readers = source.broadcast(n, "numbers", many(2), Lag::Wait(many(1))).unwrap();
            let (stays, leaves) = (readers.pop().unwrap(), readers.pop().unwrap());
            sleep(MS * 5).await;
            drop(leaves);
            let rest: Vec<_> = stays.take(5).collect().await;
            assert_eq!(rest.len(), 5);
            sleep(MS).await;
            assert_eq!(live.count(), 0, "the source outlives its last reader");
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn panic_of_the_source_reaches_every_reader_or_the_scope() {
    block_on(async {
        scope(async |n: &Nursery| {
            let source = generator(async |mut y| {
                y.emit(1).await;
                panic!("the source");
            });
            let readers = source.broadcast(n, "numbers", many(3), Lag::Wait(many(4))).unwrap();
            sleep(MS).await;
            for mut reader in readers {
                assert_eq!(reader.next().await, Some(Ok(Arc::new(1))));
                let panicked = caught(reader.next()).await.unwrap_err();
                let words = panicked
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panicked.downcast_ref::<&str>().copied());
                assert_eq!(words, Some("the source"));
                assert_eq!(reader.next().await, None);
            }
            Ok(())
        })
        .await
        .unwrap();
        let unread = scope(async |n: &Nursery| {
            let source = generator(async |mut y| {
                y.emit(1).await;
                panic!("unread");
            });
            let readers = source.broadcast(n, "numbers", many(2), Lag::Latest).unwrap();
            sleep(MS).await;
            drop(readers);
            Ok(())
        });
        assert_eq!(*caught(unread).await.unwrap_err().downcast_ref::<&str>().unwrap(), "unread");
    });
}

#[test]
fn broadcast_read_after_its_scope_was_cancelled_is_cut_off() {
    block_on(async {
        let out = std::sync::Mutex::new(None);
        let ended = scope(async |n: &Nursery| {
            let source = generator(async |mut y| {
                y.emit(1_u32).await;
                std::future::pending::<()>().await;
            });
            *out.lock().unwrap() = Some(source.broadcast(n, "numbers", many(1), Lag::Latest).unwrap());
            sleep(MS).await;
            n.cancel(Reason::requested("enough"));
            std::future::pending::<Result<(), _>>().await
        });
        assert!(ended.await.unwrap_err().is_cancelled());
        let mut reader = out.into_inner().unwrap().unwrap().pop().unwrap();
        assert!(reader.cut_off().is_none());
        assert_eq!(reader.next().await, Some(Ok(Arc::new(1))));
        assert_eq!(timeout(MS, reader.next()).await.expect("it ends"), None);
        assert_eq!(reader.cut_off().unwrap().text(), Some("enough"));
    });
}

#[test]
fn ended_scope_hands_the_source_of_a_broadcast_back() {
    block_on(async {
        let closed = scope(async |n: &Nursery| Ok(Scope::clone(n))).await.unwrap();
        let refused = tokio_stream::iter([1]).broadcast(&closed, "late", many(1), Lag::Latest);
        assert_eq!(refused.unwrap_err().into_stream().collect::<Vec<_>>().await, [1]);
    });
}

/// The only reader, so that a position in the middle shows.
#[test]
fn reader_polled_without_a_wake_gets_each_item_once() {
    block_on(async {
        scope(async |n: &Nursery| {
            let mut reader = generator(async |mut y| {
                for number in 0..5_u32 {
                    yield_now().await;
                    y.emit(number).await;
                }
            })
            .broadcast(n, "numbers", many(1), Lag::Wait(many(1)))
            .unwrap()
            .pop()
            .unwrap();
            let mut seen = Vec::new();
            std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut reader).poll_next(cx))).unwrap() {
                    Poll::Ready(Some(item)) => seen.push(*item.unwrap()),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
                Poll::Pending
            })
            .await;
            assert_eq!(seen, [0, 1, 2, 3, 4]);
            Ok(())
        })
        .await
        .unwrap();
    });
}
