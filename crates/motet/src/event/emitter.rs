use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::any_event::NamedEvent;
use super::emit::{Emit, Listeners, leave};
use super::next::Next;
use super::shared::EmitterShared;
use super::{
    AnyEvent, Emitted, EmitterBuilder, EmitterClosedError, Event, Events, Lag, ListenerBuilder, Pattern,
    Posted, Subscription,
};
use crate::sim::{self, Site};
use crate::task::outcome::IntoResult;
use crate::task::{Name, Scope};

/// Emits typed events to its listeners.
///
/// It is a handle that is cheap to clone: clones share one emitter. The [module](super) has an example.
#[derive(Clone)]
pub struct Emitter(pub(super) Arc<EmitterShared>);

impl Emitter {
    /// Creates an emitter with the defaults of its [builder](EmitterBuilder). Its listeners belong to `scope`.
    #[must_use]
    pub fn new(scope: &Scope) -> Self {
        Self::builder(scope).build()
    }

    /// Returns a builder of an emitter whose listeners belong to `scope`.
    pub fn builder(scope: &Scope) -> EmitterBuilder {
        EmitterBuilder::new(scope)
    }

    /// Adds a listener to the events of type `E`, which receives each event by reference. The caller that emits calls
    /// the listener, so the listener must not block.
    ///
    /// # When to use
    /// If the listener does not have to wait: it costs no allocation. Otherwise use [`on_async`](Self::on_async). To
    /// set a priority, a scope or a timeout for the listener, use [`listener`](Self::listener).
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the listener.
    pub fn on<E, F, O>(
        &self,
        name: impl Into<Name>,
        listener: F,
    ) -> Result<Subscription, EmitterClosedError<F>>
    where
        E: Event,
        F: Fn(&E) -> O + Send + Sync + 'static,
        O: IntoResult,
    {
        self.listener(name).on(listener)
    }

    /// Adds an asynchronous listener to the events of type `E`, which receives each event as an `Arc`. The caller that
    /// emits awaits the listener's future.
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the listener.
    pub fn on_async<E, F, Fut>(
        &self,
        name: impl Into<Name>,
        listener: F,
    ) -> Result<Subscription, EmitterClosedError<F>>
    where
        E: Event,
        F: Fn(Arc<E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        self.listener(name).on_async(listener)
    }

    /// Adds a listener that is called for one event of type `E` at most, by reference: [`ListenerBuilder::once`].
    ///
    /// # When to use
    /// To run code once. To wait for an event, use [`next`](Self::next).
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the listener.
    pub fn once<E, F, O>(
        &self,
        name: impl Into<Name>,
        listener: F,
    ) -> Result<Subscription, EmitterClosedError<F>>
    where
        E: Event,
        F: Fn(&E) -> O + Send + Sync + 'static,
        O: IntoResult,
    {
        self.listener(name).once().on(listener)
    }

    /// Adds a listener to all events whose name matches `pattern`, by reference: [`ListenerBuilder::on_pattern`].
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the listener.
    pub fn on_pattern<F, O>(
        &self,
        name: impl Into<Name>,
        pattern: Pattern,
        listener: F,
    ) -> Result<Subscription, EmitterClosedError<F>>
    where
        F: Fn(&dyn AnyEvent) -> O + Send + Sync + 'static,
        O: IntoResult,
    {
        self.listener(name).on_pattern(pattern, listener)
    }

    /// Adds an asynchronous listener to all events whose name matches `pattern`: [`ListenerBuilder::on_pattern_async`].
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the listener.
    pub fn on_pattern_async<F, Fut>(
        &self,
        name: impl Into<Name>,
        pattern: Pattern,
        listener: F,
    ) -> Result<Subscription, EmitterClosedError<F>>
    where
        F: Fn(Arc<dyn AnyEvent>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        self.listener(name).on_pattern_async(pattern, listener)
    }

