//! Queues, streams, batches, and waits that are drawn.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use motet::batch::{Batcher, Loader};
use motet::periodic::{Periodic, PeriodicConfigError, every};
use motet::queue::{self, Job, TryRecvError, TrySendError};
use motet::stream::{StreamCombinators as _, generator};
use motet::task::{Nursery, scope};
use motet::{Backoff, Jitter, rng};
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

use super::table::{Effect, LIMIT, Odd, Row};

pub(super) fn table() -> Vec<Row> {
    vec![
        Row { setting: "queue/sender.rs send_timeout", means: LIMIT, uses: sends },
        Row { setting: "queue/receiver.rs recv_timeout", means: LIMIT, uses: receives },
        Row { setting: "queue/lease.rs retry", means: LIMIT, uses: leases },
        Row { setting: "queue/workers/builder.rs backoff", means: LIMIT, uses: works },
        Row { setting: "stream/combinators.rs chunks_within", means: LIMIT, uses: chunks },
        Row { setting: "stream/combinators.rs debounce", means: LIMIT, uses: debounces },
        Row { setting: "batch/builder.rs max_delay", means: LIMIT, uses: batches },
        Row { setting: "batch/builder.rs max_delay", means: LIMIT, uses: loads },
        Row { setting: "backoff/mod.rs constant", means: LIMIT, uses: |odd| waits(Backoff::constant(odd)) },
        Row {
            setting: "backoff/mod.rs exponential",
            means: LIMIT,
            uses: |odd| {
                waits(
                    Backoff::exponential(odd, Duration::MAX)
                        .unwrap()
                        .factor(1.0)
                        .unwrap()
                        .jitter(Jitter::Equal)
                        .unwrap(),
                )
            },
        },
        Row {
            setting: "periodic/job.rs every",
            means: [Odd::Refused, Odd::AtOnce, Odd::Never, Odd::Never],
            uses: |odd| runs(every(odd)),
        },
        Row {
            setting: "periodic/job.rs jitter",
            means: LIMIT,
            uses: |odd| runs(every(Duration::from_secs(1)).map(|job| job.jitter(odd))),
        },
        // Any of them is a bound to draw up to.
        Row { setting: "rng/generator.rs duration", means: [const { Odd::AtOnce }; 4], uses: draws },
    ]
}

/// Waits for the first run of a job.
fn runs(job: Result<Periodic, PeriodicConfigError>) -> Effect {
    Box::pin(async move {
        let (sender, receiver) = queue::bounded(1)?;
        let job = job?;
        scope(async |n: &Nursery| {
            let run = move || {
                // The queue is full after the first run.
                let _ = sender.try_send(());
                std::future::ready(())
            };
            job.start(n, run).unwrap();
            receiver.recv().await;
            Ok(())
        })
        .await
        .unwrap();
        Ok(())
    })
}

fn sends(odd: Duration) -> Effect {
    Box::pin(async move {
        let (sender, _receiver) = queue::bounded(1).unwrap();
        sender.send(1).await?;
        assert!(matches!(sender.send_timeout(2, odd).await, Err(TrySendError::Full(2))));
        Ok(())
    })
}

fn receives(odd: Duration) -> Effect {
    Box::pin(async move {
        let (_sender, receiver) = queue::bounded::<u32>(1).unwrap();
        assert!(matches!(receiver.recv_timeout(odd).await, Err(TryRecvError::Empty)));
        Ok(())
    })
}

fn leases(odd: Duration) -> Effect {
    Box::pin(async move {
        let (sender, receiver) = queue::bounded(1).unwrap();
        sender.send(7).await?;
        receiver.lease().await.unwrap().retry(odd).await?;
        assert_eq!(receiver.recv().await, Some(7));
        Ok(())
    })
}

fn works(odd: Duration) -> Effect {
    Box::pin(async move {
        scope(async |n: &Nursery<Infallible>| {
            let (sender, receiver) = queue::bounded(1).unwrap();
            let workers = receiver.workers(1).unwrap().backoff(Backoff::constant(odd));
            let crew = workers.start(n, "fails once", |job: Job<u32>| {
                let ended = if job.attempt() == 1 { Err("not now") } else { Ok(()) };
                async move { ended }
            });
            sender.send(7).await.unwrap();
            sender.join().await.unwrap();
            drop((sender, crew));
            Ok(())
        })
        .await?;
        Ok(())
    })
}

fn one() -> impl tokio_stream::Stream<Item = u32> {
    generator(async |mut y| {
        y.emit(7).await;
        pending::<()>().await;
    })
}

fn chunks(odd: Duration) -> Effect {
    Box::pin(async move {
        let mut chunks = std::pin::pin!(one().chunks_within(2, odd).unwrap());
        assert_eq!(chunks.next().await, Some(vec![7]));
        Ok(())
    })
}

fn debounces(odd: Duration) -> Effect {
    Box::pin(async move {
        let mut quiet = std::pin::pin!(one().debounce(odd));
        assert_eq!(quiet.next().await, Some(7));
        Ok(())
    })
}

async fn answers(items: Vec<u32>) -> Vec<Result<u32, Infallible>> {
    items.into_iter().map(Ok).collect()
}

fn batches(odd: Duration) -> Effect {
    Box::pin(async move {
        scope(async |n: &Nursery<Infallible>| {
            let batcher: Batcher<u32, u32, Infallible> =
                Batcher::builder(n).max_items(2).max_delay(odd).build(answers).unwrap();
            assert_eq!(batcher.submit(7).await.unwrap(), 7);
            Ok(())
        })
        .await?;
        Ok(())
    })
}

fn loads(odd: Duration) -> Effect {
    Box::pin(async move {
        scope(async |n: &Nursery<Infallible>| {
            let loader = Loader::builder(n).max_items(2).max_delay(odd).build(answers).unwrap();
            assert_eq!(*loader.load(7).await.unwrap(), 7);
            Ok(())
        })
        .await?;
        Ok(())
    })
}

fn waits(backoff: Backoff) -> Effect {
    Box::pin(async move {
        sleep(rng::with(|rng| backoff.delay(3, rng))).await;
        Ok(())
    })
}

fn draws(odd: Duration) -> Effect {
    Box::pin(async move {
        assert!(rng::with(|rng| rng.duration(Duration::ZERO..=odd)) <= odd);
        assert_eq!(rng::with(|rng| rng.duration(odd..=odd)), odd);
        Ok(())
    })
}
