use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::dag::Needs;
use crate::task::Name;

/// The durations of a container's start, per component.
#[derive(Debug, Clone)]
pub struct StartReport {
    pub(crate) components: Vec<Started>,
    pub(crate) took: Duration,
    /// The dependencies of each component, by their numbers in the graph.
    pub(crate) needs: Arc<Needs>,
}

/// The start of a component.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(unnameable_types, reason = "users read it through its report")]
pub struct Started {
    /// The module and the type of the component.
    pub name: Name,
    /// The place where it was provided.
    pub site: &'static Location<'static>,
    /// The time from the beginning of the start until all dependencies of the component had started.
    pub waited: Duration,
    /// The duration of its factory and `on_start` after that.
    pub took: Duration,
    /// The number of the component in the graph.
    pub(crate) node: usize,
}

impl StartReport {
    /// The components, in the order in which their start ended. Each has the fields `name` and `site`, `waited`: the
    /// time from the beginning of the start until all its dependencies had started, and `took`: the duration of its
    /// factory and `on_start`.
    #[must_use]
    pub fn components(&self) -> &[Started] {
        &self.components
    }

    /// The duration of the whole start.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// The chain of components that determined the duration of the start, the first component first. To make the start
    /// faster, one of these has to become faster.
    #[must_use]
    pub fn critical_path(&self) -> Vec<&Started> {
        let ended = |started: &&Started| started.waited + started.took;
        let mut path = Vec::new();
        // Of several components that ended at the same time, the first one is used: it is also the first in the order
        // of completion.
        let mut next = self.components.iter().rev().max_by_key(ended);
        while let Some(last) = next {
            path.push(last);
            let needed = |started: &&Started| self.needs[last.node].contains(&started.node);
            next = self.components.iter().rev().filter(needed).max_by_key(ended);
        }
        path.reverse();
        path
    }
}

impl fmt::Display for StartReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "components started: {}, in {:?}", self.components.len(), self.took)?;
        for started in &self.components {
            write!(f, "\n  `{}` waited {:?}, took {:?}", started.name, started.waited, started.took)?;
        }
        f.write_str("\n  critical path:")?;
        for (at, started) in self.critical_path().into_iter().enumerate() {
            write!(f, "{} `{}`", if at == 0 { "" } else { "," }, started.name)?;
        }
        Ok(())
    }
}
