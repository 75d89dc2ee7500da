//! The end of workers: with their queue, or with their scope.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::future::pending;

use motet::queue::{self, Job};
use motet::task::{Nursery, Reason, Scope, ScopeError, scope};
use tokio::time::{Instant, sleep};

use super::{Log, ms};

#[tokio::test(start_paused = true)]
async fn cancelled_idle_workers_take_no_item() {
    let (sender, receiver) = queue::bounded(8).unwrap();
    scope(async |n: &Nursery| {
        let handler = async |_: Job<u32>| Ok::<_, Infallible>(());
        let crew = receiver.workers(3).unwrap().start(n, "idle", handler).unwrap();
        sleep(ms(1)).await;
        // Both before a worker runs again: either one wakes it.
        sender.try_send(1).unwrap();
        crew.cancel(Reason::requested("enough"));
        sender.try_send(2).unwrap();
        assert_eq!(crew.ended().await.done, 0);
        Ok(())
    })
    .await
    .unwrap();
    assert!(!sender.is_closed(), "the crew closed a queue of which it is not the only receiver");
    assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(1), Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn handlers_get_the_grace_and_cut_off_items_count_no_attempt() {
    let (sender, receiver) = queue::bounded(8).unwrap();
    let log = Log::new();
    let begin = Instant::now();
    let options = Scope::builder().grace(ms(100));
    let ended = options.run(async |n: &Nursery<Infallible>| {
        let seen = log.clone();
        let crew = receiver.workers(3).unwrap().start(n, "slow", move |job: Job<u64>| {
            let seen = seen.clone();
            async move {
                sleep(ms(*job)).await;
                seen.note(*job);
                Ok::<_, Infallible>(())
            }
        });
        for time in [50, 1_000, 2_000, 3_000] {
            sender.send(time).await.unwrap();
        }
        sleep(ms(10)).await;
        drop(crew);
        n.cancel(Reason::requested("shutdown"));
        pending::<Result<(), _>>().await
    });
    assert!(matches!(ended.await, Err(ScopeError::Cancelled { .. })));
    assert_eq!(begin.elapsed(), ms(110));
    assert_eq!(log.read(), [50]);
    // No item is lost, and no attempt counts.
    let mut left = Vec::new();
    while let Ok(lease) = receiver.try_lease() {
        left.push((*lease, lease.attempt()));
        lease.done().await.unwrap();
    }
    left.sort_unstable();
    assert_eq!(left, [(1_000, 1), (2_000, 1), (3_000, 1)]);
}

#[tokio::test(start_paused = true)]
async fn items_waiting_for_their_key_return_to_the_queue_in_order() {
    for cut_off in [true, false] {
        let (sender, receiver) = queue::bounded(8).unwrap();
        let options = Scope::builder().grace(ms(100));
        let ended = options.run(async |n: &Nursery<Infallible>| {
            let handler = move |_: Job<(u32, u32)>| async move {
                sleep(if cut_off { ms(1_000) } else { ms(50) }).await;
                Ok::<_, Infallible>(())
            };
            let crew =
                receiver.workers(3).unwrap().keyed(|(key, _): &(u32, u32)| *key).start(n, "keyed", handler);
            for number in 0..6 {
                sender.send((number / 3, number)).await.unwrap();
            }
            sleep(ms(10)).await;
            assert_eq!(crew.unwrap().stats().waiting, 4);
            n.cancel(Reason::requested("shutdown"));
            pending::<Result<(), _>>().await
        });
        assert!(ended.await.unwrap_err().is_cancelled());
        let mut left = Vec::new();
        while let Ok(lease) = receiver.try_lease() {
            assert_eq!(lease.attempt(), 1);
            left.push(lease.1);
            lease.done().await.unwrap();
        }
        let of = |key| left.iter().copied().filter(|number| number / 3 == key).collect::<Vec<_>>();
        let done = u32::from(!cut_off);
        assert_eq!(of(0), (done..3).collect::<Vec<_>>());
        assert_eq!(of(1), (3 + done..6).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn item_in_backoff_returns_at_once_when_the_scope_is_cancelled() {
    let (sender, receiver) = queue::bounded(8).unwrap();
    let after = OnceCell::new();
    let begin = Instant::now();
    let ended = Scope::builder().grace(ms(100)).run(async |n: &Nursery<Infallible>| {
        let workers =
            receiver.workers(1).unwrap().keyed(|_: &u32| 0).backoff(motet::Backoff::constant(ms(10_000)));
        let crew = workers.start(n, "keyed", async |_: Job<u32>| Err::<(), _>("not now"));
        for number in 0..3 {
            sender.send(number).await.unwrap();
        }
        sleep(ms(10)).await;
        let crew = crew.unwrap();
        assert_eq!(crew.stats().waiting, 3);
        n.cancel(Reason::requested("shutdown"));
        after.set(crew).unwrap();
        pending::<Result<(), _>>().await
    });
    assert!(ended.await.unwrap_err().is_cancelled());
    assert_eq!(begin.elapsed(), ms(10));
    assert_eq!(after.get().unwrap().stats().waiting, 0);
    let mut left = Vec::new();
    while let Ok(lease) = receiver.try_lease() {
        left.push((*lease, lease.attempt()));
        lease.done().await.unwrap();
    }
    // The first item was tried once, which counts; the others were not tried.
    assert_eq!(left, [(0, 2), (1, 1), (2, 1)]);
}

/// The delay of the item is over, and no worker has taken it.
#[tokio::test(start_paused = true)]
async fn item_due_when_its_workers_end_keeps_its_attempt_count() {
    let (sender, receiver) = queue::bounded(8).unwrap();
    scope(async |n: &Nursery| {
        let workers = receiver
            .workers(1)
            .unwrap()
            .keyed(|number: &u32| *number)
            .backoff(motet::Backoff::constant(ms(10)));
        let handler = async |job: Job<u32>| match *job {
            0 => Err("not now"),
            _ => {
                sleep(ms(100)).await;
                Ok(())
            }
        };
        let crew = workers.start(n, "keyed", handler).unwrap();
        for number in 0..2 {
            sender.send(number).await.unwrap();
        }
        sleep(ms(50)).await;
        assert_eq!(crew.stats().waiting, 1);
        crew.cancel(Reason::requested("enough"));
        let stats = crew.ended().await;
        assert_eq!((stats.done, stats.failed, stats.waiting), (1, 1, 0));
        Ok(())
    })
    .await
    .unwrap();
    let lease = receiver.try_lease().unwrap();
    assert_eq!((*lease, lease.attempt()), (0, 2), "one attempt by the worker, and this one");
    assert!(receiver.is_empty());
}

#[tokio::test(start_paused = true)]
async fn workers_finish_a_closed_queue_including_retries() {
    let log = Log::new();
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(100).unwrap();
        for number in 0..50 {
            sender.send(number).await.unwrap();
        }
        sender.close();
        let seen = log.clone();
        let handler = move |job: Job<u32>| {
            let seen = seen.clone();
            async move {
                sleep(ms(1)).await;
                // The last item comes back when the queue is closed and all other items are settled.
                if *job == 49 && job.attempt() < 3 {
                    return Err("not now");
                }
                seen.note(*job);
                Ok(())
            }
        };
        drop(
            receiver
                .workers(4)
                .unwrap()
                .backoff(motet::Backoff::constant(ms(100)))
                .start(n, "drain", handler),
        );
        Ok(())
    })
    .await
    .unwrap();
    let mut done = log.read();
    done.sort_unstable();
    assert_eq!(done, (0..50).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn service_workers_serve_until_the_other_children_end() {
    let log = Log::new();
    let (sender, receiver) = queue::bounded(8).unwrap();
    let begin = Instant::now();
    scope(async |n: &Nursery| {
        let seen = log.clone();
        let handler = move |job: Job<u32>| {
            seen.note(*job);
            async { Ok::<_, Infallible>(()) }
        };
        drop(receiver.workers(2).unwrap().as_services().start(n, "serves", handler));
        let theirs = sender.clone();
        n.spawn("sends", async move {
            for number in 0..3 {
                sleep(ms(10)).await;
                theirs.send(number).await.unwrap();
            }
            theirs.join().await.unwrap();
        });
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!((log.read(), begin.elapsed()), (vec![0, 1, 2], ms(30)));
    sender.send(4).await.unwrap();
    assert_eq!(receiver.try_recv(), Ok(4));
}

#[tokio::test(start_paused = true)]
async fn ended_scope_refuses_workers_and_drops_their_receivers() {
    let (sender, receiver) = queue::bounded::<u32>(8).unwrap();
    let ended = scope(async |n: &Nursery| Ok(Scope::clone(n))).await.unwrap();
    let handler = async |_: Job<u32>| Ok::<_, Infallible>(());
    assert!(receiver.workers(2).unwrap().start(&ended, "late", handler).is_err());
    drop(receiver);
    assert!(sender.is_closed(), "workers that did not start hold a receiver");
}

/// Without a receiver beside those of the workers, no receiver can take the items that the workers leave.
#[tokio::test(start_paused = true)]
async fn join_fails_when_cancelled_workers_had_the_last_receiver() {
    let (sender, receiver) = queue::bounded(8).unwrap();
    let left = scope(async |n: &Nursery| {
        let workers = receiver.workers(1).unwrap();
        drop(receiver);
        let crew = workers.start(n, "gone", async |_: Job<u32>| pending::<Result<(), Infallible>>().await);
        sender.send(1).await.unwrap();
        sender.send(2).await.unwrap();
        sleep(ms(1)).await;
        crew.unwrap().cancel(Reason::requested("enough"));
        Ok(sender.join().await)
    });
    assert_eq!(left.await.unwrap().unwrap_err().left, 2);
}

/// The first item fails in the grace period, or waits for its delay, when its crew is cancelled.
#[tokio::test(start_paused = true)]
async fn next_workers_continue_in_the_order_of_a_key() {
    for takes in [0, 10] {
        let (sender, receiver) = queue::bounded(8).unwrap();
        for number in 0..4 {
            sender.send(number).await.unwrap();
        }
        let log = Log::new();
        scope(async |n: &Nursery| {
            let handler = move |_: Job<u32>| async move {
                sleep(ms(takes)).await;
                Err::<(), _>("not now")
            };
            let workers =
                receiver.workers(2).unwrap().keyed(|_: &u32| 0).backoff(motet::Backoff::constant(ms(1_000)));
            let crew = workers.start(n, "first", handler).unwrap();
            sleep(ms(5)).await;
            crew.cancel(Reason::requested("enough"));
            let stats = crew.ended().await;
            assert_eq!((stats.failed, stats.waiting, stats.workers), (1, 0, 0));
            let seen = log.clone();
            let handler = move |job: Job<u32>| {
                seen.note((*job, job.attempt()));
                async { Ok::<_, Infallible>(()) }
            };
            let crew = receiver.workers(2).unwrap().keyed(|_: &u32| 0).start(n, "second", handler).unwrap();
            drop(sender);
            assert_eq!(crew.ended().await.done, 4);
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(log.read(), [(0, 2), (1, 1), (2, 1), (3, 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_workers_do_not_wait_for_the_delay_of_an_item() {
    let (sender, receiver) = queue::bounded(8).unwrap();
    let begin = Instant::now();
    scope(async |n: &Nursery| {
        let workers =
            receiver.workers(1).unwrap().keyed(|_: &u32| 0).backoff(motet::Backoff::constant(ms(60_000)));
        let crew = workers.start(n, "keyed", async |_: Job<u32>| Err::<(), _>("not now")).unwrap();
        sender.send(1).await.unwrap();
        sleep(ms(10)).await;
        crew.cancel(Reason::requested("enough"));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(begin.elapsed(), ms(10));
    assert_eq!(receiver.len(), 1);
}
