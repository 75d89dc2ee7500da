include!("../../04_settled_from_outside.rs");

mod tests {
    use motet_testkit::sim;

    use super::*;
    use crate::Printed;
    use crate::printed::at;

    #[tokio::test(start_paused = true)]
    async fn every_waiter_receives_the_value_once_it_is_set() {
        let printed = Printed::begin();
        four_waiters(set_after_a_second).await.unwrap();
        let lines = printed.timed();
        assert_eq!(lines[..3], at([(0, "Waiter 1 waits"), (0, "Waiter 2 waits"), (0, "Waiter 3 waits")]));
        for number in 1..=4 {
            let received = (1000, format!("Waiter {number} received 42"));
            assert_eq!(lines.iter().filter(|line| **line == received).count(), 1, "{lines:?}");
        }
        assert_eq!(lines.len(), 8);
    }

    #[test]
    fn waiters_end_when_the_sender_is_dropped() {
        sim(|| async {
            let printed = Printed::begin();
            four_waiters(async |sender| drop(sender)).await.unwrap();
            let unset = printed.lines().iter().filter(|line| line.ends_with("received no value")).count();
            assert_eq!(unset, 4);
        })
        .run();
    }

    #[test]
    fn every_order_of_waiting_and_settling_wakes_all_waiters() {
        sim(|| async {
            let printed = Printed::begin();
            let at_once = async |sender: oneshot::Sender<u32>| {
                tokio::task::yield_now().await;
                let _ = sender.send(7);
            };
            four_waiters(at_once).await.unwrap();
            assert_eq!(printed.lines().iter().filter(|line| line.ends_with("received 7")).count(), 4);
        })
        .run();
    }
}
