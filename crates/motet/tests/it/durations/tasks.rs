//! Scopes, supervisors, programs, containers, events.

use std::convert::Infallible;
use std::future::pending;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use motet::Backoff;
use motet::container::{Container, Health};
use motet::event::{Emitter, Event};
use motet::observe::Stats;
use motet::resource::resource;
use motet::run::{App, Root, flush_stderr, stderr};
use motet::task::{
    CancelToken, Child, Nursery, Reason, Restart, Scope, StallWatch, Supervisor, scope, timeout,
};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::SECOND;
use super::table::{Effect, LIMIT, Odd, Row};

const NEVER: Duration = Duration::MAX;

pub(super) fn table() -> Vec<Row> {
    vec![
        Row { setting: "task/timeout.rs timeout", means: LIMIT, uses: of_a_timeout },
        Row { setting: "task/options.rs timeout", means: LIMIT, uses: of_a_deadline },
        Row { setting: "task/options.rs grace", means: LIMIT, uses: of_a_grace },
        Row { setting: "task/options.rs release_timeout", means: LIMIT, uses: of_a_release },
        Row { setting: "task/stall.rs start", means: LIMIT, uses: of_a_stall },
        Row { setting: "observe/metrics.rs export_metrics", means: LIMIT, uses: of_an_export },
        Row { setting: "task/supervisor/child.rs stop_timeout", means: LIMIT, uses: of_a_stop },
        Row { setting: "task/supervisor/builder.rs backoff", means: LIMIT, uses: of_a_restart },
        // The effect: the end by too many restarts: in no time, there are never too many.
        Row {
            setting: "task/supervisor/builder.rs intensity",
            means: [Odd::Never, Odd::Never, Odd::AtOnce, Odd::AtOnce],
            uses: of_an_intensity,
        },
        Row { setting: "resource/with.rs release_timeout", means: LIMIT, uses: of_a_resource },
        Row { setting: "run/app.rs work", means: LIMIT, uses: of_work },
        Row { setting: "run/app.rs phase", means: LIMIT, uses: of_a_phase },
        Row { setting: "run/app.rs total", means: LIMIT, uses: of_a_total },
        Row { setting: "run/app.rs grace", means: LIMIT, uses: of_the_grace_of_an_app },
        // It ends when all is written.
        Row { setting: "run/stderr.rs flush_stderr", means: [const { Odd::AtOnce }; 4], uses: of_a_flush },
        Row { setting: "container/container.rs start_timeout", means: LIMIT, uses: |odd| starts(odd, None) },
        Row {
            setting: "container/provided.rs start_timeout",
            means: LIMIT,
            uses: |odd| starts(NEVER, Some(odd)),
        },
        Row { setting: "container/container.rs stop_timeout", means: LIMIT, uses: |odd| stops(odd, None) },
        Row {
            setting: "container/provided.rs stop_timeout",
            means: LIMIT,
            uses: |odd| stops(NEVER, Some(odd)),
        },
        Row { setting: "container/container.rs health_timeout", means: LIMIT, uses: |odd| asks(odd, None) },
        Row {
            setting: "container/provided.rs health_timeout",
            means: LIMIT,
            uses: |odd| asks(NEVER, Some(odd)),
        },
        Row { setting: "event/builder.rs timeout", means: LIMIT, uses: |odd| emits(odd, None) },
        Row {
            setting: "event/listener_builder.rs timeout",
            means: LIMIT,
            uses: |odd| emits(NEVER, Some(odd)),
        },
    ]
}

fn of_a_timeout(odd: Duration) -> Effect {
    Box::pin(async move {
        timeout(odd, pending::<()>()).await.unwrap_err();
        Ok(())
    })
}

fn of_a_deadline(odd: Duration) -> Effect {
    Box::pin(async move {
        let scope = Scope::builder().timeout(odd);
        let ended = scope.run(async |_: &Nursery<Infallible>| pending::<Result<(), Infallible>>().await);
        ended.await.unwrap_err();
        Ok(())
    })
}

