//! Pools.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use motet::Backoff;
use motet::pool::{Manager, Pool, PoolBuilder, PoolConfigError};
use motet::task::{Nursery, scope};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::SECOND;
use super::table::{ABOVE_ZERO, Effect, LIMIT, Row};

pub(super) fn table() -> Vec<Row> {
    vec![
        Row { setting: "pool/builder.rs acquire_timeout", means: LIMIT, uses: of_an_acquire },
        Row { setting: "pool/builder.rs connect_timeout", means: ABOVE_ZERO, uses: of_a_connect },
        Row { setting: "pool/builder.rs backoff", means: LIMIT, uses: of_a_backoff },
        Row { setting: "pool/builder.rs check_after", means: LIMIT, uses: of_what_is_checked },
        Row { setting: "pool/builder.rs check_timeout", means: ABOVE_ZERO, uses: of_a_check },
        Row { setting: "pool/builder.rs close_timeout", means: LIMIT, uses: of_a_close },
        Row { setting: "pool/builder.rs idle_timeout", means: LIMIT, uses: of_what_is_idle },
        Row { setting: "pool/builder.rs max_lifetime", means: LIMIT, uses: of_what_is_old },
        Row { setting: "pool/builder.rs leak_after", means: LIMIT, uses: of_a_leak },
        Row { setting: "pool/pool.rs close", means: LIMIT, uses: of_the_close_of_a_pool },
    ]
}

/// A backend whose calls may hang, and the events that a test waits for.
#[derive(Default)]
struct Backend {
    connect_fails_once: bool,
    connect_hangs: bool,
    /// Of the first connection.
    check_hangs: bool,
    close_hangs: bool,
    connects: AtomicUsize,
    checked: Notify,
    closed: Notify,
}

impl Manager for &'static Backend {
    type Connection = usize;
    type Error = std::io::Error;

    async fn connect(&self) -> std::io::Result<usize> {
        if self.connect_hangs {
            pending::<()>().await;
        }
        let number = self.connects.fetch_add(1, Ordering::Relaxed);
        if self.connect_fails_once && number == 0 {
            Err(std::io::Error::other("not now"))
        } else {
            Ok(number)
        }
    }

    async fn check(&self, number: &mut usize) -> std::io::Result<()> {
        self.checked.notify_one();
        if self.check_hangs && *number == 0 { pending().await } else { Ok(()) }
    }

    async fn close(&self, _: usize) {
        self.closed.notify_one();
        if self.close_hangs {
            pending::<()>().await;
        }
    }
}

type Set = fn(PoolBuilder<&'static Backend>, Duration) -> PoolBuilder<&'static Backend>;

/// Uses a pool of one connection that has no other limits than the one that is set.
fn with(
    backend: Backend,
    odd: Duration,
    set: Set,
    uses: impl AsyncFnOnce(&Pool<&'static Backend>, &'static Backend) + 'static,
) -> Effect {
    Box::pin(async move {
        let backend: &'static Backend = Box::leak(Box::new(backend));
        let mut refused: Option<PoolConfigError> = None;
        scope(async |n: &Nursery<Infallible>| {
            let never = Duration::MAX;
            let builder = Pool::builder(n, backend).max(1).acquire_timeout(None).check_after(None);
            let builder = builder.connect_timeout(never).check_timeout(never).close_timeout(never);
            let builder =
                builder.idle_timeout(None).max_lifetime(None).backoff(Backoff::constant(Duration::ZERO));
            match set(builder, odd).build() {
                Ok(pool) => uses(&pool, backend).await,
                Err(why) => refused = Some(why),
            }
            Ok(())
        })
        .await?;
        refused.map_or(Ok(()), |why| Err(why.into()))
    })
}

fn of_an_acquire(odd: Duration) -> Effect {
    with(
        Backend::default(),
        odd,
        |pool, odd| pool.acquire_timeout(odd),
        async |pool, _| {
            // It is open before anyone has waited long enough for it.
            let held = loop {
                match pool.acquire().await {
                    Ok(held) => break held,
                    Err(_) => sleep(SECOND / 10).await,
                }
            };
            assert!(pool.acquire().await.is_err());
            drop(held);
        },
    )
}

fn of_a_connect(odd: Duration) -> Effect {
    let backend = Backend { connect_hangs: true, ..Backend::default() };
    with(
        backend,
        odd,
        |pool, odd| pool.connect_timeout(odd),
        async |pool, _| {
            assert!(pool.acquire().await.is_err());
        },
    )
}

fn of_a_backoff(odd: Duration) -> Effect {
    let backend = Backend { connect_fails_once: true, ..Backend::default() };
    let set: Set = |pool, odd| pool.backoff(Backoff::constant(odd)).acquire_timeout(SECOND);
    with(backend, odd, set, async |pool, _| {
        while pool.acquire().await.is_err() {
            sleep(SECOND).await;
        }
    })
}

fn of_what_is_checked(odd: Duration) -> Effect {
    with(
        Backend::default(),
        odd,
        |pool, odd| pool.check_after(odd),
        async |pool, backend| {
            drop(pool.acquire().await.unwrap());
            sleep(SECOND).await;
            drop(pool.acquire().await.unwrap());
            backend.checked.notified().await;
        },
    )
}

fn of_a_check(odd: Duration) -> Effect {
    let backend = Backend { check_hangs: true, ..Backend::default() };
    let set: Set = |pool, odd| pool.check_after(Duration::ZERO).check_timeout(odd);
    with(backend, odd, set, async |pool, _| {
        assert_eq!(*pool.acquire().await.unwrap(), 1);
    })
}

fn of_a_close(odd: Duration) -> Effect {
    let backend = Backend { close_hangs: true, ..Backend::default() };
    with(
        backend,
        odd,
        |pool, odd| pool.close_timeout(odd),
        async |pool, _| {
            drop(pool.acquire().await.unwrap());
            drop(pool.close(Duration::MAX).await);
        },
    )
}

fn of_what_is_idle(odd: Duration) -> Effect {
    with(
        Backend::default(),
        odd,
        |pool, odd| pool.idle_timeout(odd),
        async |pool, backend| {
            drop(pool.acquire().await.unwrap());
            backend.closed.notified().await;
        },
    )
}

fn of_what_is_old(odd: Duration) -> Effect {
    with(
        Backend::default(),
        odd,
        |pool, odd| pool.max_lifetime(odd),
        async |pool, backend| {
            drop(pool.acquire().await.unwrap());
            backend.closed.notified().await;
        },
    )
}

fn of_a_leak(odd: Duration) -> Effect {
    with(
        Backend::default(),
        odd,
        |pool, odd| pool.leak_after(odd),
        async |pool, _| {
            let held = pool.acquire().await.unwrap();
            while pool.leaks().is_empty() {
                sleep(SECOND).await;
            }
            drop(held);
        },
    )
}

fn of_the_close_of_a_pool(odd: Duration) -> Effect {
    Box::pin(async move {
        with(
            Backend::default(),
            odd,
            |pool, _| pool,
            async move |pool, _| {
                let held = pool.acquire().await.unwrap();
                drop(pool.close(odd).await);
                drop(held);
            },
        )
        .await
    })
}
