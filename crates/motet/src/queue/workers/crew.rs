use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::observe::Stats;
use crate::sim;
use crate::task::{Name, Reason, Task};

/// The handle of workers that were started together.
///
/// # Drop
/// The workers continue: they belong to their scope.
pub struct Crew {
    pub(super) name: Name,
    pub(super) tasks: Vec<Task<()>>,
    pub(super) counters: Arc<Counters>,
}

impl Crew {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The current numbers of the workers.
    #[must_use]
    pub fn stats(&self) -> CrewStats {
        self.counters.read()
    }

    /// Cancels the workers, like the end of their scope does: they take no more items, and running handlers have the
    /// scope's grace period to finish. The queue stays open.
    #[allow(clippy::needless_pass_by_value, reason = "callers make the reason in place")]
    pub fn cancel(&self, reason: Reason) {
        self.tasks.iter().for_each(|task| task.cancel(reason.clone()));
    }

    /// Waits until all workers have ended: the queue is closed and settled, or they were cancelled.
    ///
    /// # Cancel safety
    /// Safe: after a drop of the future, the workers continue in their scope.
    #[track_caller]
    pub fn ended(self) -> impl Future<Output = CrewStats> {
        sim::at("workers", "wait for their end", async move {
            for task in self.tasks {
                // The result of a worker is for its scope.
                let _ended = task.await;
            }
            self.counters.read()
        })
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("name", &self.name).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The numbers of the workers of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CrewStats {
    /// The number of running workers.
    pub workers: usize,
    /// The number of running handlers.
    pub busy: usize,
    /// The number of items that wait outside of the queue: for another item of their key, or for the delay before their
    /// next attempt.
    pub waiting: usize,
    /// How often a handler has returned `Ok`.
    pub done: u64,
    /// How often a handler has returned an error.
    pub failed: u64,
    /// How often a handler has panicked.
    pub panicked: u64,
    /// How many handlers were dropped before they ended; their items returned to the queue.
    pub cut_off: u64,
    /// How many items have failed ten times.
    pub stubborn: u64,
}

/// The atomic counters behind [`CrewStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) workers: AtomicUsize,
    pub(super) busy: AtomicUsize,
    pub(super) waiting: AtomicUsize,
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) panicked: AtomicU64,
    pub(super) cut_off: AtomicU64,
    pub(super) stubborn: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> CrewStats {
        CrewStats {
            workers: self.workers.load(Ordering::Relaxed),
            busy: self.busy.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            panicked: self.panicked.load(Ordering::Relaxed),
            cut_off: self.cut_off.load(Ordering::Relaxed),
            stubborn: self.stubborn.load(Ordering::Relaxed),
        }
    }

    pub(super) fn show(&self) -> Stats {
        let stats = self.read();
        Stats::new()
            .count("workers", stats.workers as u64)
            .count("busy", stats.busy as u64)
            .count("waiting", stats.waiting as u64)
            .total("done", stats.done)
            .total("failed", stats.failed)
            .total("panicked", stats.panicked)
            .total("cut_off", stats.cut_off)
            .total("stubborn", stats.stubborn)
    }
}
