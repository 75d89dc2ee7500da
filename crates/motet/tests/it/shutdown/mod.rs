//! The shutdown of a program in phases, in virtual time.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use motet::queue::{self, Job};
use motet::run::{App, ExitOutcome, Root, ShutdownReport};
use motet::task::{CancelToken, Reason, ReasonKind, drain, unscoped};
use motet_testkit::sim::{Panics, sim};
use tokio::time::{Instant, sleep, timeout};

use crate::notes::Log;

mod requests;

const SECOND: Duration = Duration::from_secs(1);

fn app() -> App {
    App::new().name("shop").phase("drain", SECOND * 10).phase("flush", SECOND * 5).phase("close", SECOND * 2)
}

async fn for_ever() -> Result<(), Infallible> {
    pending().await
}

async fn after(seconds: u32) -> Reason {
    sleep(SECOND * seconds).await;
    Reason::requested("enough")
}

/// Takes a second to stop, and records it.
fn tidy<E: Send + 'static>(root: &Root<E>, phase: &str, name: &'static str, log: &Log) {
    let log = log.clone();
    root.in_phase(phase).service_coop(name, async move |cx: CancelToken| {
        cx.cancelled().await;
        log.note(format!("{name} stops"));
        sleep(SECOND).await;
        log.note(format!("{name} ended"));
    });
}

fn tooks(report: &ShutdownReport) -> Vec<(&str, u64)> {
    report.phases.iter().map(|phase| (phase.phase.as_str(), phase.took.as_secs())).collect()
}

#[tokio::test(start_paused = true)]
async fn phases_stop_in_order_each_after_the_one_before() {
    let log = Log::default();
    let finished = app().run_until(after(3), async |app: &Root<Infallible>| {
        // Joined in the reverse order.
        for (phase, name) in [("close", "db"), ("flush", "queue"), ("drain", "http")] {
            tidy(app, phase, name, &log);
        }
        let noted = log.at_drop("child dropped");
        app.spawn("child", async move {
            let _noted = noted;
            pending::<()>().await;
        });
        let noted = log.at_drop("metrics dropped");
        app.in_phase("flush").service("metrics", async move {
            let _noted = noted;
            pending::<()>().await;
        });
        let _noted = log.at_drop("body dropped");
        pending::<()>().await;
        Ok(())
    });
    let begin = Instant::now();
    let finished = finished.await;
    assert!(matches!(finished.outcome, ExitOutcome::Stopped), "{finished:?}");
    assert_eq!(begin.elapsed(), SECOND * 6);
    let mut lines = log.read();
    lines[..2].sort();
    lines[4..6].sort();
    let expected = [
        "body dropped",
        "child dropped",
        "http stops",
        "http ended",
        "metrics dropped",
        "queue stops",
        "queue ended",
        "db stops",
        "db ended",
    ];
    assert_eq!(lines, expected);
    let report = finished.report;
    let expected = [("work", 0), ("drain", 1), ("flush", 1), ("close", 1), ("cleanup", 0)];
    assert_eq!(tooks(&report), expected);
    assert!(report.is_clean() && report.took == SECOND * 3);
    let words = "shutdown of `shop` (cancelled on request: enough) took 3s: \
                 work 0ns; drain 1s; flush 1s; close 1s; cleanup 0ns";
    assert_eq!(report.to_string(), words);
}

#[tokio::test(start_paused = true)]
async fn member_that_does_not_stop_is_dropped_and_reported_as_stuck() {
    let log = Log::default();
    let begin = Instant::now();
    let finished = app().run_until(after(0), async |app: &Root<Infallible>| {
        let noted = log.at_drop("deaf dropped");
        app.in_phase("drain").service_coop("deaf", async move |_| {
            let _noted = noted;
            pending::<()>().await;
        });
        tidy(app, "drain", "http", &log);
        tidy(app, "flush", "queue", &log);
        pending::<()>().await;
        Ok(())
    });
    let finished = finished.await;
    assert!(matches!(finished.outcome, ExitOutcome::Stopped), "{finished:?}");
    assert_eq!(begin.elapsed(), SECOND * 11);
    assert_eq!(log.read().len(), 5);
    assert!(!finished.report.is_clean());
    let drain = finished.report.phase("drain").unwrap();
    assert_eq!(drain.stuck, ["deaf"]);
    assert_eq!(drain.took, SECOND * 10);
    assert_eq!(finished.report.phase("flush").unwrap().took, SECOND);
}

