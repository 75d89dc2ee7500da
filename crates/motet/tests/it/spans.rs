//! The `tracing` spans in which tasks run.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::batch::Batcher;
use motet::event::{Emitter, Event};
use motet::pool::{Manager, Pool};
use motet::queue::{self, Job};
use motet::task::{CancelToken, Nursery, Scope, scope};
use tokio::time::sleep;
use tracing::dispatcher::{get_default, with_default};
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{Instrument, Level, info, info_span, span};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// The log, one line per event: the spans around the event, and its message.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let lines = tracing_subscriber::fmt()
            .with_max_level(Level::INFO)
            .with_span_events(FmtSpan::CLOSE)
            .with_writer(log.clone());
        let subscriber = lines.without_time().with_level(false).with_target(false).with_ansi(false).finish();
        (log, set_default(subscriber))
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let mut lines: Vec<_> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort_unstable();
        lines
    }

    /// Without the lines of spans that close.
    fn events(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| !line.contains(": close")).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn child_runs_in_the_span_that_starts_it() {
    let (log, _log) = Log::start();
    let work = scope(async |n: &Nursery| {
        let child = async |name: &'static str| {
            sleep(Duration::from_secs(1)).await;
            info!(name);
        };
        let request = info_span!("request", id = 7);
        let within = async {
            n.spawn("child", async move {
                child("child").await;
                scope(async |n: &Nursery| {
                    n.spawn("grandchild", child("grandchild"));
                    Ok(())
                })
                .await
                .unwrap();
            });
            n.spawn_coop("cooperative", async move |_: CancelToken| child("cooperative").await);
            // The subscriber of the test is that of its thread.
            let subscriber = get_default(Clone::clone);
            n.blocking("blocking", move |_| with_default(&subscriber, || info!(name = "blocking")));
        };
        within.instrument(request).await;
        n.spawn("sibling", child("sibling"));
        Ok(())
    });
    work.instrument(info_span!("main")).await.unwrap();
    let expected = [
        "main: name=\"sibling\"",
        "main:request{id=7}: name=\"blocking\"",
        "main:request{id=7}: name=\"child\"",
        "main:request{id=7}: name=\"cooperative\"",
        "main:request{id=7}: name=\"grandchild\"",
    ];
    assert_eq!(log.events(), expected);
}

#[tokio::test(start_paused = true)]
async fn service_runs_in_the_span_of_its_scope() {
    let (log, _log) = Log::start();
    let work = scope(async |n: &Nursery| {
        let (plain, cooperative) = info_span!("request").in_scope(|| {
            let plain = n.service("service", async { info!("from a service") });
            (plain, n.service_coop("cooperative", async |_| info!("from a cooperative service")))
        });
        plain.value().await;
        cooperative.value().await;
        Ok(())
    });
    work.instrument(info_span!("main")).await.unwrap();
    assert_eq!(log.events(), ["main: from a cooperative service", "main: from a service"]);
}

#[tokio::test(start_paused = true)]
async fn task_spans_name_each_child_of_nested_scopes() {
    let (log, _log) = Log::start();
    let work = Scope::builder().task_spans().run(async |n: &Nursery| {
        n.service("service", async { info!("1") });
        n.spawn("outer", async {
            info!("2");
            let inner = scope(async |n: &Nursery| {
                n.spawn(format!("inner {}", 3), async { info!("3") });
                info!("4");
                Ok(())
            });
            inner.instrument(info_span!("step")).await.unwrap();
        });
        info!("5");
        Ok(())
    });
    work.instrument(info_span!("main")).await.unwrap();
    let expected = [
        "main: 5",
        "main:task{task=outer}: 2",
        "main:task{task=outer}:step: 4",
        "main:task{task=outer}:step:task{task=inner 3}: 3",
        "main:task{task=service}: 1",
    ];
    assert_eq!(log.events(), expected);
}

#[tokio::test(start_paused = true)]
async fn span_of_a_task_closes_with_the_task() {
    let (log, _log) = Log::start();
    scope(async |n: &Nursery| {
        let span = info_span!("request");
        let [ended, cancelled] = ["ended", "cancelled"].map(|name| {
            span.in_scope(|| {
                n.spawn(name, async move {
                    if name == "cancelled" {
                        std::future::pending::<()>().await;
                    }
                })
            })
        });
        drop(span);
        ended.await.unwrap();
        assert_eq!(log.lines(), Vec::<String>::new());
        tokio::task::yield_now().await;
        cancelled.cancel(motet::task::Reason::requested("enough"));
        assert!(cancelled.await.is_err());
        Ok(())
    })
    .await
    .unwrap();
    let lines = log.lines();
    assert!(lines.len() == 1 && lines[0].starts_with("request: close"), "{lines:?}");
}

struct Ping;

impl Event for Ping {
    const NAME: &'static str = "ping";
}

struct Connects;

impl Manager for Connects {
    type Connection = ();
    type Error = std::convert::Infallible;

    async fn connect(&self) -> Result<(), Self::Error> {
        info!("connects");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn work_for_many_callers_runs_in_the_span_of_the_scope() {
    let (log, _log) = Log::start();
    let work = scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(4).unwrap();
        let workers = receiver.workers(1).unwrap();
        let crew = workers.start(n, "workers", async |_: Job<u32>| {
            info!("handles an item");
            Ok::<_, &str>(())
        });
        let crew = crew.unwrap();
        let batcher = Batcher::new(n, async |items: Vec<u32>| {
            info!("handles a batch");
            items.into_iter().map(Ok::<_, &str>).collect::<Vec<_>>()
        });
        let pool = Pool::builder(n, Connects).build().unwrap();
        let emitter = Emitter::new(n);
        let listener = emitter.on_async("ping", async |_: Arc<Ping>| info!("handles an event")).unwrap();
        let request = async {
            sender.send(1).await.unwrap();
            batcher.submit(1).await.unwrap();
            drop(pool.acquire().await.unwrap());
            let _posted = emitter.post(Ping).unwrap();
            sleep(Duration::from_secs(1)).await;
        };
        request.instrument(info_span!("request")).await;
        crew.cancel(motet::task::Reason::requested("enough"));
        drop(listener);
        Ok(())
    });
    work.instrument(info_span!("main")).await.unwrap();
    let expected =
        ["main: connects", "main: handles a batch", "main: handles an event", "main: handles an item"];
    assert_eq!(log.events(), expected);
}

/// A subscriber that panics when a handle of a span is dropped, while it is armed.
struct PanicsAtClose(Arc<AtomicBool>);

impl tracing::Subscriber for PanicsAtClose {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}

    fn try_close(&self, _: span::Id) -> bool {
        if self.0.load(Ordering::Relaxed) {
            std::panic::panic_any("broken subscriber");
        }
        false
    }
}

#[tokio::test]
async fn subscriber_that_panics_when_a_span_closes_harms_no_task() {
    let is_armed = Arc::new(AtomicBool::new(false));
    let _subscriber = set_default(PanicsAtClose(Arc::clone(&is_armed)));
    let sum = async {
        is_armed.store(true, Ordering::Relaxed);
        let sum = Scope::builder().task_spans().run(async |n: &Nursery| {
            let (a, b) = (n.spawn("a", async { 40 }), n.spawn("b", async { 2 }));
            Ok(a.await.unwrap() + b.await.unwrap())
        });
        let sum = sum.await;
        is_armed.store(false, Ordering::Relaxed);
        sum
    };
    assert_eq!(sum.instrument(info_span!("request")).await.unwrap(), 42);
}
