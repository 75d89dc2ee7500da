//! Generators: the reader receives each emitted item once, in order, and a dropped stream drops its body.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use futures_core::Stream;
use motet::stream::{Yielder, generator, try_generator};
use motet::task::{Nursery, gather, scope, timeout};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

use super::{Driver, draw, millis, passes, swept};
use crate::notes::{Live, Log};

pub(super) const DRIVER: Driver = Driver {
    drives: &[
        "stream::generator::Emit",
        "stream::generator::Yielder::emit_all",
        "stream::generator::Yielder::try_emit_all",
    ],
    cancel,
    sweep,
};

#[test]
fn read_of_a_generator_dropped_anywhere_leaves_no_body_alive() {
    cancel();
}

#[test]
fn every_order_yields_all_generator_items_and_wakes_the_reader() {
    passes(sweep);
}

/// Emits up to 9, in each way that there is.
async fn body(mut y: Yielder<u32>, live: Live) -> Result<(), &'static str> {
    let _held = live.enter();
    y.emit(1).await;
    sleep(millis(5)).await;
    y.emit_all(generator(async |mut y| {
        y.emit(2).await;
        yield_now().await;
        y.emit(3).await;
    }))
    .await;
    y.try_emit_all(tokio_stream::iter([Ok::<_, &str>(4), Ok(5)])).await?;
    gather([async {
        y.emit(6).await;
        yield_now().await;
        y.emit(7).await;
    }])
    .await;
    // Given up when it has a place: on its way all the same.
    {
        let mut emit = y.emit(8);
        poll_fn(|cx| {
            assert!(Pin::new(&mut emit).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }
    let broken = tokio_stream::iter([Ok(9), Err("ends with this"), Ok(10)]);
    y.try_emit_all(broken).await
}

async fn read<S>(stream: S, log: &Log) -> u32
where
    S: Stream<Item = Result<u32, &'static str>>,
{
    let mut stream = pin!(stream);
    let mut last = 0;
    while let Some(item) = stream.next().await {
        match item {
            Ok(number) => {
                assert_eq!(number, last + 1, "lost, doubled or out of order");
                last = number;
            }
            Err(error) => log.note(error),
        }
    }
    assert!(stream.next().await.is_none(), "it is fused");
    last
}

fn cancel() {
    cancel_everywhere(
        async || (Live::default(), Log::default()),
        async |(live, log)| read(try_generator(|y| body(y, live.clone())), log).await,
        async |(live, log), outcome| {
            assert_eq!(live.count(), 0, "a body is alive");
            if let motet_testkit::cancel::Outcome::Completed(last) = outcome {
                assert_eq!((last, log.count("ends with this"), log.read().len()), (9, 1, 1));
            }
        },
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let live = Live::default();
        scope(async |n: &Nursery<&'static str>| {
            for _ in 0..2 {
                let (live, log) = (live.clone(), Log::default());
                n.spawn("reads", async move {
                    let stream = try_generator(|y| body(y, live));
                    let read = timeout(millis(1_000), read(stream, &log)).await.expect("it is woken");
                    assert_eq!((read, log.count("ends with this")), (9, 1));
                });
            }
            // One that ends with the turn in which it emits.
            let last = generator(async |mut y| {
                sleep(millis(draw(3))).await;
                let mut emit = y.emit("last");
                poll_fn(|cx| {
                    assert!(Pin::new(&mut emit).poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
            });
            assert_eq!(last.collect::<Vec<_>>().await, ["last"]);
            // One that changes its task, and is dropped on the way.
            let mut stream = Box::pin(try_generator(|y| body(y, live.clone())));
            for number in 1..=draw(8) {
                let read = n.spawn("reads one", async move { (stream.next().await, stream) });
                let (item, back) = read.await.unwrap();
                assert_eq!(item, Some(Ok(number as u32)));
                stream = back;
            }
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(live.count(), 0);
    })
}
