//! What happens between the end of the body and the end of a run.

use std::time::Duration;

use motet::sim::runner::{Simulation, Task};
use tokio::runtime::Handle;
use tokio::time::sleep;

/// Who is still alive at the end of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    pub(super) named: Vec<Task>,
    /// Tasks of the runtime that no hook stands for.
    pub(super) unnamed: usize,
}

impl Leftovers {
    pub(crate) const fn is_none(&self) -> bool {
        self.named.is_empty() && self.unnamed == 0
    }
}

/// Waits for what the body may leave to others, then tells who is left.
pub(super) async fn leftovers(sim: &Simulation) -> Leftovers {
    settled().await;
    alive(sim)
}

/// Waits until all that is about to end has ended.
pub(crate) async fn settled() {
    // Scopes that were dropped handed their children to the runtime.
    motet::drain().await;
    // A paused clock moves only when nothing can run: whatever ends without waiting for time has ended then,
    // such as a task that was aborted.
    sleep(SETTLING).await;
}

/// Tells who is alive now; within the runtime.
pub(crate) fn alive(sim: &Simulation) -> Leftovers {
    let named = sim.live();
    let unnamed = Handle::current().metrics().num_alive_tasks().saturating_sub(named.len());
    Leftovers { named, unnamed }
}

/// The shortest time that tokio's timer knows.
const SETTLING: Duration = Duration::from_millis(1);
