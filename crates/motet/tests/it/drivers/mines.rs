//! Code of users that panics where it is shown, compared, dropped or woken, in each position where the library runs it:
//! it affects no other user.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{pending, poll_fn};
use std::hash::{Hash, Hasher};
use std::mem::ManuallyDrop;
use std::num::{NonZeroU32, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use motet::Backoff;
use motet::batch::{Batcher, Loader};
use motet::container::Container;
use motet::event::{Emitter, Event};
use motet::observe::Stats;
use motet::pool::{Manager, Pool};
use motet::queue::{self, Job};
use motet::resilience::{BreakerState, CircuitBreaker, CircuitBreakers};
use motet::task::{CancelToken, Nursery, Reason, Restart, Scope, Supervisor, scope, timeout};
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::coop::unconstrained;
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};
use crate::reader::reader;

pub(super) const DRIVER: Driver = Driver { drives: &[], cancel, sweep };

#[test]
fn user_code_that_panics_at_the_edges_leaves_others_intact() {
    passes(sweep);
}

/// What a mine does not bear.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Touch {
    Display,
    Debug,
    Drop,
    Hash,
    Clone,
    Eq,
    Wake,
}

const TOUCHES: [Touch; 7] =
    [Touch::Display, Touch::Debug, Touch::Drop, Touch::Hash, Touch::Clone, Touch::Eq, Touch::Wake];

struct Mine(Touch);

impl Mine {
    fn touched(&self, touch: Touch) {
        assert!(self.0 != touch || std::thread::panicking(), "it goes off");
    }
}

impl fmt::Display for Mine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.touched(Touch::Display);
        f.write_str("a mine")
    }
}

impl fmt::Debug for Mine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.touched(Touch::Debug);
        f.write_str("Mine")
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        self.touched(Touch::Drop);
    }
}

impl Hash for Mine {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.touched(Touch::Hash);
        0.hash(state);
    }
}

impl Clone for Mine {
    fn clone(&self) -> Self {
        self.touched(Touch::Clone);
        Self(self.0)
    }
}

impl Error for Mine {}

fn cancel() {}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let _read = tracing::subscriber::set_default(reader());
        let touch = &TOUCHES[draw(7) as usize];
        let around = timeout(millis(60_000), async {
            match draw(14) {
                0 => in_a_pool(*touch).await,
                1 => in_a_listener(*touch).await,
                2 => in_a_release(*touch).await,
                3 => in_a_supervisor(*touch).await,
                4 => in_a_batch(*touch).await,
                5 => in_workers(*touch).await,
                6 => in_keys_of_a_loader(*touch).await,
                7 => in_keys_of_a_registry(*touch),
                8 => in_wakers_of_a_queue_and_a_pool(touch).await,
                9 => in_wakers_of_a_token(touch).await,
                10 => in_wakers_of_a_queue_that_ends(touch).await,
                11 => in_wakers_of_an_emitter(touch).await,
                12 => in_wakers_of_a_container(touch).await,
                _ => in_wakers_of_a_batch_and_a_task(touch).await,
            }
        });
        around.await.expect("it hangs");
        in_stats().await;
    })
}

/// Drops what may go off in its user's hands.
fn goes_off<T>(mined: T) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(mined))));
}

struct Mines {
    touch: Touch,
    connects: AtomicUsize,
}

impl Manager for Mines {
    type Connection = u32;
    type Error = Mine;

    async fn connect(&self) -> Result<u32, Mine> {
        match self.connects.fetch_add(1, Ordering::Relaxed) {
            // Cut off by its limit, with a mine in hand.
            0 => {
                let _mine = Mine(self.touch);
                pending().await
            }
            1 => Err(Mine(self.touch)),
            number => Ok(number as u32),
        }
    }

    async fn check(&self, number: &mut u32) -> Result<(), Mine> {
        match *number {
            2 => Err(Mine(self.touch)),
            3 => {
                let _mine = Mine(self.touch);
                pending().await
            }
            _ => Ok(()),
        }
    }

    async fn close(&self, _: u32) {
        let _mine = Mine(self.touch);
        pending().await
    }
}

async fn in_a_pool(touch: Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let mines = Mines { touch, connects: AtomicUsize::new(0) };
        let pool = Pool::builder(n, mines)
            .max(1)
            .connect_timeout(millis(10))
            .check_timeout(millis(10))
            .close_timeout(millis(10))
            .build()
            .unwrap();
        let mut lent = 0;
        while lent < 3 {
            match pool.acquire().await {
                Ok(connection) => {
                    lent += 1;
                    // It is checked before it is lent again.
                    drop(connection);
                    sleep(millis(2_000)).await;
                }
                Err(_failed) => sleep(millis(100)).await,
            }
        }
        Ok(())
    })
    .await
    .unwrap();
}