fn of_a_grace(odd: Duration) -> Effect {
    Box::pin(async move {
        let scope = Scope::builder().grace(odd);
        let ended = scope.run(async |n: &Nursery<Infallible>| {
            n.spawn_coop("deaf", async |_| pending::<()>().await);
            n.cancel(Reason::requested("enough"));
            Ok(())
        });
        drop(ended.await);
        Ok(())
    })
}

fn of_a_release(odd: Duration) -> Effect {
    Box::pin(async move {
        let scope = Scope::builder().release_timeout(odd);
        let ended = scope.run(async |n: &Nursery<Infallible>| {
            n.defer("hangs", async |_| pending::<()>().await);
            Ok(())
        });
        ended.await.unwrap_err();
        Ok(())
    })
}

/// By the real clock: a stall that is to be reported is waited for, and of the others the watch has to end.
fn of_a_stall(odd: Duration) -> Effect {
    Box::pin(async move {
        let (report, reports) = channel();
        let watch = StallWatch::start(odd, move |stall| drop(report.send(stall.task)))?;
        let is_to_come = odd < SECOND;
        scope(async |n: &Nursery<Infallible>| {
            n.spawn("stalls", async move {
                if is_to_come {
                    // It watches the threads of other tests as well.
                    while reports.recv().unwrap().as_str() != "stalls" {}
                }
            });
            Ok(())
        })
        .await?;
        drop(watch);
        if is_to_come { Ok(()) } else { pending().await }
    })
}

/// The effect: the second export.
fn of_an_export(odd: Duration) -> Effect {
    Box::pin(async move {
        scope(async |n: &Nursery<Infallible>| {
            let (seen, mut exports) = tokio::sync::watch::channel(0);
            let _probe = n.register("probe", "exports", move || {
                seen.send_modify(|exports| *exports += 1);
                Stats::new()
            });
            n.export_metrics(odd).unwrap();
            exports.wait_for(|exports| *exports >= 2).await.unwrap();
            Ok(())
        })
        .await?;
        Ok(())
    })
}

fn of_a_stop(odd: Duration) -> Effect {
    Box::pin(async move {
        let (token, stop) = (CancelToken::new(), CancelToken::new());
        let told = token.clone();
        let child = Child::new("deaf", Restart::Permanent, move |cx| {
            let told = told.clone();
            async move {
                cx.ready();
                told.cancel(Reason::requested("it is there"));
                pending::<()>().await;
            }
        });
        let supervisor = Supervisor::new().name("minds").with_child(child.stop_timeout(odd));
        scope(async |n: &Nursery<Infallible>| {
            n.spawn("supervisor", supervisor.run(stop.clone()));
            token.cancelled().await;
            stop.cancel(Reason::requested("enough"));
            Ok(())
        })
        .await?;
        Ok(())
    })
}

fn of_a_restart(odd: Duration) -> Effect {
    Box::pin(async move {
        let mut starts = 0;
        let supervisor = Supervisor::new().name("minds").backoff(Backoff::constant(odd)).child(
            "fails once",
            Restart::Transient,
            move || {
                starts += 1;
                let ended = if starts == 1 { Err("not now") } else { Ok(()) };
                async move { ended }
            },
        );
        supervisor.run(CancelToken::new()).await?;
        Ok(())
    })
}

fn of_an_intensity(odd: Duration) -> Effect {
    Box::pin(async move {
        let supervisor = Supervisor::new()
            .name("minds")
            .intensity(3, odd)
            .backoff(Backoff::constant(SECOND))
            .child("fails", Restart::Permanent, || async { Err::<(), _>("not now") });
        supervisor.run(CancelToken::new()).await.unwrap_err();
        Ok(())
    })
}

fn of_a_resource(odd: Duration) -> Effect {
    Box::pin(async move {
        let opened = resource(async { Ok::<_, Infallible>(()) });
        let released = opened.release(|(), _| pending::<()>()).release_timeout(odd);
        released.with(async |()| Ok(())).await.unwrap_err();
        Ok(())
    })
}

fn app(work: Duration, drain: Duration) -> App {
    App::new().name("shop").work(work).phase("drain", drain).total(NEVER).grace(NEVER)
}

async fn stop() -> Reason {
    Reason::requested("enough")
}

