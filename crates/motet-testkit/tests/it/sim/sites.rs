//! The part of a report about where each task is suspended.

use std::fmt::Error;
use std::future::pending;
use std::time::Duration;

use motet::batch::Batcher;
use motet::event::{Emitter, Event};
use motet::queue::{self, bounded};
use motet::resilience::Bulkhead;
use motet::task::{CancelToken, Nursery, Scope, gather, race, scope, timeout};
use motet_testkit::sim::{Cause, Failure, sim};

use super::{failure, work};

/// The line of this file that ends with this comment, as a report names it.
fn at(comment: &str) -> String {
    let source = include_str!("sites.rs");
    let line = source.lines().position(|line| line.ends_with(&format!("// {comment}"))).unwrap();
    format!("{}:{}:", file!(), line + 1)
}

/// The lines of a deadlock report about a task.
#[track_caller]
fn suspended(failure: &Failure, task: &str) -> String {
    let named = format!("`{task}`");
    let live = failure.live_tasks();
    let line = live.iter().find(|line| line.contains(&named)).unwrap_or_else(|| panic!("{failure}"));
    assert!(failure.to_string().contains(line.as_str()), "{failure}");
    line.clone()
}

#[track_caller]
fn deadlock<F: Future<Output = ()>>(body: impl Fn() -> F) -> Failure {
    failure(sim(body).seeds(1).check(), |cause| matches!(cause, Cause::Deadlock { .. }))
}

/// Runs a task that waits without end, and returns its line of the report.
#[track_caller]
fn waits<F>(body: impl Fn(Scope) -> F) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let body = &body;
    let failure = deadlock(move || async move {
        let ended = scope(async |n: &Nursery| {
            n.spawn("waits", body(Scope::clone(n)));
            Ok(())
        });
        ended.await.unwrap();
    });
    suspended(&failure, "waits")
}

#[test]
fn deadlock_over_two_queues_names_both_operations_and_lines() {
    let failure = deadlock(|| async {
        let ended = scope(async |n: &Nursery| {
            let (to_left, left) = bounded::<u32>(1).unwrap();
            let (to_right, right) = queue::builder::<u32>(1).name("orders").build_in(n).unwrap();
            to_right.send(0).await.unwrap();
            n.spawn("left", async move {
                left.recv().await; // left waits
                right.recv().await;
            });
            n.spawn("right", async move {
                to_right.send(1).await.unwrap(); // right waits
                to_left.send(2).await.unwrap();
            });
            Ok(())
        });
        ended.await.unwrap();
    });
    let (left, right) = (suspended(&failure, "left"), suspended(&failure, "right"));
    assert!(left.contains(&format!("; suspended in queue: receive at {}", at("left waits"))), "{left}");
    assert!(
        right.contains(&format!("; suspended in queue \"orders\": send at {}", at("right waits"))),
        "{right}"
    );
    let body = suspended(&failure, "body");
    assert!(body.contains("suspended in scope \"scope\": wait for its children at "), "{body}");
    let trace = failure.trace().join("\n");
    assert!(trace.contains(&format!("left: pending in queue: receive at {}", at("left waits"))), "{trace}");
}

#[test]
fn left_over_task_is_named_with_its_wait() {
    let left_over = sim(|| async {
        let (sender, receiver) = bounded::<u32>(1).unwrap();
        drop(work("reader", async move {
            receiver.recv().await; // reader waits
        }));
        drop(work("holder", async move {
            let _sender = sender;
            pending::<()>().await;
        }));
    });
    let failure = failure(left_over.seeds(1).check(), |cause| matches!(cause, Cause::LeftOver { .. }));
    let reader = suspended(&failure, "reader");
    assert!(reader.contains(&at("reader waits")), "{reader}");
}

#[test]
fn wait_outside_of_motet_is_named_by_the_nearest_operation() {
    let bare = waits(|_| async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        pending().await
    });
    assert!(bare.ends_with("; not suspended in a future of motet"), "{bare}");
    let after = waits(|_| async {
        let (sender, receiver) = bounded(1).unwrap();
        sender.send(1).await.unwrap();
        receiver.recv().await; // was the last
        pending().await
    });
    assert!(after.contains(&format!("its last was queue: receive at {}", at("was the last"))), "{after}");
    let around = waits(|_| async {
        let _ = timeout(Duration::MAX, pending::<()>()).await; // around
    });
    let expected =
        format!("suspended in a future that is not of motet, within timeout: run at {}", at("around"));
    assert!(around.contains(&expected), "{around}");
}

#[test]
fn report_names_each_awaited_future_and_no_finished_one() {
    let both = waits(|_| async {
        let (_kept, first) = bounded::<u32>(1).unwrap();
        let (_too, second) = bounded::<u32>(1).unwrap();
        let _ = timeout(Duration::from_secs(1), first.recv()).await; // has left
        let waits = [
            first.recv(),  // the first
            second.recv(), // the second
        ];
        gather(waits).await; // all
    });
    for comment in ["the first", "the second", "all"] {
        assert!(both.contains(&at(comment)), "{comment}: {both}");
    }
    assert!(!both.contains(&at("has left")), "{both}");
    assert!(both.contains("; and in "), "{both}");
}

struct Tick;

impl Event for Tick {
    const NAME: &'static str = "tick";
}

#[test]
fn waits_of_seven_kinds_are_named_with_their_line() {
    let cases = [
        ("token", waits(|_| async { _ = CancelToken::new().cancelled().await })), // token
        (
            "emitter",
            waits(|scope| async move {
                let emitter = Emitter::builder(&scope).name("news").build();
                drop(emitter.next::<Tick>().await); // emitter
            }),
        ),
        (
            "task",
            waits(|scope| async move {
                let child = scope.spawn("child", pending::<()>()).unwrap(); // task
                drop(child.await);
            }),
        ),
        (
            "bulkhead",
            waits(|_| async {
                let bulkhead = Bulkhead::builder(1).queue(1, Duration::MAX).build().unwrap();
                let _permit = bulkhead.acquire().await.unwrap();
                drop(bulkhead.acquire().await); // bulkhead
            }),
        ),
        (
            "batcher",
            waits(|scope| async move {
                let handle = async |_: Vec<u32>| {
                    pending::<()>().await;
                    Ok::<Vec<Result<u32, Error>>, Error>(Vec::new())
                };
                let batcher = Batcher::new(&scope, handle);
                drop(batcher.submit(1).await); // batcher
            }),
        ),
        (
            "race",
            waits(|_| async {
                race(pending::<()>(), pending::<()>()).await; // race
            }),
        ),
        (
            "scope",
            waits(|_| async {
                let body = async |_: &Nursery| {
                    pending::<()>().await;
                    Ok(())
                };
                let inner = Scope::builder().name("inner").run(body); // scope
                drop(inner.await);
            }),
        ),
    ];
    for (kind, report) in &cases {
        let named = report.split("; ").nth(1).unwrap();
        assert!(named.contains(&format!("{kind}: ")) || named.contains(&format!("{kind} \"")), "{report}");
        assert!(named.contains(&at(kind)), "{kind}: {report}");
    }
}
