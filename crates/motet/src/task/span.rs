//! The `tracing` span in which a task runs.
//!
//! A child runs in the span that is current where it is started. A service usually outlives the code that starts it, and so
//! does a task that works for many callers, as a batch: it would keep the span of the first caller open. These run in the
//! span in which their scope was opened.

use tracing::{Span, dispatcher, span};

use super::Name;
use crate::log::harmless;
use crate::sync::catch;

/// The span of a task or of a scope. In a box, since most programs have none: it then costs a word, and no allocation.
#[derive(Clone, Default)]
pub(crate) struct TaskSpan(Option<Box<Span>>);

impl Drop for TaskSpan {
    #[inline]
    fn drop(&mut self) {
        if let Some(span) = self.0.take() {
            // At the end of a task, or in the drop of a handle: a panic of the subscriber must not get there.
            harmless(|| drop(span));
        }
    }
}

impl TaskSpan {
    /// Returns the span of the running code. While the program has no subscriber, this costs one load.
    #[inline]
    pub(crate) fn current() -> Self {
        if dispatcher::has_been_set() { Self::of(Span::current) } else { Self::default() }
    }

    /// A subscriber is user code, and may panic.
    #[cold]
    fn of(span: impl FnOnce() -> Span) -> Self {
        let span = catch(span).ok().filter(|span| !span.is_disabled());
        Self(span.map(Box::new))
    }

    /// Returns a span of a task, within this span; this span if the subscriber is not interested in spans of tasks.
    pub(crate) fn of_task(self, name: &Name) -> Self {
        if !dispatcher::has_been_set() {
            return self;
        }
        let around = self.0.as_ref().and_then(|span| span.id());
        let own = Self::of(|| tracing::info_span!(parent: around, "task", task = %name));
        if own.0.is_some() { own } else { self }
    }

    /// Makes the span the current one until the guard is dropped.
    #[inline]
    pub(crate) fn enter(&self) -> InSpan<'_> {
        InSpan(self.0.as_deref().and_then(|span| catch(|| span.enter()).ok()))
    }
}

/// The span is the current one until this guard is dropped.
pub(crate) struct InSpan<'a>(Option<span::Entered<'a>>);

impl Drop for InSpan<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(entered) = self.0.take() {
            harmless(|| drop(entered));
        }
    }
}
