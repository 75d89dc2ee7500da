//! The state that the members of phases, the sequence and the report share.

use std::any::Any;
use std::mem;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::report::PhaseReport;
use crate::task::core::Core;
use crate::task::{CancelToken, ChildError, Name, Reason, ReasonKind, ReleaseError};

pub(super) struct Shared<E> {
    /// Cancelled when the shutdown begins.
    begin: CancelToken,
    /// The moment of that: the reason may have been created long before.
    began: OnceLock<Instant>,
    noted: Mutex<Noted<E>>,
}

pub(super) struct Noted<E> {
    pub(super) failures: Vec<ChildError<E>>,
    pub(super) panics: Vec<Box<dyn Any + Send>>,
    /// Whether the first of the panics began the shutdown.
    pub(super) panic_began: bool,
    pub(super) release_failures: Vec<ReleaseError>,
    pub(super) phases: Vec<PhaseReport>,
    /// The phase that goes on, and since when.
    current: Option<(Name, Instant)>,
}

impl<E: Send + 'static> Shared<E> {
    pub(super) fn new(begin: CancelToken) -> Self {
        let noted = Noted {
            failures: Vec::new(),
            panics: Vec::new(),
            panic_began: false,
            release_failures: Vec::new(),
            phases: Vec::new(),
            current: None,
        };
        Self { begin, began: OnceLock::new(), noted: Mutex::new(noted) }
    }

    pub(super) fn noted(&self) -> MutexGuard<'_, Noted<E>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the shutdown; gives the reason of the one that began it.
    pub(super) fn begin(&self, reason: Reason) -> &Reason {
        self.began();
        self.begin.cancel(reason);
        self.begin.reason().expect("it was cancelled just now")
    }

    /// The token that is cancelled when the shutdown begins.
    pub(super) fn begin_token(&self) -> &CancelToken {
        &self.begin
    }

    pub(super) async fn begun(&self) -> &Reason {
        self.begin.cancelled().await
    }

    /// The moment when the shutdown began. If it has not begun, it begins now.
    pub(super) fn began(&self) -> Instant {
        *self.began.get_or_init(Instant::now)
    }

    /// Waits until the shutdown has taken its total time.
    pub(super) async fn out_of_time(&self, total: Duration) {
        self.begun().await;
        match self.began().checked_add(total) {
            Some(at) => tokio::time::sleep_until(at).await,
            // Longer than the clock runs.
            None => std::future::pending().await,
        }
    }

    pub(super) fn failed(&self, member: Name, error: E) {
        self.noted().failures.push(ChildError::new(Some(member.clone()), error));
        self.begin(Reason::by(ReasonKind::Failed, Some(member)));
    }

    pub(super) fn panicked(&self, member: &Name, payload: Box<dyn Any + Send>) {
        let mut noted = self.noted();
        noted.panics.push(payload);
        let reason = Reason::by(ReasonKind::Panicked, Some(member.clone()));
        let is_first = noted.panics.len() == 1;
        drop(noted);
        let begun = self.begin(reason);
        if is_first && begun.kind() == ReasonKind::Panicked && begun.caused_by() == Some(member.as_str()) {
            self.noted().panic_began = true;
        }
    }

    /// Takes over what went wrong in a scope.
    pub(super) fn collect(&self, scope: &Core) {
        let mut state = scope.state();
        let failures = mem::take(&mut state.failures);
        let (panics, releases) = (mem::take(&mut state.panics), mem::take(&mut state.release_failures));
        drop(state);
        let failures = failures.into_iter().filter_map(|failure| failure.downcast::<ChildError<E>>().ok());
        let mut noted = self.noted();
        noted.failures.extend(failures.map(|failure| *failure));
        noted.panics.extend(panics);
        noted.release_failures.extend(releases);
    }

    pub(super) fn enter(&self, phase: Name) {
        self.noted().current = Some((phase, Instant::now()));
    }

    pub(super) fn leave(&self, stuck: Vec<Name>) {
        let mut noted = self.noted();
        if let Some((phase, since)) = noted.current.take() {
            crate::log::info!(%phase, took = ?since.elapsed(), ?stuck, "a phase of the shutdown is over");
            noted.phases.push(PhaseReport { phase, took: since.elapsed(), stuck });
        }
    }
}
