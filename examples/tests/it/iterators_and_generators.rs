include!("../../08_iterators_and_generators.rs");

mod tests {
    use motet::task::{drain, unscoped};
    use motet_testkit::cancel_everywhere;
    use tokio::time::timeout;

    use super::*;
    use crate::Printed;

    async fn program() {
        let done = scope(async |n: &Nursery| {
            process_streams(n).await;
            Ok(())
        });
        done.await.unwrap();
    }

    /// The line for batch number `number` of three items.
    fn batch(number: u32) -> String {
        format!("Received batch: {:?}", Vec::from_iter(number * 3..(number + 1) * 3))
    }

    #[tokio::test(start_paused = true)]
    async fn items_arrive_in_order_and_the_next_batch_is_made_meanwhile() {
        let printed = Printed::begin();
        program().await;
        let mut expected: Vec<_> = (1..=5).map(|item| (item * 100, format!("Processed: {item}"))).collect();
        // The iterator waits once more before it ends.
        for number in 1..=10 {
            let at = 600 + u64::from(number) * 200;
            expected.extend([(at, format!("Made batch {number}")), (at, batch(number))]);
        }
        let (ahead, alone): (Vec<_>, Vec<_>) = printed.timed().into_iter().partition(|(at, _)| *at > 2_600);
        assert_eq!(alone, expected);
        let received: Vec<_> = ahead.into_iter().filter(|(_, line)| line.starts_with("Received")).collect();
        // 400 ms each, if the next batch were not made while one is processed.
        assert_eq!(received, [(3_000, batch(1)), (3_200, batch(2)), (3_400, batch(3))]);
    }

    #[tokio::test(start_paused = true)]
    async fn generators_stop_with_their_reader() {
        let printed = Printed::begin();
        assert!(timeout(Duration::from_millis(3_000), program()).await.is_err());
        drain().await;
        let made = printed.lines().len();
        sleep(Duration::from_secs(10)).await;
        assert_eq!((printed.lines().len(), unscoped()), (made, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn spawned_generator_runs_ahead_only_by_its_capacity() {
        let printed = Printed::begin();
        scope(async |n: &Nursery| {
            let stream = batches(3).spawned(n, "batches", 2).unwrap();
            sleep(Duration::from_secs(10)).await;
            assert_eq!(printed.lines(), ["Made batch 1", "Made batch 2"], "two ahead, and no more");
            drop(stream);
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(printed.lines().len(), 2);
    }

    #[test]
    fn program_dropped_anywhere_skips_no_item_and_leaves_no_task() {
        cancel_everywhere(
            async || Printed::begin(),
            async |_| program().await,
            async |printed, _| {
                drain().await;
                let processed = printed.starting_with("Processed");
                let expected: Vec<_> = (1..=5).map(|item| format!("Processed: {item}")).collect();
                assert!(expected.starts_with(&processed), "{processed:?}");
            },
        );
    }
}
