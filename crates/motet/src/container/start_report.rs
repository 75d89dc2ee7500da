use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::dag::Needs;
use crate::task::Name;

/// How the components of a container started: what took how long, and what the start waited for.
#[derive(Debug, Clone)]
pub struct StartReport {
    pub(crate) components: Vec<Started>,
    pub(crate) took: Duration,
    /// What each component needs, by their numbers in the graph.
    pub(crate) needs: Arc<Needs>,
}

/// How a component started.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Started {
    /// Its module and type.
    pub name: Name,
    /// Where it was provided.
    pub site: &'static Location<'static>,
    /// How long after the begin all that it needs had started.
    pub waited: Duration,
    /// How long its factory and `on_start` took after that.
    pub took: Duration,
    /// Its number in the graph.
    pub(crate) node: usize,
}

impl StartReport {
    /// Gives the components in the order in which they had started.
    #[must_use]
    pub fn components(&self) -> &[Started] {
        &self.components
    }

    /// Says how long the whole start took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Gives the chain that the start as a whole waited for, the first one first: to start sooner, one of these has to.
    #[must_use]
    pub fn critical_path(&self) -> Vec<&Started> {
        let ended = |started: &&Started| started.waited + started.took;
        let mut path = Vec::new();
        // Of several at one instant the first: it comes first in the order of completion, too.
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
        write!(f, "started {} in {:?}", self.components.len(), self.took)?;
        for started in &self.components {
            write!(f, "\n  `{}` waited {:?}, took {:?}", started.name, started.waited, started.took)?;
        }
        f.write_str("\n  the longest way:")?;
        for (at, started) in self.critical_path().into_iter().enumerate() {
            write!(f, "{} `{}`", if at == 0 { "" } else { "," }, started.name)?;
        }
        Ok(())
    }
}
