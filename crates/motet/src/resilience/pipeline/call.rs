use std::time::Duration;

use tokio::time::Instant;

use super::limit::{Armed, Limit};
use super::machine::{Action, CallTypes, PolicyOutcome};
use crate::resilience::error::Failure;
use crate::resilience::{Attempt, Class, Error, ErrorKind, PolicyEvent, PolicyEventKind};
use crate::task::Name;

/// The context that is lent to a machine for a poll.
pub struct CallContext<'c, K: CallTypes + 'c> {
    pub(crate) action: &'c mut K::Action<'c>,
    pub(crate) session: &'c mut CallSession<K::Err>,
    pub(crate) hooks: Hooks<'c>,
}

/// The state of a call, from its first poll to its end.
pub(crate) struct CallSession<E> {
    pub(crate) attempts: u32,
    /// When the call first had to wait, or failed. A call that does neither reads no clock.
    begun: Option<Instant>,
    /// The time of this poll, once it was read.
    clock: Option<Instant>,
    /// The nearest limit around the machine that is polled.
    pub(crate) limit: Limit,
    /// The error of the last attempt that was followed by another one.
    pub(crate) last_error: Option<E>,
}

/// The name and the listener of a pipeline.
#[derive(Clone, Copy)]
pub struct Hooks<'p> {
    pub(crate) name: Option<&'p Name>,
    pub(crate) listener: Option<&'p Listener>,
}

pub(crate) type Listener = dyn Fn(&PolicyEvent<'_>) + Send + Sync;

impl Hooks<'_> {
    pub(crate) const NONE: Self = Self { name: None, listener: None };
}

impl<E> CallSession<E> {
    pub(crate) fn new() -> Self {
        Self { attempts: 0, begun: None, clock: None, limit: Limit::NONE, last_error: None }
    }

    /// Starts a poll.
    #[inline]
    pub(crate) fn polled(&mut self) {
        self.clock = None;
        // Read again in each poll: a limit that was a duration from its start may have become an instant.
        self.limit = Limit::inherited();
    }

    /// Returns the time, which is read once in each poll, and only if it is needed.
    #[inline]
    pub(crate) fn now(&mut self) -> Instant {
        let now = *self.clock.get_or_insert_with(Instant::now);
        self.begun.get_or_insert(now);
        now
    }

    /// Makes the next call of [`now`](Self::now) read the clock again.
    pub(crate) fn reread_clock(&mut self) {
        self.clock = None;
    }

    /// Computes the end of a timer, at the first `Pending`.
    pub(crate) fn arm(&mut self, within: Duration) -> Armed {
        self.now().checked_add(within).map_or(Armed::Never, Armed::At)
    }

    fn elapsed(&self) -> Duration {
        // Not the time of the poll: the last attempt may have blocked the thread since then.
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }
}

impl<K: CallTypes> CallContext<'_, K> {
    /// Calls the operation.
    #[inline]
    pub(crate) fn begin(&mut self) -> K::Started {
        self.session.attempts += 1;
        self.notify(|| PolicyEventKind::AttemptStarted);
        let limit = self.session.limit;
        let remaining = if limit.is_none() { None } else { limit.remaining(|| self.session.now()) };
        self.action.begin(Attempt {
            number: self.session.attempts,
            remaining,
            last_error: self.session.last_error.as_ref(),
        })
    }

    /// Classifies the outcome of an attempt.
    #[inline]
    pub(crate) fn classify(&self, outcome: &PolicyOutcome<K>) -> Class {
        match outcome {
            Ok(value) => self.action.classify(Ok(value)),
            Err(failure) => self.classify_failure(failure),
        }
    }

    fn classify_failure(&self, failure: &Failure<K::Err>) -> Class {
        let class = match (failure.kind, &failure.source) {
            // When an inner retry has given up for good, an outer one does not repeat the call.
            (ErrorKind::BudgetExhausted | ErrorKind::OutOfTime, _) => Class::fail(),
            (ErrorKind::Rejected(_), _) => Class::ignore(),
            (ErrorKind::Failed | ErrorKind::AttemptsExhausted, Some(error)) => {
                self.action.classify(Err(error))
            }
            (
                ErrorKind::Failed
                | ErrorKind::AttemptsExhausted
                | ErrorKind::TimedOut
                | ErrorKind::AttemptTimedOut,
                _,
            ) => Class::retry(),
        };
        Class { retry_after: failure.retry_after.or(class.retry_after), ..class }
    }

    /// Notifies the listener.
    #[inline]
    pub(crate) fn notify(&self, kind: impl FnOnce() -> PolicyEventKind) {
        if let Some(listener) = self.hooks.listener {
            let pipeline = self.hooks.name.map(Name::as_str);
            listener(&PolicyEvent { pipeline, attempts: self.session.attempts, kind: kind() });
        }
    }

    /// Turns a failure into the error that the caller gets.
    pub(crate) fn error(&mut self, mut failure: Failure<K::Err>) -> Error<K::Err> {
        if failure.source.is_none() {
            failure.source = self.session.last_error.take();
        } else if failure.retry_after.is_none() {
            failure.retry_after = self.classify_failure(&failure).retry_after;
        }
        Error {
            failure,
            attempts: self.session.attempts,
            elapsed: self.session.elapsed(),
            pipeline: self.hooks.name.cloned(),
        }
    }
}

opaque!("CallContext": <K: CallTypes> std::fmt::Debug for CallContext<'_, K>);
opaque!("Hooks": std::fmt::Debug for Hooks<'_>);
