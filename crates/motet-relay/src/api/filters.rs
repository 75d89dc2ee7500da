//! The filters of lists.

use serde::Deserialize;

use super::endpoints::parse_patterns;
use super::problem::Problem;
use crate::clock::Millis;
use crate::store::EventFilter;

/// The parameters that select events, in a query string.
#[derive(Debug, Default)]
pub(super) struct EventParams {
    /// Patterns separated by commas; one of them must match.
    pub(super) event_types: Option<String>,
    pub(super) channel: Option<String>,
    pub(super) tag: Option<String>,
    /// RFC 3339; from this time on.
    pub(super) since: Option<String>,
    /// RFC 3339; before this time.
    pub(super) until: Option<String>,
}

impl EventParams {
    pub(super) fn filter(self) -> Result<EventFilter, Problem> {
        Ok(EventFilter {
            types: self.event_types.map(|types| split_patterns(&types)).transpose()?,
            channel: self.channel,
            tag: self.tag,
            since: self.since.map(|text| parse_time("since", &text)).transpose()?,
            until: self.until.map(|text| parse_time("until", &text)).transpose()?,
        })
    }
}

/// Parses patterns that are separated by commas.
pub(super) fn split_patterns(text: &str) -> Result<Vec<crate::pattern::Pattern>, Problem> {
    let texts: Vec<_> = text.split(',').map(|pattern| pattern.trim().to_owned()).collect();
    parse_patterns(&texts)
}

pub(super) fn parse_time(field: &str, text: &str) -> Result<Millis, Problem> {
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    parsed.map(|at| at.as_millisecond()).map_err(|_| {
        Problem::invalid(format!(
            "{field}: {text:?} is not a time; write RFC 3339, such as 2026-01-31T08:00:00Z"
        ))
    })
}

/// A class of status codes: `2xx` to `5xx`, or `200` to `500`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct StatusClass(pub(super) u16);

impl TryFrom<String> for StatusClass {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_bytes() {
            [digit @ b'1'..=b'5', b'x', b'x'] | [digit @ b'1'..=b'5', b'0', b'0'] => {
                Ok(Self(u16::from(digit - b'0')))
            }
            _ => Err(format!("status_class is {text:?}; write 2xx, 3xx, 4xx or 5xx")),
        }
    }
}