    /// Returns a builder of a listener.
    pub fn listener(&self, name: impl Into<Name>) -> ListenerBuilder<'_> {
        ListenerBuilder::new(&self.0, name.into())
    }

    /// Calls all listeners of the event, and waits for them.
    ///
    /// The first poll of the future determines the listeners: a listener that is added later is not called for this
    /// event, and a listener that is removed before its turn is skipped. Listeners may emit, and may add and remove
    /// listeners: no lock is held while a listener runs.
    ///
    /// # Ordering and fairness
    /// Listeners begin in the order of their priority; within a priority, in the order in which they were added.
    /// Listeners that wait run concurrently, up to the [concurrency](EmitterBuilder::concurrency) of the emitter. They
    /// run in the future of the emit, on one core.
    ///
    /// # Cancel safety
    /// Loses the event: listeners that have begun are dropped at their current await, and the others are not called. If
    /// listeners must finish in any case, use [`post`](Self::post). A [`once`](Self::once) listener that has begun is
    /// removed, and is not called again.
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the event: the emitter was closed, or its scope has ended. A retry fails too. The
    /// failure of a listener is not an error of the emit: [`Emitted`] reports it.
    ///
    /// # Panics
    /// If the future is polled after it has returned its result.
    #[inline]
    #[track_caller]
    pub fn emit<E: Event>(
        &self,
        event: E,
    ) -> impl Future<Output = Result<Emitted, EmitterClosedError<E>>> + Unpin {
        let site = Site::named("emitter", "emit", || Some(self.0.settings.name.to_string())).around();
        Emit::new(&self.0, Listeners::Topic(self.0.topic()), event, site)
    }

    /// Calls all listeners whose pattern matches `name`. Most events have the name of their type; this method is for
    /// names that are known only at run time.
    ///
    /// A listener reads the value with [`downcast_ref`](trait.AnyEvent.html#method.downcast_ref). An emit compares the
    /// name with each pattern of the emitter.
    ///
    /// # Cancel safety
    /// As [`emit`](Self::emit).
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the value, as [`emit`](Self::emit).
    ///
    /// # Examples
    /// ```
    /// use motet::event::{Emitter, Pattern};
    /// use motet::task::{Nursery, scope};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let paid = Pattern::parse("tenant.*.paid")?;
    /// scope(async |n: &Nursery| {
    ///     let emitter = Emitter::new(n);
    ///     let _audit = emitter.on_pattern("audit", paid, |event| {
    ///         match event.downcast_ref::<u32>() {
    ///             Some(amount) if event.name() == "tenant.7.paid" => assert_eq!(*amount, 100),
    ///             _ => return Err("unexpected amount"),
    ///         }
    ///         Ok(())
    ///     }).unwrap();
    ///     let emitted = emitter.emit_named(format!("tenant.{}.paid", 7), 100_u32).await.unwrap();
    ///     assert_eq!(emitted.into_result().unwrap(), 1);
    ///     Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn emit_named<V: Any + Send + Sync>(
        &self,
        name: impl Into<Name>,
        value: V,
    ) -> impl Future<Output = Result<Emitted, EmitterClosedError<V>>> {
        let site = Site::named("emitter", "emit", || Some(self.0.settings.name.to_string())).around();
        let event = NamedEvent::new(name.into(), value);
        let emit = Emit::new(&self.0, Listeners::Search(EmitterShared::named), event, site);
        async move { emit.await.map_err(|EmitterClosedError(refused)| EmitterClosedError(refused.into_value())) }
    }

    /// Queues the event for every listener, and returns immediately.
    ///
    /// Each listener handles posted events in a task of its scope, one at a time. A scope that ends waits until its
    /// listeners have handled their events; a scope that is cancelled drops them. A listener whose scope has ended, or
    /// whose runtime has shut down, does not receive the event: [`Posted::dropped`] counts it. Failures of listeners
    /// are logged and counted, since no caller waits for them.
    ///
    /// # Ordering and fairness
    /// A listener handles posted events in the order in which they were posted. There is no order between posted and
    /// emitted events: an emit calls the listener immediately.
    ///
    /// # Errors
    /// [`EmitterClosedError`] with the event: the emitter was closed, or its scope has ended. A retry fails too.
    pub fn post<E: Event>(&self, event: E) -> Result<Posted, EmitterClosedError<E>> {
        let is_open = self.0.open.enter();
        let _entered = Entered(&self.0);
        if !is_open {
            return Err(EmitterClosedError(event));
        }
        let snapshot = self.0.topic().listeners();
        if snapshot.entries.is_empty() {
            self.0.dead(&event);
            return Ok(Posted::default());
        }
        let posted = snapshot.post(&self.0, &Arc::new(event));
        leave(snapshot);
        Ok(posted)
    }

    /// Waits for the next event of type `E`. The wait begins with this call, not with the first poll.
    ///
    /// # Cancel safety
    /// Safe: dropping the future removes its listener.
    ///
    /// # Errors
    /// [`EmitterClosedError`]: the emitter was closed, or its scope ended, before an event of this type arrived.
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
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// scope(async |n: &Nursery| {
    ///     let emitter = Emitter::new(n);
    ///     let ready = emitter.next::<Ready>();
    ///     emitter.emit(Ready(8080)).await.unwrap().into_result().unwrap();
    ///     assert_eq!(ready.await.unwrap().0, 8080);
    ///     Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn next<E: Event>(
        &self,
    ) -> impl Future<Output = Result<Arc<E>, EmitterClosedError<()>>> + Unpin + use<E> {
        let site = Site::named("emitter", "next", || Some(self.0.settings.name.to_string()));
        Next::new(self, site)
    }

    /// Returns a stream of the events of type `E` from this call on. `lag` sets what happens to an event when the
    /// stream is full.
    ///
    /// # Drop
    /// Dropping the stream removes its listener; an emit that waits for capacity in the stream continues.
    ///
    /// # Examples
    /// ```
    /// use motet::event::{Emitter, Event, Lag, LagError};
    /// use motet::task::{Nursery, scope};
    /// use std::num::NonZeroUsize;
    ///
    /// struct Tick(u32);
    /// impl Event for Tick {
    ///     const NAME: &'static str = "tick";
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// scope(async |n: &Nursery| {
    ///     let emitter = Emitter::new(n);
    ///     let mut ticks = emitter.stream::<Tick>(Lag::DropOldest(NonZeroUsize::new(2).unwrap()));
    ///     for number in 1..=5 {
    ///         emitter.emit(Tick(number)).await.unwrap().into_result().unwrap();
    ///     }
    ///     emitter.close();
    ///     assert_eq!(ticks.next().await.unwrap().err(), Some(LagError(3)));
    ///     assert_eq!(ticks.next().await.unwrap().unwrap().0, 4);
    ///     assert_eq!(ticks.next().await.unwrap().unwrap().0, 5);
    ///     assert!(ticks.next().await.is_none());
    ///     Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream<E: Event>(&self, lag: Lag) -> Events<E> {
        Events::new(self, lag)
    }

    /// The number of listeners to the events of type `E`, including the listeners of matching patterns and streams.
    #[must_use]
    pub fn listener_count<E: Event>(&self) -> usize {
        self.0.topic::<E>().len()
    }

    /// Closes the emitter, like the end of its scope: it refuses events and listeners. Posted events are still
    /// handled; then all listeners are removed, and streams end. An emit in progress finishes the listeners that it has
    /// called, and skips listeners that are removed before their turn.
    pub fn close(&self) {
        self.0.close();
    }

    /// Returns `true` if the emitter was closed, or its scope has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.open.is_closed()
    }

    /// Closes the emitter, and waits until all posted events are handled. It does not wait for emits that have
    /// begun: their callers do.
    ///
    /// A listener must not await this function while it handles a posted event: it would wait for itself.
    ///
    /// # Cancel safety
    /// Safe: dropping the future stops the wait, and `drain` can be called again. The emitter stays closed.
    #[track_caller]
    pub fn drain(&self) -> impl Future<Output = ()> {
        sim::at_named("emitter", "drain", || Some(self.0.settings.name.to_string()), async move {
            self.close();
            self.0.open.settled().await;
        })
    }
}

/// An event that is being posted. Its drop removes the event from the count, even if `on_dead`, which is the user's
/// code, panics: an event that stays counted would keep `drain` from ever returning.
struct Entered<'a>(&'a EmitterShared);

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
