//! The numbers of a snapshot as metrics of the facade [`metrics`], which every exporter takes.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use metrics::{Label, counter, gauge};
use tokio::time::sleep;

use super::{ScopeView, Stat, snapshot};
use crate::task::{Scope, ScopeClosedError, Task};

/// Writes snapshots to the recorder of the crate `metrics`. Needs the feature `metrics`.
///
/// Use it instead of [`Scope::export_metrics`] to export just before the metrics are read, for example in the handler of
/// `/metrics`, or to export one scope alone. An exporter records snapshots of one scope, or of the runtime. A program needs
/// one exporter: two of them count each total twice.
///
/// # Metrics
/// A component that is named, and so shown in snapshots, has one metric for each of its values: `motet_KIND_VALUE`, such as
/// `motet_pool_in_use`, with the labels `name` (of the component) and `scope` (the name of its scope). Components with the
/// same kind, name and scope are added up. A count of current items is a gauge; a [total](super::Stats::total) is a counter
/// whose name ends in `_total`; a value is a gauge, in seconds if its name ends in `_seconds`; a `state` is a gauge which is
/// 1 for the label `state` of now and 0 for the states before. Other words are not exported.
///
/// | Metric | Type | Meaning |
/// |---|---|---|
/// | `motet_scopes` | gauge | open scopes |
/// | `motet_tasks` | gauge | tasks, by the label `kind`: `task`, `service`, `cleanup`, `starting` |
/// | `motet_releases_total` | counter | releases of resources, by the label `outcome`: `finished`, `timed_out`, `lost` |
///
/// The repository has a table of all metrics, `docs/metrics.md`, and a board for Grafana, `docs/grafana.json`.
///
/// # Examples
/// ```
/// use motet::observe::{MetricsExporter, Stats};
/// use motet::task::{Nursery, scope};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// scope(async |n: &Nursery| {
///     let _entry = n.register("store", "orders", || Stats::new().count("open", 3).total("written", 70));
///     let mut exporter = MetricsExporter::new();
///     exporter.record(&n.snapshot()); // motet_store_open 3, motet_store_written_total 70
///     Ok(())
/// }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct MetricsExporter {
    /// The totals at the last export, by component.
    totals: BTreeMap<(u64, &'static str), u64>,
    /// The releases at the last export.
    releases: BTreeMap<&'static str, u64>,
    /// The gauges of the last export.
    gauges: BTreeMap<Series, f64>,
}

