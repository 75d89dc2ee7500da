//! `Retry-After`: when to come back, in seconds or as a date (RFC 9110, 10.2.3).

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use motet::mutant;

/// How long the answer says to wait.
///
/// A date is compared with the answer's own `Date`, not with a clock of ours: the two are from the same clock, so it
/// does not matter whose is right. Without a `Date`, which a server with a clock must send (6.6.1), a date says nothing.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    let value =
        headers.get(RETRY_AFTER).filter(|_| !mutant!("http.ignore_retry_after"))?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    // One that has passed: come back at once.
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(value: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
        headers.insert(DATE, HeaderValue::from_static("Fri, 31 Dec 1999 23:59:00 GMT"));
        of(&headers)
    }

    #[test]
    fn a_form_of_it_is_not_understood_or_nonsense_is() {
        for (value, seconds) in [
            ("120", 120),
            (" 0 ", 0),
            ("Fri, 31 Dec 1999 23:59:59 GMT", 59),
            ("Friday, 31-Dec-99 23:59:59 GMT", 59),
            ("Fri Dec 31 23:59:59 1999", 59),
            ("Fri, 31 Dec 1999 23:00:00 GMT", 0),
        ] {
            assert_eq!(parse(value), Some(Duration::from_secs(seconds)), "{value}");
        }
        for nonsense in ["", "-1", "1.5", "soon", "99999999999999999999", "Fri, 31 Dec"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_date_is_compared_with_another_clock() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Fri, 31 Dec 1999 23:59:59 GMT"));
        assert_eq!(of(&headers), None);
    }
}
