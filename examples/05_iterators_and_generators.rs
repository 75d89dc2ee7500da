//! An async iterator and an async generator, each read to its end.
//!
//! The iterator is a type with a state and a method that waits; the generator is a loop that emits, and nothing but the
//! loop. Both are at rest until they are asked, so a reader that is slow is waited for, and one that goes stops them where
//! they are. To have a generator run ahead, it is spawned: it is a task of a scope then, with a limit, and a reader that
//! goes stops it as well.
//!
//! `cargo run -p motet-examples --example 05_iterators_and_generators`

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use futures_core::Stream;
use motet::stream::{Combinators as _, generator};
use motet::task::{Nursery, Scope, ScopeError, scope};
use motet_examples::Journal;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

/// The iterator by hand: what it knows from one item to the next is in its fields.
struct DataStreamer {
    data: VecDeque<u32>,
}

impl DataStreamer {
    /// Cancel safe: an item leaves with the return.
    async fn next(&mut self) -> Option<u32> {
        if self.data.is_empty() {
            return None;
        }
        sleep(Duration::from_millis(100)).await;
        self.data.pop_front()
    }
}

/// The generator: what it knows is in its variables.
fn batches(batch_size: u32, journal: &Journal<Event>) -> impl Stream<Item = Vec<u32>> + Send + use<> {
    let journal = journal.clone();
    generator(async move |mut y| {
        for number in 1..=10 {
            sleep(Duration::from_millis(200)).await;
            journal.note(Event::Made(number));
            y.emit((number * batch_size..(number + 1) * batch_size).collect()).await;
        }
    })
}

async fn process_stream(scope: &Scope, journal: &Journal<Event>) {
    let mut streamer = DataStreamer { data: (1..=5).collect() };
    while let Some(item) = streamer.next().await {
        journal.note(Event::Processed(item));
    }
    let mut received = pin!(batches(3, journal));
    while let Some(batch) = received.next().await {
        journal.note(Event::Received(batch));
    }
    // The same in a task, at most two batches ahead: the next is made while one is worked on.
    let ahead = batches(3, journal).spawned(scope, "batches", 2).expect("the scope is open");
    let mut ahead = ahead.take(3);
    while let Some(batch) = ahead.next().await {
        sleep(Duration::from_millis(200)).await;
        journal.note(Event::Received(batch));
    }
}

async fn program(journal: &Journal<Event>) -> Result<(), ScopeError> {
    scope(async |n: &Nursery| {
        process_stream(n, journal).await;
        Ok(())
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError> {
    program(&Journal::on_terminal()).await
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Processed(u32),
    Made(u32),
    Received(Vec<u32>),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Processed(item) => write!(f, "Processed: {item}"),
            Self::Made(number) => write!(f, "  (batch {number} is made)"),
            Self::Received(batch) => write!(f, "Received batch: {batch:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use motet::task::{drain, unscoped};
    use motet_testkit::cancel_everywhere;
    use tokio::time::timeout;

    use super::*;

    /// Batch number `number` of three.
    fn batch(number: u32) -> Event {
        Event::Received((number * 3..(number + 1) * 3).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn items_arrive_in_order_once_they_are_made() {
        let journal = Journal::in_memory();
        program(&journal).await.unwrap();
        let mut expected: Vec<(u64, Event)> =
            (1..=5).map(|item| (item * 100, Event::Processed(item as u32))).collect();
        for number in 1..=10 {
            let at = 500 + u64::from(number) * 200;
            expected.extend([(at, Event::Made(number)), (at, batch(number))]);
        }
        let entries: Vec<_> =
            journal.entries().into_iter().map(|(at, event)| (at.as_millis() as u64, event)).collect();
        let (in_task, alone): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(at, _)| *at > 2_500);
        assert_eq!(alone, expected);
        let received: Vec<_> =
            in_task.into_iter().filter(|(_, event)| matches!(event, Event::Received(_))).collect();
        // 400 ms each, were the next not made meanwhile.
        assert_eq!(received, [(2_900, batch(1)), (3_100, batch(2)), (3_300, batch(3))]);
    }

    #[tokio::test(start_paused = true)]
    async fn generators_stop_with_their_reader() {
        let journal = Journal::in_memory();
        assert!(timeout(Duration::from_millis(3_000), program(&journal)).await.is_err());
        drain().await;
        let made = journal.events().len();
        sleep(Duration::from_secs(10)).await;
        assert_eq!((journal.events().len(), unscoped()), (made, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn spawned_generator_runs_ahead_only_by_its_capacity() {
        let journal = Journal::in_memory();
        scope(async |n: &Nursery| {
            let stream = batches(3, &journal).spawned(n, "batches", 2).unwrap();
            sleep(Duration::from_secs(10)).await;
            assert_eq!(journal.events(), [Event::Made(1), Event::Made(2)], "two ahead, and no more");
            drop(stream);
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(journal.events().len(), 2);
    }

    #[test]
    fn program_dropped_anywhere_skips_no_item_and_leaves_no_task() {
        cancel_everywhere(
            async || Journal::in_memory(),
            async |journal| program(journal).await.unwrap(),
            async |journal, _| {
                drain().await;
                let processed: Vec<_> = journal
                    .events()
                    .into_iter()
                    .filter(|event| matches!(event, Event::Processed(_)))
                    .collect();
                let expected: Vec<_> = (1..=5).map(Event::Processed).collect();
                assert!(expected.starts_with(&processed), "{processed:?}");
            },
        );
    }
}
