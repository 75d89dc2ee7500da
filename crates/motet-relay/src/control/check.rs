//! `motet-relay check`

use std::io;

use motet::task::{Nursery, ScopeError, scope};

use super::{CommandError, printable};
use crate::cli::CheckArgs;
use crate::store::{CheckDepth, check};

/// Runs `motet-relay check`, and passes its output to `show`. Returns `true` if no damage was found.
///
/// # Cancel safety
/// Safe: nothing is changed.
///
/// # Errors
/// [`CommandError`]: the store cannot be checked.
pub async fn run_check_command(
    args: &CheckArgs,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<bool, CommandError> {
    let path = std::path::absolute(&args.data).map_err(|error| CommandError::Ended(error.to_string()))?;
    let depth = if args.quick { CheckDepth::Quick } else { CheckDepth::Full };
    let checked = scope(async |n: &Nursery<CommandError>| {
        let checking = n.blocking("check", move |_| check(&path, depth));
        let checked = checking.await.map_err(|failed| CommandError::Ended(failed.to_string()))?;
        Ok(checked.map_err(crate::error::StartError::open)?)
    });
    let checked = checked.await.map_err(|error| match error {
        ScopeError::Failed { first, .. } => first.error,
        other => CommandError::Ended(other.to_string()),
    })?;
    let mut text = String::new();
    for finding in &checked.findings {
        text.push_str(&printable(finding));
        text.push('\n');
    }
    let is_whole = checked.findings.is_empty();
    if is_whole {
        text = format!("no damage found; the schema has version {}\n", checked.version);
    }
    show(&text).map_err(CommandError::Output)?;
    Ok(is_whole)
}