struct Happened;

impl Event for Happened {
    const NAME: &'static str = "happened";
}

async fn in_a_listener(touch: Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let emitter = Emitter::builder().build(n);
        let heard = Arc::new(AtomicUsize::new(0));
        let _fails =
            emitter.on_async("fails", move |_: Arc<Happened>| async move { Err::<(), _>(Mine(touch)) });
        let hears = Arc::clone(&heard);
        let _hears = emitter.on_async("hears", move |_: Arc<Happened>| {
            hears.fetch_add(1, Ordering::Relaxed);
            async {}
        });
        for _ in 0..3 {
            let _posted = emitter.post(Happened).unwrap();
        }
        emitter.drain().await;
        assert_eq!(heard.load(Ordering::Relaxed), 3);
        Ok(())
    })
    .await
    .unwrap();
}

async fn in_a_release(touch: Touch) {
    let released = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&released);
    let ended = Scope::builder().release_timeout(millis(10)).run(async |n: &Nursery<Infallible>| {
        n.defer("last", async move |_| release.store(true, Ordering::Relaxed));
        n.defer("fails", async move |_| Err::<(), _>(Mine(touch)));
        n.defer("is cut off", async move |_| {
            let _mine = Mine(touch);
            pending::<()>().await;
        });
        n.defer("panics", async move |_| -> () { std::panic::panic_any(7) });
        Ok(())
    });
    let failed = ended.await.unwrap_err();
    assert!(released.load(Ordering::Relaxed));
    // It is the caller's now.
    goes_off(failed);
}

async fn in_a_supervisor(touch: Touch) {
    let begun = Arc::new(AtomicUsize::new(0));
    let begins = Arc::clone(&begun);
    scope(async |n: &Nursery<Infallible>| {
        let supervisor = Supervisor::new()
            .name("minds")
            .intensity(100, millis(60_000))
            .backoff(Backoff::constant(millis(1)))
            .child("fails", Restart::Transient, move || {
                let number = begins.fetch_add(1, Ordering::Relaxed);
                async move { if number < 20 { Err(Mine(touch)) } else { Ok(()) } }
            });
        let token = CancelToken::new();
        n.spawn("supervisor", supervisor.run(token));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(begun.load(Ordering::Relaxed), 21);
}

async fn in_a_batch(touch: Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let batcher = Batcher::new(n, move |items: Vec<u32>| async move {
            if items.contains(&0) {
                Err(Mine(touch))
            } else {
                Ok(items.into_iter().map(Ok).collect::<Vec<_>>())
            }
        });
        batcher.post(0).await.unwrap();
        batcher.flush().await;
        assert_eq!(batcher.submit(1).await.unwrap(), 1);
        batcher.close().await;
        Ok(())
    })
    .await
    .unwrap();
}

async fn in_workers(touch: Touch) {
    let (dead, letters) = queue::bounded(16);
    let done = scope(async |n: &Nursery<Infallible>| {
        let (sender, receiver) = queue::options(16).dead_letters(NonZeroU32::MIN, dead).build();
        let workers = receiver.workers(2).keyed(|(number, mine): &(u32, Option<Mine>)| {
            if let Some(mine) = mine {
                mine.hash(&mut std::hash::DefaultHasher::new());
            }
            *number
        });
        let handler = move |job: Job<(u32, Option<Mine>)>| async move {
            if job.0.is_multiple_of(2) { Err(Mine(touch)) } else { Ok(()) }
        };
        let crew = workers.start(n, "works", handler).unwrap();
        for number in 0..6 {
            assert!(sender.send((number, (number == 1).then(|| Mine(touch)))).await.is_ok());
        }
        drop(sender);
        Ok(crew.ended().await)
    });
    let stats = done.await.unwrap();
    assert_eq!(stats.done + stats.failed + stats.panicked, 6, "{stats:?}");
    while let Ok(letter) = letters.try_recv() {
        goes_off(letter);
    }
}

/// All have the same hash, so that each is compared. A mine goes off in the hands of its caller: it is the second
/// that is compared; of a comparison, it does so when the fuse has come to its end.
struct Key(u32, Option<Mine>, Fuse);

/// How many comparisons go well.
#[derive(Default)]
struct Fuse(AtomicUsize);

impl Key {
    fn well(number: u32) -> Self {
        Self(number, None, Fuse::default())
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(mine) = &self.1 {
            mine.touched(Touch::Hash);
        }
        0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, asked: &Self) -> bool {
        if let Some(mine) = &asked.1
            && asked
                .2
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_err()
        {
            mine.touched(Touch::Eq);
        }
        self.0 == asked.0
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        Self(self.0, self.1.clone(), Fuse::default())
    }
}

