use std::fmt;
use std::panic::Location;

use super::{Suspended, Waiting};
use crate::sim::PollKind;

/// The number of a task in its run, in the order of spawning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId(u32);

impl TaskId {
    pub(super) const fn number(self) -> u32 {
        self.0
    }

    /// The index in the table of tasks.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A task of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTask {
    /// The number of the task.
    pub id: TaskId,
    /// The name of the task.
    pub name: String,
    /// The line that spawned it.
    pub site: &'static Location<'static>,
    /// The meaning of its polls.
    pub kind: PollKind,
    /// The end of the task; `None` while it runs.
    pub end: Option<End>,
    /// The operations that the task is suspended in, as far as the library knows.
    pub suspended: Vec<Suspended>,
    /// The last operation of the task that ended.
    pub last: Option<Waiting>,
}

impl fmt::Display for RunTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PollKind::Work => "work",
            PollKind::Service => "service",
        };
        write!(f, "{} `{}`, {kind}, spawned at {}", self.id, self.name, self.site)?;
        if self.end.is_some() {
            return Ok(());
        }
        let mut joint = "; suspended in ";
        for suspended in &self.suspended {
            write!(f, "{joint}{suspended}")?;
            joint = "; and in ";
        }
        if self.suspended.is_empty() {
            f.write_str("; not suspended in a future of motet")?;
            if let Some(last) = &self.last {
                write!(f, "; its last was {last}")?;
            }
        }
        Ok(())
    }
}

/// The end of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// It completed.
    Completed,
    /// Its future was dropped before it completed.
    Dropped,
    /// It panicked.
    Panicked,
}

/// The tasks of a run, in the order of spawning.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    all: Vec<RunTask>,
    alive: usize,
}

impl Tasks {
    pub(super) fn add(&mut self, name: &str, site: &'static Location<'static>, kind: PollKind) -> TaskId {
        // The step limit ends a run long before 2^32 tasks.
        let id = TaskId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(RunTask {
            id,
            name: name.to_owned(),
            site,
            kind,
            end: None,
            suspended: Vec::new(),
            last: None,
        });
        self.alive += 1;
        id
    }

    pub(super) fn kind(&self, id: TaskId) -> Option<PollKind> {
        self.all.get(id.index()).map(|task| task.kind)
    }

    pub(super) fn name(&self, id: TaskId) -> String {
        self.all.get(id.index()).map_or_else(String::new, |task| task.name.clone())
    }

    /// Records the end, unless the task has already ended.
    pub(super) fn end(&mut self, id: TaskId, end: End) -> bool {
        match self.all.get_mut(id.index()) {
            Some(task) if task.end.is_none() => {
                task.end = Some(end);
                self.alive -= 1;
                true
            }
            _ => false,
        }
    }

    pub(super) fn live(&self) -> Vec<RunTask> {
        self.all.iter().filter(|task| task.end.is_none()).cloned().collect()
    }

    pub(super) fn all(&self) -> Vec<RunTask> {
        self.all.clone()
    }

    /// The number of tasks of the runtime that have not ended. The body is not counted: it is the first task, and it is not
    /// spawned.
    pub(super) fn alive_in_runtime(&self) -> usize {
        let is_body_alive = self.all.first().is_some_and(|body| body.end.is_none());
        self.alive - usize::from(is_body_alive)
    }
}
