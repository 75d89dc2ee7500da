//! The orders of a queue, tested through its handles.

use std::time::Duration;

use motet::queue::{self, Receiver, Sender};
use tokio::time::Instant;

async fn fill(sender: &Sender<i64>, items: impl IntoIterator<Item = i64>) {
    for item in items {
        sender.send(item).await.unwrap();
    }
}

fn rest(receiver: &Receiver<i64>) -> Vec<i64> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

#[tokio::test]
async fn item_returned_to_a_lifo_queue_comes_first() {
    let (sender, receiver) = queue::lifo(8).unwrap();
    fill(&sender, 0..4).await;
    drop(receiver.try_lease());
    let lease = receiver.try_lease().unwrap();
    assert_eq!((*lease, lease.attempt()), (3, 2));
    drop(lease);
    assert_eq!(rest(&receiver), [3, 2, 1, 0]);
}

#[tokio::test]
async fn item_returned_to_a_priority_queue_leads_its_rank() {
    let (sender, receiver) = queue::priority(16, |item: &i64| item / 10).unwrap();
    fill(&sender, [20, 10, 11, 0, 12]).await;
    assert_eq!(receiver.try_recv(), Ok(0));
    let (first, second) = (receiver.try_lease().unwrap(), receiver.try_lease().unwrap());
    assert_eq!((*first, *second), (10, 11));
    fill(&sender, [13, 1]).await;
    drop(second);
    drop(first);
    assert_eq!(rest(&receiver), [1, 10, 11, 12, 13, 20]);
}

#[tokio::test(start_paused = true)]
async fn delayed_retry_leads_its_rank_and_no_better_one() {
    let (sender, receiver) = queue::priority(16, |item: &i64| item / 10).unwrap();
    fill(&sender, [20, 21]).await;
    for item in [20, 21] {
        let lease = receiver.try_lease().unwrap();
        assert_eq!(*lease, item);
        lease.retry(Duration::from_secs(5)).await.unwrap();
    }
    fill(&sender, [30, 0, 22]).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(rest(&receiver), [0, 20, 21, 22, 30]);
}

#[tokio::test(start_paused = true)]
async fn delayed_retry_comes_first_in_a_lifo_queue() {
    let (sender, receiver) = queue::lifo(4).unwrap();
    fill(&sender, [1]).await;
    receiver.try_lease().unwrap().retry(Duration::from_secs(5)).await.unwrap();
    fill(&sender, [2]).await;
    drop(sender);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let lease = receiver.try_lease().unwrap();
    assert_eq!((*lease, lease.attempt(), receiver.len()), (1, 2, 1));
    lease.done().await.unwrap();
    assert_eq!((receiver.recv().await, receiver.recv().await), (Some(2), None));
}

#[tokio::test]
async fn released_item_keeps_its_attempt_count() {
    for (sender, receiver) in
        [queue::bounded(4).unwrap(), queue::lifo(4).unwrap(), queue::priority(4, |_| 0).unwrap()]
    {
        fill(&sender, [7]).await;
        receiver.try_lease().unwrap().release().await.unwrap();
        assert_eq!(receiver.try_lease().unwrap().attempt(), 1);
        assert_eq!(receiver.try_lease().unwrap().attempt(), 2, "the lease was dropped once");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_comes_after_its_delay_and_a_released_due_item_is_next() {
    let begin = Instant::now();
    for (sender, receiver) in
        [queue::bounded(4).unwrap(), queue::lifo(4).unwrap(), queue::priority(4, |_| 0).unwrap()]
    {
        fill(&sender, [7]).await;
        let begin = Instant::now();
        receiver.try_lease().unwrap().retry(Duration::from_secs(5)).await.unwrap();
        assert!(receiver.try_recv().is_err());
        assert_eq!(receiver.recv().await, Some(7));
        assert_eq!(begin.elapsed(), Duration::from_secs(5));
    }
    let (sender, receiver) =
        queue::delay(4, move |seconds: &i64| begin + Duration::from_secs(*seconds as u64)).unwrap();
    fill(&sender, [30, 20]).await;
    let lease = receiver.lease().await.unwrap();
    assert_eq!((*lease, begin.elapsed().as_secs()), (20, 20));
    lease.release().await.unwrap();
    assert_eq!((receiver.recv().await, receiver.recv().await), (Some(20), Some(30)));
}

#[tokio::test]
async fn attempt_to_take_from_an_empty_queue_loses_no_item() {
    let orders = [
        queue::bounded(4).unwrap(),
        queue::lifo(4).unwrap(),
        queue::priority(4, |_| 0).unwrap(),
        queue::unbounded(),
    ];
    for (sender, receiver) in orders {
        assert!(receiver.try_recv().is_err());
        assert!(receiver.try_lease().is_err());
        assert!(motet::task::timeout(Duration::ZERO, receiver.recv_many(&mut Vec::new(), 3)).await.is_err());
        fill(&sender, [7, 8]).await;
        assert_eq!(receiver.len(), 2);
        let mut taken = Vec::new();
        assert_eq!(receiver.recv_many(&mut taken, 3).await, 2);
    }
}
