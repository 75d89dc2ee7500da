use std::fmt;
use std::panic::Location;

use futures_core::Stream;

use super::spawned::Spawned;
use super::state::{Order, State};
use crate::task::{Name, Scope, ScopeClosedError};

/// Sets up workers that apply a function to the items of a stream: see
/// [`par_map`](crate::stream::StreamCombinators::par_map).
#[must_use = "nothing is started before its order is known"]
pub struct ParMap<S, F> {
    source: S,
    map: F,
    workers: usize,
    window: Option<usize>,
}

impl<S: Stream, F> ParMap<S, F> {
    #[track_caller]
    pub(crate) fn new(source: S, workers: usize, map: F) -> Self {
        assert!(workers > 0, "no worker works on nothing: ask for one at least");
        Self { source, map, workers, window: None }
    }

    /// Takes at most so many items from the source that are not consumed, those in work included.
    ///
    /// By default twice as many as the workers take at once: two for each while work waits for something, up to 128 for
    /// each while all of it is done at once.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn window(mut self, items: usize) -> Self {
        assert!(items > 0, "a window without room lets nothing through");
        self.window = Some(items);
        self
    }
}

impl<S, F, Fut> ParMap<S, F>
where
    S: Stream<Item: Send> + Send + 'static,
    F: Fn(S::Item) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Send> + Send + 'static,
{
    /// Starts the workers in a scope, under a name; results come in the order of the source.
    ///
    /// What is done waits for what comes before it, and the workers stop when the window is full.
    ///
    /// # Errors
    /// [`ScopeClosedError`] with this, if the scope has ended.
    #[track_caller]
    pub fn ordered(
        self,
        scope: &Scope,
        name: impl Into<Name>,
    ) -> Result<Spawned<Fut::Output>, ScopeClosedError<Self>> {
        self.start(Order::Source, scope, name.into(), Location::caller())
    }

    /// Starts the workers in a scope, under a name; results come as they are done.
    ///
    /// # Errors
    /// [`ScopeClosedError`] with this, if the scope has ended.
    #[track_caller]
    pub fn unordered(
        self,
        scope: &Scope,
        name: impl Into<Name>,
    ) -> Result<Spawned<Fut::Output>, ScopeClosedError<Self>> {
        self.start(Order::Done, scope, name.into(), Location::caller())
    }

    pub(super) fn start(
        self,
        order: Order,
        scope: &Scope,
        name: Name,
        site: &'static Location<'static>,
    ) -> Result<Spawned<Fut::Output>, ScopeClosedError<Self>> {
        let Self { source, map, workers, window } = self;
        let state = State::new(order, workers, window);
        Spawned::start(source, map, workers, state, (scope, name, site))
            .map_err(|(source, map)| ScopeClosedError(Self { source, map, workers, window }))
    }
}

impl<S, F> ParMap<S, F> {
    pub(super) fn into_source(self) -> S {
        self.source
    }
}

impl<S, F> fmt::Debug for ParMap<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParMap")
            .field("workers", &self.workers)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