/// The effect: the wait for the work ends, and the phase is notified.
fn of_work(odd: Duration) -> Effect {
    Box::pin(async move {
        let (tell, told) = oneshot::channel();
        let run = app(odd, NEVER).run_until(stop(), async |root: &Root<Infallible>| {
            root.in_phase("drain").service_coop("told", async |token| {
                token.cancelled().await;
                tell.send(()).unwrap();
            });
            root.spawn_coop("deaf", async |_| pending::<()>().await);
            pending::<Result<(), Infallible>>().await
        });
        let ended = async { Ok(told.await?) };
        tokio::select! { ended = ended => ended, _ = run => panic!("the program ended") }
    })
}

fn of_a_phase(odd: Duration) -> Effect {
    Box::pin(async move {
        let run = app(NEVER, odd).run_until(stop(), async |root: &Root<Infallible>| {
            root.in_phase("drain").service_coop("deaf", async |_| pending::<()>().await);
            pending::<Result<(), Infallible>>().await
        });
        assert_eq!(run.await.report.phase("drain").unwrap().stuck[0].as_str(), "deaf");
        Ok(())
    })
}

fn deaf(app: App) -> Effect {
    Box::pin(async move {
        let run = app.run_until(stop(), async |root: &Root<Infallible>| {
            root.spawn_coop("deaf", async |_| pending::<()>().await);
            pending::<Result<(), Infallible>>().await
        });
        drop(run.await);
        Ok(())
    })
}

fn of_a_total(odd: Duration) -> Effect {
    deaf(app(NEVER, NEVER).total(odd))
}

fn of_the_grace_of_an_app(odd: Duration) -> Effect {
    deaf(app(NEVER, NEVER).grace(odd))
}

fn of_a_flush(odd: Duration) -> Effect {
    Box::pin(async move {
        stderr().write_all(b"")?;
        let _is_written = flush_stderr(odd);
        Ok(())
    })
}

struct Part;

fn starts(all: Duration, own: Option<Duration>) -> Effect {
    Box::pin(async move {
        scope(async |n: &Nursery<Infallible>| {
            let mut c = Container::new();
            c.start_timeout(all);
            let part = c.provide(pending::<Part>);
            let _limited = own.map(|own| part.start_timeout(own));
            assert!(c.start(n).await.is_err());
            Ok(())
        })
        .await?;
        Ok(())
    })
}

fn stops(all: Duration, own: Option<Duration>) -> Effect {
    Box::pin(async move {
        scope(async |n: &Nursery<Infallible>| {
            let mut c = Container::new();
            c.stop_timeout(all);
            let part = c.provide(|| async { Part }).on_stop(|_| pending::<()>());
            let _limited = own.map(|own| part.stop_timeout(own));
            let running = c.start(n).await.unwrap();
            assert_eq!(running.stop().await.failures().count(), 1);
            Ok(())
        })
        .await?;
        Ok(())
    })
}

fn asks(all: Duration, own: Option<Duration>) -> Effect {
    Box::pin(async move {
        scope(async |n: &Nursery<Infallible>| {
            let mut c = Container::new();
            c.health_timeout(all);
            let part = c.provide(|| async { Part }).health(|_| pending::<Health>());
            let _limited = own.map(|own| part.health_timeout(own));
            let running = c.start(n).await.unwrap();
            assert_eq!(running.health().await.health(), Health::Unhealthy);
            Ok(())
        })
        .await?;
        Ok(())
    })
}

struct Happened;

impl Event for Happened {
    const NAME: &'static str = "happened";
}

fn emits(all: Duration, own: Option<Duration>) -> Effect {
    Box::pin(async move {
        scope(async |n: &Nursery<Infallible>| {
            let emitter = Emitter::builder(n).timeout(all).build();
            let listener = emitter.listener("hangs");
            let listener = match own {
                Some(own) => listener.timeout(own),
                None => listener,
            };
            let _hears = listener.on_async(|_: Arc<Happened>| pending::<()>()).ok();
            let Ok(emitted) = emitter.emit(Happened).await else { panic!("the emitter is closed") };
            assert!(emitted.into_result().is_err());
            // Nothing of the delivery is left, however long it might have taken.
            sleep(SECOND).await;
            Ok(())
        })
        .await?;
        Ok(())
    })
}
