//! The asynchronous shell around the state machine: tasks, the clock, and the stop token.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::child::{Child, ChildContext, ChildStop, Ended};
use super::error::{FailureCause, SupervisorError};
use super::machine::{Command, End, Machine};
use super::watch::Seen;
use crate::sync::{Class, catch, quietly_drop};
use crate::task::child::Plain;
use crate::task::coop::{Cooperative, cooperative};
use crate::task::{CancelToken, Name, Nursery, Policy, Reason, Scope, Task, TaskError};

#[track_caller]
pub(super) fn run(
    name: Name,
    machine: Machine,
    children: Vec<Child>,
    statuses: watch::Sender<Seen>,
    stop: CancelToken,
) -> impl Future<Output = Result<(), SupervisorError>> + Send {
    let mut shell =
        Shell { machine, children: children.into_iter().map(|child| (child, None)).collect(), statuses };
    let supervisor = name.clone();
    let scope = Scope::builder().name(name).policy(Policy::Isolate).shielded();
    let scope = scope.run(async move |nursery: &Nursery<Infallible>| {
        shell.supervise(nursery, &stop).await;
        Ok(shell.machine.outcome())
    });
    async move {
        scope.await.unwrap_or_else(|error| {
            // The children have ended, but something that they left to the scope did not end well.
            crate::log::error!(%supervisor, error = &error as &dyn std::error::Error, "a supervisor's scope failed");
            Ok(())
        })
    }
}

struct Shell {
    machine: Machine,
    children: Vec<(Child, Option<Running>)>,
    statuses: watch::Sender<Seen>,
}

/// A child's task, while it runs.
struct Running {
    task: Task<Ended>,
    /// Until it has said so.
    ready: Option<oneshot::Receiver<()>>,
    is_stopping: bool,
}

enum Event {
    Ready(usize),
    Ended(usize, End),
    Wake,
    Stop,
}

impl Shell {
    async fn supervise(&mut self, nursery: &Nursery<Infallible>, stop: &CancelToken) {
        loop {
            // Before anything is started: the stop may have come first.
            if stop.is_cancelled() && !self.machine.is_stopping() {
                self.machine.stop();
            }
            while let Some(command) = self.machine.next(Instant::now()) {
                match command {
                    Command::Start(child) => self.start(child, nursery),
                    Command::Stop(child) => self.stop(child, stop),
                }
            }
            let children = self.machine.statuses();
            let is_started = self.machine.is_started();
            let mut before = Vec::new();
            self.statuses.send_modify(|seen| {
                seen.is_started |= is_started;
                before = std::mem::replace(&mut seen.children, children);
            });
            before.into_iter().for_each(quietly_drop);
            if self.machine.is_over() {
                return;
            }
            match self.event(stop).await {
                Event::Ready(child) => self.machine.ready(child, Instant::now()),
                Event::Ended(child, end) => {
                    self.children[child].1 = None;
                    self.ended(child, end);
                }
                Event::Wake => {}
                Event::Stop => self.machine.stop(),
            }
        }
    }

    async fn event(&mut self, stop: &CancelToken) -> Event {
        let wake_at = self.machine.wake_at();
        let stopping = self.machine.is_stopping();
        let wake = async move {
            match wake_at {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let (mut stopped, mut wake) = (pin!(stop.cancelled()), pin!(wake));
        poll_fn(|cx| {
            // The stop first, so that children that fail all the time do not delay it.
            if !stopping && stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Stop);
            }
            if let Poll::Ready(event) = self.poll_children(cx) {
                return Poll::Ready(event);
            }
            wake.as_mut().poll(cx).map(|()| Event::Wake)
        })
        .await
    }

    fn poll_children(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        for (child, (spec, running)) in self.children.iter_mut().enumerate() {
            let Some(running) = running else { continue };
            // Checked first: a child may report that it is ready just before it ends.
            if let Some(ready) = &mut running.ready
                && let Poll::Ready(said) = Pin::new(ready).poll(cx)
            {
                running.ready = None;
                if said.is_ok() {
                    return Poll::Ready(Event::Ready(child));
                }
            }
            if let Poll::Ready(ended) = Pin::new(&mut running.task).poll(cx) {
                return Poll::Ready(Event::Ended(child, end(ended, spec.stop, running.is_stopping)));
            }
        }
        Poll::Pending
    }

    fn start(&mut self, child: usize, nursery: &Nursery<Infallible>) {
        let (spec, running) = &mut self.children[child];
        let token = CancelToken::new();
        let (context, ready) = ChildContext::new(token.clone());
        let future = match catch(|| (spec.factory)(context)) {
            Ok(future) => future,
            Err(panic) => return self.ended(child, End::Failed(FailureCause::Panicked(panic))),
        };
        let name = spec.name.clone();
        match spec.stop {
            ChildStop::Drop => {
                let task = nursery.launch_at::<_, _, _, Plain>(name, Class::Work, None, spec.site, future);
                *running = Some(Running { task, ready: None, is_stopping: false });
                self.machine.ready(child, Instant::now());
            }
            ChildStop::Cooperative(timeout) => {
                let future = cooperative(name.clone(), token.clone(), timeout, future);
                let task = nursery.launch_at::<_, _, _, Cooperative>(
                    name,
                    Class::Work,
                    Some(token),
                    spec.site,
                    future,
                );
                *running = Some(Running { task, ready: Some(ready), is_stopping: false });
            }
        }
    }

    fn stop(&mut self, child: usize, stop: &CancelToken) {
        if let Some(running) = &mut self.children[child].1 {
            running.is_stopping = true;
            let reason = stop.reason().cloned();
            running.task.cancel(reason.unwrap_or_else(|| Reason::requested("its supervisor gave up")));
        }
    }

    fn ended(&mut self, child: usize, end: End) {
        if let End::Failed(cause) = &end {
            let name = &self.children[child].0.name;
            crate::log::warn!(child = %name, ?cause, "a supervised child failed");
        }
        self.machine.ended(child, end, Instant::now());
    }
}

fn end(ended: Result<Ended, TaskError>, stop: ChildStop, is_stopping: bool) -> End {
    match (ended, stop) {
        (Ok(Ok(())), _) => End::Returned,
        (Ok(Err(error)), _) => End::Failed(FailureCause::Error(error.into())),
        (Err(TaskError::Panicked { message, .. }), _) => End::Failed(FailureCause::Panicked(message)),
        (Err(_), ChildStop::Cooperative(timeout)) if is_stopping => {
            End::Failed(FailureCause::NotStopped(timeout))
        }
        (Err(_), _) => End::Dropped,
    }
}
