//! A snapshot as a tree of text.

use std::fmt;
use std::time::Duration;

use super::{ComponentView, ScopeView, TaskKind, TaskView};

impl fmt::Display for ScopeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scope(self, 0, f)
    }
}

fn write_scope(scope: &ScopeView, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let indent = "  ".repeat(depth);
    write!(f, "{indent}scope `{}`{} ({})", scope.name, Age(scope.age), scope.site)?;
    if let Some(reason) = &scope.reason {
        write!(f, ", cancelled: {reason}")?;
    }
    writeln!(f)?;
    for task in &scope.tasks {
        writeln!(f, "{indent}  {task}")?;
    }
    if scope.starting > 0 {
        writeln!(f, "{indent}  {} more that have not waited yet", scope.starting)?;
    }
    for component in &scope.components {
        writeln!(f, "{indent}  {component}")?;
    }
    scope.scopes.iter().try_for_each(|inner| write_scope(inner, depth + 1, f))
}

impl fmt::Display for TaskView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            TaskKind::Task => "task",
            TaskKind::Service => "service",
            TaskKind::Cleanup => "cleanup",
        };
        let state = if self.is_cancelled { ", cancelled" } else { "" };
        write!(f, "{kind} `{}`{}{state} ({})", self.name, Age(self.age), self.site)
    }
}

impl fmt::Display for ComponentView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind, self.name)?;
        for (at, (name, stat)) in self.stats.iter().enumerate() {
            write!(f, "{} {name} {stat}", if at == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

struct Age(Option<Duration>);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(age) => write!(f, ", {:.1} s", age.as_secs_f64()),
            None => Ok(()),
        }
    }
}
