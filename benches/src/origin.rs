//! Question: what do the thirteen programs of the examples cost, on asyncio and on motet?
//!
//! The work of each program without its sleeps and prints. The Python side is `python/origin.py`, with plain asyncio; the motet
//! side is the code of the examples. Both run in one thread. One operation is a call, task, item or event. The peak of memory
//! of each program is measured in a separate process and compared in a separate case; that of Python includes the
//! interpreter.
//!
//! Guarantees of motet that the Python programs do not have: tasks, releases and listeners belong to a scope, a lease completes
//! an item, each listener and each item of a batch has a result, retries have a budget, and everything is bounded. The mock of
//! the last program is a plain type on the motet side, since the mocks of motet need the simulator.

use std::convert::Infallible;
use std::hint::black_box;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::{env, fs};

use futures::StreamExt as _;
use motet::batch;
use motet::container::Container;
use motet::event::{Emitter, Event};
use motet::middleware::{Chain, Next};
use motet::pool::{Manager, Pool, Recycle};
use motet::queue::{self, Job};
use motet::resilience::{CircuitBreaker, Pipeline, Retry};
use motet::resource::{Exit, resource};
use motet::stream::generator;
use motet::task::{Nursery, gather, scope};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use crate::measure::{Cost, one_of};
use crate::report::{Case, Cases, say};

/// A function that runs a program with this number of operations.
type Program = fn(&Runtime, u32);

/// The programs with the operations of a round, as in the script.
const PROGRAMS: [(&str, Program, u32); 14] = [
    ("00_coroutine", |runtime, count| runtime.block_on(coroutine(count)), 200_000),
    ("01_event_loop", |runtime, count| runtime.block_on(event_loop(count)), 10_000),
    ("02_futures_and_tasks", |runtime, count| runtime.block_on(futures_and_tasks(count)), 12_000),
    ("03_producer_consumer", |runtime, count| runtime.block_on(producer_consumer(count)), 40_000),
    ("04_context_manager", |runtime, count| runtime.block_on(context_manager(count)), 40_000),
    ("05_iterators_and_generators", |runtime, count| runtime.block_on(generators(count)), 100_000),
    ("06_middleware", |runtime, count| runtime.block_on(middleware(count)), 40_000),
    ("07_event_emitter", |runtime, count| runtime.block_on(event_emitter(count)), 5_000),
    ("08_di_container", |runtime, count| runtime.block_on(di_container(count)), 10_000),
    (
        "08_di_container, checked once",
        |runtime, count| runtime.block_on(di_container_checked_once(count)),
        10_000,
    ),
    ("09_batch_processor", |runtime, count| runtime.block_on(batch_processor(count)), 30_000),
    ("10_connection_pool", |runtime, count| runtime.block_on(connection_pool(count)), 20_000),
    ("11_retry_and_breaker", |runtime, count| runtime.block_on(retry_and_breaker(count)), 100_000),
    ("12_testing", |runtime, count| runtime.block_on(testing(count)), 1_000),
];

/// If this variable is set, the process runs the program with this name and prints its peak of memory.
const PEAK_OF: &str = "MOTET_COMPARE_PEAK_OF";

/// The rounds of a process that measures its peak; the same number as in Python.
const PEAK_ROUNDS: usize = 15;

