use std::fmt;
use std::panic::Location;

use futures_core::Stream;

use super::spawned::Spawned;
use super::state::{Order, State};
use crate::stream::error::{SetupProblem, StreamSetupError};
use crate::task::{Name, Scope};

/// The settings of workers that apply a function to the items of a stream: see
/// [`par_map`](crate::stream::StreamCombinators::par_map).
#[must_use = "`ordered` or `unordered` starts the workers"]
pub struct ParMap<S, F> {
    source: S,
    map: F,
    workers: usize,
    window: Option<usize>,
}

impl<S: Stream, F> ParMap<S, F> {
    pub(crate) fn new(source: S, workers: usize, map: F) -> Self {
        Self { source, map, workers, window: None }
    }

    /// Sets the maximum number of items that are taken from the source and not consumed, including the items in progress.
    /// It must be at least 1.
    ///
    /// The default is twice the number that the workers take at once: two for each worker while the function has to wait,
    /// and up to 128 for each worker while it does not.
    pub fn window(mut self, items: usize) -> Self {
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
    /// Starts the workers in the scope. The results have the order of the source.
    ///
    /// A result waits for the results before it, and the workers stop when the window is full.
    ///
    /// # Errors
    /// [`StreamSetupError`] with these settings, if the scope has ended, or the number of workers or the window is zero.
    #[track_caller]
    pub fn ordered(
        self,
        scope: &Scope,
        name: impl Into<Name>,
    ) -> Result<Spawned<Fut::Output>, StreamSetupError<Self>> {
        self.start(Order::Source, scope, name.into(), Location::caller())
    }

    /// Starts the workers in the scope. The results have the order in which they complete.
    ///
    /// # Errors
    /// As with [`ordered`](Self::ordered).
    #[track_caller]
    pub fn unordered(
        self,
        scope: &Scope,
        name: impl Into<Name>,
    ) -> Result<Spawned<Fut::Output>, StreamSetupError<Self>> {
        self.start(Order::Done, scope, name.into(), Location::caller())
    }

    pub(super) fn start(
        self,
        order: Order,
        scope: &Scope,
        name: Name,
        site: &'static Location<'static>,
    ) -> Result<Spawned<Fut::Output>, StreamSetupError<Self>> {
        let zero = match (self.workers, self.window) {
            (0, _) => Some("workers"),
            (_, Some(0)) => Some("window"),
            _ => None,
        };
        if let Some(setting) = zero {
            return Err(StreamSetupError { stream: self, problem: SetupProblem::Zero(setting) });
        }
        let Self { source, map, workers, window } = self;
        let state = State::new(order, workers, window);
        Spawned::start(source, map, workers, state, (scope, name, site)).map_err(|(source, map)| {
            let stream = Self { source, map, workers, window };
            StreamSetupError { stream, problem: SetupProblem::ScopeClosed }
        })
    }
}

impl<S, F> ParMap<S, F> {
    pub(super) fn source(&self) -> &S {
        &self.source
    }

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
