use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::inbox::Overflow;
use super::shared::{EmitterSettings, EmitterShared};
use super::{AnyEvent, Emitter};
use crate::task::{Name, Scope};

pub(super) type OnDead = Box<dyn Fn(&dyn AnyEvent) + Send + Sync>;

/// Sets the options of an [`Emitter`].
///
/// # Defaults
/// No name; 32 listeners of one emit wait concurrently; each listener has 30 s per event, which is about as long as
/// most callers wait; a backlog of 1024 posted events per listener, at 8 bytes each, which drops the newest event when
/// it is full; a warning when an event has more than 100 listeners.
#[must_use = "a builder does nothing until an emitter is built"]
pub struct EmitterBuilder {
    scope: Scope,
    settings: EmitterSettings,
    is_named: bool,
}

impl EmitterBuilder {
    pub(super) fn new(scope: &Scope) -> Self {
        let settings = EmitterSettings {
            name: Name::from("emitter"),
            concurrency: NonZeroUsize::new(32).expect("not zero"),
            timeout: Duration::from_secs(30),
            backlog: NonZeroUsize::new(1024).expect("not zero"),
            overflow: Overflow::DropNewest,
            max_listeners: 100,
            on_dead: None,
            keep_names: false,
        };
        Self { scope: scope.clone(), settings, is_named: false }
    }

    /// Sets the name of the emitter, and shows the emitter in the snapshots of its scope.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.settings.name = name.into();
        self.is_named = true;
        self
    }

    /// Sets how many listeners of one emit may wait concurrently. With 1, a listener begins when the listener before it
    /// has ended.
    pub fn concurrency(mut self, listeners: NonZeroUsize) -> Self {
        self.settings.concurrency = listeners;
        self
    }

    /// Limits the time that a listener may take for an event, counted from its first wait;
    /// [`ListenerBuilder::timeout`](super::ListenerBuilder::timeout) sets another limit for one listener. With zero, a
    /// listener that has to wait is timed out; with [`Duration::MAX`] there is no limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Sets how many posted events may wait for each listener.
    pub fn backlog(mut self, events: NonZeroUsize) -> Self {
        self.settings.backlog = events;
        self
    }

    /// Drops a posted event if the backlog of a listener is full: that listener does not receive the new event. This is
    /// the default.
    pub fn drop_newest(mut self) -> Self {
        self.settings.overflow = Overflow::DropNewest;
        self
    }

    /// Drops the oldest event of a backlog that is full: that listener receives the new event instead.
    pub fn drop_oldest(mut self) -> Self {
        self.settings.overflow = Overflow::DropOldest;
        self
    }

    /// Logs a warning, once per event type, when more than `listeners` listen to it.
    pub fn max_listeners(mut self, listeners: usize) -> Self {
        self.settings.max_listeners = listeners;
        self
    }

    /// Calls `on_dead` for an event that is emitted or posted while it has no listener. A panic of `on_dead` is a panic
    /// of the emit.
    pub fn on_dead(mut self, on_dead: impl Fn(&dyn AnyEvent) + Send + Sync + 'static) -> Self {
        self.settings.on_dead = Some(Box::new(on_dead));
        self
    }

    /// Keeps the names of the listeners that succeed, which [`Emitted::names`](super::Emitted::names) returns. This
    /// costs an allocation per emit.
    pub fn keep_names(mut self) -> Self {
        self.settings.keep_names = true;
        self
    }

    /// Creates the emitter. Its listeners belong to the scope of the builder, unless they are [assigned to another
    /// scope](super::ListenerBuilder::within).
    ///
    /// The scope [closes](Emitter::close) the emitter at its end, when it releases its resources: last opened, first
    /// released. In a scope that has ended, the emitter is closed from the start.
    #[must_use]
    pub fn build(self) -> Emitter {
        let inner = Arc::new(EmitterShared::new(self.scope, self.settings));
        inner.closes_with_home();
        if self.is_named {
            inner.shows_stats();
        }
        Emitter(inner)
    }
}

impl fmt::Debug for EmitterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EmitterSettings {
            name,
            concurrency,
            timeout,
            backlog,
            overflow,
            max_listeners,
            on_dead: _,
            keep_names,
        } = &self.settings;
        f.debug_struct("EmitterBuilder")
            .field("name", name)
            .field("concurrency", concurrency)
            .field("timeout", timeout)
            .field("backlog", backlog)
            .field("overflow", overflow)
            .field("max_listeners", max_listeners)
            .field("keep_names", keep_names)
            .finish_non_exhaustive()
    }
}
