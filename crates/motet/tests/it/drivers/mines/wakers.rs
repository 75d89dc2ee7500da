//! Wakers of users.

use std::convert::Infallible;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

use motet::batch::Batcher;
use motet::container::Container;
use motet::event::{Emitter, Lag};
use motet::pool::{Manager, Pool};
use motet::queue;
use motet::stream::StreamCombinators as _;
use motet::task::{CancelToken, Nursery, Reason, scope};
use tokio::task::coop::unconstrained;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

use super::super::{draw, millis};
use super::{Happened, Mine, Touch, goes_off};

/// A waker that panics in this use. It points to a constant, and owns nothing.
#[allow(unsafe_code, reason = "a waker made of an `Arc` cannot panic when it is cloned")]
fn mined_waker(touch: &'static Touch) -> Waker {
    fn touched(data: *const (), touch: Touch) {
        // SAFETY: every waker of this table is made below, from a reference to a static `Touch`.
        let mined = unsafe { &*data.cast::<Touch>() };
        Mine::touched(&ManuallyDrop::new(Mine(*mined)), touch);
    }
    const TABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            touched(data, Touch::Clone);
            RawWaker::new(data, &TABLE)
        },
        |data| touched(data, Touch::Wake),
        |data| touched(data, Touch::Wake),
        |data| touched(data, Touch::Drop),
    );
    // SAFETY: the functions keep the contract of a waker: the data is static, `Sync`, and never changed.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::from_ref(touch).cast(), &TABLE)) }
}

/// Polls the future with a mined waker, and returns it. It is not polled again.
fn waits_with(touch: &'static Touch, future: impl Future) -> impl Sized {
    let waker = ManuallyDrop::new(mined_waker(touch));
    // Without the budget of the task, and after the yields of a queue: after those the runtime itself would wake.
    let mut future = Box::pin(unconstrained(async move { drop(future.await) }));
    for _ in 0..32 {
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "the future ends at once");
    }
    let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
    assert!(!polled.is_ok_and(|polled| polled.is_ready()), "the future ends at once");
    future
}

struct Well;

impl Manager for Well {
    type Connection = u32;
    type Error = Infallible;

    async fn connect(&self) -> Result<u32, Infallible> {
        Ok(7)
    }
}

/// A wake does not panic, and the item or connection of the mined waiter goes to another waiter.
pub(super) async fn of_a_queue_and_a_pool(touch: &'static Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let (sender, receiver) = queue::bounded(2).unwrap();
        let mined = waits_with(touch, receiver.recv());
        let other = receiver.clone();
        let other = n.spawn("receives", async move { other.recv().await });
        tokio::task::yield_now().await;
        sender.send(1).await.unwrap();
        sender.send(2).await.unwrap();
        goes_off(mined);
        let both = other.await.unwrap().unwrap() + receiver.recv().await.unwrap();
        assert_eq!(both, 3);

        let pool = Pool::builder(n, Well).max(1).build().unwrap();
        let held = pool.acquire().await.unwrap();
        let mined = waits_with(touch, pool.acquire());
        let other = pool.clone();
        let other = n.spawn("acquires", async move { drop(other.acquire().await.unwrap()) });
        tokio::task::yield_now().await;
        drop(held);
        goes_off(mined);
        other.await.unwrap();
        drop(pool.acquire().await.unwrap());
        Ok(())
    })
    .await
    .unwrap();
}

/// A cancellation does not panic, and wakes the waiter behind the mined one.
pub(super) async fn of_a_token(touch: &'static Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let token = CancelToken::new();
        let mined = waits_with(touch, token.cancelled());
        let other = token.clone();
        let other = n.spawn("waits", async move { other.cancelled().await.clone() });
        sleep(millis(1)).await;
        token.cancel(Reason::requested("lunch"));
        goes_off(mined);
        assert_eq!(other.await.unwrap().text(), Some("lunch"));
        Ok(())
    })
    .await
    .unwrap();
}

