use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::emit::{Emit, Listeners};
use super::inner::Inner;
use super::{
    Answer, AnyEvent, Closed, EmitterBuilder, Event, Events, Lag, Listen, NamedEvent, Next, Posted,
    Subscription,
};
use crate::sim;
use crate::task::{Name, Scope};

/// Tells whoever listens what has happened: see the [module](super).
///
/// A handle: clones are the same emitter.
#[derive(Clone)]
pub struct Emitter(pub(super) Arc<Inner>);

impl Emitter {
    /// Makes an emitter with the defaults of its [builder](EmitterBuilder). Its listeners belong to the scope.
    #[must_use]
    pub fn new(scope: &Scope) -> Self {
        Self::builder().build(scope)
    }

    /// Sets up an emitter.
    pub fn builder() -> EmitterBuilder {
        EmitterBuilder::new()
    }

    /// Listens to the events of a type, by reference. The listener is called by whoever emits, and must not block.
    ///
    /// # When to use
    /// Where the listener has nothing to wait for: it costs no allocation. Otherwise [`on_async`](Self::on_async).
    /// With a priority, a scope or a deadline of its own: [`listener`](Self::listener).
    ///
    /// # Errors
    /// [`Closed`] with the listener.
    pub fn on<E, F, O>(&self, name: impl Into<Name>, listener: F) -> Result<Subscription, Closed<F>>
    where
        E: Event,
        F: Fn(&E) -> O + Send + Sync + 'static,
        O: Answer,
    {
        self.listener(name).on(listener)
    }

    /// Listens to the events of a type, with a share in each. The future is awaited by whoever emits.
    ///
    /// # Errors
    /// [`Closed`] with the listener.
    pub fn on_async<E, F, Fut>(&self, name: impl Into<Name>, listener: F) -> Result<Subscription, Closed<F>>
    where
        E: Event,
        F: Fn(Arc<E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Answer> + Send + 'static,
    {
        self.listener(name).on_async(listener)
    }

    /// Listens to one event of a type, by reference: [`Listen::once`].
    ///
    /// # When to use
    /// For something to be done. To wait for an event: [`next`](Self::next).
    ///
    /// # Errors
    /// [`Closed`] with the listener.
    pub fn once<E, F, O>(&self, name: impl Into<Name>, listener: F) -> Result<Subscription, Closed<F>>
    where
        E: Event,
        F: Fn(&E) -> O + Send + Sync + 'static,
        O: Answer,
    {
        self.listener(name).once().on(listener)
    }

    /// Listens to all events whose name matches, with a share in each: [`Listen::on_pattern_async`].
    ///
    /// # Errors
    /// [`Closed`] with the listener.
    ///
    /// # Panics
    /// If the text is no [`Pattern`](super::Pattern).
    #[track_caller]
    pub fn on_pattern<F, Fut>(
        &self,
        name: impl Into<Name>,
        pattern: &str,
        listener: F,
    ) -> Result<Subscription, Closed<F>>
    where
        F: Fn(Arc<dyn AnyEvent>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Answer> + Send + 'static,
    {
        self.listener(name).on_pattern_async(pattern, listener)
    }

    /// Sets up a listener.
    pub fn listener(&self, name: impl Into<Name>) -> Listen<'_> {
        Listen::new(&self.0, name.into())
    }

    /// Tells all listeners of the event, and waits for them.
    ///
    /// Who listens is settled when the future is first polled: who comes later does not hear of the event, and who
    /// went off before it was called is skipped. Listeners may emit, come and go: no lock is held while one runs.
    ///
    /// # Ordering and fairness
    /// Listeners begin by priority, and then in the order in which they came. Those that wait run side by side, up to
    /// the [concurrency](EmitterBuilder::concurrency) of the emitter. They run in the future of the emit, on one core.
    ///
    /// # Cancel safety
    /// Listeners that have begun are dropped where they are, those that have not are not called, and the event is
    /// gone. For listeners that are to go on, [`post`](Self::post). A listener that was to be called once is spent
    /// when it has begun.
    ///
    /// # Errors
    /// [`Closed`] with the event: the emitter was closed, or its scope has ended. A retry is of no use. What failed in a
    /// listener is no error of the emit: [`Emitted`](super::Emitted) has it.
    ///
    /// # Panics
    /// If it is polled after its end.
    #[inline]
    #[track_caller]
    pub fn emit<E: Event>(&self, event: E) -> Emit<'_, E> {
        Emit::new(&self.0, Listeners::Topic(self.0.topic()), event)
    }

