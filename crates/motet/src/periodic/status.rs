//! The state of a job that snapshots show.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::rhythm::NextDue;
use crate::observe::Stats;

/// The state of a job, for the snapshots of its scope.
#[derive(Default)]
pub(crate) struct JobStatus(Mutex<StatusState>);

#[derive(Default)]
struct StatusState {
    runs: u64,
    failed: u64,
    panicked: u64,
    skipped: u64,
    /// The begin of the run in progress.
    running: Option<Instant>,
    last: Option<LastRun>,
    next: Option<NextDue>,
}

/// The end of a run.
pub(crate) enum RunEnd {
    Ok,
    Failed(String),
    Panicked(String),
}

struct LastRun {
    end: RunEnd,
    took: Duration,
    at: Instant,
}

impl JobStatus {
    /// No code of the user runs under this lock, so the state of a poisoned lock is consistent.
    fn state(&self) -> MutexGuard<'_, StatusState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waits_for(&self, next: NextDue) {
        self.state().next = Some(next);
    }

    pub(crate) fn skipped(&self, count: u64) {
        self.state().skipped += count;
    }

    pub(crate) fn begins(&self, next: NextDue) {
        let mut state = self.state();
        state.running = Some(Instant::now());
        state.next = Some(next);
    }

    pub(crate) fn ended(&self, end: RunEnd) {
        let at = Instant::now();
        let mut state = self.state();
        let took = state.running.take().map_or(Duration::ZERO, |begun| at.duration_since(begun));
        state.runs += 1;
        match &end {
            RunEnd::Ok => {}
            RunEnd::Failed(_) => state.failed += 1,
            RunEnd::Panicked(_) => state.panicked += 1,
        }
        let before = state.last.replace(LastRun { end, took, at });
        drop(state);
        drop(before);
    }

    pub(crate) fn stats(&self) -> Stats {
        let now = Instant::now();
        let state = self.state();
        let last = state.last.as_ref().map_or_else(
            || "none".to_owned(),
            |last| {
                let (took, ago) = (last.took, now.duration_since(last.at));
                match &last.end {
                    RunEnd::Ok => format!("ok in {took:?}, {ago:?} ago"),
                    RunEnd::Failed(error) => format!("failed in {took:?}, {ago:?} ago: {error}"),
                    RunEnd::Panicked(message) => format!("panicked in {took:?}, {ago:?} ago: {message}"),
                }
            },
        );
        let next = match &state.next {
            None | Some(NextDue::At(None)) => "never".to_owned(),
            Some(NextDue::At(Some(due))) => format!("in {:?}", due.saturating_duration_since(now)),
            #[cfg(feature = "cron")]
            Some(NextDue::On(time)) => time.clone(),
        };
        Stats::new()
            .text("state", if state.running.is_some() { "running" } else { "waiting" })
            .text("last", last)
            .text("next", next)
            .total("runs", state.runs)
            .total("failed", state.failed)
            .total("panicked", state.panicked)
            .total("skipped", state.skipped)
    }
}
