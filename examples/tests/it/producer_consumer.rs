include!("../../05_producer_consumer.rs");

mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use motet::queue::Receiver;
    use motet::task::Reason;
    use motet_testkit::sim::{Panics, sim};
    use tokio::time::timeout;

    use super::*;
    use crate::Printed;

    fn all() -> Vec<String> {
        (0..10).map(|item| format!("Producer-{}-{}", item / 5, item % 5)).collect()
    }

    /// The consumed items, sorted.
    fn consumed(printed: Printed) -> Vec<String> {
        let mut items: Vec<_> = printed.starting_with("Consumed ");
        items.sort_unstable();
        items.into_iter().map(|line| line["Consumed ".len()..].to_owned()).collect()
    }

    #[test]
    fn every_item_is_produced_in_order_and_consumed_once() {
        sim(|| async {
            let printed = Printed::begin();
            produce_and_consume(consume).await.unwrap();
            // At most all items of a producer in a row, and the last one consumed.
            let elapsed = printed.elapsed();
            assert!(elapsed <= Duration::from_millis(5 * 500 + 4 * 800 + 50), "{elapsed:?}");
            assert_eq!(consumed(printed), all());
            let lines = printed.lines();
            let at = |line: String| lines.iter().position(|other| *other == line).unwrap();
            for (producer, number) in (0..10).map(|item| (item / 5, item % 5)) {
                let produced = |number| at(format!("Producer {producer} produced item {number}"));
                // A consumer takes at least 200 ms; the producer prints immediately.
                assert!(produced(number) < at(format!("Consumed Producer-{producer}-{number}")));
                assert!(number == 0 || produced(number - 1) < produced(number), "out of order");
            }
            assert_eq!(lines.last().unwrap(), "All 10 items are consumed");
        })
        .seeds(100)
        .run();
    }

    /// In Python, `join` hangs after a consumer that raises.
    #[test]
    fn failed_and_panicking_items_are_retried_until_consumed() {
        sim(|| async {
            let printed = Printed::begin();
            let raised = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&raised);
            let raises = move |item: Job<String>| {
                let count = Arc::clone(&count);
                async move {
                    if item.attempt() == 1 {
                        if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                            return Err("broken");
                        }
                        std::panic::panic_any("worse");
                    }
                    consume(item).await
                }
            };
            timeout(Duration::from_secs(60), produce_and_consume(raises)).await.expect("it ends").unwrap();
            assert_eq!(consumed(printed), all());
            assert_eq!(raised.load(Ordering::Relaxed), 10);
        })
        .seeds(50)
        .panics(Panics::Record)
        .run();
    }

    async fn left(receiver: &Receiver<String>) -> Vec<String> {
        let mut left = Vec::new();
        while let Ok(lease) = receiver.try_lease() {
            assert_eq!(lease.attempt(), 1, "a cancelled attempt is counted");
            left.push(lease.clone());
            lease.done().await.unwrap();
        }
        left
    }

    /// In Python, the item of a cancelled consumer is lost.
    #[test]
    fn cancelled_consumer_returns_its_item_to_the_queue() {
        sim(|| async {
            let printed = Printed::begin();
            let (sender, receiver) = queue::bounded(10).expect("the capacity is valid");
            for item in all() {
                sender.send(item).await.unwrap();
            }
            scope(async |n: &Nursery| {
                let slow = |item: Job<String>| async move {
                    // Longer than the grace after a cancellation.
                    if item.ends_with('3') {
                        sleep(Duration::from_secs(5)).await;
                    }
                    consume(item).await
                };
                let consumers =
                    receiver.workers(3).expect("there is a worker").start(n, "consumer", slow).unwrap();
                random_delay(0, 3_000).await;
                consumers.cancel(Reason::requested("enough"));
                consumers.ended().await;
                Ok(())
            })
            .await
            .unwrap();
            let mut items = consumed(printed);
            items.extend(left(&receiver).await);
            items.sort_unstable();
            assert_eq!(items, all());
        })
        .seeds(100)
        .run();
    }
}
