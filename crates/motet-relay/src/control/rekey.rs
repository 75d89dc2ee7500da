//! `motet-relay rekey`

use std::io;
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{CommandError, Control, in_scope, json_text, parse, printable};
use crate::cli::RekeyArgs;
use crate::progress::progress_bar;

/// The pause between two requests for the progress.
const TICK: Duration = Duration::from_millis(200);

/// A change of keys as relay shows it.
#[derive(Debug, Serialize, Deserialize)]
struct ShownRekey {
    state: String,
    key: Option<String>,
    key_file: Option<String>,
    total: u64,
    done: u64,
    changed: u64,
    lost: u64,
    lost_endpoints: Vec<String>,
    unneeded_keys: Vec<String>,
    error: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
}

/// Runs `motet-relay rekey`, and passes its output to `show`. Returns `true` if all secrets are encrypted with the first
/// key, `false` if some cannot be decrypted.
///
/// # Cancel safety
/// A running relay continues the change of keys if the future is dropped; a stopped one continues at its next start.
///
/// # Errors
/// [`CommandError`].
pub async fn run_rekey_command(
    args: &RekeyArgs,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<bool, CommandError> {
    in_scope(async |n| {
        let control = Control::open(n, args.target()?).await?;
        if args.lost_key().is_some() && !control.has_opened_store() {
            return Err(CommandError::LostKeyOfRunning);
        }
        let mut rekey: ShownRekey = parse(&control.request(Method::POST, "/v1/rekey", &[], None).await?)?;
        let bar = progress_bar(None, "endpoints {bar:40} {pos}/{len}  {elapsed}  {msg}");
        while rekey.state == "running" {
            bar.set_length(rekey.total);
            bar.set_position(rekey.done);
            bar.set_message(rekey.error.as_deref().map(printable).unwrap_or_default());
            sleep(TICK).await;
            rekey = parse(&control.request(Method::GET, "/v1/rekey", &[], None).await?)?;
        }
        bar.finish_and_clear();
        if rekey.state == "failed" {
            return Err(CommandError::Rekey(rekey.error.as_deref().map(printable).unwrap_or_default()));
        }
        let text = if args.json() { json_text(&rekey)? } else { report(&rekey) };
        show(&text).map_err(CommandError::Output)?;
        Ok(rekey.lost == 0)
    })
    .await
}

fn report(rekey: &ShownRekey) -> String {
    let key = printable(rekey.key.as_deref().unwrap_or_default());
    let file = printable(rekey.key_file.as_deref().unwrap_or("the key file"));
    let mut text = format!(
        "the secrets are encrypted with the key {key}: {} endpoints, {} of them changed\n",
        rekey.done, rekey.changed
    );
    if !rekey.unneeded_keys.is_empty() {
        text += &format!(
            "no longer needed: {}; keep the line in {file} for as long as you keep backups from before\n",
            printable(&rekey.unneeded_keys.join(", "))
        );
    }
    if rekey.lost > 0 {
        text += &format!(
            "{} endpoints have secrets that cannot be decrypted; give them new ones: {}\n",
            rekey.lost,
            printable(&rekey.lost_endpoints.join(", "))
        );
    }
    text
}
