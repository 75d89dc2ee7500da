use std::fmt;

use tokio::sync::watch;
use tokio::time::Instant;

use super::error::ChildRunError;
use crate::sim;
use crate::sync::quietly_drop;
use crate::task::Name;

/// The state of a child of a supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildState {
    /// The child has not been started: a child before it is not ready yet.
    Waiting,
    /// The child was started and is not ready yet.
    Starting,
    /// The child is ready.
    Running,
    /// The child failed, and will be restarted.
    Backoff {
        /// The moment of the restart.
        until: Instant,
    },
    /// The child is being stopped and has not ended.
    Stopping,
    /// The child has ended for good: by itself, or because the supervisor stopped it.
    Stopped,
    /// The child failed and is not restarted.
    Failed,
}

/// The status of a child of a supervisor.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChildStatus {
    /// The name of the child.
    pub name: Name,
    /// The state of the child.
    pub state: ChildState,
    /// The number of restarts of the child.
    pub restarts: u64,
    /// The last failure of the child, also when the child has recovered.
    pub last_failure: Option<ChildRunError>,
}

/// The state that a watch shows.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) children: Vec<ChildStatus>,
    /// `true` once the start is over. It cannot be computed from the states: a child that was stopped has the same state as
    /// a child that ended by itself.
    pub(super) is_started: bool,
}

impl Drop for Seen {
    fn drop(&mut self) {
        // It may hold the last reference to an error, whose drop is a user's code.
        std::mem::take(&mut self.children).into_iter().for_each(quietly_drop);
    }
}

/// A view of the children of a supervisor, while it runs and afterwards.
///
/// It is cheap to clone, and keeps no child alive.
#[derive(Clone)]
pub struct SupervisorWatch(watch::Receiver<Seen>);

impl SupervisorWatch {
    pub(super) fn new(receiver: watch::Receiver<Seen>) -> Self {
        Self(receiver)
    }

    /// The children in the order of their start.
    #[must_use]
    pub fn children(&self) -> Vec<ChildStatus> {
        self.0.borrow().children.clone()
    }

    /// The first child with the name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<ChildStatus> {
        self.0.borrow().children.iter().find(|child| child.name == *name).cloned()
    }

    /// Waits until `pred` returns `true` for the children, and returns them; `None` if the supervisor ended before.
    ///
    /// A state that lasts only for a moment may be skipped: `pred` sees the latest state.
    ///
    /// # Cancel safety
    /// Safe: a dropped wait loses nothing.
    #[track_caller]
    pub fn wait_for(
        &self,
        mut pred: impl FnMut(&[ChildStatus]) -> bool,
    ) -> impl Future<Output = Option<Vec<ChildStatus>>> {
        sim::at("supervisor", "wait for its children", async move {
            let mut receiver = self.0.clone();
            receiver.wait_for(|seen| pred(&seen.children)).await.ok().map(|seen| seen.children.clone())
        })
    }

    /// Waits until the start is over: every child has been ready, or has ended for good by itself. Returns `false` if the
    /// supervisor failed, was stopped or was dropped before.
    ///
    /// # Cancel safety
    /// Safe: a dropped wait loses nothing.
    #[track_caller]
    pub fn started(&self) -> impl Future<Output = bool> {
        sim::at("supervisor", "wait for its start", async move {
            self.0.clone().wait_for(|seen| seen.is_started).await.is_ok()
        })
    }
}

impl fmt::Debug for SupervisorWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.borrow().children.iter()).finish()
    }
}
