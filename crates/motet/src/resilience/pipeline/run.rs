use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::call::{CallContext, CallSession, Hooks};
use super::direct::{Classified, Direct, Operate};
use super::machine::{Layers, Machine};
use crate::resilience::{Classify, Error};
use crate::sim::Site;

pin_project! {
    /// The future of a call through policies: of [`Pipeline::run`](crate::resilience::Pipeline::run) and its siblings.
    /// It is one piece, without an allocation.
    #[must_use = "futures do nothing unless awaited"]
    pub struct Run<'p, L, O, C>
    where
        L: Layers<'p, O::Ok, O::Err>,
        O: Operate,
        C: Classify<O::Ok, O::Err>,
    {
        // Dropped before the operation.
        #[pin]
        machine: Option<L::Machine<Direct<'p, O, C>>>,
        action: Classified<'p, O, C>,
        session: CallSession<O::Err>,
        hooks: Hooks<'p>,
        site: Site,
    }
}

impl<'p, L, O, C> Run<'p, L, O, C>
where
    L: Layers<'p, O::Ok, O::Err>,
    O: Operate,
    C: Classify<O::Ok, O::Err>,
{
    #[inline]
    #[track_caller]
    pub(crate) fn new(
        machine: L::Machine<Direct<'p, O, C>>,
        operation: O,
        classify: &'p C,
        hooks: Hooks<'p>,
    ) -> Self {
        let action = Classified { operation, classify };
        Self {
            machine: Some(machine),
            action,
            session: CallSession::new(),
            hooks,
            site: Site::new("pipeline", "run").around(),
        }
    }

    #[inline]
    #[track_caller]
    fn poll_here(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let mut this = self.project();
        let Some(machine) = this.machine.as_mut().as_pin_mut() else {
            panic!("a pipeline call was polled after its end")
        };
        this.session.polled();
        let mut call = CallContext { action: this.action, session: this.session, hooks: *this.hooks };
        match machine.poll(cx, &mut call) {
            Poll::Pending => {
                // The time of the call counts from here on.
                call.session.now();
                Poll::Pending
            }
            Poll::Ready(Ok(value)) => {
                this.machine.set(None);
                Poll::Ready(Ok(value))
            }
            Poll::Ready(Err(failure)) => {
                let error = call.error(failure);
                this.machine.set(None);
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<'p, L, O, C> Future for Run<'p, L, O, C>
where
    L: Layers<'p, O::Ok, O::Err>,
    O: Operate,
    C: Classify<O::Ok, O::Err>,
{
    type Output = Result<O::Ok, Error<O::Err>>;

    #[inline]
    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<'p, L, O, C> fmt::Debug for Run<'p, L, O, C>
where
    L: Layers<'p, O::Ok, O::Err>,
    O: Operate,
    C: Classify<O::Ok, O::Err>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("attempts", &self.session.attempts).finish_non_exhaustive()
    }
}
