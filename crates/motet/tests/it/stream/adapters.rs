//! The combinators that stay in the task of their reader.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_core::{FusedStream, Stream};
use motet::resilience::{Retry, RetryBudget};
use motet::stream::{StreamCombinators as _, generator, retry_source, try_generator};
use motet::task::{CancelToken, Nursery, Reason, scope, timeout};
use motet::{Backoff, queue};
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt as _;

use super::{block_on, poll_once};
use crate::notes::Live;

const MS: Duration = Duration::from_millis(1);

/// Emits each number after as many milliseconds.
fn paced<const N: usize>(pauses: [u32; N]) -> impl Stream<Item = u32> {
    generator(async move |mut y| {
        for pause in pauses {
            sleep(MS * pause).await;
            y.emit(pause).await;
        }
    })
}

#[test]
fn until_ends_with_its_source_or_token_and_drops_the_source() {
    block_on(async {
        let (token, live) = (CancelToken::new(), Live::default());
        let held = live.enter();
        let source = generator(async move |mut y| {
            let _held = held;
            y.emit(1).await;
            std::future::pending::<()>().await;
        });
        let mut stream = pin!(source.until(token.clone()));
        assert_eq!(stream.next().await, Some(1));
        let begun = Instant::now();
        let (end, ()) = tokio::join!(stream.next(), async {
            sleep(MS * 20).await;
            token.cancel(Reason::requested("enough"));
        });
        assert_eq!((end, begun.elapsed(), live.count()), (None, MS * 20, 0));
        assert!(stream.is_terminated());
        assert_eq!(stream.next().await, None);
        // A source that ends by itself.
        let ends: Vec<_> = tokio_stream::iter([1, 2]).until(CancelToken::new()).collect().await;
        assert_eq!(ends, [1, 2]);
    });
}

#[test]
fn debounce_yields_the_last_item_of_each_burst() {
    block_on(async {
        let begun = Instant::now();
        let stream = paced([1, 2, 30, 4, 40]).debounce(MS * 10).map(|item| (begun.elapsed(), item));
        let seen: Vec<_> = stream.collect().await;
        assert_eq!(seen, [(MS * 13, 2), (MS * 47, 4), (MS * 77, 40)]);
    });
}

#[test]
fn buffer_ahead_of_zero_passes_items_through() {
    let mut stream = pin!(tokio_stream::iter(0..2).buffer_ahead(0));
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(Some(0)));
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(Some(1)));
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(None));
}

#[test]
fn buffer_ahead_takes_items_ahead_up_to_its_capacity() {
    let taken = Rc::new(Cell::new(0));
    let counts = Rc::clone(&taken);
    let source = tokio_stream::iter(0..10).map(move |number| {
        counts.set(counts.get() + 1);
        number
    });
    let mut stream = pin!(source.buffer_ahead(4));
    assert_eq!(taken.get(), 0);
    for number in 0..10 {
        assert_eq!(poll_once(stream.as_mut()), Poll::Ready(Some(number)));
        assert_eq!(taken.get(), (number + 4).min(10));
    }
    assert_eq!(poll_once(stream.as_mut()), Poll::Ready(None));
    assert!(stream.is_terminated());
}

fn retry(attempts: u32) -> Retry {
    Retry::new().attempts(attempts).unwrap().backoff(Backoff::constant(MS * 100)).without_budget()
}

#[test]
fn retry_source_counts_failures_in_a_row() {
    block_on(async {
        let (opened, begun) = (Cell::new(0), Instant::now());
        // Fails after each item, more often than there are attempts; and in the end without one.
        let stream = retry_source(retry(3), || {
            opened.set(opened.get() + 1);
            let number = opened.get();
            try_generator(async move |mut y| {
                if number <= 5 {
                    y.emit(number).await;
                }
                Err(format!("attempt {number} failed"))
            })
        });
        let mut stream = pin!(stream);
        let mut seen = Vec::new();
        while let Some(item) = stream.next().await {
            seen.push(item);
        }
        let mut expected: Vec<_> = (1..=5).map(Ok).collect();
        // The fifth gave something and failed: the first of three.
        expected.push(Err("attempt 7 failed".to_owned()));
        assert_eq!((seen, opened.get(), begun.elapsed()), (expected, 7, MS * 600));
        assert!(stream.is_terminated());
        assert_eq!(stream.next().await, None);
    });
}

