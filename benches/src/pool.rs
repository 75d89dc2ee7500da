//! Question: what does it cost to take a connection from a pool and to return it?
//!
//! 1, 16 and 256 tasks on two workers share 8 connections of a manager that does nothing. Each task takes a connection and
//! returns it, at once or after a `yield_now`. Most of 256 tasks wait, and their waits are compared as well: in a pool that
//! serves in order, p99 is near p50. motet runs with its defaults: lifetimes, idle times, acquire timeouts, a check of
//! connections that were idle for half a second, strict order, a part in tokio's budget, and isolation of panics of the
//! manager. Each other pool is configured to the least that its documented API allows: no timeouts, no lifetimes, no check;
//! the timeouts and checks of `fast_pool` cannot be switched off.
//!
//! Guarantees that another pool does not state: order (`bb8`, `fast_pool`); connects that outlive their caller, and idle
//! timeouts in the background (`deadpool`, `mobc`); returns without a task (`mobc`); a part in tokio's budget, and lifetimes
//! without a plug-in (`fast_pool`). The floor is a semaphore of tokio with a stack of connections behind a lock: no connects,
//! checks, timeouts or closing.

#![allow(
    clippy::disallowed_methods,
    reason = "rivals start their tasks themselves, and waits are measured in real time"
)]

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use motet::pool::{Manager, Pool};
use motet::task::{Nursery, Reason, Scope, scope};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};

use crate::measure::{Cost, both_of};
use crate::report::{Case, Cases};

const CONNECTIONS: usize = 8;
/// Acquires of all tasks together, in one call.
const OPERATIONS: usize = 1 << 14;

struct Connection(u64);

struct Nothing;

impl Manager for Nothing {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self) -> Result<Connection, Infallible> {
        Ok(Connection(0))
    }
}

impl bb8::ManageConnection for Nothing {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self) -> Result<Connection, Infallible> {
        Ok(Connection(0))
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

impl deadpool::managed::Manager for Nothing {
    type Type = Connection;
    type Error = Infallible;

    async fn create(&self) -> Result<Connection, Infallible> {
        Ok(Connection(0))
    }

    async fn recycle(
        &self,
        _: &mut Connection,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Infallible> {
        Ok(())
    }
}

#[mobc::async_trait]
impl mobc::Manager for Nothing {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self) -> Result<Connection, Infallible> {
        Ok(Connection(0))
    }

    async fn check(&self, connection: Connection) -> Result<Connection, Infallible> {
        Ok(connection)
    }
}

impl fast_pool::Manager for Nothing {
    type Connection = Connection;
    type Error = String;

    async fn connect(&self) -> Result<Connection, String> {
        Ok(Connection(0))
    }

    async fn check(&self, _: &mut Connection) -> Result<(), String> {
        Ok(())
    }
}

/// The hand-written solution: a permit for each connection, and a stack of connections.
#[derive(Clone)]
struct Floor {
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Floor {
    fn new() -> Self {
        let idle = (0..CONNECTIONS).map(|_| Connection(0)).collect();
        Self { permits: Arc::new(Semaphore::new(CONNECTIONS)), idle: Arc::new(Mutex::new(idle)) }
    }
}

/// The load that one call puts on a pool.
#[derive(Debug, Clone, Copy)]
struct Load {
    tasks: usize,
    yields: bool,
}

/// Creates a closure that puts a load on a pool, and returns the waits if they are measured.
type Driven = Box<dyn Fn(&Runtime, Load, bool) -> Vec<u64>>;

/// The future of a task, the same for all pools except for the acquire.
macro_rules! driven {
    ($pool:expr, |$taken_from:ident| $take:expr) => {{
        let pool = $pool;
        Box::new(move |runtime: &Runtime, load: Load, is_timed: bool| {
            let pool = pool.clone();
            runtime.block_on(async move {
                let mut tasks = JoinSet::new();
                for _ in 0..load.tasks {
                    let $taken_from = pool.clone();
                    tasks.spawn(async move {
                        let mut waits = Vec::new();
                        for _ in 0..OPERATIONS / load.tasks {
                            let began = is_timed.then(Instant::now);
                            let mut connection = $take;
                            waits.extend(began.map(|began| began.elapsed().as_nanos() as u64));
                            connection.0 += 1;
                            black_box(&connection.0);
                            if load.yields {
                                yield_now().await;
                            }
                        }
                        waits
                    });
                }
                tasks.join_all().await.into_iter().flatten().collect()
            })
        }) as Driven
    }};
}

struct FloorGuard {
    floor: Floor,
    connection: Option<Connection>,
}

impl std::ops::Deref for FloorGuard {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("there until it is dropped")
    }
}

impl std::ops::DerefMut for FloorGuard {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("there until it is dropped")
    }
}

