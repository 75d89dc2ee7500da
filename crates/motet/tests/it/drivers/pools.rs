//! Drives pools: never more connections than the maximum, never fewer usable connections than open ones, each closed
//! once.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use motet::pool::{AcquireError, Pool, PoolBuilder, Pooled};
use motet::task::{Nursery, Reason, Scope, drain, gather, scope, timeout, unscoped};
use motet::{Backoff, sometimes};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Driver, draw, millis, passes, swept};
use crate::caught::caught;
use crate::pool::backend::{Answer, Backend};

pub(super) const DRIVER: Driver =
    Driver { drives: &["pool::Pool::acquire", "pool::Pool::close", "pool::Pool::warm_up"], cancel, sweep };

#[test]
fn pool_call_dropped_anywhere_loses_no_connection_and_no_slot() {
    cancel();
}

#[test]
fn every_order_keeps_pool_limits_and_serves_every_waiter() {
    passes(sweep);
}

/// A pool whose scope continues when its user is dropped.
struct Home {
    backend: Backend,
    pool: Pool<Backend>,
    scope: Scope,
}

impl Home {
    async fn new(max: usize, settings: fn(PoolBuilder<Backend>) -> PoolBuilder<Backend>) -> Self {
        let backend = Backend::limited_to(max);
        backend
            .behave(|b| (b.connect_takes, b.check_takes, b.close_takes) = (millis(9), millis(8), millis(7)));
        let (sender, opened) = oneshot::channel();
        let builds = backend.clone();
        motet::task::detach("home", async move {
            let lives = scope(async |n: &Nursery| {
                let pool = settings(Pool::builder(n, builds).max(max)).build().unwrap();
                drop(sender.send((pool, Scope::clone(n))));
                pending::<()>().await;
                Ok(())
            });
            assert!(lives.await.unwrap_err().is_cancelled());
        });
        let (pool, scope) = opened.await.unwrap();
        Self { backend, pool, scope }
    }

    /// Checks that the maximum of connections is usable; then closes the pool and checks that all are closed.
    async fn whole(&self) {
        self.usable().await;
        self.ends().await;
    }

    async fn usable(&self) {
        let max = self.pool.stats().max;
        let all = timeout(millis(5_000), gather((0..max).map(|_| self.pool.acquire()))).await;
        let all = all.unwrap_or_else(|_| panic!("not every connection is usable: {:?}", self.pool.stats()));
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        let stats = self.pool.stats();
        assert_eq!((stats.in_use, stats.idle, stats.waiting), (max, 0, 0));
    }

    async fn ends(&self) {
        self.scope.cancel(Reason::requested("enough"));
        drain().await;
        assert_eq!(unscoped(), 0);
        self.backend.assert_settled();
    }
}

fn cancel() {
    // Connected, idle, waited for and checked.
    cancel_everywhere(
        async || Home::new(2, |pool| pool).await,
        async |Home { pool, .. }| {
            let first = pool.acquire().await.unwrap();
            let second = pool.acquire().await.unwrap();
            gather([first, second].into_iter().map(|link| async {
                sleep(millis(5)).await;
                drop(link);
            }))
            .await;
            sleep(millis(700)).await;
            let (_first, _second) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        },
        async |home, _| {
            home.usable().await;
            assert!(home.backend.opened() <= 2, "a dropped caller costs a connection");
            home.ends().await;
        },
    );
    // Handed to a caller that was dropped.
    cancel_everywhere(
        async || {
            let home = Home::new(1, |pool| pool).await;
            let held = Mutex::new(Some(home.pool.acquire().await.unwrap()));
            (home, held)
        },
        async |(home, held)| {
            let gives = async {
                yield_now().await;
                drop(held.lock().unwrap().take());
            };
            let takes = async { drop(home.pool.acquire().await.unwrap()) };
            tokio::join!(biased; takes, gives, async { drop(home.pool.acquire().await.unwrap()) });
        },
        async |(home, held), _| {
            drop(held.lock().unwrap().take());
            home.whole().await;
        },
    );
    // A check that is dropped, and the one after it.
    cancel_everywhere(
        async || {
            let home = Home::new(1, |pool| pool).await;
            drop(home.pool.acquire().await.unwrap());
            sleep(millis(700)).await;
            home
        },
        async |home| drop(home.pool.acquire().await.unwrap()),
        async |home, outcome| {
            let before = home.backend.checked();
            let _link = home.pool.acquire().await.unwrap();
            let is_verified = matches!(outcome, motet_testkit::cancel::Outcome::Completed(()));
            assert_eq!(home.backend.checked() - before, usize::from(!is_verified));
            assert_eq!(home.backend.opened(), 1, "a connection was discarded because its check was dropped");
            drop(_link);
            home.whole().await;
        },
    );
    cancel_everywhere(
        async || Home::new(3, |pool| pool.min(3)).await,
        async |home| home.pool.warm_up().await.unwrap(),
        async |home, _| home.whole().await,
    );
    cancel_everywhere(
        async || {
            let home = Home::new(2, |pool| pool.min(2)).await;
            home.pool.warm_up().await.unwrap();
            let held = Mutex::new(Some(home.pool.acquire().await.unwrap()));
            (home, held)
        },
        async |(home, held)| {
            let gives = async {
                sleep(millis(5)).await;
                drop(held.lock().unwrap().take());
            };
            let (report, ()) = tokio::join!(biased; home.pool.close(millis(100)), gives);
            assert!(report.is_complete(), "{report}");
        },
        async |(home, held), _| {
            drop(held.lock().unwrap().take());
            home.ends().await;
        },
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        // One per run: together they would take as long as all the other drivers.
        match draw(7) {
            0 => lends().await,
            1 => serves_in_order().await,
            2 => goes_down().await,
            3 => grows_old().await,
            4 => checks().await,
            5 => crowds().await,
            _ => closes().await,
        }
    })
}

