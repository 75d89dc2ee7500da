//! The allocations of containers. A separate binary, since it has its own allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod counting;

use std::sync::Arc;

use motet::container::Container;
use motet::task::{Nursery, Scope, scope};
use tokio::runtime::Builder;

use counting::allocations;

struct Database;
struct Cache(Arc<Database>);
struct Service(Arc<Database>, Arc<Cache>);

fn once() -> Container {
    let mut c = Container::new();
    c.provide(|| async { Database });
    c.provide(|database: Arc<Database>| async move { Cache(database) });
    c.provide(|database: Arc<Database>, cache: Arc<Cache>| async move { Service(database, cache) });
    c
}

fn each_start() -> Container {
    let mut c = Container::new();
    c.provide_each_start(|| async { Database });
    c.provide_each_start(|database: Arc<Database>| async move { Cache(database) });
    c.provide_each_start(
        |database: Arc<Database>, cache: Arc<Cache>| async move { Service(database, cache) },
    );
    c
}

fn uses(service: &Service) {
    assert!(Arc::ptr_eq(&service.0, &service.1.0));
}

/// Returns the allocations of one call, after a first one.
async fn counted(mut call: impl AsyncFnMut(&Scope)) -> usize {
    let mut count = 0;
    for _ in 0..2 {
        scope(async |_: &Nursery| {
            scope(async |inner: &Nursery| {
                let before = allocations();
                call(inner).await;
                count = allocations() - before;
                Ok(())
            })
            .await
            .unwrap();
            Ok(())
        })
        .await
        .unwrap();
    }
    count
}

/// Three components in a scope of their own, up to the end of that scope.
#[test]
fn start_of_three_components_allocates_a_fixed_number_of_times() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let checked = counted(async |_| drop(once().check().unwrap())).await;
        let plan = each_start().check().unwrap();
        let start_and_stop = counted(async |outer| {
            let running = plan.start(outer).await.unwrap();
            uses(running.get_ref::<Service>().unwrap());
            assert!(running.stop().await.is_ok());
        })
        .await;
        assert_eq!((checked, start_and_stop), (15, 23));
    });
}
