//! `motet-relay retention`

use std::io;

use http::Method;
use serde::{Deserialize, Serialize};

use super::table::{printable, table};
use super::{CommandError, Control, in_scope, json_text, parse};
use crate::cli::RetentionArgs;
use crate::config::short_span;

/// The plan of retention as relay shows it.
#[derive(Debug, Serialize, Deserialize)]
struct ShownPlan {
    is_running: bool,
    payload_keep_s: Option<u64>,
    rows_keep_s: Option<u64>,
    max_bytes: Option<u64>,
    used_bytes: u64,
    over_bytes: u64,
    tenants: Vec<ShownTenant>,
    more: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ShownTenant {
    tenant: String,
    payload_keep_s: Option<u64>,
    rows_keep_s: Option<u64>,
    payloads: u64,
    events: u64,
    bytes: u64,
    in_use: u64,
    oldest_event_at: Option<String>,
}

/// Runs `motet-relay retention`, and passes its output to `show`.
///
/// # Cancel safety
/// Safe: the command changes nothing.
///
/// # Errors
/// [`CommandError`].
pub async fn run_retention_command(
    args: &RetentionArgs,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), CommandError> {
    if !args.dry_run {
        return Err(CommandError::OnlyDryRun);
    }
    let query = args.query();
    let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let plan: ShownPlan = in_scope(async |n| {
        let control = Control::open(n, args.control.target()?).await?;
        parse(&control.request(Method::GET, "/v1/retention", &query, None).await?)
    })
    .await?;
    let text = if args.json { json_text(&plan)? } else { text_of(&plan) };
    show(&text).map_err(CommandError::Output)
}

fn text_of(plan: &ShownPlan) -> String {
    let keep = |seconds: Option<u64>| {
        seconds.map_or_else(|| "forever".to_owned(), |s| short_span(std::time::Duration::from_secs(s)))
    };
    let rows: Vec<_> = plan
        .tenants
        .iter()
        .map(|tenant| {
            [
                printable(&tenant.tenant),
                keep(tenant.payload_keep_s),
                keep(tenant.rows_keep_s),
                tenant.payloads.to_string(),
                tenant.events.to_string(),
                tenant.bytes.to_string(),
                tenant.in_use.to_string(),
                tenant.oldest_event_at.as_deref().map_or_else(String::new, printable),
            ]
        })
        .collect();
    let headings =
        ["TENANT", "DATA KEPT", "EVENTS KEPT", "DATA DUE", "EVENTS DUE", "BYTES", "IN USE", "OLDEST EVENT"];
    let mut text = table(headings, &rows, "there are no events");
    if plan.more {
        text.push_str("The plan ended at its limit: more than this is due.\n");
    }
    text.push_str(&match plan.max_bytes {
        Some(max) => format!(
            "The database has {} bytes, {} more than --max-bytes {max} allows.\n",
            plan.used_bytes, plan.over_bytes
        ),
        None => {
            format!("The database has {} bytes; its size is not limited by --max-bytes.\n", plan.used_bytes)
        }
    });
    if !plan.is_running {
        text.push_str("Nothing is deleted now, because relay is stopped or runs without retention. The times are those of this command.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_is_shown_with_its_limits() {
        let tenant = ShownTenant {
            tenant: "acme".to_owned(),
            payload_keep_s: Some(86_400),
            rows_keep_s: None,
            payloads: 3,
            events: 2,
            bytes: 100,
            in_use: 1,
            oldest_event_at: None,
        };
        let plan = ShownPlan {
            is_running: false,
            payload_keep_s: None,
            rows_keep_s: None,
            max_bytes: Some(50),
            used_bytes: 80,
            over_bytes: 30,
            tenants: vec![tenant],
            more: true,
        };
        let text = text_of(&plan);
        for part in [
            "acme    1d         forever",
            "more than this is due",
            "30 more than --max-bytes 50",
            "relay is stopped",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
