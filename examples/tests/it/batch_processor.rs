include!("../../12_batch_processor.rs");

mod tests {
    use motet::task::{Reason, drain};
    use motet_testkit::cancel::Outcome;
    use motet_testkit::cancel_everywhere;

    use super::*;
    use crate::Printed;

    fn batch(numbers: std::ops::Range<u32>) -> String {
        let items: Vec<_> = numbers.map(|number| format!("item_{number}")).collect();
        format!("Processing batch of {}: {}", items.len(), items.join(", "))
    }

    fn batches(printed: Printed) -> Vec<(u64, String)> {
        printed.timed().into_iter().filter(|(_, line)| line.starts_with("Processing")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_item_gets_its_own_result_or_error() {
        let printed = Printed::begin();
        ten_items().await.unwrap();
        let lines = printed.lines();
        for number in (0..10).filter(|number| *number != 4) {
            let result = format!("Item {number}: processed_item_{number}");
            assert_eq!(lines.iter().filter(|line| **line == result).count(), 1, "{number}");
        }
        assert!(lines.contains(&"Item 4: the item failed".to_owned()), "{lines:?}");
        assert_eq!(lines.len(), 14, "four batches and ten results");
    }

    /// The first three at 0.2 s, when the third one comes; the last one alone, two seconds after it came.
    #[tokio::test(start_paused = true)]
    async fn batches_go_out_when_full_or_at_the_max_delay() {
        let printed = Printed::begin();
        ten_items().await.unwrap();
        let (times, lines): (Vec<_>, Vec<_>) = batches(printed).into_iter().unzip();
        assert_eq!(lines, [batch(0..3), batch(3..6), batch(6..9), batch(9..10)]);
        assert_eq!(times[..3], [200, 500, 800]);
        assert!((2_900..=2_901).contains(&times[3]), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn close_processes_the_buffer_and_ends_the_task() {
        let printed = Printed::begin();
        scope(async |n: &Nursery| {
            let processor = processor(n);
            for number in 0..4 {
                processor.post(format!("item_{number}")).await.unwrap();
            }
            processor.close().await;
            assert_eq!(batches(printed).len(), 2, "closed means drained");
            let back = processor.post("late".to_owned()).await.unwrap_err();
            assert_eq!(back.into_item(), "late");
            assert!(n.snapshot().tasks.iter().all(|task| task.name != "processor"), "a task is left");
            Ok(())
        })
        .await
        .unwrap();
        assert!(printed.elapsed() < Duration::from_millis(300), "no deadline was waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_program_processes_no_batch_and_leaves_no_task() {
        let printed = Printed::begin();
        let ended = scope(async |n: &Nursery| {
            let processor = processor(n);
            drop(processor.post("item_1".to_owned()).await);
            n.cancel(Reason::requested("enough"));
            std::future::pending::<Result<(), Infallible>>().await
        });
        assert!(ended.await.unwrap_err().is_cancelled());
        assert_eq!((batches(printed).len(), motet::task::unscoped()), (0, 0));
    }

    #[test]
    fn program_dropped_anywhere_handles_no_item_twice() {
        cancel_everywhere(
            async || Printed::begin(),
            async |_| ten_items().await.unwrap(),
            async |printed, outcome| {
                drain().await;
                let lines: Vec<_> = batches(*printed).into_iter().map(|(_, line)| line).collect();
                let items = lines.iter().flat_map(|line| line.split_once(": ").unwrap().1.split(", "));
                let mut seen: Vec<_> = items.collect();
                let count = seen.len();
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen.len(), count, "an item is in two batches");
                assert!(count == 10 || outcome != Outcome::Completed(()), "an item is lost");
            },
        );
    }
}