impl Drop for FloorGuard {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.floor.idle.lock().expect("no thread panics").push(connection);
            self.floor.permits.add_permits(1);
        }
    }
}

async fn from_floor(floor: &Floor) -> FloorGuard {
    floor.permits.acquire().await.expect("it is never closed").forget();
    let connection = floor.idle.lock().expect("no thread panics").pop();
    FloorGuard { floor: floor.clone(), connection }
}

fn rivals(runtime: &Runtime) -> [(&'static str, Driven); 5] {
    let bb8 = runtime.block_on(async {
        let builder = bb8::Pool::builder().max_size(CONNECTIONS as u32).test_on_check_out(false);
        builder.max_lifetime(None).idle_timeout(None).build(Nothing).await.expect("nothing fails")
    });
    let deadpool = deadpool::managed::Pool::<Nothing>::builder(Nothing)
        .max_size(CONNECTIONS)
        .build()
        .expect("the settings are sound");
    let mobc = mobc::Pool::builder()
        .max_open(CONNECTIONS as u64)
        .max_idle(CONNECTIONS as u64)
        .test_on_check_out(false)
        .get_timeout(None)
        .build(Nothing);
    let fast_pool = fast_pool::Pool::new(Nothing);
    fast_pool.set_max_open(CONNECTIONS as u64);
    [
        ("bb8", driven!(bb8, |pool| pool.get().await.expect("nothing fails"))),
        ("deadpool", driven!(deadpool, |pool| pool.get().await.expect("nothing fails"))),
        ("mobc", driven!(mobc, |pool| pool.get().await.expect("nothing fails"))),
        ("fast_pool", driven!(fast_pool, |pool| pool.get().await.expect("nothing fails"))),
        ("Semaphore + Vec (floor)", driven!(Floor::new(), |floor| from_floor(&floor).await)),
    ]
}

pub(crate) fn run(cases: &mut Cases) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let (ours, scope, ended) = ours(&runtime);
    let rivals = rivals(&runtime);
    for yields in [false, true] {
        for tasks in [1, 16, 256] {
            let load = Load { tasks, yields };
            let case = format!("{tasks} tasks{}", if yields { ", yield" } else { "" });
            for (rival_name, rival) in &rivals {
                let (ours, theirs) = both_of(
                    OPERATIONS as u32,
                    || drop(ours(&runtime, load, false)),
                    || drop(rival(&runtime, load, false)),
                );
                cases.extend(Case::median_and_minimum(&case, rival_name, ours, theirs));
            }
        }
    }
    let load = Load { tasks: 256, yields: true };
    for (rival_name, rival) in &rivals {
        let (mut waits, mut theirs) = (Vec::new(), Vec::new());
        // In alternating rounds, as in all areas.
        for _ in 0..31 {
            waits.extend(ours(&runtime, load, true));
            theirs.extend(rival(&runtime, load, true));
        }
        let (ours, theirs) = (Percentiles::of(waits), Percentiles::of(theirs));
        let case = |what, ours, theirs| {
            let case = format!("256 tasks, yield, wait {what}");
            Case::new(case, rival_name, figure(ours), figure(theirs))
        };
        cases.push(case("p50", ours.p50, theirs.p50).in_microseconds());
        cases.push(case("p99", ours.p99, theirs.p99).in_microseconds());
        cases.push(case("p99 by p50", ours.p99 / ours.p50, theirs.p99 / theirs.p50).in_times());
    }
    drop(ours);
    scope.cancel(Reason::requested("measured"));
    runtime.block_on(ended).expect("the scope does not panic");
}

/// The time of an acquire, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

impl Percentiles {
    fn of(mut waits: Vec<u64>) -> Self {
        waits.sort_unstable();
        let at = |percent| waits[waits.len() * percent / 100] as f64;
        Self { p50: at(50), p99: at(99) }
    }
}

fn figure(nanoseconds: f64) -> Cost {
    Cost::figure(nanoseconds, nanoseconds)
}

/// A pool of motet with its scope.
fn ours(runtime: &Runtime) -> (Driven, Scope, tokio::task::JoinHandle<()>) {
    let (sender, opened) = tokio::sync::oneshot::channel();
    let ended = runtime.spawn(async move {
        let lives = scope(async |n: &Nursery<Infallible>| {
            let pool = Pool::builder(n, Nothing).max(CONNECTIONS).build().expect("the settings are sound");
            drop(sender.send((pool, Scope::clone(n))));
            std::future::pending::<()>().await;
            Ok(())
        });
        assert!(lives.await.is_err_and(|error| error.is_cancelled()), "it ends when it is cancelled");
    });
    let (pool, scope) = runtime.block_on(opened).expect("the pool opens");
    (driven!(pool, |pool| pool.acquire().await.expect("nothing fails")), scope, ended)
}