/// Whatever its users do, the pool is intact afterwards.
async fn lends() {
    let max = 1 + draw(4) as usize;
    let home = Home::new(max, |pool| pool).await;
    let users = scope(async |n: &Nursery| {
        for _ in 0..8 {
            let pool = home.pool.clone();
            n.spawn("uses", async move {
                for _ in 0..3 {
                    use_once(&pool).await;
                }
            });
        }
        if draw(2) == 0 {
            sleep(millis(draw(30))).await;
            home.pool.retain(|_| draw(2) == 0);
        }
        Ok(())
    });
    users.await.unwrap();
    let stats = home.pool.stats();
    assert_eq!((stats.waiting, stats.in_use), (0, 0));
    home.whole().await;
}

async fn use_once(pool: &Pool<Backend>) {
    let begin = Instant::now();
    let Ok(taken) = timeout(millis(10 + draw(200)), pool.acquire()).await else {
        sometimes!(begin.elapsed() < millis(60), "a caller gives up early");
        return;
    };
    let mut link = taken.unwrap();
    assert!(!link.is_broken, "a broken connection was lent again");
    sleep(millis(draw(12))).await;
    match draw(8) {
        0 => link.is_broken = true,
        1 => link.poison(),
        2 => {
            let panics = AssertUnwindSafe(async move {
                let _link = link;
                yield_now().await;
                panic!("in the middle of a transaction");
            });
            assert!(caught(panics).await.is_err());
        }
        _ => {}
    }
}

/// Every waiting caller is served, by as few connections as there are.
async fn serves_in_order() {
    let home = Home::new(2, |pool| pool.acquire_timeout(millis(900))).await;
    let (came, served) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let users = scope(async |n: &Nursery| {
        for number in 0..12 {
            let (pool, came, served) = (home.pool.clone(), Arc::clone(&came), Arc::clone(&served));
            let pause = millis(number * 4 + draw(3));
            n.spawn("uses", async move {
                sleep(pause).await;
                // The position in the queue is that of the first poll.
                let mut takes = Box::pin(pool.acquire());
                let before = pool.stats();
                let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(takes.as_mut().poll(cx))).await;
                // If the simulation has suspended it, it is not in the queue yet.
                let is_queued = pool.stats().waiting > before.waiting;
                let link = match polled {
                    std::task::Poll::Ready(link) => link,
                    std::task::Poll::Pending if is_queued => {
                        came.lock().unwrap().push(number);
                        let link = takes.await;
                        served.lock().unwrap().push(number);
                        link
                    }
                    std::task::Poll::Pending => takes.await,
                };
                let _link: Pooled<_> = link.unwrap_or_else(|error| panic!("{error}: {:?}", pool.stats()));
                sleep(millis(5 + draw(10))).await;
            });
        }
        Ok(())
    });
    users.await.unwrap();
    assert_eq!(home.backend.opened(), 2);
    home.whole().await;
    let (mut came, mut served) = (came.lock().unwrap().clone(), served.lock().unwrap().clone());
    came.sort_unstable();
    served.sort_unstable();
    assert_eq!(came, served);
}