#[test]
fn retry_source_does_not_reopen_without_budget_or_after_the_end() {
    block_on(async {
        let opened = Cell::new(0);
        let budget = RetryBudget::new(0.0, 0.0).unwrap();
        while let Some(charge) = budget.try_withdraw() {
            charge.spend();
        }
        let stream = retry_source(retry(9).budget(budget), || {
            opened.set(opened.get() + 1);
            tokio_stream::iter([Ok(1), Err("failed"), Ok(2)])
        });
        assert_eq!(stream.collect::<Vec<_>>().await, [Ok(1), Err("failed")]);
        assert_eq!(opened.get(), 1);
        let stream = retry_source(retry(9), || {
            opened.set(opened.get() + 1);
            tokio_stream::iter([Ok::<_, &str>(1)])
        });
        assert_eq!(stream.collect::<Vec<_>>().await, [Ok(1)]);
        assert_eq!(opened.get(), 2);
    });
}

#[test]
fn pipe_to_reserves_no_slot_and_keeps_its_item_across_waits() {
    block_on(async {
        let (sender, receiver) = queue::bounded(1).unwrap();
        let mut silent = pin!(tokio_stream::pending::<u32>().pipe_to(sender.clone()));
        let mut full = pin!(tokio_stream::iter(1..=3).pipe_to(sender.clone()));
        assert!(timeout(MS, &mut silent).await.is_err());
        // The pipe that waits for its source does not block the other one.
        assert!(timeout(MS, &mut full).await.is_err());
        assert_eq!((receiver.recv().await, full.sent()), (Some(1), 1));
        assert!(timeout(MS, &mut full).await.is_err());
        assert_eq!(receiver.recv().await, Some(2));
        assert_eq!(full.await.unwrap(), 3);
        assert_eq!(receiver.recv().await, Some(3));
    });
}

#[test]
fn closed_queue_ends_pipe_to_before_an_item_is_taken() {
    block_on(async {
        let (sender, receiver) = queue::bounded(1).unwrap();
        let mut silent = pin!(tokio_stream::pending::<u32>().pipe_to(sender.clone()));
        assert!(timeout(MS, &mut silent).await.is_err());
        receiver.close();
        assert_eq!(timeout(MS, silent).await.expect("the pipe does not end").unwrap_err().0, None);
        let refused = tokio_stream::iter([4]).pipe_to(sender).await.unwrap_err();
        assert_eq!(refused.0, None, "nothing is taken for a queue that is closed");
    });
}

#[test]
fn closing_a_full_queue_ends_pipe_to_with_its_waiting_item() {
    block_on(async {
        scope(async |n: &Nursery| {
            let (sender, receiver) = queue::bounded(1).unwrap();
            let pipe = n.spawn("pipe", tokio_stream::iter([1, 2]).pipe_to(sender));
            sleep(MS).await;
            receiver.close();
            let refused = timeout(MS, pipe).await.expect("the pipe does not end").unwrap().unwrap_err();
            assert_eq!(refused.0, Some(2));
            assert_eq!((receiver.recv().await, receiver.recv().await), (Some(1), None));
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn queue_read_as_a_stream_and_piped_on_loses_nothing() {
    block_on(async {
        scope(async |n: &Nursery| {
            let (first, second) = (queue::bounded(2).unwrap(), queue::bounded(3).unwrap());
            n.spawn("pipe", first.1.map(|number: u32| number * 2).pipe_to(second.0));
            let sender = first.0;
            n.spawn("sends", async move {
                for number in 0..20 {
                    sender.send(number).await.unwrap();
                }
            });
            let seen: Vec<_> = second.1.collect().await;
            assert_eq!(seen, (0..20).map(|number| number * 2).collect::<Vec<_>>());
            Ok(())
        })
        .await
        .unwrap();
    });
}
