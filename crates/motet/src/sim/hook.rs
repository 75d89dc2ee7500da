use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::task::coop;

use super::PollKind;
use super::runner::{End, Simulation, TaskId, Turn, current, panic_message};

/// Lets a simulation schedule a task: the task's future is polled through it.
///
/// Made when the task is spawned, and kept in the task's future: when the hook goes, the task has ended.
/// With a simulation current on the thread where it is made, it is entered in the simulation's table of
/// tasks, and each poll is one of its steps: put off, cut short by leaving the poll little of tokio's budget,
/// or left alone. A hook that is made outside a simulation only polls, for good.
///
/// # Drop
/// A task that neither completed nor panicked is recorded as dropped.
#[derive(Debug)]
pub struct TaskHook {
    task: Option<Ticket>,
}

/// Which task of which run: a hook may be polled on other threads, and outlive its run.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    run: u64,
    task: TaskId,
}

impl TaskHook {
    /// Enters a task in the current simulation, if there is one.
    #[must_use]
    pub fn new(name: &str, site: &'static Location<'static>, kind: PollKind) -> Self {
        let task = current().map(|sim| Ticket { run: sim.run(), task: sim.spawned(name, site, kind) });
        Self { task }
    }

    /// Polls, as the current simulation wants it.
    ///
    /// # Panics
    /// Goes on with the panic of `poll`, after the simulation has taken note of it.
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

    /// Reports that the task panicked; for a spawner that catches the panic within the poll.
    ///
    /// Only the first report of a task counts, so it does no harm after [`poll`](Self::poll) saw the panic
    /// itself.
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
            // Not a panic of its own, even while the thread is panicking: that went through `poll`.
            sim.ended(task, End::Dropped);
        }
    }
}

/// Uses up so many operations of the budget, so that operations beyond the rest suspend the task.
fn burn(operations: usize, cx: &mut Context<'_>) {
    for _ in 0..operations {
        // With nothing left `poll_proceed` would wake the task, on top of what it waits for.
        if !coop::has_budget_remaining() {
            break;
        }
        if let Poll::Ready(operation) = coop::poll_proceed(cx) {
            operation.made_progress();
        }
    }
}