    /// Tells all listeners to patterns that match the name. Events have the names of their types mostly; this is for
    /// names that are known only at run time.
    ///
    /// A listener gets at the value by [`downcast_ref`](trait.AnyEvent.html#method.downcast_ref). Costs a comparison for
    /// each pattern of the emitter.
    ///
    /// # Cancel safety
    /// As [`emit`](Self::emit).
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    ///
    /// # Examples
    /// ```
    /// use motet::event::Emitter;
    /// use motet::task::{Nursery, scope};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let emitter = Emitter::new(n);
    ///     let _audit = emitter.on_pattern("audit", "tenant.*.paid", async |event| {
    ///         match event.downcast_ref::<u32>() {
    ///             Some(amount) if event.name() == "tenant.7.paid" => assert_eq!(*amount, 100),
    ///             _ => return Err("not what was paid"),
    ///         }
    ///         Ok(())
    ///     }).unwrap();
    ///     let emitted = emitter.emit_named(format!("tenant.{}.paid", 7), 100_u32).await.unwrap();
    ///     assert_eq!(emitted.into_result().unwrap(), 1);
    ///     Ok(())
    /// }).await.unwrap();
    /// # });
    /// ```
    #[track_caller]
    pub fn emit_named(&self, name: impl Into<Name>, value: impl Any + Send + Sync) -> Emit<'_, NamedEvent> {
        let event = NamedEvent::new(name.into(), value);
        Emit::new(&self.0, Listeners::Search(Inner::named), event)
    }

    /// Puts the event before all listeners, and does not wait for them.
    ///
    /// Each listener receives posted events in a task of its scope, one at a time. A scope that ends waits until its
    /// listeners have handled their events; a scope that is cancelled drops them. A listener whose scope has ended, or
    /// whose runtime is gone, does not receive the event: [`Posted::dropped`] counts it. Later failures are logged and
    /// counted, since no caller waits for them.
    ///
    /// # Ordering and fairness
    /// A listener hears events in the order in which they were posted. Those that are emitted meanwhile are not in
    /// that order: whoever emits calls the listener at once.
    ///
    /// # Errors
    /// [`Closed`] with the event: the emitter was closed, or its scope has ended. A retry is of no use.
    pub fn post<E: Event>(&self, event: E) -> Result<Posted, Closed<E>> {
        let is_open = self.0.open.enter();
        let _entered = Entered(&self.0);
        if !is_open {
            return Err(Closed(event));
        }
        let snapshot = self.0.topic().listeners();
        Ok(if snapshot.entries.is_empty() {
            self.0.dead(&event);
            Posted::default()
        } else {
            snapshot.post(&self.0, &Arc::new(event))
        })
    }

    /// Waits for the next event of a type. It listens from this call on, not from the first poll.
    ///
    /// # Cancel safety
    /// Safe: a dropped wait is off.
    ///
    /// # Errors
    /// [`Closed`]: the emitter was closed, or its scope ended, before there was an event.
    ///
    /// # Examples
    /// ```
    /// use motet::event::{Emitter, Event};
    /// use motet::task::{Nursery, scope};
    ///
    /// struct Ready(u16);
    /// impl Event for Ready {
    ///     const NAME: &'static str = "ready";
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let emitter = Emitter::new(n);
    ///     let ready = emitter.next::<Ready>();
    ///     emitter.emit(Ready(8080)).await.unwrap().into_result().unwrap();
    ///     assert_eq!(ready.await.unwrap().0, 8080);
    ///     Ok(())
    /// }).await.unwrap();
    /// # });
    /// ```
    #[track_caller]
    pub fn next<E: Event>(&self) -> Next<E> {
        Next::new(self)
    }

    /// Gives the events of a type as a stream, from this call on. `lag` says what becomes of an event when the stream has
    /// no room for it.
    ///
    /// # Drop
    /// The stream is off; an emit that waits for room in it goes on.
    ///
    /// # Examples
    /// ```
    /// use motet::event::{Emitter, Event, Lag, Missed};
    /// use motet::task::{Nursery, scope};
    /// use std::num::NonZeroUsize;
    ///
    /// struct Tick(u32);
    /// impl Event for Tick {
    ///     const NAME: &'static str = "tick";
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let emitter = Emitter::new(n);
    ///     let mut ticks = emitter.stream::<Tick>(Lag::DropOldest(NonZeroUsize::new(2).unwrap()));
    ///     for number in 1..=5 {
    ///         emitter.emit(Tick(number)).await.unwrap().into_result().unwrap();
    ///     }
    ///     emitter.close();
    ///     assert_eq!(ticks.next().await.unwrap().err(), Some(Missed(3)));
    ///     assert_eq!(ticks.next().await.unwrap().unwrap().0, 4);
    ///     assert_eq!(ticks.next().await.unwrap().unwrap().0, 5);
    ///     assert!(ticks.next().await.is_none());
    ///     Ok(())
    /// }).await.unwrap();
    /// # });
    /// ```
    pub fn stream<E: Event>(&self, lag: Lag) -> Events<E> {
        Events::new(self, lag)
    }

    /// Counts the listeners to the events of a type, those to patterns and streams included.
    #[must_use]
    pub fn listener_count<E: Event>(&self) -> usize {
        self.0.topic::<E>().len()
    }

    /// Closes the emitter, like the end of its scope: it refuses events and listeners. Posted events are still handled;
    /// then all listeners are removed, and streams end. An emit in progress finishes the listeners that it has called,
    /// and skips listeners that are removed before their turn.
    pub fn close(&self) {
        self.0.close();
    }

    /// Returns `true` if the emitter was closed, or its scope has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.open.is_closed()
    }

    /// Closes the emitter, and waits until all that was posted is heard. Emits that have begun are waited for by those
    /// who emit.
    ///
    /// A listener that is called for a posted event must not wait for this: it would wait for itself.
    ///
    /// # Cancel safety
    /// Safe: a dropped drain stops waiting, and can be called again. The emitter stays closed.
    #[track_caller]
    pub fn drain(&self) -> impl Future<Output = ()> {
        sim::at_named("emitter", "drain", || Some(self.0.settings.name.to_string()), async move {
            self.close();
            self.0.open.settled().await;
        })
    }
}

/// An event that is being posted. It is counted out however that ends: `on_dead` is somebody's code, and a count that
/// is left behind would keep the emitter from ever being drained.
struct Entered<'a>(&'a Inner);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.handled();
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, listeners, patterns) = self.0.count_listeners();
        f.debug_struct("Emitter")
            .field("name", &self.0.settings.name)
            .field("scope", &self.0.home.name())
            .field("listeners", &listeners)
            .field("patterns", &patterns)
            .field("posted", &self.0.open.waiting())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