/// Without Python, it prints a notice and measures nothing.
pub(crate) fn run(cases: &mut Cases) {
    if let Ok(name) = env::var(PEAK_OF) {
        say_peak_of(&name);
        return;
    }
    let runtime = runtime();
    for (name, program, count) in PROGRAMS {
        // A variant on the motet side has the same program on the other one.
        let program_of_python = name.split(',').next().unwrap_or(name);
        let Some(before) = python(program_of_python) else {
            say!("origin: no comparison of {name}, for python3 could not run it");
            continue;
        };
        let ours = one_of(count, || program(&runtime, count));
        // Twice, since the machine may be busy at one of the times.
        let after = python(program_of_python).unwrap_or_else(|| before.clone());
        let best = |what: &str| {
            let of = |row: &Value| row[what].as_f64().unwrap_or(f64::NAN);
            of(&before).min(of(&after))
        };
        // The allocations of Python are not counted.
        let rival = Cost::figure(best("ns"), best("minimum"));
        cases.extend(Case::median_and_minimum(name, "asyncio", ours, rival));
        if let Some(ours) = our_peak(name) {
            let memory = |kib| Cost::figure(kib, kib);
            let (ours, rival) = (memory(ours), memory(best("peak_kib")));
            cases.push(Case::new(format!("{name}, peak"), "asyncio", ours, rival).in_kibibytes());
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// Runs the Python side of a program.
fn python(program: &str) -> Option<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/origin.py");
    let ran = Command::new("python3").arg(script).arg(program).stderr(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(ran.stdout).ok().filter(|_| ran.status.success())?;
    serde_json::from_str(&text).ok()
}

/// The peak of a process that runs only this program, in KiB.
fn our_peak(program: &str) -> Option<f64> {
    let itself = env::current_exe().ok()?;
    let ran = Command::new(itself).arg("origin").env(PEAK_OF, program).output().ok()?;
    String::from_utf8(ran.stdout).ok()?.trim().parse().ok()
}

fn say_peak_of(name: &str) {
    let runtime = runtime();
    let asked = PROGRAMS.iter().filter(|(program, ..)| *program == name);
    for (_, program, count) in asked {
        (0..PEAK_ROUNDS).for_each(|_| program(&runtime, *count));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    println!("{}", peak.unwrap_or("unknown"));
}

async fn simple_coroutine() -> &'static str {
    black_box("Coroutine completed")
}

async fn fetch_data(site: u32) -> u32 {
    black_box(site)
}

async fn coroutine(count: u32) {
    for _ in 0..count {
        black_box(simple_coroutine().await);
    }
}

async fn event_loop(count: u32) {
    let done = scope(async |n: &Nursery| {
        for _ in 0..count / 2 {
            let first = n.spawn("task 1", simple_coroutine());
            let second = n.spawn("task 2", simple_coroutine());
            black_box((first.await.is_ok(), second.await.is_ok()));
        }
        Ok(())
    });
    done.await.expect("nothing fails");
}

async fn futures_and_tasks(count: u32) {
    for _ in 0..count / 6 {
        let results = gather((0..3).map(fetch_data)).await;
        black_box(gather(results.into_iter().map(fetch_data)).await);
    }
}

async fn producer_consumer(count: u32) {
    let done = scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(10).expect("the capacity is valid");
        for _ in 0..2 {
            let sender = sender.clone();
            n.spawn("producer", async move {
                for number in 0..count / 2 {
                    sender.send(number).await.expect("there are consumers");
                }
            });
        }
        let consume = async |item: Job<u32>| {
            black_box(*item);
            Ok::<_, Infallible>(())
        };
        let consumers = receiver
            .workers(3)
            .expect("there is a worker")
            .start(n, "consumer", consume)
            .expect("the scope is open");
        drop((sender, receiver));
        assert_eq!(consumers.ended().await.done, u64::from(count));
        Ok(())
    });
    done.await.expect("nothing fails");
}

async fn context_manager(count: u32) {
    for _ in 0..count {
        let used = resource(async { Ok::<_, Infallible>("database") })
            .release(async |_, _: Exit| {
                black_box(simple_coroutine().await);
            })
            .with(async |database: &mut &'static str| Ok(black_box(*database)));
        black_box(used.await.expect("nothing fails"));
    }
}

async fn generators(count: u32) {
    let numbers = generator(async |mut y| {
        for number in 0..count {
            y.emit(number).await;
        }
    });
    let mut numbers = pin!(numbers);
    let mut total = 0_u64;
    while let Some(number) = numbers.next().await {
        total += u64::from(number);
    }
    assert_eq!(total, u64::from(count) * u64::from(count - 1) / 2);
}

#[derive(Clone, Copy)]
struct Request {
    id: u32,
    authenticated: bool,
}

type Answer = Result<u32, &'static str>;

async fn log(request: Request, next: Next<Request, Answer>) -> Answer {
    next.run(request).await
}

async fn authenticate(request: Request, next: Next<Request, Answer>) -> Answer {
    if !request.authenticated {
        return Err("unauthorized");
    }
    next.run(request).await
}

async fn middleware(count: u32) {
    let handler = Chain::new().with(log).with(authenticate).to(async |request: Request| Ok(request.id));
    for id in 0..count {
        let request = Request { id, authenticated: black_box(true) };
        black_box(handler.call(request).await.expect("it is authenticated"));
    }
}

struct UserCreated(u32);

impl Event for UserCreated {
    const NAME: &'static str = "user.created";
}

async fn event_emitter(count: u32) {
    let done = scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let listener = async |user: Arc<UserCreated>| {
            black_box(user.0);
        };
        let _mail = emitter.on_async("welcome mail", listener).expect("the scope is open");
        let _log = emitter.on_async("activity log", listener).expect("the scope is open");
        for id in 0..count {
            black_box(emitter.emit(UserCreated(id)).await.expect("it is open").succeeded());
        }
        Ok(())
    });
    done.await.expect("nothing fails");
}

