//! `motet-relay import`: copies what another system knows of its customers into a relay.
//!
//! The source is read by its API, and relay is written by its own, under `/api/v1`: both speak of applications, event types
//! and endpoints in the same form. What exists in relay stays as it is, so an import that was stopped goes on where it
//! stopped when it is started again, and an import that is repeated changes nothing.

mod copy;
mod report;
mod source;

use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use indicatif::ProgressBar;
use motet::run::stderr;
use motet::stream::StreamCombinators as _;
use motet::task::{CancelToken, Nursery};
use tokio_stream::StreamExt as _;

use self::copy::{Copier, CopyError};
pub use self::report::ImportReport;
use self::source::{Application, EventType, Source};
use crate::cli::{ImportArgs, ImportSource, ImportSvixArgs};
use crate::control::{CommandError, Control, in_scope};
use crate::progress::progress_bar;

/// The interval of the progress bar.
const TICK: Duration = Duration::from_millis(100);

/// Without a terminal, progress is a line for each of this number of applications.
const APPLICATIONS_PER_LINE: u64 = 100;

/// Runs `motet-relay import`, and passes its report to `show`. When `stop` is cancelled, the requests to relay
/// that are in flight are finished, and the report names the import incomplete.
///
/// Progress goes to standard error.
///
/// # Cancel safety
/// If the future is dropped before it is ready, a part of the objects exists in relay. Each of them is complete, and the next
/// import continues.
///
/// # Errors
/// [`CommandError`], if the source or relay cannot be used. An object that relay refuses is not an error: the report has
/// its reason.
pub async fn run_import_command(
    args: &ImportArgs,
    stop: CancelToken,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<ImportReport, CommandError> {
    let ImportSource::Svix(args) = &args.source;
    let report = in_scope(async |n| import(n, args, stop).await).await?;
    let text = if args.json {
        let json = serde_json::to_string_pretty(&report).map_err(CommandError::Answer)?;
        format!("{json}\n")
    } else {
        report.text()
    };
    show(&text).map_err(CommandError::Output)?;
    Ok(report)
}

async fn import(
    n: &Nursery<CommandError>,
    args: &ImportSvixArgs,
    stop: CancelToken,
) -> Result<ImportReport, CommandError> {
    let source = Arc::new(Source::new(n, &args.source, args.token()?, stop)?);
    let control = Control::open(n, args.control.target()?).await?;
    let copier = Arc::new(Copier::new(Arc::clone(&source), control, args.dry_run));
    let progress = Progress::new();
    let whole = copy_all(n, args.parallel, &source, &copier, &progress).await;
    progress.clear();
    let report = copier.done().clone();
    match whole {
        Ok(()) => Ok(report.completed()),
        Err(CopyError::Stopped) => Ok(report),
        Err(CopyError::Failed(error)) => {
            // The report of the work until then precedes the error. Writing to this writer never fails.
            let _ = write!(stderr(), "{}", report.text());
            Err(error)
        }
        Err(CopyError::Gone) => {
            let detail = "there is no such API; --source is the URL that the clients of Svix are given";
            Err(CommandError::Source { status: StatusCode::NOT_FOUND, detail: detail.to_owned() })
        }
    }
}

async fn copy_all(
    n: &Nursery<CommandError>,
    parallel: NonZeroUsize,
    source: &Arc<Source>,
    copier: &Arc<Copier>,
    progress: &Progress,
) -> Result<(), CopyError> {
    let with_content = &[("with_content", "true"), ("include_archived", "true")];
    let mut types = source.list::<EventType>("/event-type".to_owned(), with_content);
    while let Some(found) = types.next().await {
        copier.event_type(found?).await?;
        progress.show(&copier.done());
    }
    let copying = {
        let copier = Arc::clone(copier);
        move |app: Result<Application, CopyError>| {
            let copier = Arc::clone(&copier);
            async move { copier.application(app?).await }
        }
    };
    // New applications come last in this order, so none is left out while others are made.
    let applications = source.list::<Application>("/app".to_owned(), &[("order", "ascending")]);
    let copied = applications.par_map(parallel.get(), copying).unordered(n, "applications");
    let mut copied = copied.map_err(|error| CommandError::Ended(error.to_string()))?;
    let mut stopped = false;
    while let Some(done) = copied.next().await {
        match done {
            // The applications whose requests to relay are in flight finish them.
            Err(CopyError::Stopped) => stopped = true,
            done => done?,
        }
        progress.show(&copier.done());
    }
    if stopped { Err(CopyError::Stopped) } else { Ok(()) }
}

/// The progress of an import on standard error: a line that changes, or on anything but a terminal a line now and then.
#[derive(Debug)]
struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self { bar: None };
        }
        let bar = progress_bar(None, "{spinner} {msg}  {elapsed}");
        bar.enable_steady_tick(TICK);
        Self { bar: Some(bar) }
    }

    fn show(&self, report: &ImportReport) {
        match &self.bar {
            Some(bar) => bar.set_message(report.line()),
            None if report.applications_seen().is_multiple_of(APPLICATIONS_PER_LINE) => {
                // Writing to this writer never fails.
                let _ = writeln!(stderr(), "{}", report.line());
            }
            None => {}
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
