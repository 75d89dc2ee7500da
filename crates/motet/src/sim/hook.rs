use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::task::coop;

use super::PollKind;
use super::runner::{End, Simulation, TaskId, Turn, current, panic_message};

/// The connection of a task to a simulation, which schedules the task: the future of the task is polled through it.
///
/// It is created when the task is spawned, and stored in the future of the task, so that its drop is the end of the task. If
/// a simulation is current on the thread, the task is added to the tasks of the simulation. At each poll, the simulation
/// delays the task, limits the poll to a small part of tokio's budget, or does not change it. A hook that is created outside
/// of a simulation only polls.
///
/// # Drop
/// A task that neither completed nor panicked is recorded as dropped.
#[derive(Debug)]
pub struct TaskHook {
    task: Option<Ticket>,
}

/// The task and its run: a hook may be polled on other threads, and outlive its run.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    run: u64,
    task: TaskId,
}

impl TaskHook {
    /// Adds a task to the current simulation, if there is one.
    #[must_use]
    pub fn new(name: &str, site: &'static Location<'static>, kind: PollKind) -> Self {
        let task = current().map(|sim| Ticket { run: sim.run(), task: sim.spawned(name, site, kind) });
        Self { task }
    }

    /// Polls the future, unless the current simulation delays the task.
    ///
    /// # Panics
    /// With the panic of `poll`, after the simulation has recorded it.
    pub fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Some((sim, task)) = self.entry() else { return poll(cx) };
        match sim.turn(task) {
            Turn::Skip => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Turn::Leave(operations) => burn(sim.budget().saturating_sub(operations), cx),
            Turn::Plain => {}
        }
        let before = sim.enter(task);
        let polled = catch_unwind(AssertUnwindSafe(|| poll(cx)));
        sim.leave(before);
        match polled {
            Ok(Poll::Ready(value)) => {
                sim.ended(task, End::Completed);
                Poll::Ready(value)
            }
            Ok(Poll::Pending) => {
                sim.pending(task);
                Poll::Pending
            }
            Err(payload) => {
                sim.panicked(task, panic_message(&*payload));
                resume_unwind(payload)
            }
        }
    }

    /// Reports that the task has panicked, for a spawner that catches the panic within the poll.
    ///
    /// Only the first report of a task counts. After [`poll`](Self::poll) has seen the panic, it has no effect.
    pub fn panicked(&mut self, message: &str) {
        if let Some((sim, task)) = self.entry() {
            sim.panicked(task, message);
        }
    }

    fn entry(&self) -> Option<(Rc<Simulation>, TaskId)> {
        let ticket = self.task?;
        let sim = current()?;
        (sim.run() == ticket.run).then_some((sim, ticket.task))
    }
}

impl Drop for TaskHook {
    fn drop(&mut self) {
        if let Some((sim, task)) = self.entry() {
            // Also while the thread panics: a panic of the task itself went through `poll`.
            sim.ended(task, End::Dropped);
        }
    }
}

/// Uses up the budget except for `left` operations, so that the task is suspended after them.
fn burn(operations: usize, cx: &mut Context<'_>) {
    for _ in 0..operations {
        // Without budget, `poll_proceed` would wake the task in addition to its own wakers.
        if !coop::has_budget_remaining() {
            break;
        }
        if let Poll::Ready(operation) = coop::poll_proceed(cx) {
            operation.made_progress();
        }
    }
}
