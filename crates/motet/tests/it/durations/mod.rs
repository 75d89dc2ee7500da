//! Every setting that takes a duration, with odd ones: zero, one nanosecond, centuries, and the longest, which is never.

mod flows;
mod policies;
mod pools;
mod scan;
mod table;
mod tasks;

use std::time::Duration;

use scan::check_complete;
use table::check;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// These only report a duration.
const REPORTS: [&str; 25] = [
    "container/start_report.rs Started.took",
    "container/start_report.rs Started.waited",
    "container/stop_report.rs Stopped.took",
    "middleware/watch/metrics.rs MetricsStats.p50",
    "middleware/watch/metrics.rs MetricsStats.p99",
    "middleware/watch/watch.rs watch",
    "observe/snapshot.rs ScopeView.age",
    "observe/snapshot.rs TaskView.age",
    "pool/error.rs AcquireError::TimedOut",
    "pool/error.rs ConnectError::TimedOut",
    "pool/stats.rs Holder.held_for",
    "resilience/breaker/state.rs StateChange.open_for",
    "resilience/breaker/stats.rs BreakerStats.retry_after",
    "resilience/event.rs PolicyEventKind::RetryScheduled",
    "run/report.rs PhaseReport.took",
    "run/report.rs ShutdownReport.took",
    "sim/runner/outcome.rs Failed.at",
    "sim/runner/outcome.rs RunProblem::Deadlock",
    "sim/runner/outcome.rs Record.took",
    "sim/runner/trace.rs Act::Delay",
    "sim/runner/trace.rs RunEvent.at",
    "task/stall.rs Stall.running",
    "task/supervisor/error.rs SupervisorError.within",
    "task/supervisor/watch.rs ChildState::Backoff",
    // A queue in memory sets no limit: there is nothing to extend.
    "queue/lease.rs extend",
];

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_duration_setting_has_a_row_in_the_test_table() {
    let table: Vec<_> =
        [flows::table(), pools::table(), policies::table(), tasks::table()].into_iter().flatten().collect();
    check_complete(SOURCES, table.iter().map(|row| row.setting), &REPORTS);
}

#[test]
fn extreme_durations_of_tasks_apps_containers_fit_their_table() {
    check(&tasks::table());
}

#[test]
fn extreme_durations_of_queues_streams_batches_fit_their_table() {
    check(&flows::table());
}

#[test]
fn extreme_durations_of_pools_behave_as_their_table_says() {
    check(&pools::table());
}

#[test]
fn extreme_durations_of_policies_behave_as_their_table_says() {
    check(&policies::table());
}
