use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::latency::Latency;
use super::watch::{CallEnd, watched};
use crate::middleware::{BoxFuture, Middleware, Next};
use crate::observe::{Registration, Stats};
use crate::resilience::Verdict;
use crate::task::{Name, Scope};

/// Counts of calls, of how they ended, and of how long they took: see [`metrics()`].
///
/// A cheap handle: clones share the same counts, and several chains may use one. The counts take 2 KiB.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, Metrics, metrics};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let calls = Metrics::new();
/// let handler = Chain::new().with(metrics(&calls)).to(|n: u32| async move { if n > 0 { Ok(n) } else { Err("none") } });
/// assert!(handler.call(1).await.is_ok() && handler.call(0).await.is_err());
/// let seen = calls.stats();
/// assert_eq!((seen.begun, seen.succeeded, seen.failed), (2, 1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Metrics(Arc<MetricsCounts>);

struct MetricsCounts {
    begun: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    ignored: AtomicU64,
    dropped: AtomicU64,
    panicked: AtomicU64,
    latency: Latency,
}

/// The counts of a [`Metrics`].
///
/// The counts are read one after the other: a call that ends during the read may be in some counts and not yet in
/// others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricsStats {
    /// The number of calls that have begun.
    pub begun: u64,
    /// The number of calls that have not ended.
    pub in_flight: u64,
    /// The number of calls that succeeded.
    pub succeeded: u64,
    /// The number of calls that failed.
    pub failed: u64,
    /// The number of calls whose answer the verdict ignores: neither a success nor a failure.
    pub ignored: u64,
    /// The number of calls whose future was dropped.
    pub dropped: u64,
    /// The number of calls that panicked.
    pub panicked: u64,
    /// The median duration of a call, rounded up by at most an eighth; `None` before the first call has ended. A call
    /// that was dropped counts with its duration until then.
    pub p50: Option<Duration>,
    /// The 99th percentile of the duration, rounded like `p50`.
    pub p99: Option<Duration>,
}

impl Metrics {
    /// Creates counts of zero.
    #[must_use]
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self(Arc::new(MetricsCounts {
            begun: zero(),
            succeeded: zero(),
            failed: zero(),
            ignored: zero(),
            dropped: zero(),
            panicked: zero(),
            latency: Latency::new(),
        }))
    }

    /// The current counts.
    #[must_use]
    pub fn stats(&self) -> MetricsStats {
        let MetricsCounts { begun, succeeded, failed, ignored, dropped, panicked, latency } = &*self.0;
        // The ends are read first: a call that ends during the read then counts as running, and the difference cannot
        // be negative.
        let [succeeded, failed, ignored, dropped, panicked] =
            [succeeded, failed, ignored, dropped, panicked].map(|count| count.load(Relaxed));
        let begun = begun.load(Relaxed);
        MetricsStats {
            begun,
            in_flight: begun.saturating_sub(succeeded + failed + ignored + dropped + panicked),
            succeeded,
            failed,
            ignored,
            dropped,
            panicked,
            p50: latency.quantile(0.5),
            p99: latency.quantile(0.99),
        }
    }

    /// Shows the counts in the snapshots of `scope`, until the returned registration is dropped.
    pub fn register(&self, scope: &Scope, name: impl Into<Name>) -> Registration {
        let metrics = self.clone();
        scope.register("calls", name, move || metrics.stats().shown())
    }

    fn end(&self, took: Duration, count: impl Fn(&MetricsCounts) -> &AtomicU64) {
        self.0.latency.add(took);
        count(&self.0).fetch_add(1, Relaxed);
    }
}

impl MetricsStats {
    fn shown(&self) -> Stats {
        let seconds = |took: Option<Duration>| took.map_or(0.0, |took| took.as_secs_f64());
        Stats::new()
            .total("begun", self.begun)
            .count("in_flight", self.in_flight)
            .total("succeeded", self.succeeded)
            .total("failed", self.failed)
            .total("ignored", self.ignored)
            .total("dropped", self.dropped)
            .total("panicked", self.panicked)
            .value("p50_seconds", seconds(self.p50))
            .value("p99_seconds", seconds(self.p99))
    }
}

/// Returns a part that counts the calls of the inner parts. Every `Err` counts as a failure.
pub fn metrics(metrics: &Metrics) -> Measured<ErrIsFailure> {
    Measured { metrics: metrics.clone(), judge: ErrIsFailure }
}

/// Returns a part that counts the calls of the inner parts, and classifies their answers with `judge`: for answers that
/// are not a `Result`, or errors that are not failures.
pub fn metrics_with<R, F: Fn(&R) -> Verdict>(metrics: &Metrics, judge: F) -> Measured<JudgeFn<F>> {
    Measured { metrics: metrics.clone(), judge: JudgeFn(judge) }
}

/// The part that [`metrics()`] and [`metrics_with`] return.
#[derive(Clone)]
#[must_use = "a part does nothing until a chain has it"]
#[allow(unnameable_types, reason = "users pass it to `Chain::with`")]
pub struct Measured<J> {
    metrics: Metrics,
    judge: J,
}

/// Counts every `Err` as a failure.
#[derive(Debug, Clone, Copy)]
#[allow(unnameable_types, reason = "a parameter of `Measured`, which users do not write")]
pub struct ErrIsFailure;

/// Classifies answers with a closure.
#[derive(Clone)]
#[allow(unnameable_types, reason = "a parameter of `Measured`, which users do not write")]
pub struct JudgeFn<F>(F);

/// Classifies answers.
#[allow(unnameable_types, reason = "a parameter of `Measured`, which users do not write")]
pub trait Judge<R>: Send + Sync + 'static {
    /// Returns the verdict on an answer.
    fn judge(&self, answer: &R) -> Verdict;
}

impl<T, E> Judge<Result<T, E>> for ErrIsFailure {
    fn judge(&self, answer: &Result<T, E>) -> Verdict {
        if answer.is_ok() { Verdict::Success } else { Verdict::Failure }
    }
}

impl<R, F: Fn(&R) -> Verdict + Send + Sync + 'static> Judge<R> for JudgeFn<F> {
    fn judge(&self, answer: &R) -> Verdict {
        self.0(answer)
    }
}

impl<Q, R, J> Middleware<Q, R> for Measured<J>
where
    Q: Send + 'static,
    R: Send + 'static,
    J: Judge<R>,
{
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Box::pin(async move {
            self.metrics.0.begun.fetch_add(1, Relaxed);
            let report = |end: CallEnd<'_, R>, took| match end {
                CallEnd::Answered(answer) => match self.judge.judge(answer) {
                    Verdict::Success => self.metrics.end(took, |counts| &counts.succeeded),
                    Verdict::Failure => self.metrics.end(took, |counts| &counts.failed),
                    Verdict::Ignore => self.metrics.end(took, |counts| &counts.ignored),
                },
                CallEnd::Dropped => self.metrics.end(took, |counts| &counts.dropped),
                CallEnd::Panicked => self.metrics.end(took, |counts| &counts.panicked),
            };
            watched(request, next, report).await
        })
    }

    fn name(&self) -> Name {
        Name::from("metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metrics").field(&self.stats()).finish()
    }
}

impl<J> fmt::Debug for Measured<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Measured").field(&self.metrics).finish()
    }
}

impl<F> fmt::Debug for JudgeFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JudgeFn").finish_non_exhaustive()
    }
}