/// While the backend is down every caller fails soon, and one connect at a time is tried.
async fn goes_down() {
    let home = Home::new(3, |pool| {
        pool.backoff(Backoff::exponential(millis(100), millis(400)).unwrap()).connects(3)
    })
    .await;
    let answers = [Answer::Fail, Answer::Panic, Answer::Hang];
    let answer = answers[draw(3) as usize];
    home.backend.behave(|b| b.connect = answer);
    let patience = if answer == Answer::Hang { millis(10_100) } else { millis(100) };
    let refused = gather((0..6).map(|_| async {
        let begin = Instant::now();
        let refused = home.pool.acquire().await;
        assert!(matches!(refused, Err(AcquireError::Unavailable { .. })), "{refused:?}");
        assert!(begin.elapsed() <= patience, "a caller waited for a connection that cannot come");
    }));
    refused.await;
    if answer == Answer::Hang {
        home.backend.behave(|b| b.connect = Answer::Fail);
    }
    for _ in 0..4 {
        let before = home.backend.attempts();
        sleep(millis(draw(150))).await;
        drop(gather((0..5).map(|_| home.pool.acquire())).await);
        let tried = home.backend.attempts() - before;
        assert!(tried <= 1, "{tried} connects at once");
        sometimes!(tried == 1, "a caller connects again");
    }
    home.backend.behave(|b| b.connect = Answer::Well);
    let begin = Instant::now();
    while home.pool.acquire().await.is_err() {
        sleep(millis(10)).await;
        assert!(begin.elapsed() < millis(1_000), "the pool stays down");
    }
    home.whole().await;
}

/// Old and idle connections are closed, the minimum stays.
async fn grows_old() {
    let home = Home::new(4, |pool| {
        pool.min(1).idle_timeout(millis(400)).max_lifetime(millis(2_000)).check_after(None)
    })
    .await;
    let idle = millis(200 + draw(200));
    drop(gather((0..4).map(|_| home.pool.acquire())).await);
    sleep(idle + millis(500)).await;
    let stats = home.pool.stats();
    assert_eq!((stats.idle, stats.closed), (1, 3), "the minimum stays open");
    // A connection that is always in use has a lifetime, too.
    home.pool.resize(1).unwrap();
    let first = home.pool.acquire().await.unwrap();
    let uses = gather((0..2).map(|_| async {
        let mut ids = Vec::new();
        for _ in 0..15 {
            let link = home.pool.acquire().await.unwrap();
            ids.push(link.id);
            sleep(millis(90 + draw(10))).await;
        }
        ids
    }));
    drop(first);
    let ids = uses.await.concat();
    assert!(ids.iter().max() > ids.iter().min(), "the connection was never replaced");
    home.pool.resize(4).unwrap();
    home.whole().await;
}

/// An idle connection is checked before it is used, by a caller with enough time.
async fn checks() {
    let home = Home::new(2, |pool| pool).await;
    drop(gather((0..2).map(|_| home.pool.acquire())).await);
    sleep(millis(700)).await;
    let is_dead = draw(2) == 0;
    if is_dead {
        home.backend.behave(|b| b.check = Answer::Fail);
    }
    let users = gather((0..6).map(|_| async {
        let Ok(link) = timeout(millis(draw(30)), home.pool.acquire()).await else { return };
        let link = link.unwrap();
        let least = if is_dead { 2 } else { 0 };
        assert!(link.id >= least, "a dead connection was lent");
        sleep(millis(draw(5))).await;
    }));
    users.await;
    home.backend.behave(|b| b.check = Answer::Well);
    home.usable().await;
    let made = home.backend.opened();
    assert!(made <= if is_dead { 4 } else { 2 }, "{made} connections were opened");
    home.ends().await;
}

/// At most `max_waiting` callers wait, and all admitted callers are served.
async fn crowds() {
    const MAY_WAIT: usize = 3;
    let home = Home::new(1, |pool| pool.max_waiting(MAY_WAIT)).await;
    let users = scope(async |n: &Nursery| {
        for _ in 0..8 {
            let pool = home.pool.clone();
            let (begins, holds) = (millis(draw(30)), millis(1 + draw(20)));
            n.spawn("uses", async move {
                sleep(begins).await;
                let taken = pool.acquire().await;
                assert!(pool.stats().waiting <= MAY_WAIT, "more callers wait than `max_waiting`");
                match taken {
                    Ok(_link) => sleep(holds).await,
                    Err(error) => {
                        assert!(
                            matches!(error, AcquireError::TooManyWaiting { limit: MAY_WAIT, .. }),
                            "{error:?}"
                        );
                        sometimes!(true, "a caller is refused");
                    }
                }
            });
        }
        Ok(())
    });
    users.await.unwrap();
    home.whole().await;
}

/// A close waits for the holders, and no other caller gets a connection.
async fn closes() {
    let home = Home::new(3, |pool| pool.min(1)).await;
    let users = scope(async |n: &Nursery| {
        for _ in 0..5 {
            let pool = home.pool.clone();
            let (begins, holds) = (millis(draw(40)), millis(draw(40)));
            n.spawn("uses", async move {
                sleep(begins).await;
                match pool.acquire().await {
                    Ok(_link) => sleep(holds).await,
                    Err(error) => assert!(matches!(error, AcquireError::Closed { .. }), "{error:?}"),
                }
            });
        }
        sleep(millis(draw(60))).await;
        let report = home.pool.close(millis(500)).await;
        assert!(report.is_complete(), "{report}");
        home.backend.assert_settled();
        Ok(())
    });
    users.await.unwrap();
    home.ends().await;
}
