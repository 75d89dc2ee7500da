//! Queues.

use motet::queue;
use tokio::task::yield_now;

#[tokio::test(start_paused = true)]
async fn smoke() {
    let (sender, receiver) = queue::bounded(2);
    let consumer = async {
        let mut sum = 0;
        while let Some(item) = receiver.recv().await {
            sum += item;
        }
        sum
    };
    let producer = async move {
        for item in 0..1000_u64 {
            sender.send(item).await.unwrap();
            if item % 7 == 0 {
                yield_now().await;
            }
        }
        drop(sender);
    };
    let (sum, ()) = tokio::join!(consumer, producer);
    assert_eq!(sum, 999 * 500);
}
