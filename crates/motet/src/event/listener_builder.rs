use std::any::TypeId;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::call::Future as Boxed;
use super::inbox::{Inbox, Overflow};
use super::shared::EmitterShared;
use super::slot::{ListenerFn, ListenerMeta, ListenerSlot, ListenerTarget};
use super::{AnyEvent, EmitterClosedError, Event, Pattern, Subscription};
use crate::task::outcome::IntoResult;
use crate::task::{Name, Scope};

/// Sets the options of a listener; returned by [`Emitter::listener`](super::Emitter::listener).
///
/// # Defaults
/// Priority 0; called for every event; the scope, the timeout and the backlog of the emitter.
///
/// # Examples
/// ```
/// use motet::event::{Emitter, Event};
/// use motet::task::{Nursery, scope};
/// use std::sync::{Arc, Mutex};
///
/// struct Started;
/// impl Event for Started {
///     const NAME: &'static str = "started";
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// scope(async |n: &Nursery| {
///     let (emitter, calls) = (Emitter::new(n), Arc::new(Mutex::new(Vec::new())));
///     let [first, second] = [Arc::clone(&calls), Arc::clone(&calls)];
///     let _second = emitter.on("second", move |_: &Started| second.lock().unwrap().push("second")).unwrap();
///     let listener = emitter.listener("first").priority(1).once();
///     let _first = listener.on(move |_: &Started| first.lock().unwrap().push("first")).unwrap();
///     emitter.emit(Started).await.unwrap().into_result().unwrap();
///     emitter.emit(Started).await.unwrap().into_result().unwrap();
///     assert_eq!(*calls.lock().unwrap(), ["first", "second", "second"]);
///     Ok(())
/// }).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a listener is added by `on` and the other `on_*` methods"]
#[derive(Clone)]
pub struct ListenerBuilder<'a> {
    inner: &'a Arc<EmitterShared>,
    name: Name,
    scope: Scope,
    priority: i32,
    once: bool,
    timeout: Duration,
    backlog: NonZeroUsize,
    overflow: Overflow,
}

impl<'a> ListenerBuilder<'a> {
    pub(super) fn new(inner: &'a Arc<EmitterShared>, name: Name) -> Self {
        let settings = &inner.settings;
        Self {
            inner,
            name,
            scope: inner.home.clone(),
            priority: 0,
            once: false,
            timeout: settings.timeout,
            backlog: settings.backlog,
            overflow: settings.overflow,
        }
    }

    /// Assigns the listener to `scope`: the listener is removed when `scope` has ended, and handles posted events in a
    /// task of `scope`.
    pub fn within(mut self, scope: &Scope) -> Self {
        self.scope = scope.clone();
        self
    }

    /// Sets the priority. Listeners of a higher priority are called first; listeners of the same priority in the order
    /// in which they were added.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Calls the listener for one event only. The listener is removed before the call, so a concurrent emit does not
    /// call it again.
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Limits the time that the listener may take for an event, counted from its first wait; then its future is
    /// dropped, and the listener has timed out. With zero, the first wait is a timeout; with [`Duration::MAX`] there is
    /// no limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many posted events may wait for the listener.
    pub fn backlog(mut self, events: NonZeroUsize) -> Self {
        self.backlog = events;
        self
    }

    /// Drops a posted event if the backlog is full: the listener does not receive the new event.
    pub fn drop_newest(mut self) -> Self {
        self.overflow = Overflow::DropNewest;
        self
    }

    /// Drops the oldest event of the backlog if it is full: the listener receives the new event instead.
    pub fn drop_oldest(mut self) -> Self {
        self.overflow = Overflow::DropOldest;
        self
    }

    /// Adds the listener to the events of type `E`, which it receives by reference. The caller that emits calls the
    /// listener, so the listener must not block.
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the listener.
    pub fn on<E, F, O>(self, listener: F) -> Result<Subscription, EmitterClosedError<F>>
    where
        E: Event,
        F: Fn(&E) -> O + Send + Sync + 'static,
        O: IntoResult,
    {
        self.listen_to_event(listener, |listener| {
            ListenerFn::Sync(Box::new(move |event| listener(event).into_result()))
        })
    }

    /// Adds an asynchronous listener to the events of type `E`, which it receives as an `Arc`. The caller that emits
    /// awaits the listener's future.
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the listener.
    pub fn on_async<E, F, Fut>(self, listener: F) -> Result<Subscription, EmitterClosedError<F>>
    where
        E: Event,
        F: Fn(Arc<E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        self.listen_to_event(listener, |listener| {
            ListenerFn::Async(Box::new(move |event| boxed(listener(event))))
        })
    }

    /// Adds the listener to all events whose name matches `pattern`, which it receives by reference.
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the listener.
    pub fn on_pattern<F, O>(
        self,
        pattern: Pattern,
        listener: F,
    ) -> Result<Subscription, EmitterClosedError<F>>
    where
        F: Fn(&dyn AnyEvent) -> O + Send + Sync + 'static,
        O: IntoResult,
    {
        let call = |listener: F| {
            ListenerFn::Sync(Box::new(move |event: &(dyn AnyEvent + 'static)| listener(event).into_result()))
        };
        self.listen_to_pattern(pattern, listener, call)
    }

    /// Adds an asynchronous listener to all events whose name matches `pattern`, which it receives as an `Arc`.
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the listener.
    pub fn on_pattern_async<F, Fut>(
        self,
        pattern: Pattern,
        listener: F,
    ) -> Result<Subscription, EmitterClosedError<F>>
    where
        F: Fn(Arc<dyn AnyEvent>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        let call =
            |listener: F| ListenerFn::Async(Box::new(move |event: Arc<dyn AnyEvent>| boxed(listener(event))));
        self.listen_to_pattern(pattern, listener, call)
    }

    pub(super) fn listen_to_event<E: Event, F>(
        self,
        listener: F,
        call: impl FnOnce(F) -> ListenerFn<E>,
    ) -> Result<Subscription, EmitterClosedError<F>> {
        let (inner, scope) = (self.inner, self.scope.clone());
        let target = ListenerTarget::Event(TypeId::of::<E>());
        inner.add_to_topic(&scope, listener, |listener, number| self.slot(target, number, call(listener)))
    }

    fn listen_to_pattern<F>(
        self,
        pattern: Pattern,
        listener: F,
        call: impl FnOnce(F) -> ListenerFn<dyn AnyEvent>,
    ) -> Result<Subscription, EmitterClosedError<F>> {
        let (inner, scope) = (self.inner, self.scope.clone());
        inner.add_to_pattern(&scope, pattern, listener, |listener, number| {
            self.slot(ListenerTarget::Pattern, number, call(listener))
        })
    }

    fn slot<T: ?Sized>(self, target: ListenerTarget, number: u64, call: ListenerFn<T>) -> ListenerSlot<T> {
        let Self { inner: _, name, scope, priority, once, timeout, backlog, overflow } = self;
        let on = AtomicBool::new(true);
        let meta =
            ListenerMeta { name, target, priority, number, once, timeout, backlog, overflow, scope, on };
        ListenerSlot { meta, call, inbox: Inbox::default() }
    }
}

fn boxed(output: impl Future<Output: IntoResult> + Send + 'static) -> Boxed {
    Box::pin(async move { output.await.into_result() })
}

impl fmt::Debug for ListenerBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerBuilder")
            .field("name", &self.name)
            .field("scope", &self.scope.name())
            .field("priority", &self.priority)
            .field("once", &self.once)
            .field("timeout", &self.timeout)
            .field("backlog", &self.backlog)
            .field("overflow", &self.overflow)
            .finish_non_exhaustive()
    }
}