/// A close and the receipt of the last item do not panic, and wake the waiters behind the mined ones.
pub(super) async fn of_a_queue_that_ends(touch: &'static Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let (sender, receiver) = queue::bounded(2).unwrap();
        sender.send(1).await.unwrap();
        let mined = (waits_with(touch, sender.closed()), waits_with(touch, sender.join()));
        let (closed, joined) = (sender.clone(), sender.clone());
        let closed = n.spawn("waits", async move { closed.closed().await });
        let joined = n.spawn("joins", async move { joined.join().await });
        sleep(millis(1)).await;
        if draw(2) == 0 {
            sender.close();
            closed.await.unwrap();
            assert_eq!(receiver.recv().await.unwrap(), 1);
            joined.await.unwrap().unwrap();
        } else {
            assert_eq!(receiver.recv().await.unwrap(), 1);
            joined.await.unwrap().unwrap();
            sender.close();
            closed.await.unwrap();
        }
        goes_off(mined.0);
        goes_off(mined.1);
        Ok(())
    })
    .await
    .unwrap();
}

/// The end of the last listener wakes the waiter behind the mined one.
pub(super) async fn of_an_emitter(touch: &'static Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let emitter = Emitter::builder(n).build();
        let _hears = emitter.on_async("hears", |_: Arc<Happened>| sleep(millis(3)));
        let _posted = emitter.post(Happened).unwrap();
        let mined = waits_with(touch, emitter.drain());
        let other = emitter.clone();
        let other = n.spawn("drains", async move { other.drain().await });
        other.await.unwrap();
        goes_off(mined);
        Ok(())
    })
    .await
    .unwrap();
}

struct Part;

/// The end of a build wakes the caller behind the mined one.
pub(super) async fn of_a_container(touch: &'static Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let mut container = Container::new();
        container.provide_scoped(async || {
            sleep(millis(3)).await;
            Part
        });
        let running = container.start(n).await.unwrap();
        let scoped = running.within(n).unwrap();
        let mined = waits_with(touch, scoped.get::<Part>());
        let _part = scoped.get::<Part>().await.unwrap();
        goes_off(mined);
        scoped.close().await;
        assert!(running.stop().await.failures().next().is_none());
        Ok(())
    })
    .await
    .unwrap();
}

/// The other waiters are woken, although one waker panics.
pub(super) async fn of_a_batch_and_a_task(touch: &'static Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let batcher = Batcher::new(n, |items: Vec<u32>| async move {
            items.into_iter().map(Ok::<_, Infallible>).collect::<Vec<_>>()
        });
        let mined = waits_with(touch, batcher.submit(1));
        assert_eq!(batcher.submit(2).await.unwrap(), 2);
        goes_off(mined);
        batcher.close().await;

        let slow = Batcher::new(n, |items: Vec<u32>| async move {
            sleep(millis(2)).await;
            items.into_iter().map(Ok::<_, Infallible>).collect::<Vec<_>>()
        });
        slow.post(1).await.unwrap();
        let mined = waits_with(touch, slow.flush());
        let other = slow.clone();
        let other = n.spawn("flushes", async move { other.flush().await });
        other.await.unwrap();
        goes_off(mined);
        slow.close().await;

        let ended = n.spawn("ends", sleep(millis(1)));
        let mined = waits_with(touch, ended);
        sleep(millis(2)).await;
        goes_off(mined);
        Ok(())
    })
    .await
    .unwrap();
}

/// An event reaches the readers and listeners behind a mined reader, and neither `emit` nor `post` panics.
pub(super) async fn of_event_readers(touch: &'static Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let emitter = Emitter::new(n);
        let mined_next = waits_with(touch, emitter.next::<Happened>());
        let mut mined_stream = emitter.stream::<Happened>(Lag::Latest);
        let mined_stream = waits_with(touch, async move { mined_stream.next().await.is_some() });
        let two = const { NonZeroUsize::new(2).unwrap() };
        // Its task starts at the next await.
        let mut readers = tokio_stream::iter([1]).broadcast(n, "numbers", two, Lag::Wait(two)).unwrap();
        let (mut mined, mut other) = (readers.remove(0), readers.remove(0));
        let mined_broadcast = waits_with(touch, async move { mined.next().await.is_some() });
        let next = emitter.next::<Happened>();
        if draw(2) == 0 {
            emitter.emit(Happened).await.unwrap().into_result().unwrap();
        } else {
            let _posted = emitter.post(Happened).unwrap();
        }
        assert!(next.await.is_ok());
        assert_eq!(*other.next().await.unwrap().unwrap(), 1);
        goes_off(mined_next);
        goes_off(mined_stream);
        goes_off(mined_broadcast);
        Ok(())
    })
    .await
    .unwrap();
}
