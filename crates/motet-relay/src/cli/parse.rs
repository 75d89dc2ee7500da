//! The values of options.

use std::time::Duration;

use ipnet::IpNet;
use jiff::SpanRelativeTo;
use tracing_subscriber::EnvFilter;

use super::KeyExpiry;

/// Parses when a key expires.
pub(super) fn parse_expiry(text: &str) -> Result<KeyExpiry, String> {
    if text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(KeyExpiry::At(text.to_owned()));
    }
    match parse_span(text) {
        Some(seconds) if seconds > 0 => Ok(KeyExpiry::In(seconds)),
        _ => {
            Err("write a time from now, such as 90d or 12h, or a time such as 2030-01-31T00:00:00Z"
                .to_owned())
        }
    }
}

/// Parses a time such as `90d` or `12h 30m` to seconds.
pub(super) fn parse_span(text: &str) -> Option<u64> {
    parse_milliseconds(text).map(|milliseconds| milliseconds / 1_000)
}

pub(super) fn parse_milliseconds(text: &str) -> Option<u64> {
    let span = text.parse::<jiff::Span>().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    u64::try_from(duration.as_millis()).ok()
}

/// How long something is kept; `None` is forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keep(pub(super) Option<Duration>);

/// Longer times are not needed, and their sums with calendar times stay small.
const LONGEST_KEEP: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Parses how long something is kept.
pub(super) fn parse_keep(text: &str) -> Result<Keep, String> {
    if text == "0" {
        return Ok(Keep(None));
    }
    match parse_span(text).map(Duration::from_secs) {
        Some(Duration::ZERO) | None => Err("write a time such as 30d or 12h, or 0 forever".to_owned()),
        Some(keep) if keep > LONGEST_KEEP => {
            Err("must be at most 100 years (36500d); 0 is forever".to_owned())
        }
        Some(keep) => Ok(Keep(Some(keep))),
    }
}

/// Parses a time span with its unit.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_milliseconds(text).map(Duration::from_millis) {
        Some(interval) if (SHORTEST..=LONGEST).contains(&interval) => Ok(interval),
        _ => Err("write a time with its unit, such as 24h or 7d, and at most one year".to_owned()),
    }
}

pub(super) fn parse_key_id(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        Ok(text.to_owned())
    } else {
        Err("an id has letters and digits only; `motet-relay key list` shows the ids".to_owned())
    }
}

/// Checks a filter of the log.
pub(super) fn parse_filter(text: &str) -> Result<String, String> {
    text.parse::<EnvFilter>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Parses a network, or a single address.
pub(super) fn parse_net(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| "not a network; write an address and a prefix length, such as 10.0.0.0/8".to_owned())
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Parses a number of seconds, which may have a fraction.
pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number; write seconds, such as 2.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if (SHORTEST..=LONGEST).contains(&duration) => Ok(duration),
        _ => Err("must be between 0.001 seconds and one year (31536000 seconds)".to_owned()),
    }
}
