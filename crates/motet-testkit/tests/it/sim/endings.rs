//! Runs that do not end well: blocked, endless, panicking, or leaving tasks behind.

use std::future::pending;
use std::time::Duration;

use motet::sim::{PollKind, hooked};
use motet_testkit::sim::{Cause, ForeignTasks, Panics, real_io, sim};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use super::{failure, spawn, work};

const BLOCKED_AT: Duration = Duration::from_secs(3);

#[test]
fn deadlock_is_reported_with_its_begin_and_the_live_tasks() {
    let failure = failure(
        sim(|| async {
            sleep(BLOCKED_AT).await;
            let (kept, never) = oneshot::channel::<()>();
            let waiter = work("waiter", never);
            let _ = waiter.await;
            drop(kept);
        })
        .seeds(5)
        .check(),
        |cause| *cause == Cause::Deadlock { since: BLOCKED_AT },
    );
    let live = failure.live_tasks().join("\n");
    assert!(live.contains("`body`, work") && live.contains("`waiter`, work, spawned at"), "{live}");
    assert!(live.contains("endings.rs:"), "{live}");
}

#[test]
fn deadlock_is_found_beside_a_ticking_service() {
    failure(
        sim(|| async {
            spawn("ticker", PollKind::Service, async {
                loop {
                    sleep(Duration::from_secs(1)).await;
                }
            });
            sleep(BLOCKED_AT).await;
            pending::<()>().await;
        })
        .virtual_limit(Duration::from_secs(300))
        .seeds(5)
        .check(),
        |cause| *cause == Cause::Deadlock { since: BLOCKED_AT },
    );
}

#[test]
fn deadlock_beside_a_fast_ticker_is_found_before_the_step_limit() {
    let blocked = sim(|| async {
        spawn("ticker", PollKind::Service, async {
            loop {
                sleep(Duration::from_millis(10)).await;
            }
        });
        pending::<()>().await;
    });
    failure(blocked.virtual_limit(Duration::from_secs(60)).step_limit(1_000).seeds(1).check(), |cause| {
        *cause == Cause::Deadlock { since: Duration::ZERO }
    });
}

#[test]
fn service_that_yields_for_ever_hits_the_step_limit() {
    let endless = sim(|| async {
        spawn("spinner", PollKind::Service, async {
            loop {
                yield_now().await;
            }
        });
        pending::<()>().await;
    });
    failure(endless.step_limit(1_000).seeds(1).check(), |cause| *cause == Cause::StepLimit);
}

#[test]
fn body_that_sleeps_for_ever_hits_the_limit_of_virtual_time() {
    failure(
        sim(|| async {
            loop {
                sleep(Duration::from_secs(50)).await;
            }
        })
        .virtual_limit(Duration::from_secs(60))
        .seeds(1)
        .check(),
        |cause| *cause == Cause::TimeLimit,
    );
}

#[test]
fn body_that_yields_for_ever_hits_the_step_limit() {
    let endless = sim(|| async {
        loop {
            yield_now().await;
        }
    });
    failure(endless.step_limit(1_000).seeds(1).check(), |cause| *cause == Cause::StepLimit);
}

#[test]
fn task_left_over_is_named() {
    let failure = failure(
        sim(|| async {
            sleep(BLOCKED_AT).await;
            spawn("forgotten", PollKind::Service, pending::<()>());
        })
        .seeds(1)
        .check(),
        |cause| matches!(cause, Cause::LeftOver { names, unnamed: 0 } if names == &["forgotten"]),
    );
    assert!(failure.to_string().contains("`forgotten`, service, spawned at"), "{failure}");
    // A millisecond later, by the virtual clock, when ending tasks have ended.
    assert_eq!(failure.virtual_time(), Some(BLOCKED_AT + Duration::from_millis(1)));
}

