//! The steps between the end of the body and the end of a run.

use std::time::Duration;

use motet::sim::runner::{RunTask, Simulation};
use tokio::runtime::Handle;
use tokio::time::sleep;

/// The tasks that are alive at the end of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    pub(super) named: Vec<RunTask>,
    /// The number of tasks of the runtime without a hook.
    pub(super) unnamed: usize,
}

impl Leftovers {
    pub(crate) const fn is_none(&self) -> bool {
        self.named.is_empty() && self.unnamed == 0
    }
}

/// Waits for the tasks that the body may leave behind, then returns the tasks that are left.
pub(super) async fn leftovers(sim: &Simulation) -> Leftovers {
    settled().await;
    alive(sim)
}

/// Waits until all ending tasks have ended.
pub(crate) async fn settled() {
    // Dropped scopes handed their children to the runtime.
    motet::drain().await;
    // A paused clock advances only when no task can run: tasks that end without waiting for time, such as aborted ones,
    // have then ended.
    sleep(SETTLING).await;
}

/// Returns the tasks that are alive now; inside of the runtime.
pub(crate) fn alive(sim: &Simulation) -> Leftovers {
    let named = sim.live();
    let unnamed = Handle::current().metrics().num_alive_tasks().saturating_sub(named.len());
    Leftovers { named, unnamed }
}

/// The resolution of tokio's timer.
const SETTLING: Duration = Duration::from_millis(1);
