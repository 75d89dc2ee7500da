//! `motet-relay backup`

use std::io;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::{CommandError, Control, in_scope, parse};
use crate::cli::BackupArgs;
use crate::progress::progress_bar;

/// How often the progress is read.
const EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Deserialize)]
struct ShownBackup {
    name: String,
    state: String,
    bytes: Option<u64>,
    pages: Option<u64>,
    pages_copied: Option<u64>,
    error: Option<String>,
}

/// Runs `motet-relay backup`, and passes its output to `show`.
///
/// # Cancel safety
/// If the future is dropped before it is ready, a running relay finishes the backup; a backup of a stopped relay is given
/// up.
///
/// # Errors
/// [`CommandError`].
pub async fn run_backup_command(
    args: &BackupArgs,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), CommandError> {
    let to = match args.to.as_ref() {
        None => None,
        Some(to) => {
            let to = std::path::absolute(to).map_err(|error| CommandError::Backup(error.to_string()))?;
            let text = to.to_str().map(str::to_owned);
            Some(text.ok_or_else(|| CommandError::Backup("the path of the file is not UTF-8".to_owned()))?)
        }
    };
    in_scope(async |n| {
        let control = Control::open(n, args.control.target()?).await?;
        let body = to.as_ref().map_or_else(|| json!({}), |to| json!({"to": to}));
        let mut backup: ShownBackup =
            parse(&control.request(Method::POST, "/v1/backups", &[], Some(&body)).await?)?;
        let path = format!("/v1/backups/{}", backup.name);
        let bar = progress_bar(None, "{wide_bar} {percent} %, {eta} left");
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while backup.state == "running" {
            ticks.tick().await;
            backup = parse(&control.request(Method::GET, &path, &[], None).await?)?;
            if let (Some(pages), Some(copied)) = (backup.pages, backup.pages_copied) {
                bar.set_length(pages);
                bar.set_position(copied);
            }
        }
        bar.finish_and_clear();
        if let Some(error) = backup.error {
            return Err(CommandError::Backup(error));
        }
        let bytes = backup.bytes.unwrap_or_default();
        let text = if args.json {
            let shown: Value = json!({"name": backup.name, "to": to, "bytes": bytes});
            format!("{shown}\n")
        } else {
            format!("{} ({bytes} bytes)\n", to.as_deref().unwrap_or(&backup.name))
        };
        show(&text).map_err(CommandError::Output)
    })
    .await
}
