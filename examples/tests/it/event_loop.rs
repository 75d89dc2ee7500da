include!("../../02_event_loop.rs");

mod tests {
    use motet_testkit::{cancel_everywhere, sim};

    use super::*;
    use crate::Printed;
    use crate::printed::at;

    #[tokio::test(start_paused = true)]
    async fn tasks_run_concurrently() {
        let printed = Printed::begin();
        two_tasks().await.unwrap();
        let expected = [
            (0, "Task 1 started"),
            (0, "Task 2 started"),
            (1000, "Task 1 completed"),
            (2000, "Task 2 completed"),
        ];
        assert_eq!(printed.timed(), at(expected));
        // The longer of the two, not their sum.
        assert_eq!(printed.elapsed(), Duration::from_secs(2));
    }

    #[test]
    fn tasks_end_at_the_same_times_in_either_order_of_starting() {
        let sweep = sim(|| async {
            let printed = Printed::begin();
            two_tasks().await.unwrap();
            let lines = printed.timed();
            assert_eq!(lines[2..], at([(1000, "Task 1 completed"), (2000, "Task 2 completed")]));
            motet::sometimes!(lines[0].1 == "Task 2 started", "task 2 starts first");
            motet::sometimes!(lines[0].1 == "Task 1 started", "task 1 starts first");
        })
        .run();
        assert!(sweep.runs() >= 1);
    }

    #[test]
    fn tasks_end_with_a_dropped_program() {
        cancel_everywhere(
            async || Printed::begin(),
            async |_| two_tasks().await.unwrap(),
            async |printed, _| {
                motet::drain().await;
                let before = printed.lines();
                sleep(Duration::from_secs(3)).await;
                assert_eq!(printed.lines(), before);
            },
        );
    }
}
