use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::task::coop;

use super::call::CallContext;
use super::machine::{Action, CallTypes, Machine, PolicyOutcome};

pin_project! {
    /// The state of an attempt in one call.
    pub struct Leaf<K: CallTypes> {
        #[pin]
        started: Option<K::Started>,
    }
}

impl<K: CallTypes> Leaf<K> {
    #[inline]
    pub(crate) fn new() -> Self {
        Self { started: None }
    }
}

impl<K: CallTypes> Machine<K> for Leaf<K> {
    #[inline]
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        call: &mut CallContext<'_, K>,
    ) -> Poll<PolicyOutcome<K>> {
        let mut this = self.project();
        // Otherwise a retry without delays, of an operation that is always ready, would keep its worker thread to
        // itself.
        let begins = this.started.is_none();
        let progress = if begins { Some(ready!(coop::poll_proceed(cx))) } else { None };
        let limit = call.session.limit;
        let polled = limit.around(|| {
            if begins {
                let started = call.begin();
                this.started.set(Some(started));
            }
            match this.started.as_mut().as_pin_mut() {
                Some(started) => call.action.poll(started, cx),
                None => unreachable!("the attempt was started above"),
            }
        });
        if let Some(progress) = progress {
            progress.made_progress();
        }
        let outcome = ready!(polled);
        this.started.set(None);
        Poll::Ready(outcome)
    }

    fn stop(self: Pin<&mut Self>, call: &mut CallContext<'_, K>) {
        if let Some(started) = self.project().started.as_pin_mut() {
            call.action.stop(started);
        }
    }
}
