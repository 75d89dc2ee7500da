//! The operations in which the tasks of a run are suspended.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use super::TaskId;

/// The number of a site in the process, in the order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct SiteId {
    run: u64,
    number: u64,
}

/// An operation of the library, and the line that called it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operation {
    /// The kind of component, such as `queue`.
    pub kind: &'static str,
    /// The operation on it, such as `send`.
    pub verb: &'static str,
    /// The line of the call.
    pub at: &'static Location<'static>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at {}", self.kind, self.verb, self.at)
    }
}

/// An operation of the library that a task waits in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The operation.
    pub operation: Operation,
    /// The name that the user gave to the component.
    pub name: Option<String>,
    /// The operation runs code of its caller, which may await a future of another crate.
    pub runs_code: bool,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { kind, verb, at } = self.operation;
        match &self.name {
            Some(name) => write!(f, "{kind} {name:?}: {verb} at {at}"),
            None => write!(f, "{kind}: {verb} at {at}"),
        }
    }
}

/// The operation that a task is suspended in, and the operations that enclose it, innermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspended(pub Vec<Waiting>);

impl fmt::Display for Suspended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Users look for lines of their own code. Lines of the library are shown only if there is no other line.
        let is_users = |waiting: &&Waiting| !waiting.operation.at.file().starts_with(OWN);
        let users: Vec<&Waiting> = self.0.iter().filter(is_users).collect();
        let shown = if users.is_empty() { self.0.iter().collect() } else { users };
        let mut joint = "";
        if self.0.first().is_some_and(|first| first.runs_code && is_users(&first)) {
            f.write_str("a future that is not of motet")?;
            joint = ", within ";
        }
        for waiting in shown {
            write!(f, "{joint}{waiting}")?;
            joint = ", within ";
        }
        Ok(())
    }
}

/// The common prefix of the paths of the library's own files.
const OWN: &str = file!().split_at(file!().len() - "sim/runner/sites.rs".len()).0;

#[derive(Debug)]
struct Entry {
    task: Option<TaskId>,
    /// The site whose poll this one is polled in.
    within: Option<SiteId>,
    waiting: Arc<Waiting>,
}

/// The sites of a run.
#[derive(Debug, Default)]
pub(super) struct Sites {
    made: u64,
    /// The sites whose poll is in progress, outermost first.
    polling: Vec<(SiteId, Entry)>,
    suspended: BTreeMap<SiteId, Entry>,
    /// The first operation that was suspended in this poll of a task.
    latest: Option<(Option<TaskId>, Operation)>,
    /// The last operation that ended, per task number.
    ended: BTreeMap<usize, Arc<Waiting>>,
}

impl Sites {
    pub(super) fn make(&mut self, run: u64) -> SiteId {
        self.made += 1;
        SiteId { run, number: self.made }
    }

    pub(super) fn enter(&mut self, run: u64, id: SiteId, task: Option<TaskId>, waiting: &Arc<Waiting>) {
        // A future of another run does not belong to this one.
        if id.run != run {
            return;
        }
        // Of the same task: a task may be polled within another task.
        let within = self.polling.last().filter(|(_, entry)| entry.task == task).map(|(id, _)| *id);
        self.polling.push((id, Entry { task, within, waiting: Arc::clone(waiting) }));
    }

    pub(super) fn leave(&mut self, id: SiteId, pending: bool) {
        let Some(at) = self.polling.iter().rposition(|(polling, _)| *polling == id) else { return };
        let (_, entry) = self.polling.remove(at);
        if pending {
            self.latest.get_or_insert((entry.task, entry.waiting.operation));
            self.suspended.insert(id, entry);
            return;
        }
        self.suspended.remove(&id);
        if let Some(task) = entry.task {
            self.ended.insert(task.index(), entry.waiting);
        }
    }

    pub(super) fn remove(&mut self, id: SiteId) {
        self.suspended.remove(&id);
    }

    /// Called when a poll of a task begins.
    pub(super) fn forget_latest(&mut self) {
        self.latest = None;
    }

    pub(super) fn latest(&self, task: TaskId) -> Option<Operation> {
        self.latest.filter(|(of, _)| *of == Some(task)).map(|(_, operation)| operation)
    }

    /// Returns the operations that the task is suspended in: each that waits independently.
    pub(super) fn of(&self, task: TaskId) -> Vec<Suspended> {
        let own = || self.suspended.iter().filter(|(_, entry)| entry.task == Some(task));
        let is_outer = |id: SiteId| own().any(|(_, entry)| entry.within == Some(id));
        own().filter(|(id, _)| !is_outer(**id)).map(|(id, _)| Suspended(self.chain(*id))).collect()
    }

    fn chain(&self, innermost: SiteId) -> Vec<Waiting> {
        let mut chain = Vec::new();
        let mut next = Some(innermost);
        while let Some(entry) = next.and_then(|id| self.suspended.get(&id)) {
            chain.push((*entry.waiting).clone());
            next = entry.within;
        }
        chain
    }

    /// Returns the last operation of the task that ended.
    pub(super) fn last_ended(&self, task: TaskId) -> Option<Waiting> {
        self.ended.get(&task.index()).map(|waiting| (**waiting).clone())
    }
}
