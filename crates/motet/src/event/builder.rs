use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::inner::{Inner, Settings};
use super::{AnyEvent, Emitter, Overflow};
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
    settings: Settings,
    is_named: bool,
}

impl EmitterBuilder {
    pub(super) fn new() -> Self {
        let settings = Settings {
            name: Name::from("emitter"),
            concurrency: NonZeroUsize::new(32).expect("not zero"),
            limit: Duration::from_secs(30),
            backlog: NonZeroUsize::new(1024).expect("not zero"),
            overflow: Overflow::DropNewest,
            max_listeners: 100,
            on_dead: None,
        };
        Self { settings, is_named: false }
    }

    /// Sets the name of the emitter, and shows the emitter in the snapshots of its scope.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
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
    /// [`Listen::deadline`](super::Listen::deadline) sets another limit for one listener. With zero, a listener that
    /// has to wait is timed out; with [`Duration::MAX`] there is no limit.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.limit = deadline;
        self
    }

    /// Sets how many posted events may wait for each listener, and which event is dropped when `events` are waiting.
    pub fn backlog(mut self, events: NonZeroUsize, overflow: Overflow) -> Self {
        self.settings.backlog = events;
        self.settings.overflow = overflow;
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

    /// Creates the emitter. Its listeners belong to `scope`, unless they are [assigned to another
    /// scope](super::Listen::within).
    ///
    /// The scope [closes](Emitter::close) the emitter at its end, when it releases its resources: last opened, first
    /// released. In a scope that has ended, the emitter is closed from the start.
    #[must_use]
    pub fn build(self, scope: &Scope) -> Emitter {
        let inner = Arc::new(Inner::new(scope.clone(), self.settings));
        inner.closes_with_home();
        if self.is_named {
            inner.shows_stats();
        }
        Emitter(inner)
    }
}

impl fmt::Debug for EmitterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { name, concurrency, limit, backlog, overflow, max_listeners, on_dead: _ } =
            &self.settings;
        f.debug_struct("EmitterBuilder")
            .field("name", name)
            .field("concurrency", concurrency)
            .field("deadline", limit)
            .field("backlog", backlog)
            .field("overflow", overflow)
            .field("max_listeners", max_listeners)
            .finish_non_exhaustive()
    }
}
