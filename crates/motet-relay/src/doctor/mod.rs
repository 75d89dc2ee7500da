//! `motet-relay doctor`: is this machine fit for relay with these settings.
//!
//! Each check is independent of the others, changes nothing, and has a time limit. A finding that is not good names
//! a cure.

mod machine;
mod network;

use std::io;
use std::time::Duration;

use motet::task::{Scope, timeout};
use serde::Serialize;

use crate::cli::DoctorArgs;
use crate::config::Config;
use crate::control::{CommandError, in_scope, json_text, printable, table};

/// A name server or a disk that does not answer must not stop the other checks.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    check: &'static str,
    level: Level,
    detail: String,
    /// The cure; only if the level is not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Good,
    Warning,
    Error,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Error => "ERROR",
        }
    }
}

impl Finding {
    fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, level: Level::Good, detail: detail.into(), action: None }
    }

    fn warning(check: &'static str, detail: impl Into<String>, action: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, detail: detail.into(), action: Some(action.into()) }
    }

    fn error(check: &'static str, detail: impl Into<String>, action: impl Into<String>) -> Self {
        Self { check, level: Level::Error, detail: detail.into(), action: Some(action.into()) }
    }
}

/// Runs `motet-relay doctor`, and passes its output to `show`. Returns `false` if a check found an error.
///
/// # Cancel safety
/// Safe: the checks change nothing.
///
/// # Errors
/// [`CommandError::Output`]; [`CommandError::Settings`] if settings contradict each other.
pub async fn run_doctor_command(
    args: DoctorArgs,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<bool, CommandError> {
    let is_json = args.json;
    let config = Config::from(*args.serve);
    config.check()?;
    let findings = in_scope(async |n| Ok(examine(n, &config).await)).await?;
    let text = if is_json { json_text(&findings)? } else { text(&findings) };
    show(&text).map_err(CommandError::Output)?;
    Ok(findings.iter().all(|finding| finding.level < Level::Error))
}

async fn examine(scope: &Scope, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (check, examine) in machine::CHECKS {
        let config = config.clone();
        let examined = async {
            // The scope is open until the command ends.
            let Ok(examining) = scope.blocking(check, move |_| examine(&config)) else { return Vec::new() };
            examining.await.unwrap_or_else(|failed| vec![Finding::error(check, failed.to_string(), REPORT)])
        };
        findings.extend(in_time(check, examined).await);
    }
    findings.extend(in_time("name server", async { vec![network::name_server().await] }).await);
    findings.extend(in_time("relay", async { network::running(scope, config).await }).await);
    findings.extend(in_time("delivery", async { vec![network::delivery(scope, config).await] }).await);
    findings
}

const REPORT: &str = "report this; it is a bug in relay";

async fn in_time(check: &'static str, examined: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    timeout(CHECK_LIMIT, examined).await.unwrap_or_else(|_| {
        let detail = format!("no result within {} s", CHECK_LIMIT.as_secs());
        vec![Finding::error(check, detail, "look for a disk or a name server that does not answer")]
    })
}

fn text(findings: &[Finding]) -> String {
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            let Finding { check, level, detail, .. } = finding;
            [(*check).to_owned(), level.as_str().to_owned(), printable(detail)]
        })
        .collect();
    let mut text = table(["CHECK", "RESULT", "FOUND"], &rows, "nothing was checked");
    let actions = findings.iter().filter_map(|finding| Some((finding.check, finding.action.as_deref()?)));
    for (check, action) in actions {
        text.push_str(&format!("\n{check}: {action}"));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_follow_the_table_of_findings() {
        let findings = [
            Finding::good("disk", "12 GB are free"),
            Finding::warning("clock", "it is behind", "set the clock"),
        ];
        let expected = "CHECK  RESULT   FOUND\ndisk   good     12 GB are free\nclock  warning  it is behind\n\n\
                        clock: set the clock\n";
        assert_eq!(text(&findings), expected);
    }
}
