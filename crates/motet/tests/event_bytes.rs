//! The memory of an emitter. A separate binary, since it has its own allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod counting;

use std::sync::Arc;

use motet::event::{Emitter, Event, Lag, Pattern};
use motet::task::{Nursery, scope};
use tokio::task::yield_now;

use counting::{allocations, bytes, live};

struct Tick(u64);

impl Event for Tick {
    const NAME: &'static str = "tick";
}

/// The order in which listeners are removed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goes {
    OldestFirst,
    NewestFirst,
    /// Each listener has its own scope.
    WithItsScope,
}

/// The bytes that are allocated, and so copied, while listeners are added and removed, with emits in between.
async fn come_and_go(n: &Nursery, emitter: &Emitter, count: usize, goes: Goes) -> usize {
    let others = emitter.listener_count::<Tick>();
    let before = bytes();
    if goes == Goes::WithItsScope {
        let (end, ends) = tokio::sync::watch::channel(false);
        let scopes: Vec<_> = (0..count)
            .map(|_| {
                let (emitter, mut ends) = (emitter.clone(), ends.clone());
                n.spawn("connection", async move {
                    let ended = scope(async |inner: &Nursery| {
                        emitter.listener("one").within(inner).on(|_: &Tick| ()).unwrap().forever();
                        ends.wait_for(|ends| *ends).await.unwrap();
                        Ok(())
                    });
                    ended.await.unwrap();
                })
            })
            .collect();
        while emitter.listener_count::<Tick>() < others + count {
            yield_now().await;
        }
        emit(emitter, 1).await;
        end.send(true).unwrap();
        for ended in scopes {
            ended.await.unwrap();
        }
    } else {
        let mut on: Vec<_> = (0..count).map(|_| emitter.on("one", |_: &Tick| ()).unwrap()).collect();
        emit(emitter, 1).await;
        match goes {
            Goes::OldestFirst => drop(on),
            _ => while on.pop().is_some() {},
        }
    }
    assert_eq!(emitter.listener_count::<Tick>(), others);
    bytes() - before
}

#[tokio::test]
async fn emits_leave_no_memory_and_need_none_for_sync_listeners() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let _sync = [(); 8].map(|()| emitter.on("sync", |tick: &Tick| assert!(tick.0 < 2_000_000)).unwrap());
        // Beyond the first time that the budget is used up, when the runtime allocates once for deferred wakers.
        emit(&emitter, 1_000).await;
        let (before, allocated) = (live(), allocations());
        emit(&emitter, 1_000_000).await;
        assert_eq!(live(), before, "a million emits leave memory behind");
        assert_eq!(allocations(), allocated, "a sync emit allocates");

        let _stream = emitter.stream::<Tick>(Lag::DropOldest(4.try_into().unwrap()));
        let _waits = emitter.on_async("waits", async |_: Arc<Tick>| yield_now().await).unwrap();
        emit(&emitter, 1_000).await;
        let before = live();
        emit(&emitter, 100_000).await;
        assert_eq!(live(), before, "emits to a stream and to an async listener leave memory behind");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn emit_to_many_waiting_nexts_allocates_below_200_bytes_each() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        emit(&emitter, 1_000).await;
        for count in [2_000, 20_000] {
            let nexts: Vec<_> = (0..count).map(|_| emitter.next::<Tick>()).collect();
            let before = bytes();
            emit(&emitter, 1).await;
            let bytes = bytes() - before;
            assert!(bytes < count * 200, "{bytes} bytes for {count}: the list is copied for each waiter");
            drop(nexts);
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn bytes_allocated_to_add_and_remove_listeners_grow_linearly() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        for goes in [Goes::OldestFirst, Goes::NewestFirst, Goes::WithItsScope] {
            // Once before, for the first allocations.
            come_and_go(n, &emitter, 1_000, goes).await;
            let (few, many) =
                (come_and_go(n, &emitter, 1_000, goes).await, come_and_go(n, &emitter, 10_000, goes).await);
            assert!(many < few * 12, "{goes:?}: {few} bytes for 1,000 listeners, {many} for 10,000");
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn removed_listeners_and_handled_posts_leave_no_memory_behind() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let _stream = emitter.stream::<Tick>(Lag::DropOldest(4.try_into().unwrap()));
        let _waits = emitter.on_async("waits", async |_: Arc<Tick>| yield_now().await).unwrap();
        everything(&emitter, 100).await;
        let before = live();
        everything(&emitter, 10_000).await;
        assert_eq!(live(), before, "adding, removing, emitting and posting leave memory behind");
        for number in 0..1_000 {
            let _ = emitter.post(Tick(number)).unwrap();
        }
        for _ in 0..10_000 {
            yield_now().await;
        }
        assert!(live() <= before, "{} bytes of a burst are kept", live() - before);
        Ok(())
    })
    .await
    .unwrap();
}

async fn emit(emitter: &Emitter, count: u64) {
    for number in 0..count {
        assert!(emitter.emit(Tick(number)).await.unwrap().is_ok());
    }
}

async fn everything(emitter: &Emitter, count: u64) {
    for number in 0..count {
        let short = emitter.on("short", |_: &Tick| ()).unwrap();
        let once = emitter.once("once", |_: &Tick| ()).unwrap();
        let pattern =
            emitter.on_pattern_async("pattern", Pattern::parse(">").unwrap(), async |_| {}).unwrap();
        let next = emitter.next::<Tick>();
        assert!(emitter.emit(Tick(number)).await.unwrap().is_ok());
        assert!(emitter.emit_named("named", number).await.unwrap().is_ok());
        assert_eq!(next.await.unwrap().0, number);
        drop((short, once, pattern));
        assert_eq!(emitter.post(Tick(number)).unwrap().dropped, 0);
        for _ in 0..4 {
            yield_now().await;
        }
    }
}
