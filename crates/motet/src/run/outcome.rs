use std::any::Any;
use std::time::Duration;

use super::report::ShutdownReport;
use super::shared::Shared;
use crate::observe::ScopeView;
use crate::task::cause::FindCause;
use crate::task::{ChildError, Name, Reason, ReasonKind, ScopeError};

/// How a program ended, and how its shutdown went.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finished<T, E> {
    /// How it ended.
    pub outcome: ExitOutcome<T, E>,
    /// How the shutdown went.
    pub report: ShutdownReport,
}

/// How a program ended. If several of these occurred, the most severe counts: a panic, then giving up, then an error.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExitOutcome<T, E> {
    /// The body returned, and nothing failed.
    Returned(T),
    /// The program was asked to stop before the body returned, and nothing failed.
    Stopped,
    /// The body, a child or a member of a phase returned an error.
    Failed {
        /// The first error.
        first: ChildError<E>,
        /// Further errors.
        others: Vec<ChildError<E>>,
    },
    /// The total time was over before everything had ended.
    GaveUp {
        /// The errors until then.
        failures: Vec<ChildError<E>>,
    },
    /// Nothing was started: the name of this phase is declared twice, or is `work` or `cleanup`.
    DuplicatePhase(Name),
    /// The body, a child or a member of a phase panicked: the payload of the first that did.
    Panicked(Box<dyn Any + Send>),
}

/// The end of a program that was not started: the name of a phase is taken.
pub(super) fn not_started<T, E>(app: &Name, phase: Name) -> Finished<T, E> {
    let report = ShutdownReport {
        app: app.clone(),
        reason: Reason::of(ReasonKind::Failed),
        phases: Vec::new(),
        took: Duration::ZERO,
        left_behind: None,
        release_failures: Vec::new(),
    };
    Finished { outcome: ExitOutcome::DuplicatePhase(phase), report }
}

/// How the root scope ended, with the value of the body if there was one; an error is its panic.
pub(super) type Work<T, E> = Result<(Option<T>, Result<(), ScopeError<E>>), Box<dyn Any + Send>>;

/// Computes the outcome from the end of the root scope (`None` if it did not end) and the recorded failures.
pub(super) fn finished<T, E: Send + 'static>(
    app: &Name,
    reason: &Reason,
    left_behind: Option<ScopeView>,
    ended: Option<Work<T, E>>,
    shared: &Shared<E>,
    find_cause: FindCause<E>,
) -> Finished<T, E> {
    let mut noted = shared.noted();
    let mut failures: Vec<ChildError<E>> = std::mem::take(&mut noted.failures);
    let mut panics = std::mem::take(&mut noted.panics);
    let mut release_failures = std::mem::take(&mut noted.release_failures);
    let phases = std::mem::take(&mut noted.phases);
    let panic_began = noted.panic_began;
    drop(noted);
    let mut value = None;
    match ended {
        None => {}
        Some(Ok((returned, Ok(())))) => value = returned,
        // The root scope can also panic during the shutdown, in a destructor.
        Some(Err(payload)) => panics.insert(usize::from(panic_began), payload),
        Some(Ok((returned, Err(error)))) => match error {
            ScopeError::Failed { first, others, release } => {
                failures.splice(0..0, [first].into_iter().chain(others));
                release_failures.extend(release);
            }
            ScopeError::Cancelled { release, .. } | ScopeError::DeadlineExceeded { release, .. } => {
                release_failures.extend(release);
            }
            // The body returned its value; the report names the release.
            ScopeError::Release(release) => {
                value = returned;
                release_failures.extend(release);
            }
        },
    }
    // The failure that began the shutdown comes first.
    let by = reason.caused_by();
    if let Some(at) =
        failures.iter().position(|one| by.is_some() && one.task.as_ref().map(Name::as_str) == by)
    {
        failures[..=at].rotate_right(1);
    }
    let mut failures: Vec<_> = failures.into_iter().map(|failure| failure.found_by(find_cause)).collect();
    let outcome = if !panics.is_empty() {
        ExitOutcome::Panicked(panics.swap_remove(0))
    } else if left_behind.is_some() {
        ExitOutcome::GaveUp { failures }
    } else if !failures.is_empty() {
        let first = failures.remove(0);
        ExitOutcome::Failed { first, others: failures }
    } else {
        value.map_or(ExitOutcome::Stopped, ExitOutcome::Returned)
    };
    let took = shared.began().elapsed();
    let report = ShutdownReport {
        app: app.clone(),
        reason: reason.clone(),
        phases,
        took,
        left_behind,
        release_failures,
    };
    Finished { outcome, report }
}
