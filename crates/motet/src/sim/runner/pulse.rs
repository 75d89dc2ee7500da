use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::TaskId;

/// Shows another thread whether the run makes progress, and which task is polled.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: AtomicU64,
    /// The number of the task that is polled, plus 1; 0 outside of polls.
    running: AtomicU64,
    held: AtomicU64,
    tasks: Mutex<Vec<String>>,
}

impl Pulse {
    /// A number that changes while the run makes progress.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.beats.load(Relaxed)
    }

    /// Returns `true` if the run waits for another thread, so that a pause is not a hang.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.load(Relaxed) > 0
    }

    /// Notes a wait for another thread, until [`release`](Self::release).
    pub fn hold(&self) {
        self.held.fetch_add(1, Relaxed);
    }

    /// Ends a [`hold`](Self::hold).
    pub fn release(&self) {
        self.held.fetch_sub(1, Relaxed);
        self.beat();
    }

    /// Notes progress.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Relaxed);
    }

    /// The name and the spawn site of the task that is polled.
    #[must_use]
    pub fn running(&self) -> Option<String> {
        let number = self.running.load(Relaxed).checked_sub(1)?;
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.get(usize::try_from(number).ok()?).cloned()
    }

    pub(super) fn started(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.running.store(0, Relaxed);
        self.beat();
    }

    pub(super) fn spawned(&self, name: &str, site: &Location<'_>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(format!("`{name}`, spawned at {site}"));
    }

    pub(super) fn runs(&self, task: Option<TaskId>) {
        self.running.store(task.map_or(0, |task| u64::from(task.number()) + 1), Relaxed);
        self.beat();
    }
}
