//! Changes of the settings while relay runs.

use std::convert::Infallible;

use motet::run::Reloads;
use motet::task::Scope;

use super::{CommandLine, Settings};
use crate::Reloader;
use crate::cli::Command;
use crate::config::Config;
use crate::error::StartError;

/// Reads the file and the environment again at each request, and changes the settings that need no restart. The log reports
/// the changed settings, and those that need a restart. A file with mistakes changes nothing.
///
/// # Cancel safety
/// Safe: the next call compares the settings with `settings` again.
///
/// # Errors
/// [`StartError::Store`]: relay shuts down.
pub async fn reload_on_request(
    mut requests: Reloads,
    scope: &Scope,
    mut settings: Settings,
    reloader: Reloader,
) -> Result<Infallible, StartError> {
    loop {
        requests.recv().await;
        // The file may be on a slow disk.
        let Ok(reading) = scope.blocking("settings", |_| CommandLine::parse()) else { continue };
        let read = match reading.await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                tracing::error!("the settings stay as they are: {error}");
                continue;
            }
            Err(failed) => {
                tracing::error!("the settings stay as they are: {failed}");
                continue;
            }
        };
        let (Command::Serve(serve), new) = read.into_parts() else { continue };
        let config = Config::from(*serve);
        if let Err(error) = config.check() {
            tracing::error!("the settings stay as they are: {error}");
            continue;
        }
        let changed = settings.changed(&new);
        let (applied, waiting): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|name| Reloader::SETTINGS.contains(&name.as_str()));
        reloader.reload(&config).await?;
        if !waiting.is_empty() {
            tracing::warn!("these settings have changed and need a restart: {}", waiting.join(", "));
        }
        if applied.is_empty() {
            tracing::info!(
                "the settings were read again; none that can change without a restart has changed"
            );
        } else {
            tracing::info!("the settings were read again; changed: {}", applied.join(", "));
        }
        settings.keep(new, &applied);
    }
}
