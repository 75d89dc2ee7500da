//! Code of users that panics where it is shown, compared or dropped, in each place where the library meets it: it harms
//! nobody else.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::pending;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use motet::Backoff;
use motet::batch::Batcher;
use motet::event::{Emitter, Event};
use motet::observe::Stats;
use motet::pool::{Manager, Pool};
use motet::queue::{self, Job};
use motet::task::{Nursery, Reason, Restart, Scope, Supervisor, scope, timeout};
use motet_testkit::sim::{Failure, Sweep};
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};
use crate::reader::Reader;

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
}

const TOUCHES: [Touch; 5] = [Touch::Display, Touch::Debug, Touch::Drop, Touch::Hash, Touch::Clone];

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
        let _read = tracing::subscriber::set_default(Reader);
        let touch = TOUCHES[draw(5) as usize];
        let around = timeout(millis(60_000), async {
            match draw(6) {
                0 => in_a_pool(touch).await,
                1 => in_a_listener(touch).await,
                2 => in_a_release(touch).await,
                3 => in_a_supervisor(touch).await,
                4 => in_a_batch(touch).await,
                _ => in_workers(touch).await,
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
    let ended = Scope::options().release_timeout(millis(10)).run(async |n: &Nursery<Infallible>| {
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
        let supervisor = Supervisor::new("minds")
            .intensity(100, millis(60_000))
            .backoff(Backoff::constant(millis(1)))
            .child("fails", Restart::Transient, move || {
                let number = begins.fetch_add(1, Ordering::Relaxed);
                async move { if number < 20 { Err(Mine(touch)) } else { Ok(()) } }
            });
        let token = motet::task::CancelToken::new();
        drop(n.spawn("supervisor", supervisor.run(token)));
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
