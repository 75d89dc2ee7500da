//! Question: what does a child of a scope cost beside a plain task?
//!
//! Each side starts 10 000 children that yield once, and waits for all of them. motet has the guarantees of a scope: names,
//! cancellation with a reason, panics that reach the parent, and no task that outlives a dropped scope. `tokio::spawn` and
//! `FuturesUnordered` of join handles have none of these; `JoinSet` aborts its tasks when it is dropped and does not wait for
//! them; `TaskTracker` with a token cancels, and does not report panics.

#![allow(clippy::disallowed_methods, reason = "rivals start their tasks themselves")]

use std::convert::Infallible;
use std::hint::black_box;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use motet::task::{CancelToken, Nursery, gather, local_scope, scope};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::measure::both_of;
use crate::report::{Case, Cases};

const CHILDREN: u32 = 10_000;

pub(crate) fn run(cases: &mut Cases) {
    let current = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let two = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    for (name, runtime) in [("current thread", &current), ("two workers", &two)] {
        let mut add = |rival_name, mut rival: Box<dyn FnMut()>| {
            let (ours, theirs) = both_of(CHILDREN, || on(runtime, ours(yield_now)), &mut *rival);
            cases.extend(Case::median_and_minimum(name, rival_name, ours, theirs));
        };
        add("tokio::spawn", Box::new(|| on(runtime, bare(yield_now))));
        add("JoinSet", Box::new(|| on(runtime, join_set())));
        add("TaskTracker + token", Box::new(|| on(runtime, tracker())));
        add("FuturesUnordered<JoinHandle>", Box::new(|| on(runtime, unordered())));
        // A plain task with little state fits into two cache lines less than a child. Most tasks have more state.
        let (ours, theirs) =
            both_of(CHILDREN, || on(runtime, ours(stateful)), || on(runtime, bare(stateful)));
        let case = format!("{name}, 200 B of state");
        cases.extend(Case::median_and_minimum(&case, "tokio::spawn", ours, theirs));
    }
    in_one_task(cases, &current);
    cases.push(asking());
}

/// Runs in a task of the runtime, like the code of a server: `block_on` alone would measure another path.
fn on(runtime: &Runtime, work: impl Future<Output = ()> + Send + 'static) {
    runtime.block_on(async { tokio::spawn(work).await.expect("the work does not panic") });
}

/// A child with state across its await.
async fn stateful() {
    let state = black_box([1_u8; 200]);
    yield_now().await;
    black_box(&state);
}

async fn ours<F>(child: fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let done = scope(async |n: &Nursery<Infallible>| {
        for _ in 0..CHILDREN {
            n.spawn("child", child());
        }
        Ok(())
    });
    done.await.expect("nothing fails");
}

async fn bare<F>(child: fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut handles = Vec::with_capacity(CHILDREN as usize);
    for _ in 0..CHILDREN {
        handles.push(tokio::spawn(child()));
    }
    for handle in handles {
        handle.await.expect("nothing panics");
    }
}

async fn join_set() {
    let mut set = JoinSet::new();
    for _ in 0..CHILDREN {
        set.spawn(yield_now());
    }
    while let Some(joined) = set.join_next().await {
        joined.expect("nothing panics");
    }
}

async fn tracker() {
    let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
    for _ in 0..CHILDREN {
        let token = token.clone();
        tracker.spawn(async move { token.run_until_cancelled(yield_now()).await });
    }
    tracker.close();
    tracker.wait().await;
}

async fn unordered() {
    let mut handles = FuturesUnordered::new();
    for _ in 0..CHILDREN {
        handles.push(tokio::spawn(yield_now()));
    }
    while let Some(joined) = handles.next().await {
        joined.expect("nothing panics");
    }
}

/// Children within one task: they may borrow, and use one core.
fn in_one_task(cases: &mut Cases, runtime: &Runtime) {
    let mut add = |case, rival_name, ours: &mut dyn FnMut(), rival: &mut dyn FnMut()| {
        let (ours, theirs) = both_of(CHILDREN, ours, rival);
        cases.extend(Case::median_and_minimum(case, rival_name, ours, theirs));
    };
    let mut local = || {
        runtime.block_on(local_scope(async |s| {
            for _ in 0..CHILDREN {
                s.spawn(yield_now());
            }
        }));
    };
    add("local_scope", "FuturesUnordered", &mut local, &mut || {
        runtime.block_on(async {
            let mut children = FuturesUnordered::new();
            for _ in 0..CHILDREN {
                children.push(yield_now());
            }
            while children.next().await.is_some() {}
        });
    });
    add("local_scope", "moro", &mut local, &mut || {
        runtime.block_on(moro::async_scope!(|scope| {
            for _ in 0..CHILDREN {
                scope.spawn(yield_now());
            }
        }));
    });
    let users = || (0..CHILDREN).map(|user| async move { user });
    add(
        "gather, ready at once",
        "join_all",
        &mut || {
            black_box(runtime.block_on(gather(users())));
        },
        &mut || {
            black_box(runtime.block_on(join_all(users())));
        },
    );
    let users = || (0..CHILDREN).map(|_| yield_now());
    add(
        "gather",
        "join_all",
        &mut || {
            black_box(runtime.block_on(gather(users())));
        },
        &mut || {
            black_box(runtime.block_on(join_all(users())));
        },
    );
}

/// A loop that checks for cancellation in every iteration.
fn asking() -> Case {
    let (ours, theirs) = (CancelToken::new(), CancellationToken::new());
    let (ours, rival) = both_of(
        CHILDREN,
        || (0..CHILDREN).for_each(|_| assert!(!black_box(&ours).is_cancelled())),
        || (0..CHILDREN).for_each(|_| assert!(!black_box(&theirs).is_cancelled())),
    );
    Case::new("is_cancelled".to_owned(), "CancellationToken", ours, rival)
}
