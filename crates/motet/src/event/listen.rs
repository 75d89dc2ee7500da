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

/// Sets up a listener; made by [`Emitter::listener`](super::Emitter::listener).
///
/// # Defaults
/// Priority 0; every event; the scope, the deadline and the backlog of the emitter.
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
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// scope(async |n: &Nursery| {
///     let (emitter, heard) = (Emitter::new(n), Arc::new(Mutex::new(Vec::new())));
///     let [first, second] = [Arc::clone(&heard), Arc::clone(&heard)];
///     let _second = emitter.on("second", move |_: &Started| second.lock().unwrap().push("second")).unwrap();
///     let listener = emitter.listener("first").priority(1).once();
///     let _first = listener.on(move |_: &Started| first.lock().unwrap().push("first")).unwrap();
///     emitter.emit(Started).await.unwrap().into_result().unwrap();
///     emitter.emit(Started).await.unwrap().into_result().unwrap();
///     assert_eq!(*heard.lock().unwrap(), ["first", "second", "second"]);
///     Ok(())
/// }).await.unwrap();
/// # });
/// ```
#[must_use = "nobody listens until it is on"]
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

    /// Gives the listener to this scope: it is off when the scope has ended, and hears posted events in it.
    pub fn within(mut self, scope: &Scope) -> Self {
        self.scope = scope.clone();
        self
    }

    /// Calls it before those of a lower priority. Those of the same are called in the order in which they came.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Lets it hear one event alone. It is off before it is called, so it is not called again, whoever emits.
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Gives it so much time for an event, from when it first waits; then it is dropped, and counts as timed out. With zero,
    /// that is as soon as it waits; [`Duration::MAX`] is no limit.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limit = deadline;
        self
    }

    /// Lets so many posted events wait for it, and says what goes when there is no room.
    pub fn backlog(mut self, events: NonZeroUsize, overflow: Overflow) -> Self {
        self.backlog = events;
        self.overflow = overflow;
        self
    }

    /// Listens to the events of a type, by reference. The listener is called by whoever emits, and must not block.
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

    /// Listens to the events of a type, with a share in each. The future is awaited by whoever emits.
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

    /// Listens to all events whose name matches, by reference.
    ///
    /// # Errors
    /// [`Closed`] with the listener.
    ///
    /// # Panics
    /// If the text is no pattern; [`Pattern::parse`] checks one that comes from elsewhere.
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

    /// Listens to all events whose name matches, with a share in each.
    ///
    /// # Errors
    /// [`Closed`] with the listener.
    ///
    /// # Panics
    /// If the text is no pattern; [`Pattern::parse`] checks one that comes from elsewhere.
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
            Err(wrong) => panic!("{pattern:?} is no pattern: {wrong}"),
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