/// The caller with a mine may panic; the other callers get their values, each that of its own key.
async fn in_keys_of_a_loader(touch: Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let loader = Loader::new(n, |keys: Vec<Key>| async move {
            // What a handler drops is its own affair.
            keys.into_iter().map(|key| Ok::<_, Infallible>(ManuallyDrop::new(key).0)).collect::<Vec<_>>()
        });
        let asks = (0..6_u32).map(|number| {
            let loader = loader.clone();
            n.spawn("asks", async move {
                sleep(millis(draw(3))).await;
                let asked = survives(async {
                    let key = Key(number, (number == 2).then(|| Mine(touch)), Fuse::default());
                    loader.load(key).await.map(|value| *value)
                });
                match asked.await {
                    Some(value) => assert_eq!(value.ok(), Some(number)),
                    None => assert_eq!(number, 2, "it had no mine"),
                }
            })
        });
        for asks in asks.collect::<Vec<_>>() {
            asks.await.unwrap();
        }
        loader.close().await;
        Ok(())
    })
    .await
    .unwrap();
}

/// The caller with a mine may panic; the breakers of the others are as they were.
fn in_keys_of_a_registry(touch: Touch) {
    // To get a breaker that is not there takes six comparisons with three that are.
    for fuse in 0..9 {
        let max = const { NonZeroUsize::new(3).unwrap() };
        let breakers = CircuitBreakers::new(max, |_: &Key| CircuitBreaker::default());
        for number in 0..3 {
            breakers.get(&Key::well(number)).force_open();
        }
        let mined = || ManuallyDrop::new(Key(7, Some(Mine(touch)), Fuse(fuse.into())));
        let removed = catch_unwind(AssertUnwindSafe(|| breakers.remove(&mined()).is_some()));
        assert!(!removed.unwrap_or(false), "it was never there");
        let got = catch_unwind(AssertUnwindSafe(|| drop(breakers.get(&mined()))));
        let mut kept: Vec<u32> = breakers.states().iter().map(|(key, _)| key.0).collect();
        kept.sort_unstable();
        match got {
            Err(_) => assert_eq!(kept, [0, 1, 2]),
            Ok(()) => assert!(kept.len() == 3 && kept.contains(&7), "{kept:?}"),
        }
        for number in kept.into_iter().filter(|number| *number < 3) {
            assert_eq!(breakers.get(&Key::well(number)).state(), BreakerState::ForcedOpen);
        }
        goes_off(breakers);
    }
}

/// Runs a future to its end; `None` if it panics.
async fn survives<F: Future>(future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let outcome = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    });
    let outcome = outcome.await;
    goes_off(future);
    outcome
}

/// A waker that panics where it is touched. It points to a constant, and so owns nothing.
#[allow(unsafe_code, reason = "a safe waker cannot panic when it is cloned")]
fn mined_waker(touch: &'static Touch) -> Waker {
    fn touched(data: *const (), touch: Touch) {
        // SAFETY: each is made below of such a reference.
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
    // SAFETY: the functions keep the contract: the data is static, may be shared, and is never changed.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::from_ref(touch).cast(), &TABLE)) }
}

/// A future that waits with a mined waker, unless that has gone off; it is never polled again.
fn waits_with(touch: &'static Touch, future: impl Future) -> impl Sized {
    let waker = ManuallyDrop::new(mined_waker(touch));
    // Without the budget, and after the turns that a queue leaves to others: of both it is the runtime that wakes.
    let mut future = Box::pin(unconstrained(async move { drop(future.await) }));
    for _ in 0..32 {
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "there is nothing to wait for");
    }
    let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
    assert!(!polled.is_ok_and(|polled| polled.is_ready()), "there is nothing to wait for");
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
async fn in_wakers_of_a_queue_and_a_pool(touch: &'static Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let (sender, receiver) = queue::bounded(2);
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
async fn in_wakers_of_a_token(touch: &'static Touch) {
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
async fn in_wakers_of_a_queue_that_ends(touch: &'static Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let (sender, receiver) = queue::bounded(2);
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
async fn in_wakers_of_an_emitter(touch: &'static Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let emitter = Emitter::builder().build(n);
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
async fn in_wakers_of_a_container(touch: &'static Touch) {
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
async fn in_wakers_of_a_batch_and_a_task(touch: &'static Touch) {
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

/// A closure that panics takes its own numbers along, and no others.
async fn in_stats() {
    scope(async |n: &Nursery<Infallible>| {
        let _mined = n.register("pool", "mined", || -> Stats { panic!("no numbers") });
        let _well = n.register("pool", "well", || Stats::new().count("idle", 3));
        let seen = n.snapshot().to_string();
        assert!(seen.contains("pool `mined`: panicked no numbers"), "{seen}");
        assert!(seen.contains("pool `well`: idle 3"), "{seen}");
        n.cancel(Reason::requested("enough"));
        Ok(())
    })
    .await
    .unwrap();
}
