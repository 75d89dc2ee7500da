//! `motet-relay restore`

use std::io;

use motet::task::scope;
use motet::task::{Nursery, ScopeError};

use super::CommandError;
use crate::cli::RestoreArgs;
use crate::progress::progress_bar;
use crate::store::{RestoreOptions, RestoredStore, restore};

/// Runs `motet-relay restore`, and passes its output to `show`.
///
/// # Cancel safety
/// Dropping the future does not stop the restore, which the scope around it waits for.
///
/// # Errors
/// [`CommandError`]; the data directory is as it was.
pub async fn run_restore_command(
    args: &RestoreArgs,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), CommandError> {
    let absolute = |path| std::path::absolute(path).map_err(|error| CommandError::Ended(error.to_string()));
    let options = RestoreOptions {
        backup: absolute(&args.file)?,
        directory: absolute(&args.data)?,
        hold: args.hold,
        skip_before: args.skip_before.map(jiff::Timestamp::as_millisecond),
    };
    let RestoredStore { events, pending, skipped } = {
        let options = options.clone();
        let restored = scope(async |n: &Nursery<CommandError>| {
            let restoring = n.blocking("restore", move |_| {
                let bar = progress_bar(None, "{wide_bar} {percent} %, {eta} left");
                let restored = restore(&options, |copied, pages| {
                    bar.set_length(pages);
                    bar.set_position(copied);
                });
                bar.finish_and_clear();
                restored
            });
            let restored = restoring.await.map_err(|failed| CommandError::Ended(failed.to_string()))?;
            Ok(restored?)
        });
        restored.await.map_err(|error| match error {
            ScopeError::Failed { first, .. } => first.error,
            other => CommandError::Ended(other.to_string()),
        })?
    };
    let directory = options.directory.display();
    let mut text = format!("restored {events} events into {directory}; {pending} deliveries are pending\n");
    if skipped > 0 {
        text.push_str(&format!("{skipped} deliveries of older events are skipped; a replay sends them\n"));
    }
    text.push_str(
        "API keys and endpoints are those of the backup: keys that were revoked since then are valid again\n",
    );
    text.push_str(if options.hold {
        "all deliveries are paused: start relay, look at /v1/deliveries?state=pending, then POST /v1/resume\n"
    } else {
        "the pending deliveries are sent when relay starts, also those that were sent after the backup\n"
    });
    show(&text).map_err(CommandError::Output)
}
