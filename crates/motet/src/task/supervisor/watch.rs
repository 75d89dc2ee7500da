use std::fmt;

use tokio::sync::watch;
use tokio::time::Instant;

use super::error::ChildRunError;
use crate::sim;
use crate::task::Name;
use crate::task::caught::quietly_drop;

/// Says what a child of a supervisor does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildState {
    /// It has not been started: a child before it is not ready yet.
    Waiting,
    /// It was started and has not said that it is ready.
    Starting,
    /// It is ready.
    Running,
    /// It failed, and will be started again.
    Backoff {
        /// The moment of the restart.
        until: Instant,
    },
    /// It was told to stop and has not ended.
    Stopping,
    /// It has ended for good: by itself, or because the supervisor stopped it.
    Stopped,
    /// It failed and is not started again.
    Failed,
}

/// Shows a child of a supervisor.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChildStatus {
    /// Its name.
    pub name: Name,
    /// What it does now.
    pub state: ChildState,
    /// How often it was started again.
    pub restarts: u64,
    /// Its last failure, also when it has recovered.
    pub last_failure: Option<ChildRunError>,
}

/// What a watch sees.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) children: Vec<ChildStatus>,
    /// Stays: states of children that a stop left look like those of children that ended by themselves.
    pub(super) is_started: bool,
}

impl Drop for Seen {
    fn drop(&mut self) {
        // It may hold the last reference to an error, whose drop is a user's code.
        std::mem::take(&mut self.children).into_iter().for_each(quietly_drop);
    }
}

/// Shows the children of a supervisor while it runs and after.
///
/// Cheap to clone; keeps nothing alive.
#[derive(Clone)]
pub struct SupervisorWatch(watch::Receiver<Seen>);

impl SupervisorWatch {
    pub(super) fn new(receiver: watch::Receiver<Seen>) -> Self {
        Self(receiver)
    }

    /// Gives the children in the order of their start.
    #[must_use]
    pub fn children(&self) -> Vec<ChildStatus> {
        self.0.borrow().children.clone()
    }

    /// Gives the first child of that name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<ChildStatus> {
        self.0.borrow().children.iter().find(|child| child.name == *name).cloned()
    }

    /// Waits until `pred` holds for the children, and gives them; `None` if the supervisor ended before.
    ///
    /// States that are left again at once may be skipped: what is seen is the latest.
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

    /// Waits until the start is over: every child has been ready, or has ended for good by itself; false if the
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