/// A metric with its labels.
type Series = (String, Vec<(&'static str, String)>);

impl MetricsExporter {
    /// Creates an exporter that has exported nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the numbers of the snapshot to the recorder of the program; without one nothing happens.
    ///
    /// Counters grow by what came since the last call: what a component counted between the last call and its end is lost.
    /// A gauge whose component is gone is set to 0 once.
    pub fn record(&mut self, view: &ScopeView) {
        let mut export = Export {
            before: &self.totals,
            totals: BTreeMap::new(),
            shown: BTreeSet::new(),
            gauges: BTreeMap::new(),
            scopes: 0,
            tasks: ["starting", "task", "service", "cleanup"].map(|kind| (kind, 0)).into(),
        };
        export.scope(view);
        export.add_counts();
        let Export { mut totals, shown, gauges, .. } = export;
        // A component may show a total only in some states, or none, if its closure panics.
        for (total, count) in mem::take(&mut self.totals) {
            if shown.contains(&total.0) {
                totals.entry(total).or_insert(count);
            }
        }
        let gone = self.gauges.keys().filter(|series| !gauges.contains_key(*series));
        gone.for_each(|series| set(series, 0.0));
        gauges.iter().for_each(|(series, value)| set(series, *value));
        (self.totals, self.gauges) = (totals, gauges);
        let releases = view.releases;
        let outcomes =
            [("finished", releases.finished), ("timed_out", releases.timed_out), ("lost", releases.lost)];
        for (outcome, now) in outcomes {
            let before = self.releases.insert(outcome, now).unwrap_or(0);
            counter!("motet_releases_total", "outcome" => outcome).increment(now.saturating_sub(before));
        }
    }
}

/// The state of an export.
struct Export<'a> {
    before: &'a BTreeMap<(u64, &'static str), u64>,
    totals: BTreeMap<(u64, &'static str), u64>,
    /// The components of the snapshot.
    shown: BTreeSet<u64>,
    gauges: BTreeMap<Series, f64>,
    scopes: usize,
    tasks: BTreeMap<&'static str, usize>,
}

impl Export<'_> {
    fn scope(&mut self, view: &ScopeView) {
        self.scopes += 1;
        *self.tasks.entry("starting").or_default() += view.starting;
        for task in &view.tasks {
            *self.tasks.entry(task.kind.word()).or_default() += 1;
        }
        for component in &view.components {
            self.shown.insert(component.id);
            let labels = vec![("name", component.name.to_string()), ("scope", view.name.to_string())];
            let kind = component.kind.replace(' ', "_");
            for (name, stat) in component.stats.iter() {
                let metric = format!("motet_{kind}_{}", name.replace(' ', "_"));
                match stat {
                    Stat::Count(count) => self.add(&metric, labels.clone(), *count as f64),
                    Stat::Value(value) => self.add(&metric, labels.clone(), *value),
                    Stat::Text(state) if name == "state" => {
                        let labels = labels.iter().cloned().chain([("state", state.clone())]).collect();
                        self.add(&metric, labels, 1.0);
                    }
                    Stat::Text(_) => {}
                    Stat::Total(now) => {
                        let before = self.before.get(&(component.id, name)).copied().unwrap_or(0);
                        self.totals.insert((component.id, name), *now);
                        counter!(format!("{metric}_total"), &labels).increment(now.saturating_sub(before));
                    }
                }
            }
        }
        view.scopes.iter().for_each(|below| self.scope(below));
    }

    /// Adds the counts of all scopes.
    fn add_counts(&mut self) {
        self.add("motet_scopes", Vec::new(), self.scopes as f64);
        for (kind, count) in mem::take(&mut self.tasks) {
            self.add("motet_tasks", vec![("kind", kind.to_owned())], count as f64);
        }
    }

    fn add(&mut self, metric: &str, labels: Vec<(&'static str, String)>, value: f64) {
        *self.gauges.entry((metric.to_owned(), labels)).or_insert(0.0) += value;
    }
}

fn set((metric, labels): &Series, value: f64) {
    let labels: Vec<Label> = labels.iter().map(|(key, value)| Label::new(*key, value.clone())).collect();
    gauge!(metric.clone(), labels).set(value);
}

impl Scope {
    /// Starts a service that exports all scopes of the runtime as metrics, at once and then every `interval`: see
    /// [`MetricsExporter`]. Needs the feature `metrics`.
    ///
    /// Each export takes a [snapshot](snapshot()), which costs time in proportion to the number of live tasks.
    /// With [`Duration::ZERO`] it exports without a pause, so use a second or more.
    ///
    /// # Errors
    /// [`ScopeClosedError`], if the scope has ended.
    ///
    /// # Examples
    /// ```
    /// use motet::task::Nursery;
    /// use std::{process::ExitCode, time::Duration};
    ///
    /// fn main() -> ExitCode {
    ///     // first, the exporter of the program installs its recorder
    ///     motet::run(async |root: &Nursery| {
    ///         root.export_metrics(Duration::from_secs(5)).unwrap();
    ///         Ok(()) // a server would wait here
    ///     })
    /// }
    /// ```
    #[track_caller]
    pub fn export_metrics(&self, interval: Duration) -> Result<Task<()>, ScopeClosedError<()>> {
        let exports = async move {
            let mut exporter = MetricsExporter::new();
            loop {
                if let Some(view) = snapshot() {
                    exporter.record(&view);
                }
                sleep(interval).await;
            }
        };
        self.service("metrics", exports).map_err(|closed| closed.map(drop))
    }
}
