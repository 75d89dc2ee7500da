use std::fmt;
use std::sync::Arc;

use super::stats::{Counters, CrewStats};
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
