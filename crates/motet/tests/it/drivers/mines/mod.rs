//! User code that panics when it is formatted, compared, dropped or woken, wherever the library runs it: the panic
//! affects no other user.

mod keys;
mod wakers;

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{pending, poll_fn};
use std::hash::{Hash, Hasher};
use std::num::{NonZeroU32, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use motet::Backoff;
use motet::batch::Batcher;
use motet::event::{Emitter, Event, Subscription};
use motet::observe::Stats;
use motet::pool::{Manager, Pool};
use motet::queue::{self, Job};
use motet::task::{CancelToken, Nursery, Reason, Restart, Scope, Supervisor, scope, timeout};
use motet_testkit::sim::{Failure, Sweep};
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};
use crate::reader::reader;

pub(super) const DRIVER: Driver = Driver { drives: &[], cancel, sweep };

#[test]
fn panic_of_user_code_within_the_library_affects_no_other_user() {
    passes(sweep);
}

/// The use in which a mine panics.
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
        assert!(self.0 != touch || std::thread::panicking(), "the mine goes off");
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
            match draw(16) {
                0 => in_a_pool(*touch).await,
                1 => in_a_listener(*touch).await,
                2 => in_a_release(*touch).await,
                3 => in_a_supervisor(*touch).await,
                4 => in_a_batch(*touch).await,
                5 => in_workers(*touch).await,
                6 => keys::of_a_loader(*touch).await,
                7 => keys::of_a_registry(*touch),
                8 => wakers::of_a_queue_and_a_pool(touch).await,
                9 => wakers::of_a_token(touch).await,
                10 => wakers::of_a_queue_that_ends(touch).await,
                11 => wakers::of_an_emitter(touch).await,
                12 => wakers::of_a_container(touch).await,
                13 => wakers::of_event_readers(touch).await,
                14 => in_a_closure_of_a_listener(*touch).await,
                _ => wakers::of_a_batch_and_a_task(touch).await,
            }
        });
        around.await.expect("the case does not end");
        in_stats().await;
    })
}

/// Drops a value that may panic: here the panic is that of its own user.
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
            // Dropped at its timeout, while it holds a mine.
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
                    // The pool checks it before it lends it again.
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
        let emitter = Emitter::builder(n).build();
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

/// An event that removes a listener when it is dropped.
#[derive(Clone, Default)]
struct Removes(Arc<Mutex<Option<Subscription>>>);

impl Event for Removes {
    const NAME: &'static str = "removes";
}

/// A listener is removed while an event is posted, and its closure panics when it is dropped: the post succeeds.
async fn in_a_closure_of_a_listener(touch: Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let emitter = Emitter::new(n);
        let full = emitter.listener("full").backlog(NonZeroUsize::MIN).drop_oldest();
        let _full = full.on(|_: &Removes| ()).unwrap();
        let mine = Mine(touch);
        let listens = move |_: &Removes| {
            let _held = &mine;
        };
        let (queued, dropped) = if draw(2) == 0 {
            // The second event replaces the first one, whose drop removes the listener. The post holds the closure until
            // its end.
            let removes = Removes::default();
            let _first = emitter.post(removes.clone()).unwrap();
            *removes.0.lock().unwrap() = Some(emitter.on("mined", listens).unwrap());
            drop(removes);
            (1, 1)
        } else {
            // The listener has the first event as well, so its own task drops the closure.
            let mined = emitter.on("mined", listens).unwrap();
            let _first = emitter.post(Removes(Arc::new(Mutex::new(Some(mined))))).unwrap();
            (2, 1)
        };
        let second = emitter.post(Removes::default()).unwrap();
        assert_eq!((second.queued, second.dropped), (queued, dropped));
        emitter.drain().await;
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
    // The caller owns the error.
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
    let (dead, letters) = queue::bounded(16).unwrap();
    let done = scope(async |n: &Nursery<Infallible>| {
        let (sender, receiver) = queue::builder(16).dead_letters(NonZeroU32::MIN, dead).build().unwrap();
        let workers = receiver.workers(2).unwrap().keyed(|(number, mine): &(u32, Option<Mine>)| {
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
