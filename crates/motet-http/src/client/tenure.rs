//! What an attempt has from its beginning to the end of its answer's body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use motet::resilience::BulkheadPermit;
use pin_project_lite::pin_project;
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Error;
use super::error::{ErrorKind, TimeLimit};
use super::request_line::RequestLine;

pin_project! {
    /// Its place for the host, its limits of time, and one timer for all of its waits.
    ///
    /// One allocation, made with the attempt and handed on to its answer.
    pub(super) struct Tenure {
        #[pin]
        timer: Option<Sleep>,
        // Of the wait that is under way.
        due: Option<Instant>,
        limits: Limits,
        // Given back at the end.
        place: Option<BulkheadPermit<'static>>,
        line: Arc<RequestLine>,
    }
}

/// The time that an attempt and its answer have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// That of the call.
    pub(super) deadline: Option<Instant>,
    /// That of the headers.
    pub(super) head: Option<Duration>,
    /// That of a wait for more of the body.
    pub(super) read: Option<Duration>,
}

impl Tenure {
    pub(super) fn new(
        place: BulkheadPermit<'static>,
        limits: Limits,
        line: &Arc<RequestLine>,
    ) -> Pin<Box<Self>> {
        let line = Arc::clone(line);
        Box::pin(Self { timer: None, due: None, limits, place: Some(place), line })
    }

    pub(super) fn line(&self) -> &RequestLine {
        &self.line
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, &self.line)
    }

    pub(super) fn is_late(&self) -> bool {
        self.limits.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits until the headers are late.
    pub(super) fn poll_head(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TimeLimit> {
        let Limits { head, .. } = self.limits;
        ready!(self.poll_due(None, head, cx));
        Poll::Ready(TimeLimit::Head)
    }

    /// Waits until more of the body is late.
    pub(super) fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TimeLimit> {
        let Limits { deadline, read, .. } = self.limits;
        ready!(self.as_mut().poll_due(deadline, read, cx));
        Poll::Ready(if self.is_late() { TimeLimit::Total } else { TimeLimit::Read })
    }

    /// The wait is over, and the next one has a time of its own.
    pub(super) fn waited(self: Pin<&mut Self>) {
        *self.project().due = None;
    }

    /// Gives back what it has but for the name of it.
    pub(super) fn end(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.timer.set(None);
        *this.place = None;
    }

    fn poll_due(
        self: Pin<&mut Self>,
        deadline: Option<Instant>,
        within: Option<Duration>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        let due = match *this.due {
            Some(due) => due,
            None => {
                let within = within.and_then(|within| Instant::now().checked_add(within));
                let Some(due) = [deadline, within].into_iter().flatten().min() else { return Poll::Pending };
                *this.due = Some(due);
                due
            }
        };
        loop {
            match this.timer.as_mut().as_pin_mut() {
                None => this.timer.set(Some(sleep_until(due))),
                Some(timer) if timer.deadline() > due => timer.reset(due),
                // One that is set to ring earlier is left to: most waits are over by then, and to set it costs a lock.
                Some(_) => {}
            }
            let Some(mut timer) = this.timer.as_mut().as_pin_mut() else { return Poll::Pending };
            // Not of the budget: what is waited for takes part in it, and may have used it up.
            ready!(std::pin::pin!(coop::unconstrained(timer.as_mut())).poll(cx));
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.reset(due);
        }
    }
}
