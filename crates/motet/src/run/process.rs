//! The process of a program: its runtime, its exit code, and its messages on standard error.

use std::error::Error;
use std::io::Write as _;
use std::panic::Location;
use std::process::{ExitCode, Termination};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::app::App;
use super::outcome::{ExitOutcome, Finished};
use super::reload::Reloads;
use super::root::Root;
use super::stderr::{flush_stderr, stderr};
use super::{sequence, signals};
use crate::task::cause::{opaque, with_sources};
use crate::task::{CancelToken, ChildError};

/// The exit code of a `main` that panics.
const PANICKED: u8 = 101;

/// The exit code of `timeout(1)`.
pub(super) const GAVE_UP: u8 = 124;

/// The longest time that the last messages may take to be written: standard error may be a full pipe.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// The number of blocking threads for other work than closures of scopes: tokio's own files and name lookups.
const OTHER_THREADS: usize = 64;

/// The longest time that the exit waits for blocking threads outside of scopes (`spawn_blocking`).
const THREADS: Duration = Duration::from_secs(1);

pub(super) fn run<T, E, F>(app: App, site: &'static Location<'static>, body: F) -> ExitCode
where
    F: AsyncFnOnce(&Root<E>) -> Result<T, E>,
    T: Termination,
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    let runtime = match Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(app.blocking_limit.get().saturating_add(OTHER_THREADS).max(512))
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: cannot create the runtime: {error}"));
            let _written = flush_stderr(LAST_WORDS);
            return ExitCode::FAILURE;
        }
    };
    run_on(runtime, app, site, body)
}

pub(super) fn run_on<T, E, F>(
    runtime: Runtime,
    app: App,
    site: &'static Location<'static>,
    body: F,
) -> ExitCode
where
    F: AsyncFnOnce(&Root<E>) -> Result<T, E>,
    T: Termination,
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    let begin = CancelToken::new();
    let reloads = Reloads::new();
    let finished = runtime.block_on(async {
        let on_hangup = app.reloads_on_hangup.then(|| reloads.clone());
        let (stop, watch) = signals::watch(app.total, begin.clone(), on_hangup)?;
        Ok::<_, std::io::Error>((sequence::run(app, site, begin, reloads, stop, opaque, body).await, watch))
    });
    // An interrupt must be able to end the process until everything is printed and the runtime is gone.
    let mut watching = None;
    let code = match finished {
        Ok((finished, watch)) => {
            watching = Some(watch.finished());
            conclude(finished)
        }
        Err(error) => {
            say(&format!("error: cannot install the signal handlers: {error}"));
            ExitCode::FAILURE
        }
    };
    runtime.shutdown_timeout(THREADS);
    // The program ends whether or not the output was written; lost lines are counted.
    let _written = flush_stderr(LAST_WORDS);
    drop(watching);
    code
}

fn conclude<T, E>(finished: Finished<T, E>) -> ExitCode
where
    T: Termination,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let Finished { outcome, report } = finished;
    if !report.is_clean() {
        say(&report.to_string());
    }
    let code = match outcome {
        ExitOutcome::Returned(value) => value.report(),
        ExitOutcome::Stopped => ExitCode::SUCCESS,
        ExitOutcome::Failed { first, others } => {
            [first].into_iter().chain(others).for_each(complain);
            ExitCode::FAILURE
        }
        ExitOutcome::GaveUp { failures } => {
            failures.into_iter().for_each(complain);
            ExitCode::from(GAVE_UP)
        }
        ExitOutcome::DuplicatePhase(phase) => {
            say(&format!("error: the app declares the phase `{phase}` twice: give each phase its own name"));
            ExitCode::FAILURE
        }
        // The panic hook has printed it.
        ExitOutcome::Panicked(_) => ExitCode::from(PANICKED),
    };
    if code == ExitCode::SUCCESS && !report.release_failures.is_empty() { ExitCode::FAILURE } else { code }
}

fn complain<E: Into<Box<dyn Error + Send + Sync>>>(failure: ChildError<E>) {
    let error: Box<dyn Error + Send + Sync> = failure.error.into();
    let task = failure.task.as_ref().map(tracing::field::display);
    crate::log::error!(task, error = &*error as &dyn Error, "the program failed");
    let error = with_sources(&*error);
    say(&match failure.task {
        Some(task) => format!("error: task `{task}` failed: {error}"),
        None => format!("error: {error}"),
    });
}

/// Writes a line to standard error: the program may have no subscriber for its logs.
pub(super) fn say(line: &str) {
    // `stderr()` never fails. A panic, as from `eprintln!`, would replace the exit code.
    let _ = writeln!(stderr(), "{line}");
}
