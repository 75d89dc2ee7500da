//! The export of snapshots as metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use motet::batch::{Batcher, Loader};
use motet::container::Container;
use motet::event::Emitter;
use motet::middleware::Metrics;
use motet::observe::{MetricsExporter, Stats};
use motet::periodic::every;
use motet::pool::{Manager, Pool};
use motet::queue;
use motet::resilience::{
    AdaptiveLimit, Bulkhead, CircuitBreaker, CircuitBreakers, RateLimiter, RateLimiters,
};
use motet::stream::StreamCombinators as _;
use motet::task::{Nursery, Scope, scope};
use tokio::time::sleep;

/// Keeps the value of each series, as `metric{label="value"}`.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<BTreeMap<String, f64>>>);

struct Series(String, Kept);

impl Series {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut kept = self.1.0.lock().unwrap();
        let value = kept.entry(self.0.clone()).or_default();
        *value = change(*value);
    }
}

impl CounterFn for Series {
    fn increment(&self, by: u64) {
        self.change(|now| now + by as f64);
    }
    fn absolute(&self, value: u64) {
        self.change(|now| now.max(value as f64));
    }
}

impl GaugeFn for Series {
    fn increment(&self, by: f64) {
        self.change(|now| now + by);
    }
    fn decrement(&self, by: f64) {
        self.change(|now| now - by);
    }
    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl Kept {
    fn series(&self, key: &Key) -> Arc<Series> {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={:?}", label.key(), label.value())).collect();
        Arc::new(Series(format!("{}{{{}}}", key.name(), labels.join(",")), self.clone()))
    }

    fn value(&self, series: &str) -> Option<f64> {
        self.0.lock().unwrap().get(series).copied()
    }

    fn names(&self) -> BTreeSet<String> {
        let kept = self.0.lock().unwrap();
        kept.keys().map(|series| series.split('{').next().unwrap().to_owned()).collect()
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

struct Connections;

impl Manager for Connections {
    type Connection = ();
    type Error = std::io::Error;

    async fn connect(&self) -> Result<(), std::io::Error> {
        Ok(())
    }

    async fn check(&self, (): &mut ()) -> Result<(), std::io::Error> {
        Ok(())
    }
}

/// The metrics that `docs/metrics.md` lists.
fn documented() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let text = fs::read_to_string(path).unwrap();
    names_in(&text)
}

fn names_in(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("motet_").map(|(at, _)| &text[at..]);
    let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let is_metric = |name: &String| !name.ends_with('_') && !name.contains("KIND");
    starts.map(word).filter(is_metric).collect()
}

#[tokio::test(start_paused = true)]
async fn exported_metrics_are_those_that_the_docs_list() {
    let kept = Kept::default();
    scope(async |n: &Nursery| {
        let (_sender, receiver) = queue::builder::<u32>(4).name("jobs").build_in(n).unwrap();
        let _crew = receiver.workers(1).unwrap().start(n, "crew", async |_job| Ok::<(), String>(())).unwrap();
        let batcher = Batcher::builder(n).name("lines");
        let _batcher = batcher.build(async |lines: Vec<u32>| Ok::<_, ()>(vec![Ok::<_, ()>(()); lines.len()]));
        let loader = Loader::builder(n).name("users");
        let _loader =
            loader.build(async |keys: Vec<u32>| keys.into_iter().map(Ok::<_, ()>).collect::<Vec<_>>());
        let _pool = Pool::builder(n, Connections).name("db").build().unwrap();
        let _breaker = CircuitBreaker::builder().name("mail").build_in(n).unwrap();
        let breakers = CircuitBreakers::new(4.try_into().unwrap(), |_: &u32| CircuitBreaker::default());
        let _breakers = breakers.name_in(n, "hosts");
        let each = RateLimiter::builder(10, Duration::from_secs(1));
        let limiters = RateLimiters::<u32>::with_builder(4.try_into().unwrap(), each).unwrap();
        let _limiters = limiters.name_in(n, "clients");
        let _bulkhead = Bulkhead::builder(2).name("reports").build_in(n).unwrap();
        let _adaptive = AdaptiveLimit::builder().name("search").build_in(n).unwrap();
        let _rate = RateLimiter::builder(10, Duration::from_secs(1)).name("api").build_in(n).unwrap();
        let _calls = Metrics::new().register(n, "calls");
        let _emitter = Emitter::builder(n).name("events").build();
        let mut c = Container::new();
        c.name("shop");
        let _running = c.start(n).await.unwrap();
        let _stream = tokio_stream::iter([1, 2, 3]).par_map(2, async |item| item).ordered(n, "squares");
        every(Duration::from_secs(60)).unwrap().name("job").start(n, || std::future::ready(())).unwrap();
        let mut exporter = MetricsExporter::new();
        metrics::with_local_recorder(&kept, || exporter.record(&n.snapshot()));
        Ok(())
    })
    .await
    .unwrap();
    let documented = documented().into_iter();
    let here = |name: &String| !name.starts_with("motet_http_") && !name.starts_with("motet_api_");
    assert_eq!(kept.names(), documented.filter(here).collect());
}

#[test]
fn board_of_grafana_uses_only_metrics_that_the_docs_list() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/grafana.json");
    let text = fs::read_to_string(path).unwrap();
    let board: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(board["panels"].as_array().unwrap().len() > 5);
    let unknown: Vec<_> = names_in(&text).difference(&documented()).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[tokio::test]
async fn totals_count_on_across_components_of_the_same_name() {
    let kept = Kept::default();
    scope(async |n: &Nursery| {
        let mut exporter = MetricsExporter::new();
        let mut export = || {
            metrics::with_local_recorder(&kept, || exporter.record(&n.snapshot()));
            (
                kept.value(r#"motet_store_written_total{name="orders",scope="scope"}"#),
                kept.value(r#"motet_store_open{name="orders",scope="scope"}"#),
            )
        };
        let first = n.register("store", "orders", || Stats::new().count("open", 2).total("written", 70));
        assert_eq!(export(), (Some(70.0), Some(2.0)));
        assert_eq!(export(), (Some(70.0), Some(2.0)), "nothing was written in between");
        let is_shown = Arc::new(AtomicBool::new(true));
        let shows = Arc::clone(&is_shown);
        let hides = n.register("store", "hides", move || match shows.load(Ordering::Relaxed) {
            true => Stats::new().total("written", 9),
            false => Stats::new(),
        });
        for shown in [true, false, true] {
            is_shown.store(shown, Ordering::Relaxed);
            export();
            assert_eq!(kept.value(r#"motet_store_written_total{name="hides",scope="scope"}"#), Some(9.0));
        }
        drop(hides);
        let second = n.register("store", "orders", || Stats::new().count("open", 3).total("written", 5));
        assert_eq!(export(), (Some(75.0), Some(5.0)));
        drop(first);
        assert_eq!(export(), (Some(75.0), Some(3.0)));
        drop(second);
        assert_eq!(export(), (Some(75.0), Some(0.0)));
        let _third = n.register("store", "orders", || Stats::new().count("open", 1).total("written", 2));
        assert_eq!(export(), (Some(77.0), Some(1.0)));
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn state_is_a_gauge_that_is_1_for_the_state_of_now() {
    let kept = Kept::default();
    scope(async |n: &Nursery| {
        let state = Arc::new(Mutex::new("open"));
        let shown = Arc::clone(&state);
        let _entry = n.register("door", "front", move || Stats::new().text("state", *shown.lock().unwrap()));
        let mut exporter = MetricsExporter::new();
        metrics::with_local_recorder(&kept, || exporter.record(&n.snapshot()));
        *state.lock().unwrap() = "shut";
        metrics::with_local_recorder(&kept, || exporter.record(&n.snapshot()));
        Ok(())
    })
    .await
    .unwrap();
    let value =
        |state| kept.value(&format!(r#"motet_door_state{{name="front",scope="scope",state="{state}"}}"#));
    assert_eq!((value("open"), value("shut")), (Some(0.0), Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn export_service_exports_at_once_and_after_an_interval() {
    let kept = Kept::default();
    let _recorder = metrics::set_default_local_recorder(&kept);
    Scope::builder()
        .run(async |n: &Nursery| {
            n.export_metrics(Duration::from_secs(5)).unwrap();
            let services = || kept.value(r#"motet_tasks{kind="service"}"#);
            sleep(Duration::from_secs(1)).await;
            assert_eq!(services(), Some(0.0), "the service of the export is in its first poll");
            n.service("another", std::future::pending::<()>());
            sleep(Duration::from_secs(3)).await;
            assert_eq!(services(), Some(0.0));
            sleep(Duration::from_secs(2)).await;
            assert_eq!(services(), Some(2.0));
            Ok(())
        })
        .await
        .unwrap();
}
