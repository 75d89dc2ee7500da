//! The allocations of streams. A separate binary, since it has its own allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod counting;

use std::pin::pin;

use motet::stream::{generator, try_generator};
use tokio::runtime::Builder;
use tokio_stream::StreamExt as _;

use counting::allocations;

async fn items(count: u64) -> u64 {
    let numbers = generator(async |mut y| {
        for number in 0..count {
            y.emit(number).await;
        }
    });
    let checked = try_generator(async move |mut y| {
        let mut numbers = pin!(numbers);
        while let Some(number) = numbers.next().await {
            y.emit(number.checked_mul(2).ok_or("too many")?).await;
        }
        Ok::<_, &str>(())
    });
    let mut checked = pin!(checked);
    let mut sum = 0;
    while let Some(number) = checked.next().await {
        sum += number.unwrap();
    }
    sum
}

#[test]
fn generators_and_their_items_do_not_allocate() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        // Beyond the first time that the budget is used up, when the runtime allocates once for deferred wakers.
        items(100_000).await;
        let before = allocations();
        for _ in 0..1_000 {
            assert_eq!(items(4).await, 12);
        }
        assert_eq!(items(1_000_000).await, 999_999_000_000);
        assert_eq!(allocations() - before, 0);
    });
}
