use std::fmt;
use std::time::Duration;

use crate::observe::ScopeView;
use crate::task::{Name, Reason, ReleaseError};

/// Says how a shutdown went.
#[derive(Debug)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The program.
    pub app: Name,
    /// Why it was shut down; [`ReasonKind::Ended`](crate::task::ReasonKind::Ended) if its work was done.
    pub reason: Reason,
    /// The phases in their order: `work`, those that were declared, and `cleanup`.
    pub phases: Vec<PhaseReport>,
    /// How long the whole shutdown took.
    pub took: Duration,
    /// All that was alive when the total time was over and the program gave up; `None` if it did not.
    pub left_behind: Option<ScopeView>,
    /// Releases of resources that failed.
    pub release_failures: Vec<ReleaseError>,
}

/// Says how one phase of a shutdown went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhaseReport {
    /// The phase.
    pub phase: Name,
    /// How long it took.
    pub took: Duration,
    /// Who had not ended when its time was over. About 32 of each scope are named.
    pub stuck: Vec<Name>,
}

impl ShutdownReport {
    /// Gives the report of a phase.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.phase == *name)
    }

    /// Asks whether everything ended in its time.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.left_behind.is_none()
            && self.release_failures.is_empty()
            && self.phases.iter().all(|one| one.stuck.is_empty())
    }
}

impl fmt::Display for PhaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.phase, self.took)?;
        for (at, name) in self.stuck.iter().enumerate() {
            write!(f, "{} `{name}`", if at == 0 { ", stuck:" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.left_behind.is_some() { "gave up after" } else { "took" };
        write!(f, "shutdown of `{}` ({}) {how} {:?}", self.app, self.reason, self.took)?;
        for (at, phase) in self.phases.iter().enumerate() {
            write!(f, "{} {phase}", if at == 0 { ":" } else { ";" })?;
        }
        for failed in &self.release_failures {
            write!(f, "; {failed}")?;
        }
        if let Some(tree) = &self.left_behind {
            write!(f, "\n{}", tree.to_string().trim_end())?;
        }
        Ok(())
    }
}
