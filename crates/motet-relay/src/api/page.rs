//! The page at `/`: endpoints with their backlogs, and the latest deliveries. It has no script.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;

use super::ApiState;
use super::problem::Problem;
use super::tenant::id_of;
use super::views::DeliveryView;
use crate::access::KeyScope;
use crate::ids::{IdKind, Ids};
use crate::store::{Backlog, DeliveryFilter, EndpointRow, HoldReason, TenantNames};

const NEWEST: i64 = 100;
const LATEST: usize = 25;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width"><title>relay</title><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color-scheme: light dark }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884 }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere } .n { text-align: right } h1, h2 { font-weight: 600 }
code { font-size: .9em } .bad { color: #c33; font-weight: 600 } .dim { opacity: .6 }
</style></head><body><h1>relay</h1>
"#;

pub(super) async fn show(State(api): State<Arc<ApiState>>, request: Parts) -> Result<Response, Problem> {
    let Ok(sender) = api.api_keys.of_basic(&request) else {
        let ask = [(WWW_AUTHENTICATE, "Basic realm=\"relay: any name, and the API key as password\"")];
        return Ok((StatusCode::UNAUTHORIZED, ask, "the password is the API key\n").into_response());
    };
    sender.require(KeyScope::Read)?;
    // The page shows the endpoints of all tenants.
    sender.require_all_tenants()?;
    let ids = api.store.ids();
    let endpoints = api.store.backlogs(NEWEST).await?;
    let deliveries = api.store.deliveries(DeliveryFilter::default(), None, LATEST).await?;
    // Damage is reported above the tables.
    let readable = deliveries.rows.into_iter().filter_map(Result::ok);
    // A row of a tenant that was deleted just now is left out.
    let views = readable.filter_map(|row| Some(DeliveryView::new(ids, &id_of(&api, row.tenant)?, row)));
    let deliveries: Vec<_> = views.collect();
    let page = render(
        ids,
        api.store.tenant_names(),
        api.store.health().await.err().map(|problem| problem.to_string()),
        api.store.is_paused().await?,
        &endpoints,
        &deliveries,
    )
    .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a bug in relay: cannot write the page"))?;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, page).into_response())
}

fn render(
    ids: Ids,
    names: &TenantNames,
    problem: Option<String>,
    is_paused: bool,
    endpoints: &[(EndpointRow, Backlog)],
    deliveries: &[DeliveryView],
) -> Result<String, fmt::Error> {
    let mut page = HEAD.to_owned();
    if let Some(problem) = problem {
        write!(page, "<p class=bad>The store has a problem: {}.</p>", Escaped(&problem))?;
    }
    if is_paused {
        page += "<p class=bad>All deliveries are paused: <code>POST /v1/resume</code> resumes them.</p>\n";
    }
    page += "<h2>Endpoints</h2>\n";
    if endpoints.is_empty() {
        page += "<p class=dim>None yet: <code>POST /v1/endpoints</code> makes one.</p>\n";
    } else {
        page += "<table><tr><th>Endpoint<th>Tenant<th>URL<th>Event types<th>State<th class=n>Pending<th class=n>Overdue<th class=n>Dead</tr>\n";
        for (endpoint, backlog) in endpoints {
            let patterns = endpoint.patterns.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(", ");
            writeln!(
                page,
                "<tr><td><code>{}</code><td>{}<td>{}<td>{}<td>{}<td class=n>{}<td class=n>{:.1} s<td class=\"n{}\">{}</tr>",
                ids.format(IdKind::Endpoint, endpoint.seq),
                // A tenant that was deleted just now has no name.
                names.id_of(endpoint.tenant).as_deref().unwrap_or_default(),
                Escaped(&endpoint.url),
                Escaped(&patterns),
                match (endpoint.enabled, endpoint.held, endpoint.paused) {
                    (false, _, _) => "<span class=bad>disabled</span>",
                    (true, Some(HoldReason::Gone), _) => "<span class=bad>gone</span>",
                    (true, _, true) => "<span class=bad>paused</span>",
                    (true, Some(HoldReason::Failing), false) => "<span class=bad>failing</span>",
                    (true, None, false) => "enabled",
                },
                backlog.pending,
                backlog.overdue as f64 / 1_000.0,
                if backlog.dead > 0 { " bad" } else { "" },
                backlog.dead,
            )?;
        }
        page += "</table>\n";
        if endpoints.len() as i64 == NEWEST {
            writeln!(
                page,
                "<p class=dim>The newest {NEWEST}; <code>/metrics</code> has the backlogs of all endpoints.</p>"
            )?;
        }
    }
    page += "<h2>Latest deliveries</h2>\n";
    if deliveries.is_empty() {
        page += "<p class=dim>None yet: <code>POST /v1/events</code> makes some.</p>\n";
    } else {
        page += "<table><tr><th>Delivery<th>Event type<th>Endpoint<th>State<th class=n>Attempts<th>UpdatedEndpoint</tr>\n";
        for delivery in deliveries {
            writeln!(
                page,
                "<tr><td><code>{}</code><td>{}<td><code>{}</code><td>{}<td class=n>{}<td>{}</tr>",
                delivery.id,
                Escaped(delivery.event_type.as_deref().unwrap_or("unreadable")),
                delivery.endpoint_id,
                delivery.state.as_str(),
                delivery.attempts,
                delivery.updated_at,
            )?;
        }
        page += "</table>\n";
    }
    page += "</body></html>\n";
    Ok(page)
}

/// A text with the special characters of HTML escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_html() {
        assert_eq!(Escaped("<a href='x'>\"&").to_string(), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;");
    }
}
