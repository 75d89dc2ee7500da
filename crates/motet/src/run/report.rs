use std::fmt;
use std::time::Duration;

use crate::observe::ScopeView;
use crate::task::{Name, Reason, ReleaseError};

/// The report of a shutdown.
#[derive(Debug)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The name of the program.
    pub app: Name,
    /// The reason; [`ReasonKind::Ended`](crate::task::ReasonKind::Ended) if the work was finished.
    pub reason: Reason,
    /// The phases in their order: `work`, those that were declared, and `cleanup`.
    pub phases: Vec<PhaseReport>,
    /// The duration of the whole shutdown.
    pub took: Duration,
    /// All scopes and tasks at the moment when the program gave up; `None` if it did not give up.
    pub left_behind: Option<ScopeView>,
    /// Releases of resources that failed.
    pub release_failures: Vec<ReleaseError>,
}

/// The report of one phase of a shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhaseReport {
    /// The name of the phase.
    pub phase: Name,
    /// The duration of the phase.
    pub took: Duration,
    /// The tasks that had not ended when the time of the phase was over. About 32 tasks of each scope are named.
    pub stuck: Vec<Name>,
}

impl ShutdownReport {
    /// The report of the phase `name`.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.phase == *name)
    }

    /// Returns `true` if everything ended in its time, and no release failed.
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
