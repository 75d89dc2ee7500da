//! Parts that observe calls: a listener, a tracing span, counts.

mod latency;
mod metrics;
mod trace;
#[expect(clippy::module_inception, reason = "the part has its own file, named like it")]
mod watch;

pub use metrics::{Metrics, MetricsStats, metrics, metrics_with};
pub use trace::trace;
pub use watch::{CallEnd, watch};