struct Database(#[expect(dead_code, reason = "it takes memory, as in Python")] u64);
struct Cache(#[expect(dead_code, reason = "it keeps the database")] Arc<Database>);
struct Service(#[expect(dead_code, reason = "it keeps both")] Arc<Database>, Arc<Cache>);

async fn di_container(count: u32) {
    for _ in 0..count {
        let done = scope(async |n: &Nursery| {
            let mut c = Container::new();
            c.provide(|| async { Database(black_box(1)) });
            c.provide(|database: Arc<Database>| async move { Cache(database) });
            c.provide(|database: Arc<Database>, cache: Arc<Cache>| async move { Service(database, cache) });
            let running = c.start(n).await.expect("nothing fails");
            black_box(&running.get::<Service>().expect("it is there").1);
            Ok(())
        });
        done.await.expect("nothing fails");
    }
}

/// The graph is checked before the loop: a program with a container per request checks it once.
async fn di_container_checked_once(count: u32) {
    let mut c = Container::new();
    c.provide_each_start(|| async { Database(black_box(1)) });
    c.provide_each_start(|database: Arc<Database>| async move { Cache(database) });
    c.provide_each_start(
        |database: Arc<Database>, cache: Arc<Cache>| async move { Service(database, cache) },
    );
    let plan = c.check().expect("every component has its dependencies");
    for _ in 0..count {
        let done = scope(async |n: &Nursery| {
            let running = plan.start(n).await.expect("nothing fails");
            black_box(&running.get::<Service>().expect("it is there").1);
            Ok(())
        });
        done.await.expect("nothing fails");
    }
}

async fn batch_processor(count: u32) {
    let done = scope(async |n: &Nursery| {
        let handler = async |batch: Vec<u32>| batch.into_iter().map(Ok::<_, Infallible>).collect::<Vec<_>>();
        let batcher = batch::Batcher::builder(n).max_items(3).build(handler).expect("the limits make sense");
        for _ in 0..3 {
            let batcher = batcher.clone();
            n.spawn("caller", async move {
                for number in 0..count / 3 {
                    black_box(batcher.submit(number).await.is_ok());
                }
            });
        }
        Ok(())
    });
    done.await.expect("nothing fails");
}

struct Server;

impl Manager for Server {
    type Connection = u32;
    type Error = Infallible;

    async fn connect(&self) -> Result<u32, Infallible> {
        Ok(1)
    }

    fn recycle(&self, _: &mut u32) -> Recycle {
        Recycle::Keep
    }

    async fn close(&self, _: u32) {}
}

async fn connection_pool(count: u32) {
    let done = scope(async |n: &Nursery| {
        let pool = Pool::builder(n, Server).max(5).connects(5).build().expect("the numbers fit");
        let callers = (0..10).map(|_| async {
            for _ in 0..count / 10 {
                let connection = pool.acquire().await.expect("the server is there");
                yield_now().await;
                black_box(*connection);
            }
        });
        gather(callers).await;
        Ok(())
    });
    done.await.expect("nothing fails");
}

async fn retry_and_breaker(count: u32) {
    let pipeline = Pipeline::new()
        .retry(Retry::new().attempts(3).expect("3 is valid"))
        .breaker(CircuitBreaker::default());
    for _ in 0..count {
        let called = pipeline.run(|| async { Ok::<_, Infallible>(simple_coroutine().await) });
        black_box(called.await.is_ok());
    }
}

/// The methods of the client that the service calls.
trait ApiClient {
    async fn get(&self, path: String) -> Result<u32, Infallible>;
}

struct Stub;

impl ApiClient for Stub {
    async fn get(&self, path: String) -> Result<u32, Infallible> {
        black_box(path);
        Ok(1)
    }
}

async fn testing(count: u32) {
    let client = Stub;
    for _ in 0..count / 100 {
        black_box(gather((0..100).map(|number| client.get(format!("/users/{number}")))).await);
    }
}
