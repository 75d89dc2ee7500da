use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::inner::{Inner, Settings};
use super::{AnyEvent, Emitter, Overflow};
use crate::task::{Name, Scope};

pub(super) type OnDead = Box<dyn Fn(&dyn AnyEvent) + Send + Sync>;

/// Sets up an [`Emitter`].
///
/// # Defaults
/// Without a name; 32 listeners of an emit wait at once, each for 30 s at most: the patience of most callers; 1024
/// posted events wait for a listener, at 8 bytes each, and the newest goes when there is no room; a warning for more
/// than 100 listeners to one event.
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

    /// Names the emitter, and shows it in the snapshots of its scope.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.settings.name = name.into();
        self.is_named = true;
        self
    }

    /// Lets so many listeners of one emit wait at once. With one, a listener begins when the one before has ended.
    pub fn concurrency(mut self, listeners: NonZeroUsize) -> Self {
        self.settings.concurrency = listeners;
        self
    }

    /// Gives each listener so much time for an event, from when it first waits; one can be given
    /// [another](super::Listen::deadline). With zero, one that has to wait is out of time; [`Duration::MAX`] is no limit.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.limit = deadline;
        self
    }

    /// Lets so many posted events wait for each listener, and says what goes when there is no room.
    pub fn backlog(mut self, events: NonZeroUsize, overflow: Overflow) -> Self {
        self.settings.backlog = events;
        self.settings.overflow = overflow;
        self
    }

    /// Warns, once for an event, when it has more listeners than this.
    pub fn max_listeners(mut self, listeners: usize) -> Self {
        self.settings.max_listeners = listeners;
        self
    }

    /// Calls this for an event that is emitted or posted while nobody listens to it. A panic of it is that of the emit.
    pub fn on_dead(mut self, on_dead: impl Fn(&dyn AnyEvent) + Send + Sync + 'static) -> Self {
        self.settings.on_dead = Some(Box::new(on_dead));
        self
    }

    /// Makes the emitter. Its listeners belong to the scope, unless they are [given to another](super::Listen::within).
    ///
    /// The scope [closes](Emitter::close) the emitter at its end, when it releases what it holds: last in, first out. In a
    /// scope that has ended the emitter is closed from the start.
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
