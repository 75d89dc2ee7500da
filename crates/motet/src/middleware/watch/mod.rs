//! Parts that observe calls: a listener, a tracing span, counts.

mod latency;
mod metrics;
mod trace;
#[expect(clippy::module_inception, reason = "the part has its own file, named like it")]
mod watch;

pub use metrics::{Errs, Judge, JudgedBy, Measured, Metrics, MetricsStats, metrics};
pub use trace::{Trace, trace};
pub use watch::{End, Ended, Watch, watch};