#[test]
fn foreign_task_left_over_is_counted() {
    failure(
        sim(|| async {
            #[expect(clippy::disallowed_methods, reason = "the test is about such tasks")]
            tokio::spawn(pending::<()>());
        })
        .seeds(1)
        .foreign_tasks(ForeignTasks::Allow)
        .check(),
        |cause| matches!(cause, Cause::LeftOver { names, unnamed: 1 } if names.is_empty()),
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test is about such tasks")]
fn foreign_task_fails_the_run_unless_allowed() {
    let body = || async {
        let task = tokio::spawn(async {
            for _ in 0..3 {
                yield_now().await;
            }
        });
        task.await.unwrap();
    };
    let failure = failure(sim(body).seeds(5).check(), |cause| matches!(cause, Cause::Foreign { tasks: 1 }));
    let said = failure.to_string();
    assert!(said.contains("motet::sim::hooked") && !said.contains("no task is alive"), "{said}");
    sim(body).seeds(5).foreign_tasks(ForeignTasks::Allow).run();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test is about such tasks")]
fn panic_of_a_foreign_task_fails_the_run() {
    let body = || async { drop(tokio::spawn(async { panic!("unseen") }).await) };
    let checked = sim(body).seeds(1).foreign_tasks(ForeignTasks::Allow).check();
    failure(checked, |cause| matches!(cause, Cause::Panicked { message, .. } if message == "unseen"));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it stands for other code")]
fn hooked_future_is_interleaved_and_named_in_failures() {
    let body = || async {
        let task = tokio::spawn(hooked("other code", async {
            for _ in 0..3 {
                yield_now().await;
            }
        }));
        task.await.unwrap();
    };
    let sweep = sim(body).seeds(20).run();
    assert!(sweep.distinct() > 1);
    let stuck = sim(|| async {
        drop(tokio::spawn(hooked("other code", pending::<()>())));
    });
    failure(
        stuck.seeds(1).check(),
        |cause| matches!(cause, Cause::LeftOver { names, unnamed: 0 } if names == &["other code"]),
    );
}

#[test]
fn task_that_is_about_to_end_is_not_left_over() {
    sim(|| async {
        spawn("aborted", PollKind::Service, pending::<()>()).abort();
        work("ending", async {
            for _ in 0..10 {
                yield_now().await;
            }
        });
    })
    .seeds(50)
    .run();
}

async fn leaves_a_task_that_panics() {
    work("unlucky", async { panic!("out of luck") });
    yield_now().await;
}

#[test]
fn panic_of_a_task_without_a_joiner_fails_the_run() {
    failure(sim(leaves_a_task_that_panics).seeds(1).check(), |cause| {
        *cause == Cause::Panicked { task: "unlucky".to_owned(), message: "out of luck".to_owned() }
    });
}

#[test]
fn recorded_panic_does_not_fail_the_run() {
    sim(leaves_a_task_that_panics).panics(Panics::Record).seeds(5).run();
}

#[test]
fn first_panic_reported_to_a_task_hook_fails_the_run() {
    failure(
        sim(|| async {
            let mut hook =
                motet::sim::TaskHook::new("caught", std::panic::Location::caller(), PollKind::Work);
            hook.panicked("reported by the spawner");
            hook.panicked("reported again");
        })
        .seeds(1)
        .check(),
        |cause| {
            let message = "reported by the spawner".to_owned();
            *cause == Cause::Panicked { task: "caught".to_owned(), message }
        },
    );
}

#[test]
fn first_failure_is_reported_when_a_destructor_panics() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    failure(
        sim(|| async {
            let _bomb = Bomb;
            motet::always!(false, "the first failure");
            pending::<()>().await;
        })
        .seeds(1)
        .check(),
        |cause| matches!(cause, Cause::Broken { text: "the first failure", .. }),
    );
}

#[test]
fn real_io_stops_the_clock_while_a_thread_answers() {
    sim(|| async {
        let start = Instant::now();
        let (answer, asked) = oneshot::channel();
        // The thread goes on when the simulation has had every occasion to jump.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _ = wait.recv_timeout(Duration::from_millis(20));
            let _ = answer.send(42);
        });
        let answered = timeout(Duration::from_secs(1), real_io(asked)).await;
        assert_eq!((answered, start.elapsed()), (Ok(Ok(42)), Duration::ZERO));
        drop(go);
        thread.join().unwrap();
    })
    .seeds(3)
    .self_check(motet_testkit::sim::SelfCheck::Off)
    .run();
}