#[tokio::test(start_paused = true)]
async fn workers_in_a_phase_have_its_time_or_are_reported_as_stuck() {
    for (takes, is_cut) in [(4, false), (12, true)] {
        let log = Log::default();
        let finished = app().run_until(after(1), async |app: &Root<Infallible>| {
            let (sender, receiver) = queue::bounded(4).unwrap();
            let ended = log.clone();
            let handle = move |_: Job<u32>| {
                let ended = ended.clone();
                async move {
                    sleep(SECOND * takes).await;
                    ended.note("handled");
                    Ok::<_, &str>(())
                }
            };
            let workers =
                receiver.workers(1).unwrap().start(app.in_phase("drain").scope(), "workers", handle);
            workers.unwrap();
            sender.send(1).await.unwrap();
            pending::<()>().await;
            Ok(())
        });
        let report = finished.await.report;
        let drain = report.phase("drain").unwrap();
        assert_eq!((log.read().len(), report.is_clean()), (usize::from(!is_cut), !is_cut));
        assert_eq!(drain.took, if is_cut { SECOND * 10 } else { SECOND * 3 }, "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn total_limits_the_time_of_all_phases() {
    let begin = Instant::now();
    let finished = app().total(SECOND * 12).run_until(after(0), async |app: &Root<Infallible>| {
        for phase in ["drain", "flush", "close"] {
            drop(
                app.in_phase(phase).service_coop(format!("deaf in {phase}"), async |_| pending::<()>().await),
            );
        }
        pending::<()>().await;
        Ok(())
    });
    let finished = finished.await;
    assert!(matches!(finished.outcome, ExitOutcome::GaveUp { .. }), "{finished:?}");
    assert_eq!(begin.elapsed(), SECOND * 12);
    let report = finished.report;
    assert_eq!(tooks(&report), [("work", 0), ("drain", 10), ("flush", 2), ("close", 0), ("cleanup", 0)]);
    let stuck: Vec<_> =
        report.phases.iter().flat_map(|phase| &phase.stuck).map(|name| name.as_str()).collect();
    assert_eq!(stuck[..3], ["deaf in drain", "deaf in flush", "deaf in close"]);
    assert!(
        report.to_string().starts_with("shutdown of `shop` (cancelled on request: enough) gave up after 12s")
    );
    // The remaining task is dropped, although the program did not wait for it.
    drain().await;
    assert_eq!(unscoped(), 0);
}

#[tokio::test(start_paused = true)]
async fn total_limits_the_wait_for_a_child_that_never_ends() {
    let begin = Instant::now();
    let finished = App::new().name("stuck").total(SECOND * 4).grace(SECOND * 100).run_until(
        after(1),
        async |app: &Root<Infallible>| {
            app.spawn_coop("deaf", async |_| pending::<()>().await);
            pending::<()>().await;
            Ok(())
        },
    );
    let finished = finished.await;
    assert!(matches!(finished.outcome, ExitOutcome::GaveUp { .. }), "{finished:?}");
    assert_eq!(begin.elapsed(), SECOND * 5);
    let report = finished.report;
    assert_eq!((report.phases[0].stuck[0].as_str(), report.phases[0].took), ("deaf", SECOND * 4));
    assert!(report.left_behind.is_some());
    let last = report.phase("cleanup").unwrap();
    assert_eq!(last.stuck, ["deaf"]);
}

#[tokio::test(start_paused = true)]
async fn outcome_of_giving_up_has_the_errors_or_the_panic() {
    for panics in [false, true] {
        let app = App::new()
            .name("stuck")
            .work(SECOND)
            .phase("drain", SECOND)
            .total(SECOND * 4)
            .grace(SECOND * 100);
        let finished = app.run_until(pending(), async |app: &Root<&'static str>| {
            app.spawn_coop("deaf", async |_| pending::<()>().await);
            app.in_phase("drain").try_service_coop("member", async |cx: CancelToken| {
                cx.cancelled().await;
                Err::<(), _>("cannot drain")
            });
            sleep(SECOND).await;
            assert!(!panics, "too hot");
            Err::<(), _>("broken")
        });
        match finished.await.outcome {
            ExitOutcome::Panicked(payload) if panics => assert_eq!(payload.downcast_ref(), Some(&"too hot")),
            ExitOutcome::GaveUp { failures } if !panics => {
                let mut errors: Vec<_> = failures.iter().map(|failure| failure.error).collect();
                errors.sort_unstable();
                assert_eq!(errors, ["broken", "cannot drain"]);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn phases_begin_beside_slow_work_and_cleanup_waits_for_it() {
    let (log, begin) = (Log::default(), Instant::now());
    let work = log.clone();
    let app = app().work(SECOND * 3).grace(SECOND * 8);
    let finished = app.run_until(after(0), async |app: &Root<Infallible>| {
        app.spawn_coop("slow", async move |cx: CancelToken| {
            cx.cancelled().await;
            sleep(SECOND * 6).await;
            work.note("work ended");
        });
        tidy(app, "drain", "http", &log);
        pending::<()>().await;
        Ok(())
    });
    let finished = finished.await;
    assert!(matches!(finished.outcome, ExitOutcome::Stopped), "{finished:?}");
    assert_eq!(log.read(), ["http stops", "http ended", "work ended"]);
    assert_eq!(begin.elapsed(), SECOND * 6);
    assert_eq!(finished.report.phases[0].stuck, ["slow"]);
    assert_eq!(finished.report.phase("cleanup").unwrap().took, SECOND * 2);
}

#[tokio::test(start_paused = true)]
async fn end_of_the_body_lets_children_end_and_stops_the_phases() {
    let (log, begin) = (Log::default(), Instant::now());
    let finished = app().run_until(pending(), async |app: &Root<Infallible>| {
        tidy(app, "drain", "http", &log);
        let log = log.clone();
        app.spawn("last order", async move {
            sleep(SECOND * 60).await;
            log.note("served");
        });
        Ok(7)
    });
    let finished = finished.await;
    assert!(matches!(finished.outcome, ExitOutcome::Returned(7)), "{finished:?}");
    assert_eq!(log.read(), ["served", "http stops", "http ended"]);
    assert_eq!(begin.elapsed(), SECOND * 61);
    assert_eq!(finished.report.reason.kind(), ReasonKind::Ended);
    assert_eq!(finished.report.took, SECOND);
}

#[tokio::test(start_paused = true)]
async fn error_begins_the_shutdown_and_is_returned() {
    for who in ["body", "child", "member"] {
        let log = Log::default();
        let finished = app().run_until(pending(), async |app: &Root<String>| {
            tidy(app, "drain", "http", &log);
            tidy(app, "close", "db", &log);
            let broken = async {
                sleep(SECOND).await;
                Err::<(), _>(who.to_owned())
            };
            match who {
                "body" => broken.await?,
                "child" => {
                    app.try_spawn("child", broken);
                }
                // Of the last phase: its other members must not stop before their turn.
                _ => {
                    app.in_phase("close").try_service("member", broken);
                }
            }
            pending::<()>().await;
            Ok(())
        });
        let finished = finished.await;
        let ExitOutcome::Failed { first, others } = finished.outcome else { panic!("{who}: {finished:?}") };
        assert_eq!(first.error, who);
        assert_eq!(first.task.as_ref().map(|task| task.as_str()), (who != "body").then_some(who));
        assert!(others.is_empty());
        assert_eq!(finished.report.reason.kind(), ReasonKind::Failed);
        assert_eq!(finished.report.took, SECOND * 2);
        assert_eq!(log.read(), ["http stops", "http ended", "db stops", "db ended"], "{who}");
    }
}

#[test]
fn report_names_an_error_or_a_panic_as_the_reason() {
    for (who, expected) in [
        ("body fails", ReasonKind::Failed),
        ("child fails", ReasonKind::Failed),
        ("child panics", ReasonKind::Panicked),
    ] {
        sim(move || async move {
            let finished = App::new().name("shop").run_until(pending(), async |app: &Root<&'static str>| {
                match who {
                    "body fails" => {
                        tokio::task::yield_now().await;
                        return Err("broken");
                    }
                    "child fails" => {
                        app.try_spawn("child", async { Err::<(), _>("broken") });
                    }
                    _ => {
                        app.spawn("child", async { panic!("too hot") });
                    }
                }
                pending::<()>().await;
                Ok(())
            });
            assert_eq!(finished.await.report.reason.kind(), expected, "{who}");
        })
        .panics(Panics::Record)
        .seeds(100)
        .run();
    }
}

#[tokio::test(start_paused = true)]
async fn panic_begins_the_shutdown_and_is_returned() {
    for who in ["body", "child", "member", "in the scope of a phase"] {
        let log = Log::default();
        let finished = app().run_until(pending(), async |app: &Root<Infallible>| {
            tidy(app, "drain", "http", &log);
            let hot = async {
                sleep(SECOND).await;
                std::panic::panic_any(17)
            };
            match who {
                "body" => hot.await,
                "child" => {
                    app.spawn(who, hot);
                }
                "member" => {
                    app.in_phase("close").service(who, hot);
                }
                _ => {
                    app.in_phase("close").scope().spawn(who, hot).unwrap();
                }
            }
            pending::<()>().await;
            Ok(())
        });
        let finished = finished.await;
        let ExitOutcome::Panicked(payload) = finished.outcome else { panic!("{who}: {finished:?}") };
        assert_eq!(payload.downcast_ref(), Some(&17), "{who}");
        assert_eq!(finished.report.reason.kind(), ReasonKind::Panicked);
        assert_eq!(log.read(), ["http stops", "http ended"], "{who}");
    }
}

#[tokio::test(start_paused = true)]
async fn phase_emptied_by_a_panic_accepts_a_new_member() {
    let finished = app().run_until(pending(), async |app: &Root<Infallible>| {
        let close = app.in_phase("close");
        close.scope().spawn("hot", async { std::panic::panic_any(17) }).unwrap();
        while !close.scope().is_cancelled() {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        close.service("late", pending::<()>());
        for_ever().await
    });
    let ExitOutcome::Panicked(payload) = finished.await.outcome else { panic!() };
    assert_eq!(payload.downcast_ref(), Some(&17));
}

#[tokio::test(start_paused = true)]
async fn errors_during_the_shutdown_follow_the_first_error() {
    let finished = app().run_until(pending(), async |app: &Root<&'static str>| {
        app.in_phase("drain").try_service_coop("late", async |cx: CancelToken| {
            cx.cancelled().await;
            Err::<(), _>("cannot drain")
        });
        app.in_phase("flush").try_service("first", async { Err::<(), _>("broken") });
        pending::<()>().await;
        Ok(())
    });
    let ExitOutcome::Failed { first, others } = finished.await.outcome else { panic!() };
    assert_eq!((first.error, others[0].error), ("broken", "cannot drain"));
}

#[tokio::test(start_paused = true)]
async fn shutdown_awaits_releases_and_reports_their_failures() {
    let log = Log::default();
    let finished = app().run_until(after(1), async |app: &Root<Infallible>| {
        let in_work = log.clone();
        app.defer("goodbye", async move |_| {
            sleep(SECOND).await;
            in_work.note("goodbye");
            Err::<(), _>(std::io::Error::other("the line is dead"))
        });
        let in_phase = log.clone();
        app.in_phase("flush").scope().defer("flushed", async move |_| in_phase.note("flushed")).unwrap();
        tidy(app, "drain", "http", &log);
        pending::<()>().await;
        Ok(())
    });
    let finished = finished.await;
    assert_eq!(log.read(), ["goodbye", "http stops", "http ended", "flushed"]);
    let failed = &finished.report.release_failures;
    assert_eq!((failed.len(), failed[0].resource()), (1, "goodbye"));
    assert!(!finished.report.is_clean());
    assert!(finished.report.to_string().ends_with("; release of `goodbye` failed"));
}

#[tokio::test(start_paused = true)]
async fn on_report_receives_the_report_of_the_program() {
    let seen = Log::default();
    let callback = seen.clone();
    let app = app().on_report(move |report| callback.note(report.app.as_str()));
    app.run_until(after(0), async |_: &Root<Infallible>| for_ever().await).await;
    assert_eq!(seen.read(), ["shop"]);
}

/// An embedding program can run it in a task.
#[tokio::test(start_paused = true)]
async fn future_of_a_program_is_send() {
    let app = app().on_report(|_| {});
    let running = app.run_until(after(0), async |app: &Root<Infallible>| {
        tidy(app, "drain", "http", &Log::default());
        for_ever().await
    });
    fn in_a_task<T: Send>(future: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        future
    }
    assert!(matches!(in_a_task(running).await.outcome, ExitOutcome::Stopped));
}

#[tokio::test(start_paused = true)]
async fn dropped_program_stops_its_members() {
    let log = Log::default();
    let running = app().run_until(pending(), async |app: &Root<Infallible>| {
        tidy(app, "drain", "http", &log);
        tidy(app, "close", "db", &log);
        for_ever().await
    });
    assert!(timeout(SECOND, running).await.is_err());
    drain().await;
    let mut lines = log.read();
    lines.sort();
    assert_eq!(lines, ["db ended", "db stops", "http ended", "http stops"]);
    assert_eq!(unscoped(), 0);
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_member_leaves_its_phase_running() {
    let log = Log::default();
    let finished = app().run_until(after(5), async |app: &Root<Infallible>| {
        tidy(app, "drain", "http", &log);
        let (log, seen) = (log.clone(), log.clone());
        let task = app.in_phase("drain").service_coop("alone", async move |cx: CancelToken| {
            cx.cancelled().await;
            log.note("alone stops");
        });
        task.cancel(Reason::requested("no more"));
        task.await.unwrap();
        sleep(SECOND).await;
        assert_eq!(seen.read(), ["alone stops"], "the other member is still running");
        for_ever().await
    });
    let finished = finished.await;
    assert_eq!(log.read(), ["alone stops", "http stops", "http ended"]);
    assert_eq!(finished.report.reason.text(), Some("enough"));
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = r#"the app has no phase `drian`: declare it with `App::phase`, or use one of ["drain", "flush", "close"]"#
)]
async fn use_of_an_undeclared_phase_panics_naming_the_declared_ones() {
    let finished = app().run_until(pending(), async |app: &Root<Infallible>| {
        app.in_phase("drian").service("http", async {});
        Ok(())
    });
    if let ExitOutcome::Panicked(payload) = finished.await.outcome {
        std::panic::resume_unwind(payload);
    }
}

#[tokio::test(start_paused = true)]
async fn app_with_a_duplicate_or_reserved_phase_starts_nothing() {
    for (name, app) in [
        ("drain", app().phase("drain", SECOND).phase("drain", SECOND)),
        ("work", App::new().phase("work", SECOND)),
        ("cleanup", app().phase("cleanup", SECOND).phase("work", SECOND)),
    ] {
        let finished = app
            .run_until(pending(), async |_: &Root<Infallible>| -> Result<(), _> { panic!("it was started") })
            .await;
        assert!(matches!(finished.outcome, ExitOutcome::DuplicatePhase(phase) if phase == name));
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_time_counts_from_the_stop_not_from_an_older_reason() {
    let reason = Reason::requested("enough");
    let stop = async {
        sleep(SECOND * 60).await;
        reason
    };
    let finished = app().run_until(stop, async |app: &Root<Infallible>| {
        tidy(app, "drain", "http", &Log::default());
        for_ever().await
    });
    let finished = finished.await;
    assert!(matches!(finished.outcome, ExitOutcome::Stopped), "{finished:?}");
    assert_eq!(finished.report.took, SECOND);
}

#[tokio::test(start_paused = true)]
async fn stuck_task_with_the_name_of_a_phase_is_reported_as_stuck() {
    // Before and after the end of the phase.
    for work in [1, 5] {
        let app = App::new().name("stuck").work(SECOND * work).phase("http", SECOND).total(SECOND * 4);
        let finished = app.grace(SECOND * 100).run_until(after(0), async |app: &Root<Infallible>| {
            app.spawn_coop("http", async |_| pending::<()>().await);
            for_ever().await
        });
        assert_eq!(finished.await.report.phase("cleanup").unwrap().stuck, ["http"], "{work}");
    }
}

#[tokio::test(start_paused = true)]
async fn panic_that_began_the_shutdown_is_the_one_returned() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("second");
        }
    }
    let finished = app().run_until(pending(), async |app: &Root<Infallible>| {
        app.in_phase("drain").service("hot", async { panic!("first") });
        let _bomb = Bomb;
        for_ever().await
    });
    let ExitOutcome::Panicked(payload) = finished.await.outcome else { panic!() };
    assert_eq!(payload.downcast_ref(), Some(&"first"));
}

#[tokio::test(start_paused = true)]
async fn failed_release_keeps_the_value_of_a_program() {
    let finished = app().run_until(pending(), async |app: &Root<Infallible>| {
        app.defer("flush", async |_| Err::<(), _>(std::io::Error::other("disk full")));
        Ok(7)
    });
    let finished = finished.await;
    assert!(matches!(finished.outcome, ExitOutcome::Returned(7)), "{finished:?}");
    assert_eq!(finished.report.release_failures.len(), 1);
}
