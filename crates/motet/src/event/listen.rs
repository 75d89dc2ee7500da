use std::any::TypeId;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::hearing::Future as Boxed;
use super::inbox::Inbox;
use super::inner::Inner;
use super::slot::{Call, Hears, Meta, Slot};
use super::{Answer, AnyEvent, Closed, Event, Overflow, Pattern, Subscription};
use crate::task::outcome::IntoResult as _;
use crate::task::{Name, Scope};

/// Sets the options of a listener; returned by [`Emitter::listener`](super::Emitter::listener).
///
/// # Defaults
/// Priority 0; called for every event; the scope, the deadline and the backlog of the emitter.
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
pub struct Listen<'a> {
    inner: &'a Arc<Inner>,
    name: Name,
    scope: Scope,
    priority: i32,
    once: bool,
    limit: Duration,
    backlog: NonZeroUsize,
    overflow: Overflow,
}

impl<'a> Listen<'a> {
    pub(super) fn new(inner: &'a Arc<Inner>, name: Name) -> Self {
        let settings = &inner.settings;
        Self {
            inner,
            name,
            scope: inner.home.clone(),
            priority: 0,
            once: false,
            limit: settings.limit,
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
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limit = deadline;
        self
    }

    /// Sets how many posted events may wait for the listener, and which event is dropped when `events` are waiting.
    pub fn backlog(mut self, events: NonZeroUsize, overflow: Overflow) -> Self {
        self.backlog = events;
        self.overflow = overflow;
        self
    }

    /// Adds the listener to the events of type `E`, which it receives by reference. The caller that emits calls the
    /// listener, so the listener must not block.
    ///
    /// # Errors
    /// [`Closed`] with the listener.
    pub fn on<E, F, O>(self, listener: F) -> Result<Subscription, Closed<F>>
    where
        E: Event,
        F: Fn(&E) -> O + Send + Sync + 'static,
        O: Answer,
    {
        self.hear_event(listener, |listener| Call::Sync(Box::new(move |event| listener(event).into_result())))
    }

    /// Adds an asynchronous listener to the events of type `E`, which it receives as an `Arc`. The caller that emits
    /// awaits the listener's future.
    ///
    /// # Errors
    /// [`Closed`] with the listener.
    pub fn on_async<E, F, Fut>(self, listener: F) -> Result<Subscription, Closed<F>>
    where
        E: Event,
        F: Fn(Arc<E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Answer> + Send + 'static,
    {
        self.hear_event(listener, |listener| Call::Async(Box::new(move |event| boxed(listener(event)))))
    }

    /// Adds the listener to all events whose name matches `pattern`, which it receives by reference.
    ///
    /// # Errors
    /// [`Closed`] with the listener.
    ///
    /// # Panics
    /// If `pattern` is not valid. [`Pattern::parse`] checks a pattern without a panic.
    #[track_caller]
    pub fn on_pattern<F, O>(self, pattern: &str, listener: F) -> Result<Subscription, Closed<F>>
    where
        F: Fn(&dyn AnyEvent) -> O + Send + Sync + 'static,
        O: Answer,
    {
        let call = |listener: F| {
            Call::Sync(Box::new(move |event: &(dyn AnyEvent + 'static)| listener(event).into_result()))
        };
        self.hear_pattern(pattern, listener, call)
    }

    /// Adds an asynchronous listener to all events whose name matches `pattern`, which it receives as an `Arc`.
    ///
    /// # Errors
    /// [`Closed`] with the listener.
    ///
    /// # Panics
    /// If `pattern` is not valid. [`Pattern::parse`] checks a pattern without a panic.
    #[track_caller]
    pub fn on_pattern_async<F, Fut>(self, pattern: &str, listener: F) -> Result<Subscription, Closed<F>>
    where
        F: Fn(Arc<dyn AnyEvent>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Answer> + Send + 'static,
    {
        let call =
            |listener: F| Call::Async(Box::new(move |event: Arc<dyn AnyEvent>| boxed(listener(event))));
        self.hear_pattern(pattern, listener, call)
    }

    pub(super) fn hear_event<E: Event, F>(
        self,
        listener: F,
        call: impl FnOnce(F) -> Call<E>,
    ) -> Result<Subscription, Closed<F>> {
        let (inner, scope) = (self.inner, self.scope.clone());
        let hears = Hears::Event(TypeId::of::<E>());
        inner.add_to_topic(&scope, listener, |listener, number| self.slot(hears, number, call(listener)))
    }

    #[track_caller]
    fn hear_pattern<F>(
        self,
        pattern: &str,
        listener: F,
        call: impl FnOnce(F) -> Call<dyn AnyEvent>,
    ) -> Result<Subscription, Closed<F>> {
        let pattern = match Pattern::parse(pattern) {
            Ok(pattern) => pattern,
            Err(wrong) => panic!("{pattern:?} is not a pattern: {wrong}"),
        };
        let (inner, scope) = (self.inner, self.scope.clone());
        inner.add_to_pattern(&scope, pattern, listener, |listener, number| {
            self.slot(Hears::Pattern, number, call(listener))
        })
    }

    fn slot<T: ?Sized>(self, hears: Hears, number: u64, call: Call<T>) -> Slot<T> {
        let Self { inner: _, name, scope, priority, once, limit, backlog, overflow } = self;
        let on = AtomicBool::new(true);
        let meta = Meta { name, hears, priority, number, once, limit, backlog, overflow, scope, on };
        Slot { meta, call, inbox: Inbox::default() }
    }
}

fn boxed(heard: impl Future<Output: Answer> + Send + 'static) -> Boxed {
    Box::pin(async move { heard.await.into_result() })
}

impl fmt::Debug for Listen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listen")
            .field("name", &self.name)
            .field("scope", &self.scope.name())
            .field("priority", &self.priority)
            .field("once", &self.once)
            .field("deadline", &self.limit)
            .field("backlog", &self.backlog)
            .field("overflow", &self.overflow)
            .finish_non_exhaustive()
    }
}
