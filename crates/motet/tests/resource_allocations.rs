//! The allocations of resources. A separate binary, since it has its own allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod counting;

use std::convert::Infallible;

use motet::resource::{Exit, resource};
use motet::task::{Nursery, scope};
use tokio::runtime::Builder;
use tokio::task::yield_now;

use counting::allocations;

async fn uses(waits: bool) {
    let wait = async move || {
        if waits {
            yield_now().await;
        }
    };
    let used = resource(async move {
        wait().await;
        Ok::<_, Infallible>("database")
    })
    .release(async move |_: &str, _: Exit| wait().await)
    .with(async |database| {
        wait().await;
        Ok(database.len())
    });
    assert_eq!(used.await.unwrap(), 8);
}

/// Returns the allocations of 1000 uses.
async fn measured(waits: bool) -> usize {
    let mut before = 0;
    for _ in 0..2 {
        before = allocations();
        for _ in 0..1_000 {
            uses(waits).await;
        }
    }
    allocations() - before
}

#[test]
fn use_of_a_resource_allocates_once() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        assert_eq!(measured(false).await, 1_000);
        scope(async |_: &Nursery| {
            assert_eq!(measured(false).await, 1_000);
            assert_eq!(measured(true).await, 1_000);
            Ok(())
        })
        .await
        .unwrap();
    });
}
